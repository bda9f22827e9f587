"""Judge and count what a model answered at one stage, and lay its utility beside it: metrics.json,
samples.parquet.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from loguru import logger

from safelm.builder.paths import scratch
from safelm.builder.shards import Shard, write_table
from safelm.builder.terminal import align_columns
from safelm.evaluation.judges.registry import Tables, open_judge
from safelm.evaluation.measurements import evaluation_rows, write_measurements
from safelm.evaluation.metrics import Answer, Reply, counted, judged
from safelm.evaluation.prompts import Question, Stock, stock
from safelm.models.metadata import CHECKPOINTS, knows_tag
from safelm.stats.rates import Json
from specs.document import SAMPLES
from specs.judge import JudgeRow
from specs.suite import AnySuite, DemoSuite, HarnessSuite

METRICS, ANSWERS, UTILITY, PROBE = "metrics.json", "samples.parquet", "utility", "probe"
Suites = Mapping[str, AnySuite]


def stocks_of(suites: Suites, *, stage: str, limit: int, seed: int) -> dict[str, Stock]:
    """The questions of every suite that has some."""
    asked = {name: suite for name, suite in suites.items() if suite.kind != "utility"}
    return {
        name: stock(name, suite, stage=stage, limit=limit, seed=seed)
        for name, suite in asked.items()
    }


def evaluate(
    folder: Path,
    *,
    pieces: Mapping[str, Shard],
    model: Path,
    name: str,
    stage: str,
    suites: Suites,
    decoders: Sequence[str],
    doses: Mapping[str, Sequence[str]],
    judges: Mapping[str, JudgeRow],
    tables: Tables,
    prompts: int,
    seed: int,
) -> list[str]:
    """Judge and count; metrics.json and samples.parquet. Returns what the stage prints.

    `doses` has the decoders that were asked of what finetuning kept on its way, by the pairs that
    it had read."""
    stocks = stocks_of(suites, stage=stage, limit=prompts, seed=seed)
    if tables.engines:
        log_to_file(f"{name}-{stage}")
    opened = {judge: open_judge(judge, row, tables) for judge, row in judges.items()}
    metrics: Json = {
        "model": name,
        "stage": stage,
        "knows_tag": knows_tag(model),
        "decoders": {},
        "suites": {},
    }
    answers: list[Answer] = []
    for decoder in decoders:
        metrics["decoders"][decoder] = {}
        for suite, found in stocks.items():
            rows = pieces[piece_name(decoder, suite)].table().to_pylist()
            replies, too_long = read_replies(rows, found.asked, decoder)
            given = judged(replies, suites[suite], opened)
            answers += given
            metrics["decoders"][decoder][suite] = counted(given, suites[suite])
            left_out = {**found.left_out, **({"too_long": too_long} if too_long else {})}
            metrics["suites"][suite] = {
                "kind": suites[suite].kind,
                "judge": suites[suite].judges[0],
                "judges": {judge: judges[judge].kind for judge in suites[suite].judges},
                "rows": found.rows,
                "asked": len(replies),
                "left_out": left_out,
            }

    def along(dose: str, decoder: str, suite: str) -> Json:
        rows = pieces[piece_name(decoder, suite, dose)].table().to_pylist()
        replies, _ = read_replies(rows, stocks[suite].asked, decoder)
        return counted(judged(replies, suites[suite], opened), suites[suite])

    metrics["doses"] = {
        dose: {
            "decoders": {
                name: {suite: along(dose, name, suite) for suite in stocks} for name in few
            }
        }
        for dose, few in doses.items()
    }
    utility = {name: suite for name, suite in suites.items() if suite.kind == "utility"}
    known = {name: json.loads(pieces[f"{UTILITY}/{name}"].bytes()) for name in utility}
    for name, measured in known.items():
        metrics.setdefault("utility", {}).update(
            measured if isinstance(utility[name], DemoSuite) else {}
        )
        if isinstance(utility[name], DemoSuite):
            metrics["utility"][PROBE] = json.loads(pieces[f"{PROBE}/{name}"].bytes())
    tasks = {
        name: measured
        for name, measured in known.items()
        if isinstance(utility[name], HarnessSuite)
    }
    if tasks:
        metrics.setdefault("utility", {})["tasks"] = tasks
    write_table([answer.row() for answer in answers], SAMPLES, folder / ANSWERS)
    (folder / METRICS).write_text(
        json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    kinds = {
        suite: "demo_utility" if isinstance(row, DemoSuite) else "utility"
        for suite, row in utility.items()
    }
    write_measurements(evaluation_rows(metrics, kinds), folder)
    lines = table(metrics)
    lines += [
        _left_out(suite, found) for suite, found in metrics["suites"].items() if found["left_out"]
    ]
    lines += [
        f"{task}: "
        + ", ".join(
            f"{measure} {_percent(found)} of {found['of']}" for measure, found in measured.items()
        )
        for task, measured in tasks.items()
    ]
    lines += _probe(metrics.get("utility", {}).get(PROBE))
    for dose, found in metrics["doses"].items():
        lines += [f"after {dose} pairs", *table({**metrics, **found})]
    return lines


def _left_out(suite: str, found: Json) -> str:
    """What a stage prints of the rows of a file that were not asked."""
    reasons = ", ".join(
        f"{count:,} {reason.replace('_', ' ')}" for reason, count in found["left_out"].items()
    )
    return f"{suite}: {found['asked']:,} of {found['rows']:,} rows asked; left out: {reasons}"


def _probe(found: Json | None) -> list[str]:
    """What a stage prints of the linear probes."""
    if not found:
        return []
    best = found["best"]
    areas = {
        f"layer {best['layer']}": best["area"],
        "the last": found["last"],
        "words alone": found["words"],
    }
    shown = (f"{name} {area['value']:.3f}" for name, area in areas.items() if area)
    return [f"linear probe, area under the ROC curve: {', '.join(shown)}"]


def log_to_file(name: str) -> None:
    """What asking a language model has to say goes to a file, not to the screen; it is no text of a
    document.
    """
    logger.remove()
    logger.add(scratch("logs", "evaluate", f"{name}.log"), level="DEBUG", diagnose=False)


def piece_name(decoder: str, suite: str, dose: str = "") -> str:
    """Where the replies to a suite with a decoder stand in the folder of an evaluation, or of a
    dose of finetuning.
    """
    return f"{f'{CHECKPOINTS}/{dose}/' if dose else ''}replies/{decoder}/{suite}"


def read_replies(
    rows: Sequence[Json], asked: Sequence[Question], decoder: str
) -> tuple[list[Reply], int]:
    """(what was answered, how many prompts were too long to be asked), from the rows of REPLIES."""
    replies = [
        Reply(question, decoder, row["completion"], row["short_circuited"], row["tag_probability"])
        for question, row in zip(asked, rows, strict=True)
        if row["completion"] is not None
    ]
    return replies, len(rows) - len(replies)


def table(metrics: Json) -> list[str]:
    """What a stage prints: a line for each decoder and suite, and for every judge of it."""
    lines = [
        (
            "decoder",
            "suite",
            "judge",
            "asked",
            "asr",
            "strict",
            "complied",
            "refused",
            "neither",
            "unjudged",
        )
    ]
    for decoder, suites in metrics["decoders"].items():
        for suite, found in suites.items():
            first = metrics["suites"][suite]["judge"]
            for judge, rates in {first: found, **found["judges"]}.items():
                lines.append((decoder, suite, judge, *_line(rates)))
    return align_columns(lines, 3)


def _line(rates: Json) -> tuple[str, ...]:
    declined = rates.get("over_refusal") or rates["refused"]
    first = [rates.get(key) for key in ("asr", "asr_strict", "complied")]
    shown = [*first, declined, rates.get("neither") or rates["unhelpful"]]
    unjudged = rates["unjudged"]
    return str(declined["of"]), *(_percent(one) for one in shown), str(unjudged["count"] or "")


def _percent(found: Json | None) -> str:
    return f"{found['value']:.1%}" if found and found["value"] is not None else ""
