"""Documents a second of each scorer beside its bare model in a plain loop, and what a cascade saves
at equal recall.

    OMP_NUM_THREADS=1 python -m benchmarks.scoring documents.jsonl.gz
    OMP_NUM_THREADS=1 python -m benchmarks.scoring documents.jsonl.gz --labelled labelled.jsonl.gz --encoder A --model B

Rows of `documents` have a `text`. A ratio is the time of the block, as `score` runs it over
DataTrove's documents, divided by that of the bare model, best of `--rounds` in turn; seconds are
the process' own, on one core, so that a busy machine shows less. N-grams stand beside fastText's
class of speed (about 6,000 documents a second and core).

With an encoder, both classifiers are fitted on every other labelled row (the encoder once, into
`--model`). What they are timed on is the labelled rows between and as many documents as `--few`;
the cascade's thresholds are fitted on one half of these and measured on the other."""

import argparse
import gzip
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document

from benchmarks.labels import SEED, UNSAFE, read
from safelm.scoring.base import GradeDocuments
from safelm.scoring.cascade import CascadeScorer, fit_thresholds, probability_of_level
from safelm.scoring.encoder import EncoderScorer, GradeByEncoder
from safelm.scoring.encoder_model import load_encoder, save_encoder
from safelm.scoring.lexicon import LEXICON, GradeByLexicon
from safelm.scoring.ngrams import GradeByNgrams, NgramScorer, fit_ngrams
from safelm.text.hazards import Hazards
from specs.params import Params
from specs.scorer import Recipe

LEVEL = 3
BATCH = 32  # texts of the plain loop


def texts_of(path: Path, documents: int, characters: int | None) -> list[str]:
    """The first texts of a file of JSON lines."""
    with (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8") as file
    ):
        return [
            json.loads(line)["text"][:characters]
            for _, line in zip(range(documents), file, strict=False)
        ]


def seconds(run: Callable[[], Any]) -> float:
    """How long a call takes, in seconds of this process' own: others on the machine do not count."""
    began = time.process_time()
    run()
    return time.process_time() - began


def through(block: GradeDocuments, texts: Sequence[str]) -> Callable[[], Any]:
    """The block over documents, as a stage runs it."""
    return lambda: list(
        block.run([Document(text=text, id=str(place)) for place, text in enumerate(texts)])
    )


def plain_loop(
    model: Any, tokenizer: Any, sequence: int, texts: Sequence[str]
) -> Callable[[], Any]:
    """What one would write by hand: batches in the order of the texts, every chunk of them, one
    forward each.
    """
    import torch

    def run() -> None:
        with torch.inference_mode():
            for start in range(0, len(texts), BATCH):
                coded = tokenizer(
                    list(texts[start : start + BATCH]),
                    truncation=True,
                    max_length=sequence,
                    padding=True,
                    return_overflowing_tokens=True,
                    return_tensors="pt",
                )
                coded.pop("overflow_to_sample_mapping")
                model(**coded.to(model.device)).logits.softmax(-1).tolist()

    return run


def compare(
    name: str, block: GradeDocuments, bare: Callable[[], Any], texts: Sequence[str], rounds: int
) -> None:
    """Print the ratio of the best times, taken in turn on the same machine."""
    run = through(block, texts)
    run()  # opens the model
    pairs = [(seconds(bare), seconds(run)) for _ in range(rounds)]
    plain, ours = (min(times) for times in zip(*pairs, strict=True))
    size = sum(map(len, texts)) / 1e6
    print(
        f"{name:<28} {len(texts) / ours:9,.0f} documents/s  {size / ours:6.2f} M characters/s   "
        f"bare {len(texts) / plain:9,.0f} documents/s   ratio {ours / plain:.3f}",
        flush=True,
    )


def fitted(
    arguments: argparse.Namespace, rows: Sequence[tuple[str, str, bool]], row: Any
) -> tuple[NgramScorer, EncoderScorer]:
    """Both classifiers, fitted on labelled rows; the encoder is taken from --model where it is
    there.
    """
    texts, scores = [text for _, text, _ in rows], [UNSAFE * is_unsafe for _, _, is_unsafe in rows]
    cheap = fit_ngrams(texts, scores, **row.model_dump(exclude={"kind"}))
    if not (arguments.model / "config.json").is_file():
        import torch

        from safelm.scoring.encoder_training import finetune

        torch.manual_seed(SEED)
        model, tokenizer = load_encoder(arguments.encoder, None, arguments.sequence, new_head=True)
        recipe = Recipe.read(arguments.recipe)
        losses = finetune(
            model,
            tokenizer,
            texts,
            scores,
            steps=recipe.steps,
            warmup=recipe.warmup,
            sequence_length=arguments.sequence,
            unsafe_weight=row.unsafe_weight,
            seed=SEED,
        )
        arguments.model.mkdir(parents=True)
        save_encoder(model, tokenizer, losses, arguments.model)
    return cheap, EncoderScorer.read(arguments.model, arguments.sequence)


def cascade(
    cheap: NgramScorer,
    block: GradeByEncoder,
    texts: Sequence[str],
    recall: float,
    precision: float,
) -> None:
    """The cascade beside the expensive scorer on everything, on the half of the documents it was not
    fitted on.
    """
    fit, measure = texts[::2], texts[1::2]
    found = [grade.score >= LEVEL for grade in block.scorer.grade(fit) if grade]
    limits = fit_thresholds(
        [probability_of_level(grade, LEVEL) for grade in cheap.grade(fit) if grade],
        found,
        recall,
        precision,
    )
    both = CascadeScorer(cheap, block, ("cheap", "expensive"), LEVEL, limits)
    dear, ours = seconds(lambda: block.scorer.grade(measure)), seconds(lambda: both.grade(measure))
    wanted = [grade.score >= LEVEL for grade in block.scorer.grade(measure) if grade]
    graded = [grade for grade in both.grade(measure) if grade]
    kept = [grade.score >= LEVEL for grade, hit in zip(graded, wanted, strict=True) if hit]
    share = np.mean([grade.by == "expensive" for grade in graded])
    print(
        f"cascade, recall {recall:.2f} asked: {share:.0%} of {len(measure)} documents reached the encoder; "
        f"{sum(kept)} of {len(kept)} that it finds are kept; {ours:.1f} s beside {dear:.1f} s, ratio {ours / dear:.2f}"
    )


def main() -> None:
    """Print a line for each scorer."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--labelled", type=Path)
    parser.add_argument("--set", default="moderation")
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--model", type=Path, help="where the finetuned encoder is, or will be")
    parser.add_argument("--recipe", default="brief")
    parser.add_argument("--sequence", type=int, default=128)
    parser.add_argument(
        "--few",
        type=int,
        default=400,
        help="documents for the encoder, of at most 1,000 characters",
    )
    arguments = parser.parse_args()
    texts, row = (
        texts_of(arguments.path, arguments.documents, None),
        Params.read("scorers").scorers["ngrams"],
    )
    hazards = Hazards.read(LEXICON)
    judged = [hazards.grade(text).score for text in texts[:1000]]
    judged[:2] = [0, 4] if len(set(judged)) < 2 else judged[:2]
    compare(
        "lexicon",
        GradeByLexicon(lexicon=LEXICON),
        lambda: [hazards.grade(text) for text in texts],
        texts,
        arguments.rounds,
    )
    for name, characters in (
        ("n-grams, words alone", []),
        ("n-grams, params.yaml", row.characters),
    ):
        values = row.model_copy(update={"characters": characters}).model_dump(exclude={"kind"})
        scorer = fit_ngrams(texts[:1000], judged, **values)
        block = GradeByNgrams(files=())
        block.__dict__["scorer"] = scorer  # fitted here, not by a stage
        compare(
            name, block, lambda scorer=scorer: scorer.probabilities(texts), texts, arguments.rounds
        )
    if arguments.encoder:
        rows = read(arguments.labelled, arguments.set, as_given=False)
        cheap, dear = fitted(arguments, rows[::2], row)
        few = texts_of(arguments.path, arguments.few, 1000) + [
            text[:1000] for _, text, _ in rows[1::2]
        ]
        deep = GradeByEncoder(files=(), sequence_length=arguments.sequence)
        deep.__dict__["scorer"] = dear
        bare = plain_loop(dear.model, dear.tokenizer, arguments.sequence, few)
        compare("embedding", deep, bare, few, arguments.rounds)
        for recall in (0.9, 0.95, 0.99):
            cascade(cheap, deep, few, recall, 0.95)


if __name__ == "__main__":
    main()
