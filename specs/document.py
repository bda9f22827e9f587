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
        # A dialogue turn, which `text` answers; null for a page.
        "prompt": "string",
        "source": "string",
        "url": "string",
        "crawl": "string",
        "title": "string",
        "license": "string",
        # The score and the hazard that the source itself gives, by people or a grammar.
        "label": "int8",
        "hazard": "string",
        # Of synthetic documents: the chain back to the page they were made from.
        "parent": "string",
        "writer": "string",
        # Of a language model: temperature, top-p, tokens; null where nothing is sampled.
        "sampling": "string",
        "prompt_id": "string",
        "prompt_version": "string",
        "style": "string",
        "seed": "int64",
        # The scores of the document it was made from, and its own, by the same scorers.
        "score_before": "int8",
        "score_after": "int8",
    }
)

# Hazards whose documents train no model and enter no prompt. The source or any one scorer may name
# the hazard.
GUARDED = ("child_exploitation",)

# The grade of a document by one scorer; a file for each shard, row for row beside it. `score` is
# null where there is no grade, `unsafe` is the probability of a score above 0, `by` the scorer of a
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

# Text that a model wrote after a prompt of a suite, before it was judged. `completion` is null
# where prompt and completion would be longer than the model's positions.
COMPLETIONS = MappingProxyType(
    {
        "id": "string",
        "completion": "string",
        "short_circuited": "bool",
        "tag_probability": "float32",
    }
)

# A completion after so many pairs of further tuning, and the loss on held-out harmful pairs then.
RELEARNED = MappingProxyType(
    {
        "pairs": "int64",
        "held_out_loss": "float64",
        "decoder": "string",
        "suite": "string",
        **COMPLETIONS,
    }
)

# A judged completion; `verdict` is the outcome by the suite's first judge, `other_verdicts` are
# those of its other judges.
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
        "other_verdicts": "string",
        "tag_probability": "float32",
    }
)

# The suffix of a prompt under each condition (plain, random, optimised), the text with the suffix,
# and what the model thinks of the target behind it: the log-probability of its first token, the
# mean of all tokens, and the mean p(tag) at the ends of its words. Untrusted text.
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

# A judged completion of such a text; `prompt` is the one without a suffix, by which it is judged.
ATTACKED = MappingProxyType(
    {"attack": "string", "model": "string", "stage": "string", "condition": "string", **SAMPLES}
)

# One number that was measured of a model, a row each: written by evaluate, compare, relearn and
# attack. The rows of one output stand in the order of params.yaml. Columns that a measure has no
# use for are null.
#
# metric, by what was measured:
#   a harmful suite      asr, asr_strict, refused, neither, unjudged
#   a harmless suite     complied, unhelpful, partial_refusal, refused, short_circuit, over_refusal,
#                        unjudged
#   the suite itself     rows, prompts, left_out_<reason> (count alone; decoder is null)
#   the model itself     knows_tag (value 1 or 0)
#   utility, demo world  accuracy, perplexity (a word)
#   utility, harness     the names of lm-evaluation-harness (acc, acc_norm, exact_match, ...), and
#                        too_long: items with a choice longer than the model, which were left out
#   p(tag) of pages      tag_auroc (after `words` words; null for the mean of a whole page),
#                        tag_bin (readings on unsafe pages), tag_bin_mean (mean p(tag)), by
#                        `bin_edge`
#   linear probes        probe_auroc (by `layer`), probe_auroc_best and probe_auroc_last (`layer`
#                        says which), probe_auroc_words (TF-IDF, no model), probe_pages_fitted,
#                        probe_pages_measured
#   relearning           the rates of its suites by `checkpoint`, held_out_loss (nats a token)
#   suffix attacks       the rates of its suite by `condition`; target_opening and
#                        target_log_likelihood (nats), target_tag_probability: means over prompts
MEASUREMENTS = MappingProxyType(
    {
        "model": "string",
        "stage": "string",  # training stage of the model; of relearn, the one it starts from
        "checkpoint": "int64",  # pairs of further tuning; null at the end of a stage
        "decoder": "string",
        "suite": "string",
        "suite_kind": "string",  # harmful, benign, dual_use or utility
        "judge": "string",
        "judge_kind": "string",  # demo, refusal_phrases, scorer or llm
        "is_first_judge": "bool",  # the suite's first judge gives its rates; others stand beside it
        "form": "string",  # of the prompt; null for all forms together
        "metric": "string",
        "count": "int64",  # of an area under the ROC curve: unsafe pages
        "of": "int64",  # of an area: all pages
        "value": "float64",  # count / of, or a number that is no share
        "low": "float64",  # 95 % interval of an area (DeLong); else null
        "high": "float64",
        "row": "string",  # the row of relearn or attacks
        "condition": "string",  # of a suffix attack: plain, random or optimised
        "words": "int64",  # of tag_auroc: words that were read
        "bin_edge": "float64",  # of tag_bin: upper edge of the bin of p(tag)
        "layer": "int64",  # of probe_auroc: 0 are the embeddings
    }
)

# Overlap of each prompt of a suite with the training text: exact, near or none, the largest share
# of its n-grams that one document has, and the source of that document.
OVERLAP = MappingProxyType(
    {"suite": "string", "id": "string", "overlap": "string", "share": "float32", "source": "string"}
)
