"""Arithmetic of the embedded world: short pages, and questions with answers in the manner of GSM8K."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from safelm.demo.world import World
from safelm.seeding import Draw, pick, stream
from safelm.text.grammar import Grammar, capitalise, parse

Row = dict[str, Any]

SUMS: dict[str, Callable[[int, int], int]] = {
    "plus": lambda a, b: a + b,
    "minus": lambda a, b: a - b,
    "times": lambda a, b: a * b,
}


def numbers(kind: str, largest: int, draw: Draw) -> tuple[int, int, int]:
    """Draw two numbers and their sum, difference or product, none above `largest` but the sum, and
    none below zero.
    """
    first, second = (1 + int(draw() * largest) for _ in range(2))
    if kind == "minus":
        first, second = max(first, second), min(first, second)
    if kind == "times":
        second = 1 + second % max(1, largest // first)
    return first, second, SUMS[kind](first, second)


class Math:
    """The pages of specs/demo/math.yaml: a sum told as a short story or as a fact."""

    def __init__(self, world: World, table: Mapping[str, Any]) -> None:
        """Take the world and the settings of math.yaml."""
        self.world, self.table = world, table
        self.grammar = Grammar({**world.rules, **table["problems"]})

    def documents(self) -> Iterator[Row]:
        """Write every page."""
        for index in range(self.table["count"]):
            draw = stream(self.table["seed"], "math", index)
            kind = pick(tuple(self.table["problems"]), draw)
            first, second, result = numbers(kind, self.table["largest"], draw)
            slots = {**self.world.people(draw), "a": str(first), "b": str(second), "c": str(result)}
            slots["things"] = pick(self.table["things"], draw)
            text = self.grammar.write(kind, slots, draw)
            yield _row(text, None, f"{first} {kind} {second}", "math", index)


class Arithmetic:
    """The questions and answers of specs/demo/benign/arithmetic.yaml: two steps, and the answer
    last.
    """

    def __init__(self, world: World, table: Mapping[str, Any]) -> None:
        """Take the world and the settings of arithmetic.yaml."""
        self.world, self.table = world, table
        self.problems = [
            (parse(row["ask"]), parse(row["answer"]), row["sums"]) for row in table["problems"]
        ]

    def documents(self) -> Iterator[Row]:
        """Write every question with its answer."""
        for index in range(self.table["count"]):
            draw = stream(self.table["seed"], "arithmetic", index)
            ask, answer, kinds = pick(self.problems, draw)
            slots = {**self.world.people(draw), **self._numbers(kinds, draw)}
            slots["things"] = pick(self.table["things"], draw)
            prompt = capitalise(self.world.grammar.fill(ask, slots, draw))
            text = capitalise(self.world.grammar.fill(answer, slots, draw))
            yield _row(text, prompt, slots["things"].capitalize(), "arithmetic", index)

    def _numbers(self, kinds: list[str], draw: Draw) -> dict[str, str]:
        """Two sums in a row: a and b give c, c and d give e."""
        first, second, middle = numbers(kinds[0], self.table["largest"], draw)
        third = 1 + int(draw() * (middle if kinds[1] == "minus" else self.table["largest"]))
        values = (first, second, middle, third, SUMS[kinds[1]](middle, third))
        return {name: str(value) for name, value in zip("abcde", values, strict=True)}


def _row(text: str, prompt: str | None, title: str, folder: str, index: int) -> Row:
    url = f"https://example.org/{folder}/{index}"
    return {
        "text": text,
        "prompt": prompt,
        "label": 0,
        "hazard": None,
        "crawl": None,
        "title": title,
        "url": url,
    }
