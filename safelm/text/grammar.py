"""Sentences from a grammar: templates with slots and choices, expanded by a seeded stream."""

import re
from collections.abc import Iterable, Mapping

from safelm.seeding import Draw, pick

TOKEN = re.compile(r"\{\w+\}|[\[\]|]|[^{}\[\]|]+")
SENTENCE = re.compile(r"(?:^|(?<=[.!?:] )|(?<=\n))[a-z]")


class Rule(str):
    """A rule's name as the value of a slot: the rule is expanded in the slot."""


class Slot(str):
    """A name in a template: of a slot or, where no slot has it, of a rule."""


class Choice(list["Template"]):
    """Alternatives in a template, of which one is written."""


Template = tuple[str | Slot | Choice, ...]


def parse(text: str) -> Template:
    """Read a template: {name} is a slot or a rule, [a|b|] a choice; choices may be nested.

    Raises ValueError if a brace or bracket is not closed.
    """
    tokens = TOKEN.findall(text)
    if "".join(tokens) != text:
        raise ValueError(
            f"template {text!r}: expected {{name}}, [a|b] and plain words (got a lone brace)"
        )
    try:
        return _sequence(tokens[::-1], inside=False)
    except IndexError as error:
        raise ValueError(f"template {text!r}: a [ is not closed; add the ]") from error


def _sequence(tokens: list[str], inside: bool) -> Template:
    """Read nodes from the end of `tokens`, up to the mark that ends an alternative."""
    nodes: list[str | Slot | Choice] = []
    while tokens and not (inside and tokens[-1] in "|]"):
        token = tokens.pop()
        if token == "[":
            nodes.append(_choice(tokens))
        elif token[0] == "{":
            nodes.append(Slot(token[1:-1]))
        else:
            nodes.append(token)
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
        self.rules = {name: list(map(parse, templates)) for name, templates in rules.items()}

    def write(self, rule: str, slots: Mapping[str, str], draw: Draw) -> str:
        """Write a rule: fill slots, draw templates and choices, begin sentences with a capital."""
        template = pick(self.rules[rule], draw)
        return capitalise(self.fill(template, slots, draw))

    def fill(self, template: Template, slots: Mapping[str, str], draw: Draw) -> str:
        """Write one template, as it is."""
        written: list[str] = []
        self._expand(template, slots, draw, written)
        return "".join(written)

    def _expand(
        self,
        template: Template,
        slots: Mapping[str, str],
        draw: Draw,
        written: list[str],
    ) -> None:
        for node in template:
            value = slots.get(node, Rule(node)) if isinstance(node, Slot) else node
            if isinstance(value, Choice):
                self._expand(pick(value, draw), slots, draw, written)
            elif isinstance(value, Rule):
                self._expand(pick(self.rules[value], draw), slots, draw, written)
            else:
                written.append(value)
