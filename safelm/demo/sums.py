"""Arithmetic of the made-up world: short pages, and questions with answers as in GSM8K."""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from safelm.demo.world import Part, Row
from safelm.seeding import Draw, pick, stream
from safelm.text.grammar import Grammar, capitalise, parse

SUMS: dict[str, Callable[[int, int], int]] = {
    "plus": operator.add,
    "minus": operator.sub,
    "times": operator.mul,
}


def numbers(kind: str, largest: int, draw: Draw) -> tuple[int, int, int]:
    """Draw two numbers and return them with their sum, difference or product.

    No number is below zero, and none but a sum is above `largest`.
    """
    first = 1 + int(draw() * largest)
    second = 1 + int(draw() * largest)
    if kind == "minus" and first < second:
        # A difference must not be negative.
        first, second = second, first
    if kind == "times":
        # Keeps the product at or below `largest`.
        second = 1 + second % max(1, largest // first)
    return first, second, SUMS[kind](first, second)


@dataclass
class Math(Part):
    """The pages of specs/demo/math.yaml: a sum written as a short story or as a fact."""

    def __post_init__(self) -> None:
        self.grammar = Grammar({**self.world.rules, **self.table["problems"]})

    def documents(self) -> Iterator[Row]:
        """Write every page."""
        table = self.table
        kinds = tuple(table["problems"])
        for index in range(table["count"]):
            draw = stream(table["seed"], "math", index)
            kind = pick(kinds, draw)
            values = numbers(kind, table["largest"], draw)
            slots = self.world.people(draw)
            slots |= _digits(values)
            slots["things"] = pick(table["things"], draw)
            text = self.grammar.write(kind, slots, draw)
            title = f"{values[0]} {kind} {values[1]}"
            yield _row(text, None, title, "math", index)


@dataclass
class Arithmetic(Part):
    """The questions of specs/demo/benign/arithmetic.yaml with answers in two steps."""

    def __post_init__(self) -> None:
        self.problems = [
            (parse(row["ask"]), parse(row["answer"]), row["sums"]) for row in self.table["problems"]
        ]

    def documents(self) -> Iterator[Row]:
        """Write every question with its answer."""
        table = self.table
        fill = self.world.grammar.fill
        for index in range(table["count"]):
            draw = stream(table["seed"], "arithmetic", index)
            question, answer, kinds = pick(self.problems, draw)
            slots = self.world.people(draw)
            slots |= self._numbers(kinds, draw)
            slots["things"] = things = pick(table["things"], draw)
            prompt = capitalise(fill(question, slots, draw))
            text = capitalise(fill(answer, slots, draw))
            yield _row(text, prompt, things.capitalize(), "arithmetic", index)

    def _numbers(self, kinds: list[str], draw: Draw) -> dict[str, str]:
        """Draw two sums in a row: a and b give c, c and d give e."""
        largest = self.table["largest"]
        first, second, middle = numbers(kinds[0], largest, draw)
        # A difference is not below zero.
        limit = middle if kinds[1] == "minus" else largest
        third = 1 + int(draw() * limit)
        result = SUMS[kinds[1]](middle, third)
        return _digits((first, second, middle, third, result))


def _digits(values: tuple[int, ...]) -> dict[str, str]:
    return dict(zip("abcde", map(str, values), strict=False))


def _row(text: str, prompt: str | None, title: str, folder: str, index: int) -> Row:
    return {
        "text": text,
        "prompt": prompt,
        "label": 0,
        "hazard": None,
        "crawl": None,
        "title": title,
        "url": f"https://example.org/{folder}/{index}",
    }
