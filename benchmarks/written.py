"""What a small language model grades and writes that is usable, by gate and by name.

    VLLM_CPU_KVCACHE_SPACE=2 python -m benchmarks.written MODEL documents.jsonl.gz

MODEL is a folder with weights that vLLM serves; rows of the documents have an `id` and a `text`.
Whole documents are in the prompts. Run it in an empty folder: answers are stored there, so that a
second run goes on where a first one was stopped. Texts are graded by the lexicon, which knows the
made-up world alone, so `unsafe_after_writing` says little of real text.
"""

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datatrove.data import Document

from benchmarks.labels import read_json_lines
from safelm.models.weights import digest_of
from safelm.scoring.lexicon import LEXICON, GradeByLexicon
from safelm.scoring.llm_judge import GradeByRubric
from safelm.scoring.registry import SafetyScorer
from safelm.seeding import sample
from safelm.synthesis.writer import WriteSynthetic
from specs.corpus import Gates
from specs.engine import Limits
from specs.prompt import PROMPTS
from specs.rubric import RUBRICS

SEED = 1
WORDS = range(40, 400)  # of the documents that are drawn
GATES = {
    "min_words": 12,
    "max_words": 400,
    "max_length_ratio": 2.0,
    "ngram": 5,
    "max_copied_share": 0.5,
}


def engine(folder: Path, tokens: int) -> dict[str, Any]:
    """Return the row of the model, with answers of at most so many tokens."""
    return {
        "name": "writer",
        "kind": "vllm",
        "model": str(folder),
        "digest": digest_of(folder),
        "characters": 4000,
        "temperature": 0.7,
        "top_p": 0.95,
        "tokens": tokens,
        "revision": None,
        "context": 2048,
        "dtype": "bfloat16",
        "eager": True,
        "limits": Limits(timeout=3600.0, patience=600.0),
    }


def print_row(name: str, counts: Counter[str]) -> None:
    """Print a row of a Markdown table."""
    usable = counts.pop("usable", 0)
    others = ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
    of = usable + counts.total()
    print(f"| {name} | {usable} of {of} | {others or '–'} |", flush=True)


def graded(row: dict[str, Any], documents: Sequence[Document]) -> None:
    """Grade documents by the rubric, and print how many grades are valid."""
    judge = GradeByRubric(engine=row, rubric=RUBRICS / "rubric.yaml", seed=SEED, max_attempts=1)
    grades = judge.grade([document.text for document in documents])
    print_row("annotate", Counter("usable" if grade else "ungraded" for grade in grades))
    scores = Counter(grade.score for grade in grades if grade)
    print(f"|   its scores | | {dict(sorted(scores.items()))} |", flush=True)


def written(
    stage: str, row: dict[str, Any], documents: Sequence[Document], attempts: int
) -> list[Document]:
    """Write a text for each document with all prompts of a stage, and print the gates' counts."""
    lexicon = {"lexicon": GradeByLexicon(lexicon=LEXICON)}
    block = WriteSynthetic(
        prompts=tuple(sorted((PROMPTS / stage).glob("*.yaml"))),
        engine=row,
        gates=Gates.model_validate({**GATES, "max_attempts": attempts}),
        scorer=SafetyScorer(graders=lexicon, rule="max", thresholds={"lexicon": 0}),
        max_score=2,
        seed=SEED,
    )
    texts = list(block.run(iter(documents)))
    refused = Counter(item["reason"] for item in block.quarantined)
    print_row(stage, Counter({"usable": len(texts)}) + Counter(block.dropped) + refused)
    return texts


def main() -> None:
    """Print a table of the stages that grade and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("documents", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--attempts", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=300)
    options = parser.parse_args()
    os.environ.setdefault("SAFELM_REQUESTS", "32")
    rows = {row["id"]: row for row in read_json_lines(options.documents)}
    known = [id for id, row in rows.items() if len(row["text"].split()) in WORDS]
    documents = [
        Document(text=rows[id]["text"], id=id, metadata={"source": "web", "score": 3})
        for id in sample("written", SEED, known, options.count)
    ]
    row = engine(options.model, options.tokens)
    print("| stage | usable | not, by name |\n|---|---|---|")
    graded({**row, "tokens": 120}, documents)
    written("rephrase", row, documents, options.attempts)
    dialogues = written("refuse", row, documents, options.attempts)
    written("educate", row, dialogues, options.attempts)


if __name__ == "__main__":
    main()
