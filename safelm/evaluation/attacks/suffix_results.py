"""Judge and count what models answered to attacked prompts: metrics.json, answers.parquet."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelm.builder.shards import Shard, write_table
from safelm.builder.terminal import align_columns
from safelm.evaluation.attacks.suffix_completions import CONDITIONS
from safelm.evaluation.judges.registry import Judge, Tables, open_judge
from safelm.evaluation.measurements import attack_rows, write_measurements
from safelm.evaluation.metrics import counted, judged
from safelm.evaluation.prompts import Question
from safelm.evaluation.results import Suites, log_to_file, read_replies
from safelm.stats.rates import DIGITS, Json, mean, with_intervals
from specs.attacks import Attack
from specs.document import ATTACKED
from specs.judge import JudgeRow

METRICS, ANSWERS = "metrics.json", "answers.parquet"
DIALS = (
    "suite",
    "suffix_tokens",
    "steps",
    "candidates",
    "top_k",
    "tag_weight",
)  # of a row, told beside its rates
SAID = (
    "opening",
    "log_likelihood",
    "tag_probability",
)  # columns of SUFFIXES, of which the means are shown


@dataclass(frozen=True)
class Attacked:
    """One attack on one model at one stage: which questions, and with which decoders they are
    asked.
    """

    attack: str
    row: Attack
    model: str
    stage: str
    asked: tuple[Question, ...]
    decoders: tuple[str, ...]


def suffix_name(found: Attacked, place: int) -> str:
    """Where the suffix of a question stands in build/attack."""
    return f"suffixes/{found.attack}/{found.model}-{found.stage}/{place:05d}"


def replies_name(found: Attacked, decoder: str, condition: str) -> str:
    """Where the replies with a decoder, under a condition, stand in build/attack."""
    return f"replies/{found.attack}/{found.model}-{found.stage}/{decoder}/{condition}"


def measure(
    folder: Path,
    *,
    attacked: Sequence[Attacked],
    suites: Suites,
    judges: Mapping[str, JudgeRow],
    tables: Tables,
    confidence: float,
    pieces: Mapping[str, Shard],
) -> list[str]:
    """Judge and count, with Wilson's intervals. Returns what the stage prints; an empty table
    attacks nothing.
    """
    if tables.engines:
        log_to_file(tables.answers)
    opened = {name: open_judge(name, row, tables) for name, row in judges.items()}
    metrics: Json = {"attacks": {}}
    rows: list[dict[str, Any]] = []
    for one in attacked:
        found, answers = _counted(one, suites, opened, pieces, confidence)
        dials = {name: getattr(one.row, name) for name in DIALS}
        entry = metrics["attacks"].setdefault(one.attack, {**dials, "models": {}})
        entry["models"].setdefault(one.model, {})[one.stage] = found
        rows += answers
    write_table(rows, ATTACKED, folder / ANSWERS)
    (folder / METRICS).write_text(
        json.dumps(metrics, indent=1) + "\n", encoding="utf-8"
    )  # in the order of params.yaml
    kinds = {
        suite: (row.kind, {judge: judges[judge].kind for judge in row.judges}, row.judges[0])
        for suite, row in suites.items()
    }
    write_measurements(attack_rows(metrics["attacks"], kinds), folder)
    return (
        _lines(metrics)
        if attacked
        else ["attack: the table `attacks` is empty, nothing was attacked"]
    )


def _counted(
    one: Attacked,
    suites: Suites,
    opened: Mapping[str, Judge],
    pieces: Mapping[str, Shard],
    confidence: float,
) -> tuple[Json, list[dict[str, Any]]]:
    """(what metrics.json says of an attack on a model, rows of answers.parquet)."""
    sought = [
        pieces[suffix_name(one, place)].table().to_pylist() for place in range(len(one.asked))
    ]
    fitting = [question for question, rows in zip(one.asked, sought, strict=True) if rows]
    said = [row for rows in sought for row in rows]
    names = {"attack": one.attack, "model": one.model, "stage": one.stage}
    decoders: Json = {}
    answers: list[dict[str, Any]] = []
    for decoder in one.decoders:
        for condition in CONDITIONS:
            rows = pieces[replies_name(one, decoder, condition)].table().to_pylist()
            given = judged(read_replies(rows, fitting, decoder)[0], suites[one.row.suite], opened)
            counts = counted(given, suites[one.row.suite])
            decoders.setdefault(decoder, {})[condition] = with_intervals(counts, confidence)
            answers += [{**names, "condition": condition, **answer.row()} for answer in given]
    found = {
        "asked": len(fitting),
        "left_out": {"too_long": len(one.asked) - len(fitting)}
        if len(fitting) < len(one.asked)
        else {},
        "target": {
            condition: _said([row for row in said if row["condition"] == condition])
            for condition in CONDITIONS
        },
        "decoders": decoders,
    }
    return found, answers


def _said(rows: Sequence[Mapping[str, Any]]) -> Json:
    """What the model thinks of the target, on average."""
    found = {name: mean([row[name] for row in rows if row[name] is not None]) for name in SAID}
    return {name: None if value is None else round(value, DIGITS) for name, value in found.items()}


def _lines(metrics: Json) -> list[str]:
    """Attack success under each condition, a line for each decoder; suffixes are data, and not
    printed.
    """
    lines = [
        (
            "attack",
            "model",
            "stage",
            "decoder",
            "asked",
            *(f"asr {condition}" for condition in CONDITIONS),
        )
    ]
    for attack, entry in metrics["attacks"].items():
        for model, stages in entry["models"].items():
            for stage, found in stages.items():
                for decoder, conditions in found["decoders"].items():
                    asr = [conditions[condition]["asr"]["value"] for condition in CONDITIONS]
                    shown = ["" if value is None else f"{value:.1%}" for value in asr]
                    lines.append((attack, model, stage, decoder, str(found["asked"]), *shown))
    return align_columns(lines, 4)
