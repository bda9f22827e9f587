"""The stage `relearn`: which models are tuned and asked, by key, and what their answers say, as
metrics.json.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from safelm.builder.artifact import Part, artifact
from safelm.builder.paths import build
from safelm.builder.shards import Shard
from safelm.builder.terminal import align_columns
from safelm.evaluation.attacks.relearning_curve import curve
from safelm.evaluation.judges.registry import Judge, Tables, open_judge
from safelm.evaluation.measurements import relearn_rows, write_measurements
from safelm.evaluation.metrics import counted, judged
from safelm.evaluation.prompts import Stock, in_chat
from safelm.evaluation.protocol import Asked
from safelm.evaluation.results import METRICS, Suites, log_to_file, read_replies, stocks_of
from safelm.stats.rates import Json, with_intervals
from specs.attacks import Relearn
from specs.judge import JudgeRow

CHAT = "instruct"  # every model is tuned on the chat format, and asked as after that stage, base models too


def relearn_models(
    folder: str,
    *,
    rows: Mapping[str, Relearn],
    confidence: float,
    asked: Asked,
) -> None:
    """Build build/<folder>. Only a row or a model that is new is tuned; without rows there is
    nothing to tell.
    """
    suites = {
        suite: asked.suites[suite]
        for suite in sorted({suite for row in rows.values() for suite in row.suites})
    }
    stocks = stocks_of(suites, stage=CHAT, limit=asked.prompts, seed=asked.seed)
    answering = {"tokens": asked.tokens, "width": asked.batch, "asked_seed": asked.seed}
    pieces = {}
    for name, row in rows.items():
        questions = {
            suite: [(one.id, one.text) for one in stocks[suite].asked] for suite in row.suites
        }
        dials = row.model_dump(exclude={"models", "stage", "suites", "decoders", "source"})
        for model in row.models:
            base = build(row.stage, model)
            reading = {"base": base, "source": build("ingest", row.source), "questions": questions}
            reading |= {"chat": {suite: in_chat(suites[suite], CHAT) for suite in row.suites}}
            reading |= {"decoders": asked.decoders_of(base, row.decoders)}
            pieces[f"{name}/{model}"] = Part(curve, {**dials, **reading, **answering})
    artifact(
        folder,
        relearn,
        pieces=pieces,
        rows=dict(rows),
        suites=suites,
        confidence=confidence,
        prompts=asked.prompts,
        seed=asked.seed,
        **asked.judging(suites, folder),
    )


def relearn(
    folder: Path,
    *,
    pieces: Mapping[str, Shard],
    rows: Mapping[str, Relearn],
    suites: Suites,
    judges: Mapping[str, JudgeRow],
    tables: Tables,
    confidence: float,
    prompts: int,
    seed: int,
) -> list[str]:
    """Judge and count: metrics.json, with Wilson's intervals. Returns what the stage prints."""
    if tables.engines:
        log_to_file("relearn")
    stocks = stocks_of(suites, stage=CHAT, limit=prompts, seed=seed)
    opened = {judge: open_judge(judge, row, tables) for judge, row in judges.items()}
    found = {
        name: {
            **row.model_dump(),
            "models": {
                model: with_intervals(
                    _told(pieces[f"{name}/{model}"], stocks, suites, opened), confidence
                )
                for model in row.models
            },
        }
        for name, row in rows.items()
    }
    (folder / METRICS).write_text(
        json.dumps({"rows": found}, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    kinds = {
        suite: (row.kind, {judge: judges[judge].kind for judge in row.judges}, row.judges[0])
        for suite, row in suites.items()
    }
    write_measurements(relearn_rows(found, kinds), folder)
    return (
        align_columns([HEAD, *_lines(found)], 3)
        if found
        else [f"{'relearn':<18} no rows in params.yaml"]
    )


def _told(
    shard: Shard, stocks: Mapping[str, Stock], suites: Suites, judges: Mapping[str, Judge]
) -> Json:
    """A curve: the loss and the rates of each decoder and suite, by the pairs that were read."""
    found: Json = {}
    cells: dict[tuple[int, str, str], list[Json]] = {}
    for row in shard.table().to_pylist():
        found.setdefault(str(row["pairs"]), {"held_out_loss": row["held_out_loss"], "decoders": {}})
        cells.setdefault((row["pairs"], row["decoder"], row["suite"]), []).append(row)
    for (read, decoder, suite), rows in cells.items():
        given, _ = read_replies(rows, stocks[suite].asked, decoder)
        rates = counted(judged(given, suites[suite], judges), suites[suite])
        found[str(read)]["decoders"].setdefault(decoder, {})[suite] = rates
    return found


HEAD = ("row", "model", "decoder", "pairs", "harmful loss", "suite", "asr", "complied", "refused")


def _lines(found: Json) -> Iterator[tuple[str, ...]]:
    """What a stage prints: a line for each row, model, dose, decoder and suite."""
    for name, row in found.items():
        for model, told in row["models"].items():
            for read, one in told.items():
                loss = "" if one["held_out_loss"] is None else f"{one['held_out_loss']:.3f}"
                for decoder, suites in one["decoders"].items():
                    for suite, rates in suites.items():
                        shown = (
                            rates.get("asr"),
                            rates.get("complied"),
                            rates.get("over_refusal", rates["refused"]),
                        )
                        values = (
                            f"{rate['value']:.1%}" if rate and rate["of"] else "" for rate in shown
                        )
                        yield name, model, decoder, read, loss, suite, *values
