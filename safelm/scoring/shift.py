"""Shift from labelled to scored documents: how unlike the labels the scored text is.

A scorer says little about text of another kind than its labels, and its held-out metrics do not
show it: fitted on moderation texts with a macro-F1 of .814, one scored 869 of 1,000 harmless web
pages as 4. Three figures are compared: the words that no label has, the distribution of scores, and
the length.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

from safelm.builder.blocks import Documents, Task, Writer
from safelm.builder.files import Json, write_json
from safelm.builder.manifest import Manifest
from safelm.builder.run import make_shards
from safelm.builder.shards import Shard, shards
from safelm.documents.sample import ids_of, sample_tasks
from safelm.documents.shards import shard_inputs
from safelm.scoring.labels import Label, ReadLabels, labels_and_values
from safelm.scoring.ngrams import MIN_LABELS
from safelm.scoring.registry import stored_file
from safelm.seeding import hash_rank
from safelm.stats.rates import DIGITS
from safelm.text.word_hashes import hash_words
from specs.spec import SCORE_LEVELS

SHIFT = "shift.json"
PURPOSE = "shift"  # of the draws
DOCUMENTS = 2000  # scored documents that are compared
PARTS = 5  # one part of the labels is compared with the words of all others
# Ours. Of web pages 5.6 % of the words are in no label that is a web page too, and 22.2 % in no
# label of moderation, among whose own texts it is 14.5 % (benchmarks/labels.py --harmless).
MAX_USUAL = {"unseen": 0.05, "scores": 0.3, "length": 5.0}


@dataclass(frozen=True)
class Compared:
    """The labels, and texts or scores of a sample of the scored documents.

    `alike` are the labels that were drawn as the scored documents were, or all if none were.
    """

    labels: Sequence[Label]
    alike: Sequence[Label]
    values: Sequence[Any]

    @property
    def are_enough(self) -> bool:
        """Whether there is enough to compare."""
        return min(len(self.alike), len(self.values)) >= MIN_LABELS

    def texts(self) -> Json:
        """Compare words and lengths; `values` are texts."""
        if not self.are_enough:
            return {"unseen": None, "length": None}
        ordered = sorted(self.alike, key=lambda label: hash_rank(PURPOSE, 0, label.id))
        tested = ordered[::PARTS]
        tested_ids = {label.id for label in tested}
        # Words of all labels but those tested, whose share is what is usual among labels.
        words: set[int] = set()
        for label in self.labels:
            if label.id not in tested_ids:
                words.update(hash_words(label.text).tolist())
        usual = _unseen_share(words, [label.text for label in tested])
        unseen = _unseen_share(words, self.values)
        usual_length = median(len(label.text) for label in self.alike)
        length = median(map(len, self.values))
        # 1 is added so that a median of 0 characters does not divide by zero.
        ratio = (1 + max(usual_length, length)) / (1 + min(usual_length, length))
        return {
            "unseen": _figure(usual, unseen, max(unseen - usual, 0.0)),
            "length": _figure(usual_length, length, ratio),
        }

    def scores(self) -> Json:
        """Compare the distributions of scores; `values` are scores, None where there is none."""
        if not self.are_enough:
            return {"scores": None}
        usual = _distribution([label.score for label in self.alike])
        scored = _distribution([score for score in self.values if score is not None])
        # Total variation: half of the summed differences.
        apart = sum(abs(first - second) for first, second in zip(usual, scored, strict=True)) / 2
        return {"scores": _figure(usual, scored, apart)}


def _figure(labels: Any, documents: Any, shift: float) -> Json:
    return {"labels": labels, "documents": documents, "shift": round(shift, DIGITS)}


def _unseen_share(vocabulary: Set[int], texts: Iterable[str]) -> float:
    """Return the mean share of a text's words that are not in the vocabulary."""
    shares = []
    for text in texts:
        words = hash_words(text).tolist()
        if words:
            shares.append(fmean(word not in vocabulary for word in words))
    return round(fmean(shares), DIGITS) if shares else 0.0


def _distribution(scores: Sequence[int]) -> list[float]:
    counts = Counter(scores)
    total = max(counts.total(), 1)
    return [round(counts[score] / total, DIGITS) for score in range(SCORE_LEVELS)]


def beyond(shift: Json, bounds: Mapping[str, float]) -> list[str]:
    """Return the names of the figures that exceed their bounds."""
    return [name for name, bound in bounds.items() if shift[name] and shift[name]["shift"] > bound]


def describe_shift(shift: Json) -> str:
    """Return the figures as the message of a warning or an error."""
    unseen, scores, length = (shift[name] for name in ("unseen", "scores", "length"))
    return (
        f"the scored documents differ from the labels: {unseen['documents']:.0%} of their words "
        f"are in no label (among labels {unseen['labels']:.0%}), scores are "
        f"{scores['shift']:.2f} apart (0 to 1), a median of {length['documents']:,.0f} characters "
        f"(labels {length['labels']:,.0f}); label documents like these in annotate.pool, "
        "or write fit.operating_point"
    )


class MeasureShift(Writer):
    """Write the shift of texts or, if `texts` is the file with these, of scores and texts.

    `alike` names the rows of the pool that were drawn uniformly from the scored source.
    """

    name = "shift"
    alike: tuple[str, ...]
    texts: Path | None = None

    def write(self, documents: Documents, folder: Path) -> None:
        """Write SHIFT."""
        labels, values = labels_and_values(documents)
        # A pool of one row does not name it.
        alike = [label for label in labels if label.pool is None or label.pool in self.alike]
        compared = Compared(labels, alike or labels, values)
        if self.texts is None:
            shift = compared.texts()
        else:
            sizes = {"labels": len(labels), "documents": len(values)}
            shift = {**sizes, **json.loads(self.texts.read_bytes()), **compared.scores()}
        write_json(folder / SHIFT, shift)
        self.files = {SHIFT: len(values)}


def shift_from_labels(
    stage: str, labels: Path, documents: Path, scores: Mapping[str, Shard], alike: Sequence[str]
) -> tuple[Manifest, Json]:
    """Measure the shift from the labels to the documents of a folder, given their scores.

    `stage` is that of the scores, such as score/web. Returns the manifest that lists SHIFT, and its
    content. Other scores read no text again.
    """
    tasks = [Task(name, shard_inputs([shard])) for name, shard in scores.items()]
    drawn = sample_tasks(tasks, [{PURPOSE: ids_of(task)} for task in tasks], DOCUMENTS, 0)
    texts = {shard.name: shard for shard in shards(documents)}
    pages = [replace(task, inputs=shard_inputs([texts[task.name]])) for task in drawn]
    read = ReadLabels(folder=labels, sampled=pages)
    of_texts = make_shards(f"{stage}/texts", [read, MeasureShift(alike=tuple(alike))])
    read = ReadLabels(folder=labels, sampled=drawn, column="score")
    measure = MeasureShift(alike=tuple(alike), texts=stored_file(of_texts, SHIFT).path)
    manifest = make_shards(f"{stage}/shift", [read, measure])
    return manifest, json.loads(stored_file(manifest, SHIFT).bytes())
