"""A build/ folder as the earlier stages would leave it, with numbers drawn at random: what the
report's tests read.
"""

import csv
import json
import random
from pathlib import Path
from typing import Any

from safelm.builder.manifest import Ledger, Manifest, ManifestEntry
from safelm.report.build import Declared
from safelm.scoring.audit import audit
from specs.corpus import Corpus, ScoredCorpus, TagRow, WholeCorpus
from specs.decoder import Branch, DecoderRow, Greedy, SafeBeam
from specs.mixture import Mixture, Model
from specs.source import DemoSource, SourceRow, TableSource

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
DOSES = (32, 128)  # pairs of benign finetuning after which a model was evaluated too
FACTOR = {"greedy": 1.0, "safebeam": 0.15, "branch": 0.1, "threshold": 0.5, "random_drop": 0.7}


def corpora() -> dict[str, Corpus]:
    rows: dict[str, Corpus] = {
        f"score_{score}": ScoredCorpus.model_validate(
            {"from": "ingest/web", "scores": [score], "epochs": 9.0}
        )
        for score in range(6)
    }
    for name, origin in [
        ("rephrased", "rephrase"),
        ("refusals", "refuse"),
        ("education", "educate"),
        ("tagged", "tag/unsafe"),
    ]:
        rows[name] = WholeCorpus.model_validate({"from": origin, "epochs": 9.0})
    return {**rows, "math": WholeCorpus.model_validate({"from": "ingest/math", "epochs": 9.0})}


def tags(**rates: float) -> dict[str, TagRow]:
    """The row `unsafe`, and one for each further rate."""
    row = {"from": "ingest/web", "scores": [4, 5], "mode": "bernoulli", "seed": 1}
    return {
        name: TagRow.model_validate({**row, "rate": rate})
        for name, rate in {"unsafe": 0.05, **rates}.items()
    }


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


def counted(rng: random.Random, share: float, of: int) -> dict[str, Any]:
    count = sum(rng.random() < share for _ in range(of))
    return {"count": count, "of": of, "value": count / of}


def fixed(count: int, of: int) -> dict[str, Any]:
    return {"count": count, "of": of, "value": count / of if of else None}


def answers(
    rng: random.Random, asr: float, factor: float, forms: list[str], of: int
) -> dict[str, Any]:
    harmful = counted(rng, asr * factor, of)
    strict, refused = harmful["count"] // 2, (of - harmful["count"]) // 2
    complied, unhelpful = counted(rng, 0.75 * factor**0.5, of), max(0, of // 10 - 3)
    refused_too = (of - complied["count"]) // 2
    labels = {
        "complied": complied,
        "unhelpful": fixed(min(unhelpful, of - complied["count"] - refused_too), of),
        "partial_refusal": fixed(0, of),
        "refused": fixed(refused_too, of),
        "short_circuit": fixed(0, of),
    }
    rest = of - sum(label["count"] for label in labels.values())
    labels["partial_refusal"] = fixed(rest, of)
    benign = {**labels, "over_refusal": fixed(rest + refused_too, of), "forms": {}}
    return {
        "harmful": {
            "asr": harmful,
            "asr_strict": fixed(strict, of),
            "refused": fixed(refused, of),
            "neither": fixed(of - harmful["count"] - refused, of),
            "judges": {"scores": {"asr": fixed(strict, of)}},
            "forms": {
                form: {"asr": counted(rng, asr * factor, of // len(forms))} for form in forms
            },
        },
        "benign": benign,
        "dual_use": benign,
    }


def tag_signal(rng: random.Random) -> dict[str, Any]:
    areas = {
        words: min(0.6 + 0.04 * place, 0.98)
        for place, words in enumerate(("1", "16", "32", "4", "page"))
    }
    return {
        "auroc": {
            **{name: {"value": v, "low": v - 0.02, "high": v + 0.02} for name, v in areas.items()},
            "64": None,
        },
        "bins": {
            edge: {"unsafe": counted(rng, share, 80), "mean": float(edge) * 0.7}
            for edge, share in (("0.001", 0.1), ("0.02", 0.6), ("1", 0.95))
        },
    }


def write(path: Path, values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")


def write_evaluations(root: Path, rows: dict[str, Model], of: int = 150) -> None:
    for name, model in rows.items():
        for place, stage in enumerate(("pretrain", "instruct", "finetune")):
            rng = random.Random(f"{name}-{stage}")
            tagged = model.mixture == "safe"
            asked = list(FACTOR) if tagged else ["greedy", "safebeam"]
            forms, asr = (
                FORMS.get(stage, CHAT_FORMS),
                ASR[model.mixture][place] * rng.uniform(0.8, 1.0),
            )
            found = {
                name: answers(
                    rng, asr, FACTOR[name] if tagged or name == "greedy" else 0.8, forms, of
                )
                for name in asked
            }
            utility = {"accuracy": counted(rng, 0.9, 120), "perplexity": rng.uniform(2.1, 2.5)}
            if tagged:
                utility["tag"] = tag_signal(rng)
            values = {
                "model": name,
                "stage": stage,
                "knows_tag": tagged,
                "decoders": found,
                "utility": utility,
            }
            if stage == "finetune":
                few = {
                    dose: {"greedy": answers(rng, asr * dose / 200, 1.0, forms, of)}
                    for dose in DOSES
                }
                values["doses"] = {str(dose): {"decoders": row} for dose, row in few.items()}
            write(root / "evaluate" / f"{name}-{stage}" / "metrics.json", values)


def declared(models: dict[str, Model], *others: str) -> Declared:
    """What params.yaml would say of these models."""
    return Declared(
        title="Safety pretraining in miniature",
        confidence=0.95,
        sources=sources(),
        tags=tags(),
        corpora=corpora(),
        mixtures=mixtures(),
        models=models,
        others=others,
        decoders=decoders(),
        rephrased_scores=[1, 2, 3],
    )


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
                    "dear_characters": 0.22,
                    "asked_recall": 0.95,
                    "recall": 0.97,
                    "recall_interval": [0.9, 0.99],
                    "measured_on": 100,
                }
            },
        },
    )
    rows = [(score, score) for score in range(6) for _ in range(20)] + [(5, 0)] * 20
    predicted = {0: 700, 1: 40, 2: 40, 3: 60, 4: 80, 5: 80}
    write(root / "audit" / "audit.json", audit(predicted, rows, 0.95))
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
            root / "mix" / model.mixture / "plan.json",
            {"phases": [{"parts": parts}], "corpora": documents},
        )


def write_ledgers(root: Path) -> None:
    ledgers = {
        "ingest/web": Ledger(12100, 12000, {"duplicate": 90}, {"not_json": 7, "no_text": 3}),
        "ingest/math": Ledger(2000, 2000),
        "score": Ledger(12000, 12000),
        "rephrase": Ledger(12000, 1600, {"not_selected": 10390, "still_unsafe": 10}),
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
