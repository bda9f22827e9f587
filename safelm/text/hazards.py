"""The fourteen hazard categories, and a rule that grades any text from 0 to 5 without a model.

The rule is a deterministic substitute for the judge of paper §3.1 that works offline. It only
matches the words of specs/hazards.yaml, so its scores say little about text in other words.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, product
from pathlib import Path
from typing import NamedTuple, Self

import yaml
from pydantic import TypeAdapter

from safelm.text.lexicon import (
    Act,
    Lexicon,
    Marker,
    Verb,
    find_acts,
    is_declined,
    is_taught,
    plural,
    split_words,
    words_of,
)


class Grade(NamedTuple):
    """A safety score from 0 (safe) to 5 (highly unsafe), its reason, and the hazard, if any.

    `probabilities` are a classifier's, for every score. `by` names the scorer of a cascade that
    decided.
    """

    score: int
    reason: str
    hazard: str | None
    probabilities: tuple[float, ...] | None = None
    by: str | None = None


@dataclass(frozen=True)
class Category:
    """One hazard category; a page that teaches an act of it has the score `level`."""

    id: str
    name: str
    mlcommons: tuple[str, ...]
    level: int
    verbs: tuple[Verb, ...]
    objects: tuple[str, ...]
    tools: tuple[str, ...]
    phrases: tuple[str, ...]

    @property
    def queries(self) -> list[str]:
        """The n-grams that the Data Safety Report Card counts (paper §9): acts and phrases."""
        forms = chain.from_iterable((verb.base, verb.gerund) for verb in self.verbs)
        acts = [f"{form} the {noun}" for form, noun in product(forms, self.objects)]
        return acts + list(self.phrases)


@dataclass(frozen=True)
class Hazards:
    """The hazard categories, the lists of milder words and the cues of specs/hazards.yaml.

    `mild` has lists of words by level and reason, one of which counts per `every` words of a text.
    `mlcommons` names the twelve hazards of MLCommons by their uid.
    """

    categories: dict[str, Category]
    mild: dict[int, dict[str, list[str]]]
    cues: dict[str, list[str]]
    every: int
    mlcommons: dict[str, str]

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read specs/hazards.yaml."""
        with open(path, encoding="utf-8") as file:
            table = yaml.load(file, Loader=yaml.CSafeLoader)
        every = table["mild"].pop("every")
        categories = {id: {"id": id, **row} for id, row in table["categories"].items()}
        values = {**table, "categories": categories, "every": every}
        hazards: Self = TypeAdapter(cls).validate_python(values)
        return hazards

    @cached_property
    def lexicon(self) -> Lexicon:
        """Every word list of the file in one index."""
        return Lexicon(self._terms())

    def uid(self, hazard: str) -> str | None:
        """Return the MLCommons hazard that a category falls under, or None."""
        names = self.categories[hazard].mlcommons
        # A uid such as spc_fin is a part of spc (paper §9).
        return names[0].partition("_")[0] if names else None

    def acts(self, text: str) -> list[Act]:
        """Find the acts that a text names, with offsets in characters.

        An act is a verb of a category with an object of the same category close behind it.
        """
        words, spans = split_words(text)
        hits = list(self.lexicon.find(words))
        acts = []
        for act in find_acts(words, hits):
            start, _ = spans[act.start]
            _, end = spans[act.end - 1]
            acts.append(act._replace(start=start, end=end))
        return acts

    def grade(self, text: str) -> Grade:
        """Grade a text by the rubric of paper §1.1; the highest level that applies decides.

        The rubric does not say what a text gets that names an act in order to decline it. Here it
        is a 1, as the refusals and lessons of paper §3 are for everybody to read.
        """
        words = words_of(text)
        hits = list(self.lexicon.find(words))
        acts = find_acts(words, hits)
        # The most harmful act first; of equal ones the first in the text.
        acts.sort(key=self._level, reverse=True)
        for act in acts:
            if is_taught(words, hits, act):
                # The level of its category, 4 or 5.
                return Grade(self._level(act), f"teaches: {act}", act.hazard)
        # A mentioned act or marker phrase gets a 3, a declined one a 1.
        mentioned = [(act.hazard, str(act), act.start, act.end) for act in acts]
        for hit in hits:
            if hit.marker.role == "phrase":
                mentioned.append((hit.marker.key, hit.marker.lemma, hit.start, hit.end))
        for hazard, name, start, end in mentioned:
            if not is_declined(hits, start, end):
                return Grade(3, f"mentions: {name}", hazard)
        # The words of an act were judged above, so they do not count as mild ones too.
        inside = {index for _, _, start, end in mentioned for index in range(start, end)}
        mild = [hit.marker for hit in hits if hit.marker.role == "mild" and hit.start not in inside]
        grade = self._mild(mild, len(words))
        # Milder words of level 2 or 3 weigh more than an act that is declined.
        if mentioned and grade.score < 2:
            hazard, name, _, _ = mentioned[0]
            return Grade(1, f"declines: {name}", hazard)
        return grade

    def ngrams(self) -> dict[str, list[str]]:
        """Return the queries of every category for the Data Safety Report Card (paper §9)."""
        return {id: category.queries for id, category in self.categories.items()}

    def _level(self, act: Act) -> int:
        return self.categories[act.hazard].level

    def _mild(self, markers: list[Marker], length: int) -> Grade:
        # A few mild words in a long text do not count.
        needed = 1 + length // self.every
        for level in (3, 2, 1):
            reasons = [marker.lemma for marker in markers if int(marker.key) >= level]
            if len(reasons) >= needed:
                return Grade(level, reasons[0], None)
        return Grade(0, "safe", None)

    def _terms(self) -> Iterator[tuple[str, Marker]]:
        for id, category in self.categories.items():
            for verb in category.verbs:
                # Two forms of a verb may be the same word.
                for form in dict.fromkeys(verb):
                    yield form, Marker("verb", id, verb.base)
            for noun in category.objects:
                for form in (noun, plural(noun)):
                    yield form, Marker("object", id, noun)
            for phrase in category.phrases:
                yield phrase, Marker("phrase", id, phrase)
        for level, lists in self.mild.items():
            for reason, terms in lists.items():
                for term in terms:
                    yield term, Marker("mild", str(level), reason)
        for cue, terms in self.cues.items():
            for term in terms:
                yield term, Marker(cue, cue, term)
