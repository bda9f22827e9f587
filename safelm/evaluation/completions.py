"""Parts of an evaluation that need the model: completions of a suite, and utility.

The key of a part has only the model, the prompts and the decoder. So another judge or one more
suite generates nothing twice, and this module must not import judges.

The libraries of models are imported in functions, because that takes longer than most stages.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any

from safelm.builder.shards import write_table
from safelm.evaluation.bounds import (
    GenerationSettings,
    bound_key,
    bound_measurements,
    with_bound,
)
from safelm.evaluation.measurements import number, share, write_measurements
from safelm.models import knows_tag
from safelm.seeding import sample
from specs.decoder import Branch
from specs.document import BOUNDED, COMPLETIONS
from specs.suite import DemoSuite, HarnessSuite

# Pages of held-out text, for perplexity and p(tag).
PAGES = 100


def write_completions(
    folder: Path,
    *,
    weights: Path,
    is_chat: bool,
    prompts: Sequence[tuple[str, str]],
    settings: GenerationSettings,
    limit: int | None = None,
) -> tuple[()]:
    """Write rows of COMPLETIONS, or of BOUNDED for a decoder with a bound.

    The arguments are those of `generate_completions`.
    """
    rows = generate_completions(weights, is_chat, prompts, settings, limit)
    write_table(rows, BOUNDED if settings.bound else COMPLETIONS, folder / ".parquet")
    return ()


def write_bound(
    folder: Path,
    *,
    weights: Path,
    is_chat: bool,
    prompts: Sequence[tuple[str, str]],
    settings: GenerationSettings,
) -> tuple[()]:
    """Write the measurements of a decoder's bound for a model, by its scores on prompts."""
    decoder = settings.decoder
    assert isinstance(decoder, Branch)  # no other has a bound
    without = replace(settings, decoder=with_bound(decoder, None))
    rows = generate_completions(weights, is_chat, prompts, without)
    scores = [row["score"] for row in rows if row["completion"] is not None]
    measured = bound_measurements(bound_key(weights, decoder), decoder, scores)
    write_measurements(measured, folder / ".parquet")
    return ()


def generate_completions(
    weights: Path,
    is_chat: bool,
    prompts: Sequence[tuple[str, str]],
    settings: GenerationSettings,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Return a row of COMPLETIONS for each prompt (id, text), up to `limit` that are answered.

    A prompt that leaves no room for `max_new_tokens` gets the completion None.
    """
    from safelm.evaluation.generation import load_completion_model

    model = load_completion_model(weights, is_chat)
    texts = [text for _, text in prompts]
    fits = model.fits(texts, settings.max_new_tokens)
    # Prompts beyond the last that is answered are not tried.
    answered = [index for index, does_fit in enumerate(fits) if does_fit][:limit]
    if limit and len(answered) == limit:
        fits = fits[: answered[-1] + 1]
    completions = iter(model.complete(list(compress(texts, fits)), settings))
    rows = []
    # Not strict: prompts beyond the limit have no row.
    for (id, _), does_fit in zip(prompts, fits, strict=False):
        completion = next(completions) if does_fit else {}
        rows.append({"id": id, **completion})
    return rows


def measure_demo_utility(
    folder: Path,
    *,
    weights: Path,
    suite: DemoSuite,
    demo: Path,
    max_prompts: int,
    batch_size: int,
    seed: int,
) -> tuple[()]:
    """Write measurements of held-out items and pages of the demo world.

    These are the accuracy on at most `max_prompts` items, the perplexity per word, and, if the
    model knows the tag, how well p(tag) tells unsafe pages from safe ones. `demo` is the folder of
    the world's grammars; only the key needs it.
    """
    from safelm.demo.prompts import held_out_pages, multiple_choice
    from safelm.evaluation.generation import load_completion_model
    from safelm.evaluation.probes.tag import measure_tag_probability, pages
    from safelm.evaluation.utility.lm_eval import accuracy_and_perplexity

    # Drawn by id, so that every model gets the same items.
    items = {str(item["id"]): item for item in multiple_choice(suite.path)}
    drawn = sample("suite", seed, items, max_prompts)
    chosen = [items[id] for id in drawn]
    loaded = load_completion_model(weights, False)
    model = loaded.model
    tokenizer = loaded.tokenizer
    texts = held_out_pages(PAGES)
    correct, perplexity = accuracy_and_perplexity(
        model, tokenizer, chosen, texts, batch_size=batch_size
    )
    rows = [
        share("accuracy", sum(correct), len(correct)),
        number("perplexity", perplexity),
    ]
    if knows_tag(weights):
        rows += measure_tag_probability(model, tokenizer, pages(PAGES), batch_size=batch_size)
    write_measurements(rows, folder / ".parquet")
    return ()


def measure_harness_task(
    folder: Path,
    *,
    weights: Path,
    suite: HarnessSuite,
    files: Sequence[Path],
    max_prompts: int,
    batch_size: int,
    seed: int,
) -> tuple[()]:
    """Write measurements of one task of lm-evaluation-harness; only the key needs `files`.

    Items with a choice longer than the model's positions are left out, and counted as `too_long`.
    """
    from safelm.evaluation.generation import load_completion_model
    from safelm.evaluation.utility.lm_eval import max_length, run_tasks
    from safelm.evaluation.utility.lm_eval_tasks import drop_long_items, load_tasks, task_counts

    loaded = load_completion_model(weights, False)
    model = loaded.model
    tokenizer = loaded.tokenizer
    tasks = load_tasks(suite, limit=max_prompts, seed=seed)

    def length(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    dropped = [drop_long_items(task, length, max_length(model)) for task in tasks.values()]
    # Rows of a file have been drawn already; of the hub's rows, the harness takes the first.
    limit = max_prompts if suite.path is None else None
    samples = run_tasks(model, tokenizer, tasks, batch_size=batch_size, limit=limit)
    counts = task_counts(samples)
    too_long, items = (sum(column) for column in zip(*dropped, strict=True))
    counts["too_long"] = (too_long, items)
    rows = [share(metric, *counts[metric]) for metric in sorted(counts)]
    write_measurements(rows, folder / ".parquet")
    return ()
