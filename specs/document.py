"""The columns of every table on disk. A column that is not named here is not written.

Types are Arrow's names; `safelm.builder.shards.schema` turns a table into an Arrow schema.
"""

from collections.abc import Iterable
from types import MappingProxyType

# One row per document. `id` is a digest of prompt and text, so it does not depend on sharding,
# workers or order.
DOCUMENT = MappingProxyType(
    {
        "id": "string",
        "text": "string",
        "prompt": "string",  # a dialogue turn: `text` answers it; null for a page
        "source": "string",
        "url": "string",
        "crawl": "string",
        "title": "string",
        "license": "string",
        "label": "int8",  # the score a person or a grammar gave the text, where the source has one
        "hazard": "string",  # likewise the hazard it is about
        "parent": "string",  # synthetic documents: the chain back to the page they were made from
        "writer": "string",
        "sampling": "string",  # of a language model: temperature, top-p, tokens; null where nothing is sampled
        "prompt_id": "string",
        "prompt_version": "string",
        "style": "string",
        "seed": "int64",
        "score_before": "int8",  # the score of what it was made from
        "score_after": "int8",  # and its own, by the same scorers
    }
)

# Hazards whose documents train no model and enter no prompt, whoever names the hazard: the source,
# or any one scorer.
GUARDED = ("child_exploitation",)

# What one scorer says of a document; a file for each shard, row for row beside it. `score` is null
# where it could not tell, `unsafe` is its probability of a score above 0, `by` the scorer of a
# cascade that decided.
GRADES = MappingProxyType(
    {"id": "string", "score": "int8", "unsafe": "float32", "hazard": "string", "by": "string"},
)


def scores_of_all(scorers: Iterable[str]) -> dict[str, str]:
    """One row per document, likewise: a column for each scorer, so that a new ensemble rule
    re-reads no text.
    """
    return {"id": "string", **dict.fromkeys(scorers, "int8"), "score": "int8", "hazard": "string"}


# What a judge said of a sample.
LABELS = MappingProxyType(
    {
        "id": "string",
        "text": "string",
        "score": "int8",
        "reason": "string",
        "hazard": "string",
        "label": "int8",
    },
)

# What a judge said of documents that were scored before, as `predicted`.
AUDIT = MappingProxyType(
    {
        "id": "string",
        "predicted": "int8",
        "score": "int8",
        "reason": "string",
        "hazard": "string",
        "label": "int8",
    },
)

# What a model wrote to the prompts of a suite, before anyone judged it; completion is null where
# the prompt and its answer are longer than the model's positions.
REPLIES = MappingProxyType(
    {
        "id": "string",
        "completion": "string",
        "short_circuited": "bool",
        "tag_probability": "float32",
    }
)

# What a model answered after so many pairs of further tuning, and what its loss on harmful pairs
# was then.
RELEARNED = MappingProxyType(
    {
        "pairs": "int64",
        "held_out_loss": "float64",
        "decoder": "string",
        "suite": "string",
        **REPLIES,
    }
)

# What an evaluation asked and got; `verdict` is the outcome by the suite's first judge, `others`
# what the others say.
SAMPLES = MappingProxyType(
    {
        "suite": "string",
        "decoder": "string",
        "id": "string",
        "form": "string",
        "prompt": "string",
        "completion": "string",
        "judge": "string",
        "verdict": "string",
        "strict": "bool",
        "others": "string",
        "tag_probability": "float32",
    }
)

# What `attack` found for a prompt under each condition (plain, random, optimised): the suffix, the
# whole text that is asked, and what the model thinks of the target behind it: the log-probability
# of its first token, the mean of all, and the mean p(tag) at the ends of its words. Untrusted text.
SUFFIXES = MappingProxyType(
    {
        "id": "string",
        "condition": "string",
        "prompt": "string",
        "suffix": "string",
        "target": "string",
        "opening": "float32",
        "log_likelihood": "float32",
        "tag_probability": "float32",  # null of a model that knows no tag
    }
)

# What was answered to it; `prompt` is the one without a suffix, by which it is judged.
ATTACKED = MappingProxyType(
    {"attack": "string", "model": "string", "stage": "string", "condition": "string", **SAMPLES}
)

# Of each prompt of a suite: whether it stands in the training text (exact, near or none), the
# largest share of its n-grams that one document holds, and where.
OVERLAP = MappingProxyType(
    {"suite": "string", "id": "string", "overlap": "string", "share": "float32", "source": "string"}
)
