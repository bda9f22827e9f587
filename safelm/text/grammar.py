"""Sentences from a grammar: templates with slots and choices, expanded with a seeded stream of
chance.
"""

import re
from collections.abc import Iterable, Mapping

from safelm.seeding import Draw, pick

TOKEN = re.compile(r"\{\w+\}|[\[\]|]|[^{}\[\]|]+")
SENTENCE = re.compile(r"(?:^|(?<=[.!?:] )|(?<=\n))[a-z]")


class Rule(str):
    """As the value of a slot: the name of a rule to expand in its place."""


class Slot(str):
    """In a template: the name of a slot or, where no slot has it, of a rule."""


class Choice(list["Template"]):
    """In a template: alternatives, of which one is written."""


Template = tuple[str | Slot | Choice, ...]


def parse(text: str) -> Template:
    """Read a template: {name} is a slot or a rule, [a|b|] a choice, which may hold slots and
    choices.
    """
    tokens = TOKEN.findall(text)
    if "".join(tokens) != text:
        raise ValueError(
            f"template {text!r}: expected {{name}}, [a|b] and plain words, found a lone brace"
        )
    try:
        return _sequence(tokens[::-1], inside=False)
    except IndexError as error:
        raise ValueError(f"template {text!r}: a [ is not closed") from error


def _sequence(tokens: list[str], inside: bool) -> Template:
    nodes: list[str | Slot | Choice] = []
    while tokens and not (inside and tokens[-1] in "|]"):
        token = tokens.pop()
        if token == "[":
            nodes.append(_choice(tokens))
        else:
            nodes.append(Slot(token[1:-1]) if token[0] == "{" else token)
    return tuple(nodes)


def _choice(tokens: list[str]) -> Choice:
    options = Choice([_sequence(tokens, inside=True)])
    while tokens.pop() == "|":
        options.append(_sequence(tokens, inside=True))
    return options


def capitalise(text: str) -> str:
    """Begin every sentence, line and answer with a capital."""
    return SENTENCE.sub(lambda match: match[0].upper(), text)


class Grammar:
    """Named rules; each is a list of templates of which one is written."""

    def __init__(self, rules: Mapping[str, Iterable[str]]) -> None:
        """Parse the templates of every rule."""
        self.rules = {
            name: [parse(text) for text in templates] for name, templates in rules.items()
        }

    def write(self, rule: str, slots: Mapping[str, str], draw: Draw) -> str:
        """Write a rule: slots are filled, rules and choices are drawn, sentences begin with a
        capital.
        """
        return capitalise(self.fill(pick(self.rules[rule], draw), slots, draw))

    def fill(self, template: Template, slots: Mapping[str, str], draw: Draw) -> str:
        """Write one template, as it is."""
        written: list[str] = []
        self._expand(template, slots, draw, written)
        return "".join(written)

    def _expand(
        self, template: Template, slots: Mapping[str, str], draw: Draw, written: list[str]
    ) -> None:
        for node in template:
            if isinstance(node, Choice):
                self._expand(pick(node, draw), slots, draw, written)
            elif isinstance(node, Slot):
                value = slots.get(node, Rule(node))
                if isinstance(value, Rule):
                    self._expand(pick(self.rules[value], draw), slots, draw, written)
                else:
                    written.append(value)
            else:
                written.append(node)
