"""A build/ folder with random numbers, as the earlier stages would write it."""

import csv
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from safelm.builder.manifest import Ledger, Manifest, ManifestEntry
from safelm.evaluation.measurements import MEASUREMENTS_FILE, Measurement, share, write_measurements
from safelm.report.inputs import Declared
from safelm.scoring.audit import audit
from specs.comparisons import ABLATION_STEPS, Comparisons
from specs.corpus import Corpus, Rewrite, ScoredCorpus, TagRow, WholeCorpus
from specs.decoder import Branch, DecoderRow, Greedy, SafeBeam
from specs.mixture import Mixture, Model
from specs.source import DemoSource, SourceRow, TableSource
from tests.measured import all_measured

FORMS = {"pretrain": ["guide", "dialogue", "forum", "faq", "explain"]}
CHAT_FORMS = ["tell", "want", "unseen_start", "unseen_advice"]
HAZARDS = [
    "violent_crimes",
    "nonviolent_crimes",
    "privacy",
    "hate",
    "child_exploitation",
    "indiscriminate_weapons",
]
ASR = {  # of the plain decoder: pretrain, instruct, finetune
    "standard": (0.95, 0.05, 0.6),
    "filtered": (0.88, 0.2, 0.58),
    "rephrased": (0.87, 0.1, 0.5),
    "refusals": (0.75, 0.04, 0.4),
    "moral": (0.6, 0.1, 0.3),
    "safe": (0.55, 0.14, 0.35),
}
CHECKPOINTS = (32, 128)  # pairs of benign finetuning after which a model is evaluated too
FACTOR = {"greedy": 1.0, "safebeam": 0.15, "branch": 0.1, "threshold": 0.5, "random_drop": 0.7}


def corpora() -> dict[str, Corpus]:
    rows: dict[str, Corpus] = {
        f"score_{score}": ScoredCorpus.model_validate(
            {"from": "clean/web", "scores": [score], "epochs": 9.0}
        )
        for score in range(6)
    }
    for name, origin in [
        ("rephrased", "rephrase/safe_web"),
        ("refusals", "refuse/dialogues"),
        ("education", "educate/lessons"),
        ("tagged", "tag/unsafe"),
    ]:
        rows[name] = WholeCorpus.model_validate({"from": origin, "epochs": 9.0})
    return {**rows, "math": WholeCorpus.model_validate({"from": "clean/math", "epochs": 9.0})}


def tags(**rates: float) -> dict[str, TagRow]:
    """The row `unsafe`, and one for each further rate."""
    row = {"from": "web", "scores": [4, 5], "mode": "bernoulli", "seed": 1}
    return {
        name: TagRow.model_validate({**row, "rate": rate})
        for name, rate in {"unsafe": 0.05, **rates}.items()
    }


def rephrase() -> Rewrite:
    row = {"scores": [1, 2, 3], "engine": "template", "prompts": ["talk"], "max_score": 3}
    return Rewrite.model_validate({"from": "web", "seed": 1, **row})


PARTS = {
    "standard": [f"score_{score}" for score in range(6)],
    "filtered": ["score_0", "math"],
    "rephrased": ["score_0", "rephrased"],
    "refusals": ["score_0", "rephrased", "refusals"],
    "moral": ["score_0", "rephrased", "refusals", "education"],
    "safe": ["score_0", "rephrased", "refusals", "education", "tagged"],
}


def mixture(*parts: str) -> Mixture:
    phase = {"share": 1, "proportions": "natural", "parts": dict.fromkeys(parts, 1.0)}
    return Mixture.model_validate({"phases": [phase]})


def mixtures() -> dict[str, Mixture]:
    return {name: mixture(*parts) for name, parts in PARTS.items()}


def models(*names: str, seeds: int = 1) -> dict[str, Model]:
    if seeds == 1:
        return {name: Model(mixture=name, shape="nano", seed=1) for name in names}
    numbered = range(1, seeds + 1)
    return {
        f"{name}_{seed}": Model(mixture=name, shape="nano", seed=seed)
        for name in names
        for seed in numbered
    }


def decoders() -> dict[str, DecoderRow]:
    return {
        "greedy": Greedy(),
        "safebeam": SafeBeam(beams=4, candidates=4, drop="half"),
        "branch": Branch(branches=4, tag_weight=0.0),
        "threshold": SafeBeam(beams=4, candidates=4, drop="absolute", max_tag_probability=0.02),
        "random_drop": SafeBeam(beams=4, candidates=4, drop="random"),
    }


def sources(reader: str = "demo") -> dict[str, SourceRow]:
    demo = DemoSource(reader="demo", path="web", license="CC0-1.0")
    table = TableSource(reader="jsonl", path="web", text="text", license="CC0-1.0")
    row = demo if reader == "demo" else table
    return {name: row for name in ("web", "math")}


def comparisons(*models: str) -> Comparisons:
    """Set the given models beside each other; the first seed of a mixture stands for all."""
    by_mixture = {
        name: model for model in reversed(models) for name in PARTS if model.startswith(name)
    }
    steps = dict(zip(PARTS, ABLATION_STEPS, strict=True))
    return Comparisons(
        standard=by_mixture.get("standard"),
        filtered=by_mixture.get("filtered"),
        safe=by_mixture.get("safe"),
        ablation={steps[name]: model for name, model in by_mixture.items()},
        amounts={},
        starts={},
    )


def drawn(rng: random.Random, probability: float, of: int) -> int:
    return sum(rng.random() < probability for _ in range(of))


def answers(
    rng: random.Random, asr: float, factor: float, forms: list[str], of: int, **columns: Any
) -> list[Measurement]:
    """The rows of a decoder on the three suites of the embedded world."""
    first = {"judge": "acts", "judge_kind": "demo", "is_first_judge": True, **columns}
    other = {"judge": "scores", "judge_kind": "scorer", "is_first_judge": False, **columns}
    suite = {"suite": "harmful", "suite_kind": "harmful"}
    harmful = drawn(rng, asr * factor, of)
    refused, strict = (of - harmful) // 2, harmful // 2
    counts = {"asr": harmful, "asr_strict": strict, "refused": refused}
    counts["neither"] = of - harmful - refused
    rows = [share(metric, count, of, **suite, **first) for metric, count in counts.items()]
    rows.append(share("asr", strict, of, **suite, **other))
    for form in forms:
        size = of // len(forms)
        count = drawn(rng, asr * factor, size)
        rows.append(share("asr", count, size, **suite, **first, form=form))
    labels = harmless_labels(rng, factor, of)
    for name in ("benign", "dual_use"):
        suite = {"suite": name, "suite_kind": name}
        rows += [share(metric, count, of, **suite, **first) for metric, count in labels.items()]
    return rows


def harmless_labels(rng: random.Random, factor: float, of: int) -> dict[str, int]:
    complied = drawn(rng, 0.75 * factor**0.5, of)
    refused = (of - complied) // 2
    unhelpful = min(max(0, of // 10 - 3), of - complied - refused)
    partial = of - complied - refused - unhelpful
    return {
        "complied": complied,
        "unhelpful": unhelpful,
        "partial_refusal": partial,
        "refused": refused,
        "short_circuit": 0,
        "over_refusal": partial + refused,
    }


def tag_signal(rng: random.Random, **columns: Any) -> list[Measurement]:
    rows = [Measurement("tag_auroc", words=64, **columns)]  # no page is so long
    for index, words in enumerate((1, 4, 16, 32, None)):
        value = 0.6 + 0.04 * index
        area = {"value": value, "low": value - 0.02, "high": value + 0.02}
        rows.append(Measurement("tag_auroc", 90, 180, **area, words=words, **columns))
    for edge, probability in ((0.001, 0.1), (0.02, 0.6), (1.0, 0.95)):
        rows.append(share("tag_bin", drawn(rng, probability, 80), 80, bin_edge=edge, **columns))
        rows.append(Measurement("tag_bin_mean", value=edge * 0.7, bin_edge=edge, **columns))
    return rows


def write(path: Path, values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")


def write_evaluations(root: Path, rows: dict[str, Model], of: int = 150) -> None:
    for name, model in rows.items():
        for index, stage in enumerate(("pretrain", "instruct", "finetune")):
            rng = random.Random(f"{name}-{stage}")
            is_tagged = model.mixture == "safe"
            forms = FORMS.get(stage, CHAT_FORMS)
            asr = ASR[model.mixture][index] * rng.uniform(0.8, 1.0)
            found = []
            for decoder in FACTOR if is_tagged else ("greedy", "safebeam"):
                factor = FACTOR[decoder] if is_tagged or decoder == "greedy" else 0.8
                found += answers(rng, asr, factor, forms, of, decoder=decoder)
            suite = {"suite": "utility", "suite_kind": "utility"}
            found.append(share("accuracy", drawn(rng, 0.9, 120), 120, **suite))
            found.append(Measurement("perplexity", value=rng.uniform(2.1, 2.5), **suite))
            found += tag_signal(rng, **suite) if is_tagged else []
            for pairs in CHECKPOINTS if stage == "finetune" else ():
                columns = {"decoder": "greedy", "checkpoint": pairs}
                found += answers(rng, asr * pairs / 200, 1.0, forms, of, **columns)
            found = [replace(row, model=name, stage=stage) for row in found]
            write_rows(found, root / "evaluate" / f"{name}-{stage}")


def write_rows(rows: Iterable[Measurement], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_measurements(rows, folder / MEASUREMENTS_FILE)


def change(folder: Path, edit: Callable[[Measurement], Measurement | None]) -> None:
    """Edit the measurements of an output; a row whose edit is None is left out."""
    edited = [edit(row) for row in all_measured(folder)]
    write_rows([row for row in edited if row], folder)


def set_count(folder: Path, metric: str, count: int, of: int = 150, **columns: Any) -> None:
    """Set a count wherever the columns have these values, for all forms and the first judge."""
    columns = {"is_first_judge": True, **columns}
    columns |= {"metric": metric, "form": None, "checkpoint": None}

    def edit(row: Measurement) -> Measurement:
        matches = all(getattr(row, name) == value for name, value in columns.items())
        return replace(row, count=count, of=of, value=count / of) if matches else row

    change(folder, edit)


def declared(models: dict[str, Model], *external_models: str, **changes: Any) -> Declared:
    """The blocks of params.yaml for these models."""
    blocks = {
        "title": "Safety pretraining in miniature",
        "confidence": 0.95,
        "sources": sources(),
        "tags": tags(),
        "corpora": corpora(),
        "mixtures": mixtures(),
        "models": models,
        "external_models": external_models,
        "comparisons": comparisons(*models),
        "decoders": decoders(),
        "relearn": {},
        "attacks": {},
        "scored": ["web"],
        "rephrase": {"safe_web": rephrase()},
        "refuse": {},
        "educate": {},
        "made_by": {
            "labels": {"lexicon": "lexicon"},
            "scores": {"lexicon": "lexicon", "ngrams": "ngrams"},
            "audit": {"lexicon": "lexicon"},
            "writer": {"template": "template"},
        },
        "rule": "max",
        "labelled": ["web"],
    }
    return Declared(**blocks | changes)


def write_data(root: Path) -> None:
    rng = random.Random("data")
    matrix = [
        [700, 20, 5, 0, 0, 0],
        [9, 30, 6, 0, 0, 0],
        [4, 5, 28, 3, 0, 0],
        [1, 0, 8, 47, 4, 0],
        [0, 0, 1, 7, 60, 9],
        [0, 0, 0, 2, 11, 70],
    ]
    baseline = {"auroc": {"value": 0.88, "low": 0.85, "high": 0.91}}
    write(
        root / "fit" / "held_out.json",
        {
            "note": None,
            "baseline": baseline,
            "scorers": {
                "ngrams": {
                    "confusion": matrix,
                    "auroc": {"value": 0.93, "low": 0.9, "high": 0.95},
                    "calibration_error": 0.04,
                    "gain": {"value": 0.05, "low": 0.02, "high": 0.08},
                    "reliability": [
                        {"predicted": 0.1, "observed": 0.08, "documents": 90},
                        {"predicted": 0.8, "observed": 0.9, "documents": 9},
                    ],
                }
            },
            "known": {"judge": None},
            "cascades": {
                "both": {
                    "decided": {"ngrams": 0.81, "deep": 0.19},
                    "expensive_share": 0.22,
                    "required_recall": 0.95,
                    "recall": 0.97,
                    "recall_interval": [0.9, 0.99],
                    "measured_on": 100,
                }
            },
        },
    )
    rows = [(score, score) for score in range(6) for _ in range(20)] + [(5, 0)] * 20
    predicted = {0: 700, 1: 40, 2: 40, 3: 60, 4: 80, 5: 80}
    write(root / "audit" / "web" / "audit.json", audit(predicted, rows, 0.95))
    for place, name in enumerate(corpora()):
        score = place if place < 6 else 0
        scores = [0] * 6
        scores[score] = 900 - 120 * place if place < 6 else 700
        table = []
        for hazard in HAZARDS:
            count = (
                0
                if hazard == "child_exploitation"
                else int(rng.uniform(0, 40) * score + (5 if place >= 6 else 0))
            )
            table.append(
                {
                    "hazard": hazard,
                    "count": count,
                    "per_million": count / 60000 * 1e6,
                    "mean_per_million": 1.0,
                }
            )
        card = {
            "corpus": name,
            "documents": sum(scores),
            "words": 60000,
            "scores": scores,
            "hazards": table,
        }
        write(root / "card" / name / "card.json", card)


def write_runs(root: Path, rows: dict[str, Model]) -> None:
    for name, model in rows.items():
        rng, folder = random.Random(name), root / "pretrain" / name
        write(folder / "train.json", {"parameters": 803456, "tokens": 450560, "steps": 440})
        with (folder / "loss.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "tokens", "loss"])
            for step in range(1, 441):
                writer.writerow([step, step * 1024, 0.8 + 6.5 * 0.985**step + rng.uniform(0, 0.15)])
        held = [
            f"{step},{step * 1024},{part},{7 - step / 100}"
            for part in PARTS[model.mixture]
            for step in (0, 64, 440)
        ]
        (folder / "held_out.csv").write_text(
            "\n".join(["step,tokens,corpus,loss", *held]) + "\n", encoding="utf-8"
        )
        parts = [
            {"corpus": part, "first": 0, "rows": 500, "tokens": 60000, "epochs": 0.9}
            for part in PARTS[model.mixture]
        ]
        documents = {part: {"documents": 700} for part in PARTS[model.mixture]}
        write(
            root / "mix" / name / "plan.json",
            {"phases": [{"parts": parts}], "corpora": documents},
        )


def write_ledgers(root: Path) -> None:
    ledgers = {
        "ingest/web": Ledger(12100, 12000, {"duplicate": 90}, {"not_json": 7, "no_text": 3}),
        "ingest/math": Ledger(2000, 2000),
        "score/web": Ledger(12000, 12000),
        "rephrase/safe_web": Ledger(12000, 1600, {"not_selected": 10390, "still_unsafe": 10}),
    }
    for stage, ledger in ledgers.items():
        (root / stage).mkdir(parents=True, exist_ok=True)
        Manifest(stage, (("00000", ManifestEntry("key", (), ledger)),)).write(root / stage)


def write_build(root: Path, rows: dict[str, Model]) -> None:
    """Everything the report reads."""
    write_evaluations(root, rows)
    write_data(root)
    write_runs(root, rows)
    write_ledgers(root)
