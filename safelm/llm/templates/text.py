"""Texts from templates: every slot is filled from facts, and alternatives are not repeated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from safelm.seeding import Draw, pick
from safelm.text.grammar import Choice, Slot, Template, capitalise, parse
from specs.prompt import Speakers


class Templates:
    """The parsed templates of one prompt, for one hazard or concern."""

    def __init__(self, parts: Mapping[str, Sequence[str]]) -> None:
        """Parse every template."""
        self.parts = {name: tuple(map(parse, texts)) for name, texts in parts.items()}
        self._usable: dict[tuple[str, frozenset[str]], list[Template]] = {}

    def write(self, part: str, facts: Mapping[str, str], draw: Draw) -> str:
        """Write one text from drawn alternatives; empty where none can be filled.

        Facts are inserted as they are: slots in them are not filled.
        """
        known = frozenset(facts)
        if not self.usable(part, known):
            return ""
        return capitalise("".join(_Text(self, facts, known, draw).part(part)))

    def usable(self, part: str, known: frozenset[str]) -> list[Template]:
        """Return the alternatives of a part whose slots can all be filled."""
        key = (part, known)
        if key not in self._usable:
            options = self.parts.get(part, ())
            self._usable[key] = [option for option in options if self.suffice(option, known)]
        return self._usable[key]

    def suffice(self, template: Template, known: frozenset[str]) -> bool:
        """Tell whether every slot of a template is a known fact or a part with an alternative."""
        for node in template:
            if isinstance(node, Choice):
                is_filled = any(self.suffice(option, known) for option in node)
            elif isinstance(node, Slot):
                is_filled = node in known or bool(self.usable(node, known))
            else:
                is_filled = True
            if not is_filled:
                return False
        return True


@dataclass
class _Text:
    """A text while it is written, and the alternatives that it has used."""

    templates: Templates
    facts: Mapping[str, str]
    known: frozenset[str]
    draw: Draw
    used: set[int] = field(default_factory=set)

    def part(self, name: str) -> list[str]:
        """Write an alternative of a part, one that is not used yet if there is any."""
        options = self.templates.usable(name, self.known)
        # By identity: two alternatives may be worded alike.
        unused = [option for option in options if id(option) not in self.used]
        template = pick(unused or options, self.draw)
        self.used.add(id(template))
        return self.sequence(template)

    def sequence(self, template: Template) -> list[str]:
        """Write one template."""
        words: list[str] = []
        for node in template:
            if isinstance(node, Choice):
                options = [option for option in node if self.templates.suffice(option, self.known)]
                option = pick(options, self.draw)
                words += self.sequence(option)
            elif not isinstance(node, Slot):
                words.append(node)
            elif node in self.facts:
                words.append(self.facts[node])
            else:
                words += self.part(node)
        return words


def draw_people(names: Sequence[str], speakers: Speakers | None, draw: Draw) -> dict[str, str]:
    """Draw two different given names and, for a dialogue, who asks and who answers."""
    # Not pick_several(), which draws other pairs from the same numbers: names are in the data.
    count = len(names)
    first = int(draw() * count)
    # From 1 on, and around the end of the list: never the first name again.
    distance = 1 + int(draw() * (count - 1))
    second = (first + distance) % count
    pair = [names[first], names[second]]
    people = {"name": pair[0], "friend": pair[1]}
    if speakers is None:
        return people
    # In the share `names` of dialogues the two keep their names, else they get roles.
    if draw() >= speakers.names:
        pair = pick(speakers.roles, draw)
    return {**people, "asker": pair[0], "answerer": pair[1]}
