"""The fourteen hazard categories and a lexicon rule that grades any text from 0 to 5 without a
model.

The words are in specs/hazards.yaml. The rule stands in, offline and deterministic, for the judge of
paper §3.1; it counts words and understands nothing, which a reader of its scores should know."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml

LEVELS = 6  # scores 0..5, paper §1.1
GAP = 4  # words that may stand between a verb and its object
GUIDE_GAP = 4  # words that may stand between "how to" and the verb
STEP_GAP = 2  # words that may stand between "then" and the verb
STEPS = 2  # steps that make a text an instruction
NEAR = 100  # words before and after an act that speak of it
WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*|[.!?:\n]")
BREAKS = frozenset(".!?:\n")


class Verb(NamedTuple):
    """A verb and its forms, as specs/hazards.yaml lists them."""

    base: str
    third: str
    past: str
    participle: str
    gerund: str


class Act(NamedTuple):
    """A verb of a hazard category with an object of the same category: text[start:end] names it."""

    hazard: str
    verb: str
    object: str
    start: int
    end: int


class Grade(NamedTuple):
    """A safety score from 0 (safe) to 5 (highly unsafe) with its reason, and the hazard category
    where one is named.

    `probabilities` of every score come from classifiers; `by` is the scorer of a cascade that
    decided."""

    score: int
    reason: str
    hazard: str | None
    probabilities: tuple[float, ...] | None = None
    by: str | None = None


@dataclass(frozen=True)
class Category:
    """One hazard category: `level` is what a page that teaches an act of it is graded."""

    id: str
    name: str
    mlcommons: tuple[str, ...]
    level: int
    verbs: tuple[Verb, ...]
    objects: tuple[str, ...]
    tools: tuple[str, ...]
    phrases: tuple[str, ...]


def plural(noun: str) -> str:
    """Give the plural of a noun by the regular rule; the last word of a longer term changes."""
    if noun.endswith("foot"):
        return noun[:-4] + "feet"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def words_of(text: str) -> list[str]:
    """Split a text into lower-case words and the marks that end a clause (. ! ? : and the line
    break).
    """
    return WORD.findall(text.lower().replace("\u2019", "'"))


class Marker(NamedTuple):
    """What a word or phrase stands for: a role (verb, object, guide, ...), the key within it, and
    the lemma.
    """

    role: str
    key: str
    lemma: str


class Hit(NamedTuple):
    """A marker found in a list of words, at words[start:end]."""

    start: int
    end: int
    marker: Marker


class Lexicon:
    """Words and phrases with their markers, found in one pass over a list of words."""

    def __init__(self, terms: Iterable[tuple[str, Marker]]) -> None:
        """Index every term under its first word, longest first."""
        index: dict[str, list[tuple[tuple[str, ...], Marker]]] = {}
        for term, marker in terms:
            words = tuple(words_of(term))
            index.setdefault(words[0], []).append((words, marker))
        self.index = {
            first: tuple(sorted(entries, key=lambda e: -len(e[0])))
            for first, entries in index.items()
        }

    def find(self, words: list[str]) -> Iterator[Hit]:
        """Yield what the words contain, by place; overlapping terms are all found."""
        index = self.index
        for place, word in enumerate(words):
            if word in index:
                for term, marker in index[word]:
                    end = place + len(term)
                    if end == place + 1 or tuple(words[place:end]) == term:
                        yield Hit(place, end, marker)


class ActPlace(NamedTuple):
    """An act in a list of words, at words[start:end]."""

    hazard: str
    verb: str
    object: str
    start: int
    end: int


def pair(words: list[str], hits: list[Hit]) -> list[ActPlace]:
    """Join each verb with the first object of its category at most GAP words behind it, in the same
    clause.
    """
    objects = {(hit.start, hit.marker.key): hit for hit in hits if hit.marker.role == "object"}
    found = []
    for verb in hits:
        if verb.marker.role != "verb":
            continue
        for place in range(verb.end, min(verb.end + GAP + 1, len(words))):
            if words[place] in BREAKS:
                break
            if thing := objects.get((place, verb.marker.key)):
                found.append(
                    ActPlace(
                        verb.marker.key,
                        verb.marker.lemma,
                        thing.marker.lemma,
                        verb.start,
                        thing.end,
                    )
                )
                break
    return found


def numbered(words: list[str], low: int, high: int) -> int:
    """Count the items of numbered lists in words[low:high]: a number of at most two digits at the
    start of a line.
    """
    starts = (place for place in range(low, high) if place == 0 or words[place - 1] == "\n")
    return sum(1 for place in starts if len(words[place]) <= 2 and words[place].isdecimal())


def follows(act: ActPlace, hits: list[Hit], gap: int) -> bool:
    """Say whether an act begins at most `gap` words behind one of the hits."""
    return any(0 <= act.start - hit.end <= gap for hit in hits)


def is_taught(words: list[str], hits: list[Hit], act: ActPlace) -> bool:
    """Say whether a text teaches or promotes an act rather than mentions, reports or declines it.

    Of the words near the act: it does when at least two steps stand before the first declining
    phrase; when there are two steps and the act itself is one, whatever declines it; or when
    nothing declines and the act follows "how to", "you can" or the like."""
    low, high = max(0, act.start - NEAR), min(len(words), act.end + NEAR)
    near = hits[bisect_left(hits, low, key=_start) : bisect_left(hits, high, key=_start)]
    declined = min((hit.start for hit in near if hit.marker.role == "decline"), default=high)
    steps = [hit for hit in near if hit.marker.role == "steps"]
    if (
        max(sum(1 for hit in steps if hit.start < declined), numbered(words, low, declined))
        >= STEPS
    ):
        return True
    if len(steps) >= STEPS and follows(act, steps, STEP_GAP):
        return True
    return declined == high and follows(
        act, [hit for hit in near if hit.marker.role == "guide"], GUIDE_GAP
    )


@dataclass(frozen=True)
class Hazards:
    """The hazard categories, the milder word lists and the cues of specs/hazards.yaml."""

    categories: dict[str, Category]
    mild: dict[int, dict[str, tuple[str, ...]]]
    cues: dict[str, tuple[str, ...]]
    every: int
    mlcommons: dict[str, str]  # uid: name

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read specs/hazards.yaml."""
        with open(path, encoding="utf-8") as file:
            table = yaml.load(file, Loader=yaml.CSafeLoader)
        mild = {
            level: {reason: tuple(words) for reason, words in lists.items()}
            for level, lists in table["mild"].items()
            if level != "every"
        }
        return cls(
            categories={id: _category(id, row) for id, row in table["categories"].items()},
            mild=mild,
            cues={cue: tuple(words) for cue, words in table["cues"].items()},
            every=table["mild"]["every"],
            mlcommons=table["mlcommons"],
        )

    @cached_property
    def lexicon(self) -> Lexicon:
        """Every word list of the file in one index."""
        return Lexicon(self._terms())

    def uid(self, hazard: str) -> str | None:
        """The MLCommons hazard, of twelve, that one of the fourteen falls under; None where it
        falls under none.
        """
        uids = [uid.partition("_")[0] for uid in self.categories[hazard].mlcommons]
        return uids[0] if uids else None

    def _terms(self) -> Iterator[tuple[str, Marker]]:
        for category in self.categories.values():
            for verb in category.verbs:
                yield from (
                    (form, Marker("verb", category.id, verb.base)) for form in dict.fromkeys(verb)
                )
            for noun in category.objects:
                yield from (
                    (form, Marker("object", category.id, noun)) for form in (noun, plural(noun))
                )
            yield from (
                (phrase, Marker("phrase", category.id, phrase)) for phrase in category.phrases
            )
        for level, lists in self.mild.items():
            for reason, terms in lists.items():
                yield from ((term, Marker("mild", str(level), reason)) for term in terms)
        for cue, terms in self.cues.items():
            yield from ((term, Marker(cue, cue, term)) for term in terms)

    def acts(self, text: str) -> list[Act]:
        """Find the acts that a text names: a verb of a category, and close behind it an object of
        the same category.
        """
        spans = [match.span() for match in WORD.finditer(text)]
        words = [text[start:end].lower().replace("\u2019", "'") for start, end in spans]
        places = pair(words, list(self.lexicon.find(words)))
        return [
            Act(p.hazard, p.verb, p.object, spans[p.start][0], spans[p.end - 1][1]) for p in places
        ]

    def grade(self, text: str) -> Grade:
        """Grade a text by the rubric of paper §1.1, as a lexicon rule; the highest level that
        applies wins.

        An act that is taught or promoted (see `is_taught`) is graded the level of its category, 4
        or 5. An act or a marker phrase that is only mentioned is a 3. Words of levels 1 to 3 count
        when they are dense enough: one in `every` words."""
        words = words_of(text)
        hits = list(self.lexicon.find(words))
        acts = sorted(pair(words, hits), key=lambda act: -self.categories[act.hazard].level)
        for act in acts:
            if is_taught(words, hits, act):
                level = self.categories[act.hazard].level
                return Grade(level, f"teaches: {act.verb} the {act.object}", act.hazard)
        if acts:
            return Grade(3, f"mentions: {acts[0].verb} the {acts[0].object}", acts[0].hazard)
        for hit in hits:
            if hit.marker.role == "phrase":
                return Grade(3, f"mentions: {hit.marker.lemma}", hit.marker.key)
        return self._mild([hit.marker for hit in hits if hit.marker.role == "mild"], len(words))

    def _mild(self, markers: list[Marker], length: int) -> Grade:
        needed = 1 + length // self.every
        for level in (3, 2, 1):
            reasons = [marker.lemma for marker in markers if int(marker.key) >= level]
            if len(reasons) >= needed:
                return Grade(level, reasons[0], None)
        return Grade(0, "safe", None)

    def ngrams(self) -> dict[str, list[str]]:
        """Give each category's queries for the Data Safety Report Card (paper §9): acts, as
        tri-grams, and phrases.
        """
        return {
            category.id: [
                f"{form} the {noun}"
                for verb in category.verbs
                for form in (verb.base, verb.gerund)
                for noun in category.objects
            ]
            + list(category.phrases)
            for category in self.categories.values()
        }


def _start(hit: Hit) -> int:
    return hit.start


def _category(id: str, row: dict[str, Any]) -> Category:
    return Category(
        id=id,
        name=row["name"],
        mlcommons=tuple(row["mlcommons"]),
        level=row["level"],
        verbs=tuple(Verb(*forms) for forms in row["verbs"]),
        objects=tuple(row["objects"]),
        tools=tuple(row["tools"]),
        phrases=tuple(row["phrases"]),
    )
