"""Evaluate a model at one stage: every suite, every decoder, and utility; metrics.json and samples.parquet."""

import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from safelm.chat import knows_tag, load
from safelm.decoding import Decoder
from safelm.demo.prompts import held_out_text, utility
from safelm.evaluation.matrix import DIGITS, Answer, Examinee, Json, counted, rate
from safelm.evaluation.suites import questions
from safelm.evaluation.utility import measure
from safelm.sample import sample
from safelm.shards import write_table
from specs.document import SAMPLES
from specs.suite import Suite

METRICS, ANSWERS = "metrics.json", "samples.parquet"
PAGES = 100  # of held-out text, for perplexity


def evaluate(
    model: Path,
    folder: Path,
    *,
    name: str,
    stage: str,
    suites: Mapping[str, Suite],
    decoders: Mapping[str, Decoder],
    tagged_only: Collection[str],
    prompts: int,
    tokens: int,
    batch: int,
    seed: int,
) -> Json:
    """Ask, judge and count; what metrics.json says.

    Decoders of `tagged_only` are left out for a model that does not know the tag. SafeBeam is not among them by need:
    where the tag was never read, what it does is a control.
    """
    network, tokenizer = load(model)
    examinee, tagged = Examinee(network, tokenizer, stage), knows_tag(model)
    asked = {one: suite for one, suite in suites.items() if suite.kind != "utility"}
    stock = {one: questions(one, suite, stage=stage, limit=prompts, seed=seed) for one, suite in asked.items()}
    fitting = {one: examinee.fits(found, tokens) for one, found in stock.items()}
    metrics: Json = {"model": name, "stage": stage, "knows_tag": tagged, "decoders": {}}
    metrics["left_out"] = {one: len(found) - len(fitting[one]) for one, found in stock.items()}
    answers: list[Answer] = []
    chosen = {one: decoder for one, decoder in decoders.items() if tagged or one not in tagged_only}
    for one in tqdm(chosen, desc=f"{name}-{stage}", unit="decoder", leave=False, disable=not sys.stderr.isatty()):
        every = [question for found in fitting.values() for question in found]
        given = examinee.answers(every, asked, one, chosen[one], new_tokens=tokens, batch=batch)
        answers += given
        metrics["decoders"][one] = {
            suite: counted([answer for answer in given if answer.question.suite == suite], asked[suite].kind)
            for suite in asked
        }
    for suite in (suite for suite in suites.values() if suite.kind == "utility"):
        metrics["utility"] = usefulness(examinee, suite, limit=prompts, batch=batch, seed=seed)
    write_table([answer.row() for answer in answers], SAMPLES, folder / ANSWERS)
    (folder / METRICS).write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return metrics


def usefulness(examinee: Examinee, suite: Suite, *, limit: int, batch: int, seed: int) -> Json:
    """Accuracy on at most `limit` items, and perplexity per word on held-out pages."""
    items: dict[str, Any] = {str(item["id"]): item for item in utility(suite.path)}
    chosen = [items[id] for id in sample("suite", seed, items, limit)]
    right, perplexity = measure(examinee.model, examinee.tokenizer, chosen, held_out_text(PAGES), batch=batch)
    return {"accuracy": rate(sum(right), len(right)), "perplexity": round(perplexity, DIGITS)}


def table(metrics: Json) -> list[str]:
    """What a stage prints: a line for each decoder."""
    heads = ("decoder", "suite", "asked", "asr", "strict", "complied", "refused", "neither")
    lines = [heads]
    for decoder, suites in metrics["decoders"].items():
        for suite, found in suites.items():
            declined = found.get("over_refusal") or found["refused"]
            first = [found.get(key) for key in ("asr", "asr_strict", "complied")]
            shown = [*first, declined, found.get("neither") or found["unhelpful"]]
            lines.append((decoder, suite, str(declined["of"]), *(_percent(one) for one in shown)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(_padded(line, widths)).rstrip() for line in lines]


def _padded(line: tuple[str, ...], widths: list[int]) -> list[str]:
    cells = enumerate(zip(line, widths, strict=True))
    return [f"{cell:<{width}}" if place < 2 else f"{cell:>{width}}" for place, (cell, width) in cells]


def _percent(found: Json | None) -> str:
    return f"{found['value']:.1%}" if found and found["value"] is not None else ""
