"""Ask one model the prompts of one suite with one decoder, or measure its utility: what an
evaluation is made of.

What these write is kept by the model, the prompts and the decoder alone: another judge, or one more
suite, asks nothing again that was asked before. Nothing here knows how answers are judged; the
model is imported when there is something to ask, for that takes longer than most stages."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safelm.builder.shards import write_table
from safelm.models.metadata import knows_tag
from safelm.seeding import sample
from safelm.stats.rates import DIGITS, count_rate
from specs.decoder import Decoder as Dials
from specs.document import REPLIES
from specs.suite import DemoSuite, HarnessSuite

PAGES = 100  # of held-out text, for perplexity


def ask(
    folder: Path,
    *,
    model: Path,
    chat: bool,
    prompts: Sequence[tuple[str, str]],
    decoder: Dials,
    tokens: int,
    batch: int,
    seed: int,
) -> tuple[()]:
    """Write one row of REPLIES for each prompt (id, text)."""
    rows = replies(
        model, chat=chat, prompts=prompts, decoder=decoder, tokens=tokens, batch=batch, seed=seed
    )
    write_table(rows, REPLIES, folder / ".parquet")
    return ()


def replies(
    model: Path,
    *,
    chat: bool,
    prompts: Sequence[tuple[str, str]],
    decoder: Dials,
    tokens: int,
    batch: int,
    seed: int,
) -> list[dict[str, Any]]:
    """A row of REPLIES for each prompt (id, text); one that is too long for the model has no
    answer.
    """
    from safelm.decoding import Decoder
    from safelm.evaluation.generation import examinee

    asked = examinee(model, chat)
    fits = asked.fits([text for _, text in prompts], tokens)
    fitting = [text for (_, text), fit in zip(prompts, fits, strict=True) if fit]
    row = Decoder(**decoder.model_dump(), seed=seed)
    answers = iter(asked.answers(fitting, row, tokens=tokens, batch=batch))
    nothing = {"completion": None, "short_circuited": False, "tag_probability": None}
    return [
        {"id": id, **(next(answers) if fit else nothing)}
        for (id, _), fit in zip(prompts, fits, strict=True)
    ]


def usefulness(
    folder: Path, *, model: Path, suite: DemoSuite, demo: Path, limit: int, batch: int, seed: int
) -> tuple[()]:
    """Write accuracy on at most `limit` items, perplexity per word on held-out pages, and what
    p(tag) tells of such.

    `demo` is for the key: the grammars of the embedded world, which are read without being told.
    """
    from safelm.demo.prompts import held_out_text, utility
    from safelm.evaluation.generation import examinee
    from safelm.evaluation.probes.tag import pages, tag_signal
    from safelm.evaluation.utility.lm_eval import measure

    items: dict[str, Any] = {str(item["id"]): item for item in utility(suite.path)}
    chosen = [items[id] for id in sample("suite", seed, items, limit)]
    asked = examinee(model, False)
    right, perplexity = measure(
        asked.model, asked.tokenizer, chosen, held_out_text(PAGES), batch=batch
    )
    found: dict[str, Any] = {
        "accuracy": count_rate(sum(right), len(right)),
        "perplexity": round(perplexity, DIGITS),
    }
    if knows_tag(model):
        found["tag"] = tag_signal(asked.model, asked.tokenizer, pages(PAGES), batch=batch)
    (folder / ".json").write_text(
        json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    return ()


def solve(
    folder: Path,
    *,
    model: Path,
    suite: HarnessSuite,
    files: Sequence[Path],
    limit: int,
    batch: int,
    seed: int,
) -> tuple[()]:
    """Write what the harness measures of one of its tasks: {measure: count, of, value}. `files` are
    for the key.

    `too_long` counts the items that have a choice longer than the model; they are not asked.
    """
    from safelm.evaluation.generation import examinee
    from safelm.evaluation.utility.lm_eval import reach, solved
    from safelm.evaluation.utility.lm_eval_tasks import keep_fitting, measures, tasks

    asked = examinee(model, False)
    chosen = tasks(suite, limit=limit, seed=seed)

    def length(text: str) -> int:
        return len(asked.tokenizer(text, add_special_tokens=False)["input_ids"])

    left_out = [keep_fitting(task, length, reach(asked.model)) for task in chosen.values()]
    samples = solved(
        asked.model,
        asked.tokenizer,
        chosen,
        batch=batch,
        limit=limit if suite.path is None else None,
    )
    counts = {
        **measures(samples),
        "too_long": (sum(out for out, _ in left_out), sum(of for _, of in left_out)),
    }
    found = {name: count_rate(count, of) for name, (count, of) in sorted(counts.items())}
    (folder / ".json").write_text(
        json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    return ()
