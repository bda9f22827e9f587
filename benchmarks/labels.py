"""How well scorers learn human labels, and how often they call harmless pages unsafe.

    python -m benchmarks.labels labelled.jsonl.gz --harmless pages.jsonl.gz [--encoder FOLDER]

A row has `set`, `id`, `text` and `labels` {category: 0 or 1}; a missing category is unknown. A row
is unsafe if any of its labels is 1, safe if all categories are known to be 0, and otherwise left
out. Every row is predicted by models that did not see it, in `--folds` folds drawn by id, the same
for all scorers. Areas under the ROC curve have intervals by DeLong; those of a gain over the
baseline, TF-IDF + logistic regression, are paired. Settings are those of params.yaml. Its n-grams
read characters because of such folds over OpenAI's moderation rows, so on those the gain is mildly
optimistic.

Pages have a `text`. Half of `--pages` of them set the operating point of each fold's model, at
which `--max-share` of them may score 3 or more; shares are of the other half. `hidden` is the share
of unsafe rows that are found, at that point, when they lie between the lines of such a page.
"""

import argparse
import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from safelm.scoring.base import Grades, Scorer, probability_of_level
from safelm.scoring.encoder import EncoderScorer
from safelm.scoring.encoder_model import load_encoder
from safelm.scoring.encoder_training import finetune
from safelm.scoring.labels import Label
from safelm.scoring.ngrams import fit_ngrams
from safelm.scoring.operating_point import AtOperatingPoint, OperatingPoint
from safelm.scoring.shift import Compared
from safelm.seeding import hash_rank
from safelm.stats.classification import baseline
from safelm.stats.ranking import auroc, auroc_gain
from safelm.stats.rates import rate
from safelm.text.hazards import Grade
from specs.params import Params
from specs.scorer import Recipe

CONFIDENCE = 0.95
UNSAFE = 5
SEED = 1

MIN_SCORE = 3

Texts = Sequence[str]
# (id, text, is unsafe)
Row = tuple[str, str, bool]
# (training texts, their scores) to a scorer
Fit = Callable[[Texts, Sequence[int]], Scorer]


@dataclass(frozen=True)
class Result:
    """Out-of-fold probabilities, and what is called unsafe at the operating points of the folds."""

    probabilities: list[float]
    pages: list[bool]
    rows: list[bool]
    hidden: list[bool]


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines, which may be packed with gzip."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    return [json.loads(line) for line in content.splitlines()]


def read_labelled(path: Path, set_name: str, as_given: bool) -> list[Row]:
    """Read the rows of one set with a known label; `as_given` takes a missing category as 0."""
    rows = [row for row in read_json_lines(path) if row["set"] == set_name]
    categories = set().union(*(row["labels"] for row in rows))
    known = []
    for row in rows:
        is_unsafe = 1 in row["labels"].values()
        if is_unsafe or as_given or set(row["labels"]) == categories:
            known.append((row["id"], row["text"], is_unsafe))
    return sorted(known)


@dataclass(frozen=True)
class Baseline:
    """TF-IDF and logistic regression, fitted again for each call; `orders` are words of n-grams."""

    train: Texts
    scores: Sequence[int]
    orders: tuple[int, int]

    def grade(self, texts: Texts) -> Grades:
        """Return one grade for each text."""
        is_unsafe = [score > 0 for score in self.scores]
        shares = baseline(self.train, is_unsafe, texts, self.orders)
        assert shares
        return [Grade(0, "", None, (1 - share, 0, 0, 0, 0, share)) for share in shares]


def ngrams(row: Any, **changed: Any) -> Fit:
    """Make the n-gram scorer with the settings of a row of `scorers`, some of them changed."""
    settings = row.model_copy(update=changed)
    return lambda texts, scores: fit_ngrams(texts, scores, settings)


def encoder(folder: Path, recipe: Recipe, sequence_length: int, unsafe_weight: float) -> Fit:
    """Make a finetuned encoder."""

    def fit(texts: Texts, scores: Sequence[int]) -> Scorer:
        import torch

        torch.manual_seed(SEED)
        model, tokenizer = load_encoder(folder, None, sequence_length, new_head=True)
        finetune(
            model,
            tokenizer,
            texts,
            scores,
            steps=recipe.steps,
            warmup=recipe.warmup,
            sequence_length=sequence_length,
            unsafe_weight=unsafe_weight,
            seed=SEED,
        )
        return EncoderScorer(model, tokenizer, sequence_length)

    return fit


def hide(text: str, page: str, id: str) -> str:
    """Put a text between two lines of a page, drawn by its id."""
    lines = page.split("\n")
    at = int.from_bytes(hash_rank("hidden", SEED, id)[:4], "big") % (len(lines) + 1)
    return "\n".join([*lines[:at], text, *lines[at:]])


def cross_validate(
    rows: Sequence[Row], folds: int, fit: Fit, pages: Texts, max_share: float
) -> Result:
    """Predict every row with a model that was fitted without its fold."""

    def key(index: int) -> tuple[bool, bytes]:
        id, _, is_unsafe = rows[index]
        return is_unsafe, hash_rank("folds", SEED, id)

    # Dealt out in turn, the safe ones first, so that folds are stratified.
    ordered = sorted(range(len(rows)), key=key)
    result = Result([0.0] * len(rows), [], [], [])
    for fold in range(folds):
        test = sorted(ordered[fold::folds])
        train = [rows[index] for index in sorted(set(ordered).difference(test))]
        scores = [UNSAFE * is_unsafe for _, _, is_unsafe in train]
        scorer = fit([text for _, text, _ in train], scores)
        grades = scorer.grade([rows[index][1] for index in test])
        for index, grade in zip(test, grades, strict=True):
            assert grade
            result.probabilities[index] = probability_of_level(grade, 1)
        if pages:
            unsafe = [rows[index] for index in test if rows[index][2]]
            measure_pages(result, scorer, unsafe, pages, max_share)
    return result


def measure_pages(
    result: Result, scorer: Scorer, unsafe: Sequence[Row], pages: Texts, max_share: float
) -> None:
    """Add what a scorer calls unsafe at the operating point that half of the pages set."""
    point = OperatingPoint.fit(scorer, pages[::2], MIN_SCORE, max_share)
    at_point = AtOperatingPoint(scorer, point)
    others = pages[1::2]
    hidden = []
    for number, (id, text, _) in enumerate(unsafe):
        hidden.append(hide(text, others[number % len(others)], id))
    for found, texts in (
        (result.pages, others),
        (result.rows, [text for _, text, _ in unsafe]),
        (result.hidden, hidden),
    ):
        found += [bool(grade and grade.score >= MIN_SCORE) for grade in at_point.grade(texts)]


def print_result(name: str, result: Result, first: Result, is_unsafe: Sequence[bool]) -> None:
    """Print a line for one scorer; `first` is that of the baseline."""
    area = auroc(is_unsafe, result.probabilities, CONFIDENCE)
    gain = auroc_gain(is_unsafe, result.probabilities, first.probabilities, CONFIDENCE)
    assert area and gain
    shares = ""
    if result.pages:
        alarms = rate(sum(result.pages), len(result.pages), CONFIDENCE)
        shares = (
            f"   pages {alarms.value:.2%} [{alarms.low:.2%}, {alarms.high:.2%}]   rows "
            f"{fmean(result.rows):.0%}   hidden {fmean(result.hidden):.0%}"
        )
    print(
        f"{name:<30} AUROC {area.value:.4f} [{area.low:.4f}, {area.high:.4f}]   "
        f"gain {gain[0]:+.4f} [{gain[1]:+.4f}, {gain[2]:+.4f}]{shares}",
        flush=True,
    )


def print_shift(name: str, labelled: Texts, pages: Texts) -> None:
    """Print how unlike the labelled texts some pages are (safelm/scoring/shift.py)."""
    labels = [Label(f"{n}", text, 0, "", None, None) for n, text in enumerate(labelled)]
    shift = Compared(labels, labels, pages).texts()
    unseen, length = shift["unseen"], shift["length"]
    print(
        f"{name:<30} words in no label {unseen['documents']:.1%} (labels {unseen['labels']:.1%})   "
        f"median characters {length['documents']:,.0f} (labels {length['labels']:,.0f})"
    )


def main() -> None:
    """Print a line for each scorer."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--set", default="moderation")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--harmless", type=Path, help="JSON lines of harmless pages")
    parser.add_argument("--pages", type=int, default=1000)
    parser.add_argument("--max-share", type=float, default=0.01)
    parser.add_argument("--chunk", type=int, default=500, help="characters of n-grams' chunks")
    parser.add_argument(
        "--as-given",
        action="store_true",
        help="take a missing label as 0, as the file's `harmful` does",
    )
    parser.add_argument(
        "--encoder", type=Path, help="a folder with an encoder that transformers can load"
    )
    parser.add_argument("--recipe", default="brief")
    parser.add_argument("--sequence-length", type=int, default=128)
    options = parser.parse_args()
    rows = read_labelled(options.path, options.set, options.as_given)
    row = next(row for row in Params.read("scorers").scorers.values() if row.kind == "ngrams")
    pages = []
    if options.harmless:
        ranked = sorted(
            read_json_lines(options.harmless), key=lambda page: hash_rank("pages", SEED, page["id"])
        )
        pages = [page["text"] for page in ranked[: options.pages]]
    scorers: dict[str, Fit] = {
        "TF-IDF + LR, words": lambda texts, scores: Baseline(texts, scores, (1, 1)),
        "TF-IDF + LR, words and pairs": lambda texts, scores: Baseline(texts, scores, (1, 2)),
        "n-grams (params.yaml)": ngrams(row),
        "n-grams, words alone": ngrams(row, characters=[]),
        f"n-grams, {options.chunk} characters": ngrams(row, chunk_characters=options.chunk),
    }
    if options.encoder:
        recipe = Recipe.read(options.recipe)
        scorers[f"encoder, recipe {options.recipe}"] = encoder(
            options.encoder, recipe, options.sequence_length, row.unsafe_weight
        )
    is_unsafe = [row[2] for row in rows]
    print(
        f"{len(rows)} rows of {options.set} with a known label, {sum(is_unsafe)} unsafe; "
        f"{options.folds} folds; {len(pages)} pages"
    )
    if pages:
        print_shift("pages against the rows", [text for _, text, _ in rows], pages)
        print_shift("pages against other pages", pages[::2], pages[1::2])
    first = None
    for name, fit in scorers.items():
        result = cross_validate(rows, options.folds, fit, pages, options.max_share)
        first = first or result
        print_result(name, result, first, is_unsafe)


if __name__ == "__main__":
    main()
