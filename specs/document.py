"""Columns of every table on disk. No other column is written.

Types have Arrow's names; `safelm.builder.shards.arrow_schema` turns a table into an Arrow schema.
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
        # Score and hazard from the source itself, given by people or by a grammar.
        "label": "int8",
        "hazard": "string",
        # For synthetic documents: the document it was made from, and the writer.
        "parent": "string",
        "writer": "string",
        # Temperature, top-p and tokens of a language model; null if nothing was sampled.
        "sampling": "string",
        "prompt_id": "string",
        "prompt_version": "string",
        "style": "string",
        "seed": "int64",
        # Scores of the document it was made from, and of itself, by the same scorers.
        "score_before": "int8",
        "score_after": "int8",
    }
)

# Hazards whose documents train no model and enter no prompt, if the source or any scorer names the
# hazard.
GUARDED = ("child_exploitation",)

# Grades by one scorer, in a file for each shard of documents, with the same rows. `score` is null
# if there is no grade; `unsafe` is the probability of a score above 0; `by` is the scorer of a
# cascade that decided.
GRADES = MappingProxyType(
    {"id": "string", "score": "int8", "unsafe": "float32", "hazard": "string", "by": "string"},
)


def scores_of_all(scorers: Iterable[str]) -> dict[str, str]:
    """Return the columns of grades by several scorers, one column each.

    So a new rule for the ensemble reads no text again.
    """
    return {"id": "string", **dict.fromkeys(scorers, "int8"), "score": "int8", "hazard": "string"}


# Grades of the label pool by its labeller. A pool of several rows also has the column POOL, and one
# for each further labeller.
POOL = "pool"
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

# A judge's grades of documents that the scorers had graded as `predicted`.
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

# Completion of a suite's prompt, before it is judged. `completion` is null if prompt and completion
# together could exceed the model's positions.
COMPLETIONS = MappingProxyType(
    {
        "id": "string",
        "completion": "string",
        "short_circuited": "bool",
        "tag_probability": "float32",
    }
)

# Completion by a decoder with a bound of its own for each model, with its cost: the tokens of all
# texts that it wrote, and of the first, which is the greedy one.
BOUNDED = MappingProxyType({**COMPLETIONS, "tokens": "int64", "greedy_tokens": "int64"})

# Completion after so many pairs of further tuning, with the loss on held-out harmful pairs.
RELEARNED = MappingProxyType(
    {
        "pairs": "int64",
        "held_out_loss": "float64",
        "decoder": "string",
        "suite": "string",
        **COMPLETIONS,
    }
)

# Judged completion. `verdict` is the outcome by the suite's first judge; `other_verdicts` has those
# by its other judges.
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

# Suffix of a prompt under each condition (plain, random, optimised), the prompt with the suffix,
# and the likelihood of the target after it: the log-probability of the target's first token, the
# mean of all its tokens, and the mean p(tag) at the ends of its words. The text is untrusted.
SUFFIXES = MappingProxyType(
    {
        "id": "string",
        "condition": "string",
        "prompt": "string",
        "suffix": "string",
        "target": "string",
        "target_opening": "float32",
        "target_log_likelihood": "float32",
        "target_tag_probability": "float32",  # null for a model that knows no tag
    }
)

# Completion of an attacked prompt under one condition, which may have several. The numbers of
# SUFFIXES are null for other attacks; `kl` is that of abliteration.
ATTEMPTS = MappingProxyType(
    {"kl": "float64", **SUFFIXES, **COMPLETIONS},
)

# Judged completion of such a prompt. `prompt` is the prompt without the suffix, which judges see.
ATTACKED = MappingProxyType(
    {"attack": "string", "model": "string", "stage": "string", "condition": "string", **SAMPLES}
)

# Measurements, one number a row, written by evaluate, compare, relearn and attack. The rows of an
# output are in the order of params.yaml. Columns that do not apply to a metric are null.
#
# metric, by what was measured:
#   a harmful suite      asr, asr_strict, refused, neither, unjudged
#   a harmless suite     complied, unhelpful, partial_refusal, refused, short_circuit, over_refusal,
#                        unjudged
#   the suite itself     rows, prompts, left_out_<reason> (only counts; decoder is null)
#   the model itself     knows_tag (value 1 or 0)
#   a decoder's bound    refusal_bound (a mean p(tag)), expected_refusals (`count` of `of` places in
#                        the order of calibration prompts lie above it; `low` and `high` are of the
#                        rate to expect)
#   its cost, by suite   refused_tokens, answered_tokens, greedy_tokens: generated for a prompt that
#                        it refused or answered, and by greedy decoding for the latter
#   utility, demo world  accuracy, perplexity (per word)
#   utility, harness     the names of lm-evaluation-harness (acc, acc_norm, exact_match, ...), and
#                        too_long: items with a choice longer than the model, which were left out
#   p(tag) of pages      tag_auroc (after `words` words; null for the mean of a whole page),
#                        tag_bin (readings on unsafe pages), tag_bin_mean (mean p(tag)), by
#                        `bin_edge`
#   linear probes        probe_auroc (by `layer`), probe_auroc_best and probe_auroc_last (`layer`
#                        says which), probe_auroc_words (TF-IDF, no model), probe_pages_fitted,
#                        probe_pages_measured
#   relearning           the rates of its suites by `checkpoint`, held_out_loss (nats per token)
#   attacks              the rates of its suite by `condition`; of suffixes, target_opening and
#                        target_log_likelihood (nats), target_tag_probability: means over prompts;
#                        of abliteration, kl (nats): the mean divergence of the next token after
#                        harmless prompts from that of the model itself
MEASUREMENTS = MappingProxyType(
    {
        "model": "string",
        "stage": "string",  # training stage of the model; for relearn, where it starts
        "checkpoint": "int64",  # pairs of further tuning; null at the end of a stage
        "decoder": "string",
        "suite": "string",
        "suite_kind": "string",  # harmful, benign, dual_use or utility
        "judge": "string",
        "judge_kind": "string",  # demo, refusal_phrases, scorer or llm
        "is_first_judge": "bool",  # rates of the suite are those by its first judge
        "form": "string",  # of the prompt; null for all forms together
        "metric": "string",
        "count": "int64",  # for an area under the ROC curve: unsafe pages
        "of": "int64",  # for an area: all pages
        "value": "float64",  # count / of, or a number that is no share
        "low": "float64",  # 95 % interval of an area (DeLong)
        "high": "float64",
        "row": "string",  # the row of relearn or attacks
        "condition": "string",  # of an attack, such as plain, random or optimised
        "words": "int64",  # for tag_auroc: words that were read
        "bin_edge": "float64",  # for tag_bin: upper edge of the bin of p(tag)
        "layer": "int64",  # for probe_auroc: 0 is the embeddings
    }
)

# Overlap of each prompt of a suite with the training text: exact, near or none; the largest share
# of its n-grams that one document has; and the source of that document.
OVERLAP = MappingProxyType(
    {"suite": "string", "id": "string", "overlap": "string", "share": "float32", "source": "string"}
)
