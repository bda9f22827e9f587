"""Texts from templates: what needs a fact that the document lacks is not drawn, and nothing is said
twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from safelm.seeding import Draw, pick
from safelm.text.grammar import Choice, Slot, Template, capitalise, parse
from specs.prompt import Speakers


class Templates:
    """The parts that texts of one prompt, on one hazard or concern, are made of."""

    def __init__(self, parts: Mapping[str, Sequence[str]]) -> None:
        """Parse every template."""
        self.parts = {name: tuple(parse(text) for text in texts) for name, texts in parts.items()}
        self._usable: dict[tuple[str, frozenset[str]], tuple[Template, ...]] = {}

    def write(self, part: str, facts: Mapping[str, str], draw: Draw) -> str:
        """One text: alternatives are drawn, facts are put in as they are. Empty where no
        alternative fits.
        """
        if not self.usable(part, frozenset(facts)):
            return ""
        return capitalise("".join(_Text(self, facts, frozenset(facts), draw).part(part)))

    def usable(self, part: str, known: frozenset[str]) -> tuple[Template, ...]:
        """The alternatives of a part that these facts suffice for."""
        if (part, known) not in self._usable:
            found = self.parts.get(part, ())
            self._usable[part, known] = tuple(
                template for template in found if self.suffice(template, known)
            )
        return self._usable[part, known]

    def suffice(self, template: Template, known: frozenset[str]) -> bool:
        """Whether every slot of a template is a known fact or a part that can be written."""
        for node in template:
            if isinstance(node, Choice):
                if not any(self.suffice(option, known) for option in node):
                    return False
            elif isinstance(node, Slot) and node not in known and not self.usable(node, known):
                return False
        return True


@dataclass
class _Text:
    """A text in the making, and which alternatives it has used."""

    templates: Templates
    facts: Mapping[str, str]
    known: frozenset[str]
    draw: Draw
    used: set[int] = field(default_factory=set)

    def part(self, name: str) -> list[str]:
        """An alternative of a part, one that the text does not have yet while there is one."""
        options = self.templates.usable(name, self.known)
        template = pick(
            [option for option in options if id(option) not in self.used] or options, self.draw
        )
        self.used.add(id(template))
        return self.sequence(template)

    def sequence(self, template: Template) -> list[str]:
        """The words of one template."""
        written: list[str] = []
        for node in template:
            if isinstance(node, Choice):
                options = [option for option in node if self.templates.suffice(option, self.known)]
                written += self.sequence(pick(options, self.draw))
            elif not isinstance(node, Slot):
                written.append(node)
            elif node in self.facts:
                written.append(self.facts[node])
            else:
                written += self.part(node)
        return written


def draw_people(names: Sequence[str], speakers: Speakers | None, draw: Draw) -> dict[str, str]:
    """Two given names that differ and, in a dialogue, who asks and who answers."""
    first = int(draw() * len(names))
    friend = names[(first + 1 + int(draw() * (len(names) - 1))) % len(names)]
    found = {"name": names[first], "friend": friend}
    if speakers is None:
        return found
    pair = [names[first], friend] if draw() < speakers.names else pick(speakers.roles, draw)
    return {**found, "asker": pair[0], "answerer": pair[1]}
