"""Speed of each scorer beside its bare model in a plain loop, and what a cascade saves.

    OMP_NUM_THREADS=1 python -m benchmarks.scoring documents.jsonl.gz
    OMP_NUM_THREADS=1 python -m benchmarks.scoring documents.jsonl.gz \\
        --labelled labelled.jsonl.gz --encoder A --model B

Rows of `documents` have a `text`. A ratio is the time of the block, run over DataTrove's documents
as `score` does, divided by that of the bare model; each is the best of `--rounds`, in turn. Seconds
are CPU seconds on one core, so that a busy machine shows less. N-grams are in fastText's class of
speed (about 6,000 documents per second and core).

With an encoder, both classifiers are fitted on every other labelled row (the encoder once, into
`--model`). They are timed on the other labelled rows and on `--few` documents. The cascade's
thresholds are fitted on one half of these and measured on the other.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document

from benchmarks.labels import SEED, UNSAFE, Row, read_json_lines, read_labelled
from safelm.scoring.base import GradeDocuments, probability_of_level
from safelm.scoring.cascade import CascadeScorer
from safelm.scoring.cascade_fit import fit_thresholds
from safelm.scoring.encoder import EncoderScorer, GradeByEncoder
from safelm.scoring.encoder_model import load_encoder, save_encoder
from safelm.scoring.encoder_training import finetune
from safelm.scoring.lexicon import LEXICON, GradeByLexicon
from safelm.scoring.ngrams import GradeByNgrams, NgramScorer, fit_ngrams
from safelm.text.hazards import Hazards
from specs.params import Params
from specs.scorer import Recipe

MIN_SCORE = 3
# Texts in a batch of the plain loop.
BATCH = 32
PRECISION = 0.95
# The most characters of a document for the encoder.
MAX_CHARACTERS = 1000


def seconds(run: Callable[[], Any]) -> float:
    """Return the CPU seconds of a call in this process."""
    began = time.process_time()
    run()
    return time.process_time() - began


def run_block(block: GradeDocuments, texts: Sequence[str]) -> Callable[[], Any]:
    """Run a block over documents, as a stage does."""

    def run() -> None:
        documents = (Document(text=text, id=str(number)) for number, text in enumerate(texts))
        list(block.run(documents))

    return run


def plain_loop(
    model: Any, tokenizer: Any, sequence_length: int, texts: Sequence[str]
) -> Callable[[], Any]:
    """Run an encoder as one would by hand: every chunk of batches in the order of the texts."""
    import torch

    @torch.inference_mode()
    def run() -> None:
        for start in range(0, len(texts), BATCH):
            encoded = tokenizer(
                list(texts[start : start + BATCH]),
                truncation=True,
                max_length=sequence_length,
                padding=True,
                return_overflowing_tokens=True,
                return_tensors="pt",
            )
            encoded.pop("overflow_to_sample_mapping")
            model(**encoded.to(model.device)).logits.softmax(-1).tolist()

    return run


def compare(
    name: str,
    block: GradeDocuments,
    bare: Callable[[], Any],
    texts: Sequence[str],
    rounds: int,
) -> None:
    """Print the ratio of the best times of a block and its bare model."""
    run = run_block(block, texts)
    # The first run opens the model.
    run()
    pairs = [(seconds(bare), seconds(run)) for _ in range(rounds)]
    plain, ours = (min(times) for times in zip(*pairs, strict=True))
    millions = sum(map(len, texts)) / 1e6
    print(
        f"{name:<28} {len(texts) / ours:9,.0f} documents/s  "
        f"{millions / ours:6.2f} M characters/s   "
        f"bare {len(texts) / plain:9,.0f} documents/s   ratio {ours / plain:.3f}",
        flush=True,
    )


def compare_ngrams(row: Any, texts: Sequence[str], rounds: int) -> None:
    """Compare n-gram scorers with and without characters, fitted on the lexicon's scores."""
    hazards = Hazards.read(LEXICON)
    scores = [hazards.grade(text).score for text in texts[:1000]]
    if len(set(scores)) < 2:
        scores[:2] = [0, 4]
    for name, characters in (
        ("n-grams, words alone", []),
        ("n-grams, params.yaml", row.characters),
    ):
        settings = row.model_copy(update={"characters": characters})
        scorer = fit_ngrams(texts[:1000], scores, settings)
        block = GradeByNgrams(files=())
        # Fitted here, not by a stage.
        block.__dict__["scorer"] = scorer
        compare(name, block, lambda scorer=scorer: scorer.probabilities(texts), texts, rounds)


def fit_classifiers(
    options: argparse.Namespace, rows: Sequence[Row], row: Any
) -> tuple[NgramScorer, EncoderScorer]:
    """Fit both classifiers on labelled rows; an encoder that is in --model already is used."""
    texts = [text for _, text, _ in rows]
    scores = [UNSAFE * is_unsafe for _, _, is_unsafe in rows]
    cheap = fit_ngrams(texts, scores, row)
    if not (options.model / "config.json").is_file():
        import torch

        torch.manual_seed(SEED)
        length = options.sequence_length
        model, tokenizer = load_encoder(options.encoder, None, length, new_head=True)
        recipe = Recipe.read(options.recipe)
        losses = finetune(
            model,
            tokenizer,
            texts,
            scores,
            steps=recipe.steps,
            warmup=recipe.warmup,
            sequence_length=length,
            unsafe_weight=row.unsafe_weight,
            seed=SEED,
        )
        options.model.mkdir(parents=True)
        save_encoder(model, tokenizer, losses, options.model)
    return cheap, EncoderScorer.read(options.model, options.sequence_length)


def compare_cascade(
    cheap: NgramScorer, block: GradeByEncoder, texts: Sequence[str], recall: float
) -> None:
    """Compare a cascade with the expensive scorer, on the half of the documents not fitted on."""
    expensive = block.scorer
    train, test = texts[::2], texts[1::2]
    limits = fit_thresholds(
        [probability_of_level(grade, MIN_SCORE) for grade in cheap.grade(train) if grade],
        [grade.score >= MIN_SCORE for grade in expensive.grade(train) if grade],
        recall,
        PRECISION,
    )
    cascade = CascadeScorer(cheap, block, ("cheap", "expensive"), MIN_SCORE, limits)
    expensive_seconds = seconds(lambda: expensive.grade(test))
    cascade_seconds = seconds(lambda: cascade.grade(test))
    wanted = [grade.score >= MIN_SCORE for grade in expensive.grade(test) if grade]
    graded = [grade for grade in cascade.grade(test) if grade]
    kept = []
    for grade, is_positive in zip(graded, wanted, strict=True):
        if is_positive:
            kept.append(grade.score >= MIN_SCORE)
    share = np.mean([grade.by == "expensive" for grade in graded])
    print(
        f"cascade, recall {recall:.2f} wanted: {share:.0%} of {len(test)} documents reached the "
        f"encoder; {sum(kept)} of {len(kept)} that it finds are kept; {cascade_seconds:.1f} s "
        f"beside {expensive_seconds:.1f} s, ratio {cascade_seconds / expensive_seconds:.2f}"
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
    parser.add_argument("--model", type=Path, help="the folder of the finetuned encoder")
    parser.add_argument("--recipe", default="brief")
    parser.add_argument("--sequence-length", type=int, default=128)
    parser.add_argument(
        "--few",
        type=int,
        default=400,
        help=f"documents for the encoder, of at most {MAX_CHARACTERS:,} characters",
    )
    options = parser.parse_args()
    documents = [row["text"] for row in read_json_lines(options.path)]
    texts = documents[: options.documents]
    row = Params.read("scorers").scorers["ngrams"]
    hazards = Hazards.read(LEXICON)
    compare(
        "lexicon",
        GradeByLexicon(lexicon=LEXICON),
        lambda: [hazards.grade(text) for text in texts],
        texts,
        options.rounds,
    )
    compare_ngrams(row, texts, options.rounds)
    if options.encoder:
        rows = read_labelled(options.labelled, options.set, as_given=False)
        cheap, expensive = fit_classifiers(options, rows[::2], row)
        few = documents[: options.few] + [text for _, text, _ in rows[1::2]]
        few = [text[:MAX_CHARACTERS] for text in few]
        block = GradeByEncoder(files=(), sequence_length=options.sequence_length)
        block.__dict__["scorer"] = expensive
        length = options.sequence_length
        bare = plain_loop(expensive.model, expensive.tokenizer, length, few)
        compare("encoder", block, bare, few, options.rounds)
        for recall in (0.9, 0.95, 0.99):
            compare_cascade(cheap, block, few, recall)


if __name__ == "__main__":
    main()
