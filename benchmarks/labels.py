"""How well scorers learn human labels: the area under the ROC curve, beside TF-IDF + regression.

    python -m benchmarks.labels labelled.jsonl.gz --set moderation [--encoder FOLDER]

A row has `set`, `id`, `text` and `labels` {category: 0 or 1}; a missing category is unknown. A row
is unsafe if any of its labels is 1, safe if all categories are known to be 0, and otherwise left
out. Every row is predicted by models that did not see it, in `--folds` folds drawn by id, the same
for all scorers. Intervals are DeLong's; those of a gain over the baseline are paired. Settings are
those of params.yaml. Its n-grams read characters because of such folds over OpenAI's moderation
rows, so on those the gain is mildly optimistic.
"""

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
# (id, text, is unsafe)
Row = tuple[str, str, bool]
# (training texts, their scores, texts) to the probabilities that the texts are unsafe
Predict = Callable[[Texts, Sequence[int], Texts], Sequence[float]]


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


def tfidf(orders: tuple[int, int]) -> Predict:
    """Make the baseline that `fit` measures too, with n-grams of so many words."""

    def predict(train: Texts, scores: Sequence[int], texts: Texts) -> Sequence[float]:
        probabilities = baseline(train, [score > 0 for score in scores], texts, orders)
        assert probabilities
        return probabilities

    return predict


def ngrams(row: Any) -> Predict:
    """Make the n-gram scorer with the settings of a row of `scorers`."""
    settings = row.model_dump(exclude={"kind"})

    def predict(train: Texts, scores: Sequence[int], texts: Texts) -> Sequence[float]:
        return unsafe_probabilities(fit_ngrams(train, scores, **settings).grade(texts))

    return predict


def encoder(folder: Path, recipe: Recipe, sequence_length: int, unsafe_weight: float) -> Predict:
    """Make a finetuned encoder."""

    def predict(train: Texts, scores: Sequence[int], texts: Texts) -> Sequence[float]:
        import torch

        torch.manual_seed(SEED)
        model, tokenizer = load_encoder(folder, None, sequence_length, new_head=True)
        finetune(
            model,
            tokenizer,
            train,
            scores,
            steps=recipe.steps,
            warmup=recipe.warmup,
            sequence_length=sequence_length,
            unsafe_weight=unsafe_weight,
            seed=SEED,
        )
        return unsafe_probabilities(EncoderScorer(model, tokenizer, sequence_length).grade(texts))

    return predict


def unsafe_probabilities(grades: Sequence[Any]) -> list[float]:
    """Return the probability of a score above 0 of each grade."""
    return [sum(grade.probabilities[1:]) for grade in grades]


def predict_out_of_fold(rows: Sequence[Row], folds: int, predict: Predict) -> list[float]:
    """Predict every row with a model that was fitted without its fold."""

    def key(index: int) -> tuple[bool, bytes]:
        id, _, is_unsafe = rows[index]
        return is_unsafe, hash_rank("folds", SEED, id)

    # Dealt out in turn, the safe ones first, so that folds are stratified.
    ordered = sorted(range(len(rows)), key=key)
    probabilities = [0.0] * len(rows)
    for fold in range(folds):
        test = sorted(ordered[fold::folds])
        train = [rows[index] for index in sorted(set(ordered).difference(test))]
        scores = [UNSAFE * is_unsafe for _, _, is_unsafe in train]
        texts = [text for _, text, _ in train]
        predicted = predict(texts, scores, [rows[index][1] for index in test])
        for index, probability in zip(test, predicted, strict=True):
            probabilities[index] = float(probability)
    return probabilities


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
    parser.add_argument("--sequence-length", type=int, default=128)
    options = parser.parse_args()
    rows = read_labelled(options.path, options.set, options.as_given)
    row = next(row for row in Params.read("scorers").scorers.values() if row.kind == "ngrams")
    scorers: dict[str, Predict] = {
        "TF-IDF + LR, words": tfidf((1, 1)),
        "TF-IDF + LR, words and pairs": tfidf((1, 2)),
        "n-grams (params.yaml)": ngrams(row),
        "n-grams, words alone": ngrams(row.model_copy(update={"characters": []})),
    }
    if options.encoder:
        recipe = Recipe.read(options.recipe)
        scorers[f"encoder, recipe {options.recipe}"] = encoder(
            options.encoder, recipe, options.sequence_length, row.unsafe_weight
        )
    is_unsafe = [row[2] for row in rows]
    print(
        f"{len(rows)} rows of {options.set} with a known label, {sum(is_unsafe)} unsafe; "
        f"{options.folds} folds"
    )
    first: list[float] = []
    for name, predict in scorers.items():
        began = time.perf_counter()
        probabilities = predict_out_of_fold(rows, options.folds, predict)
        first = first or probabilities
        area = auroc(is_unsafe, probabilities, CONFIDENCE)
        gain = auroc_gain(is_unsafe, probabilities, first, CONFIDENCE)
        assert area and gain
        print(
            f"{name:<32} AUROC {area.value:.4f} [{area.low:.4f}, {area.high:.4f}]   "
            f"gain {gain[0]:+.4f} [{gain[1]:+.4f}, {gain[2]:+.4f}]   "
            f"{time.perf_counter() - began:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
