"""How well the scorers learn labels that people gave: the area under the ROC curve beside TF-IDF +
logistic regression.

    python -m benchmarks.labels labelled.jsonl.gz --set moderation [--encoder FOLDER]

A row has `set`, `id`, `text` and `labels` {category: 0 or 1}. A category that is missing is
unknown: a row is unsafe when any of its labels is 1, safe when all categories are known to be 0,
and otherwise left out. Every row is predicted by models that did not see it, in `--folds` folds
drawn by id; all scorers see the same folds. The intervals are DeLong's, those of a gain over the
baseline are paired. Settings are params.yaml's. That its n-grams read characters was chosen by such
folds over OpenAI's moderation rows, so on those the gain is mildly optimistic."""

import argparse
import gzip
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safelm.scoring.encoder import EncoderScorer
from safelm.scoring.encoder_model import load_encoder
from safelm.scoring.encoder_training import finetune
from safelm.scoring.ngrams import fit_ngrams
from safelm.seeding import hash_rank
from safelm.stats.classification import baseline
from safelm.stats.ranking import auroc, auroc_gain
from specs.params import Params
from specs.scorer import Recipe

CONFIDENCE = 0.95
UNSAFE = 5
SEED = 1

Texts = Sequence[str]
Predict = Callable[
    [Texts, Sequence[int], Texts], Sequence[float]
]  # (train texts, train scores, texts) to chances


def read(path: Path, name: str, as_given: bool) -> list[tuple[str, str, bool]]:
    """(id, text, is unsafe) of the rows of one set whose label is known."""
    with (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8") as file
    ):
        rows = [row for line in file if (row := json.loads(line))["set"] == name]
    categories = {category for row in rows for category in row["labels"]}
    known = []
    for row in rows:
        is_unsafe = 1 in row["labels"].values()
        if is_unsafe or as_given or set(row["labels"]) == categories:
            known.append((row["id"], row["text"], is_unsafe))
    return sorted(known)


def tfidf(orders: tuple[int, int]) -> Predict:
    """The baseline that `fit` measures too, of n-grams of so many words."""

    def predict(train: Texts, scores: Sequence[int], texts: Texts) -> Sequence[float]:
        found = baseline(train, [score > 0 for score in scores], texts, orders)
        assert found
        return found

    return predict


def ngrams(row: Any) -> Predict:
    """The n-gram scorer with the values of a row of `scorers`."""
    values = row.model_dump(exclude={"kind"})
    return lambda train, scores, texts: chances(fit_ngrams(train, scores, **values).grade(texts))


def embedding(encoder: Path, recipe: Recipe, sequence: int, weight: float) -> Predict:
    """An encoder, finetuned."""

    def predict(train: Texts, scores: Sequence[int], texts: Texts) -> Sequence[float]:
        import torch

        torch.manual_seed(SEED)
        model, tokenizer = load_encoder(encoder, None, sequence, new_head=True)
        finetune(
            model,
            tokenizer,
            train,
            scores,
            steps=recipe.steps,
            warmup=recipe.warmup,
            sequence_length=sequence,
            unsafe_weight=weight,
            seed=SEED,
        )
        return chances(EncoderScorer(model, tokenizer, sequence).grade(texts))

    return predict


def chances(grades: Sequence[Any]) -> list[float]:
    """The probability of a score above 0."""
    return [sum(grade.probabilities[1:]) for grade in grades]


def out_of_fold(rows: Sequence[tuple[str, str, bool]], folds: int, predict: Predict) -> list[float]:
    """A chance for every row, from a model that was fitted without its fold."""
    ordered = sorted(
        range(len(rows)), key=lambda place: (rows[place][2], hash_rank("folds", SEED, rows[place][0]))
    )
    fold = {place: turn % folds for turn, place in enumerate(ordered)}  # stratified
    found = [0.0] * len(rows)
    for held in range(folds):
        train = [place for place in range(len(rows)) if fold[place] != held]
        test = [place for place in range(len(rows)) if fold[place] == held]
        scores = [UNSAFE * rows[place][2] for place in train]
        values = predict(
            [rows[place][1] for place in train], scores, [rows[place][1] for place in test]
        )
        for place, value in zip(test, values, strict=True):
            found[place] = float(value)
    return found


def main() -> None:
    """Print a line for each scorer."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--set", default="moderation")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument(
        "--as-given",
        action="store_true",
        help="take a missing label as 0, as the file's `harmful` does",
    )
    parser.add_argument(
        "--encoder", type=Path, help="a folder with an encoder that transformers can load"
    )
    parser.add_argument("--recipe", default="brief")
    parser.add_argument("--sequence", type=int, default=128)
    arguments = parser.parse_args()
    rows = read(arguments.path, arguments.set, arguments.as_given)
    is_unsafe = [row[2] for row in rows]
    row = next(row for row in Params.read("scorers").scorers.values() if row.kind == "ngrams")
    table: dict[str, Predict] = {
        "TF-IDF + LR, words": tfidf((1, 1)),
        "TF-IDF + LR, words and pairs": tfidf((1, 2)),
        "n-grams (params.yaml)": ngrams(row),
        "n-grams, words alone": ngrams(row.model_copy(update={"characters": []})),
    }
    if arguments.encoder:
        recipe = Recipe.read(arguments.recipe)
        table[f"embedding, recipe {arguments.recipe}"] = embedding(
            arguments.encoder, recipe, arguments.sequence, row.unsafe_weight
        )
    print(
        f"{len(rows)} rows of {arguments.set} with a known label, {sum(is_unsafe)} unsafe; {arguments.folds} folds"
    )
    first: list[float] = []
    for name, predict in table.items():
        began = time.perf_counter()
        values = out_of_fold(rows, arguments.folds, predict)
        first = first or values
        area, gain = (
            auroc(is_unsafe, values, CONFIDENCE),
            auroc_gain(is_unsafe, values, first, CONFIDENCE),
        )
        assert area and gain
        print(
            f"{name:<32} AUROC {area.value:.4f} [{area.low:.4f}, {area.high:.4f}]   "
            f"gain {gain[0]:+.4f} [{gain[1]:+.4f}, {gain[2]:+.4f}]   {time.perf_counter() - began:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
