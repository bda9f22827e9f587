"""Sentences from a grammar: templates with slots and choices, expanded by a seeded stream."""

import re
from collections.abc import Iterable, Mapping

from safelm.seeding import Draw, pick

# A slot, a mark of a choice, or plain words.
TOKEN = re.compile(r"\{\w+\}|[\[\]|]|[^{}\[\]|]+")
# The small letter that begins a text, a line, a sentence, or what follows a colon.
SENTENCE = re.compile(r"(?:^|(?<=[.!?:] )|(?<=\n))[a-z]")


class Rule(str):
    """The name of a rule as the value of a slot, which expands the rule in place."""


class Slot(str):
    """A name in a template: of a slot, or of a rule if no slot has that name."""


class Choice(list["Template"]):
    """Alternatives in a template, of which one is written."""


Template = tuple[str | Slot | Choice, ...]


def parse(text: str) -> Template:
    """Read a template: {name} is a slot or a rule, [a|b|] a choice; choices may be nested.

    Raises ValueError if a brace or bracket is not closed.
    """
    tokens = TOKEN.findall(text)
    # TOKEN skips a lone brace.
    if "".join(tokens) != text:
        raise ValueError(
            f"template {text!r}: expected {{name}}, [a|b] and plain words (got a lone brace)"
        )
    try:
        # Reversed, because only the last item of a list is cheap to take.
        return _sequence(tokens[::-1], in_choice=False)
    except IndexError as error:
        raise ValueError(f"template {text!r}: a [ is not closed; add the ]") from error


def _sequence(tokens: list[str], in_choice: bool) -> Template:
    """Take nodes from the end of `tokens`, in a choice up to the mark that ends an alternative."""
    nodes: list[str | Slot | Choice] = []
    while tokens and not (in_choice and tokens[-1] in "|]"):
        token = tokens.pop()
        if token == "[":
            nodes.append(_choice(tokens))
        elif token[0] == "{":
            nodes.append(Slot(token[1:-1]))
        else:
            nodes.append(token)
    return tuple(nodes)


def _choice(tokens: list[str]) -> Choice:
    options = Choice([_sequence(tokens, in_choice=True)])
    while tokens.pop() == "|":
        options.append(_sequence(tokens, in_choice=True))
    return options


def capitalise(text: str) -> str:
    """Begin every sentence, line and answer with a capital."""
    return SENTENCE.sub(lambda match: match[0].upper(), text)


class Grammar:
    """Named rules; each lists templates, of which one is drawn and written."""

    def __init__(self, rules: Mapping[str, Iterable[str]]) -> None:
        """Parse the templates of every rule."""
        self.rules = {name: list(map(parse, templates)) for name, templates in rules.items()}

    def write(self, rule: str, slots: Mapping[str, str], draw: Draw) -> str:
        """Expand a rule and begin its sentences with a capital."""
        template = pick(self.rules[rule], draw)
        return capitalise(self.fill(template, slots, draw))

    def fill(self, template: Template, slots: Mapping[str, str], draw: Draw) -> str:
        """Expand one template; its sentences begin as they are written there."""
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
