"""The embedded world: its acts in groups, which combinations of them are held out, and the words
they are told with.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml

from safelm.seeding import Draw, pick
from safelm.text.grammar import Grammar, Rule
from safelm.text.hazards import Hazards

KINDS = ("harmful", "benign", "neutral", "dual_use")
PHRASES = (
    3  # marker phrases of a category that its pages use; the others would be too rare to learn
)
STRIDE = 3  # held-out objects of a group: every third, which meets all of them where 3 does not divide their number


class Verb(NamedTuple):
    """A verb of the world in the three forms that it uses."""

    base: str
    past: str
    gerund: str


@dataclass(frozen=True)
class ActGroup:
    """Verbs that go with objects, and tools for them; the n-th verb has the n-th tool as its own."""

    kind: str
    name: str
    hazard: str | None
    verbs: tuple[Verb, ...]
    objects: tuple[str, ...]
    tools: tuple[str, ...]
    held: int

    @property
    def held_out(self) -> tuple["Combination", ...]:
        """The combinations kept for evaluation: no two share an object, and every verb and object
        has others.
        """
        verbs, objects = len(self.verbs), len(self.objects)
        places = [(i + i // verbs) % verbs for i in range(self.held)]
        return tuple(Combination(self, verb, i * STRIDE % objects) for i, verb in enumerate(places))

    @cached_property
    def training(self) -> tuple["Combination", ...]:
        """Every other combination."""
        held = set(self.held_out)
        every = (
            Combination(self, v, o)
            for v in range(len(self.verbs))
            for o in range(len(self.objects))
        )
        return tuple(combination for combination in every if combination not in held)


@dataclass(frozen=True)
class Combination:
    """An act of the world: a verb with an object, by their places in the group."""

    group: ActGroup
    verb_place: int
    object_place: int

    @property
    def verb(self) -> Verb:
        """The verb in its forms."""
        return self.group.verbs[self.verb_place]

    @property
    def object(self) -> str:
        """The object, a noun."""
        return self.group.objects[self.object_place]

    @property
    def tool(self) -> str:
        """The tool that goes with the verb."""
        return self.group.tools[self.verb_place]


@dataclass(frozen=True)
class World:
    """Everything of specs/demo/world.yaml, with the harmful acts of specs/hazards.yaml as groups of
    their own.
    """

    hazards: Hazards
    groups: dict[str, tuple[ActGroup, ...]]
    table: Mapping[str, Any]

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read specs/demo/world.yaml, and the hazard lists it names."""
        table = read_table(path)
        hazards = Hazards.read(Path(path).parent / table["hazards"])
        return cls(hazards, {kind: tuple(_groups(kind, table, hazards)) for kind in KINDS}, table)

    @cached_property
    def alternatives(self) -> dict[str, list[Combination]]:
        """What else one may do with an object: its harmless acts or, where there are none, its
        dual-use ones.
        """
        found: dict[str, list[Combination]] = {}
        for group in (*self.groups["benign"], *self.groups["neutral"]):
            for act in group.training:
                found.setdefault(act.object, []).append(act)
        for group in self.groups["dual_use"]:
            others = {noun for noun in group.objects if noun not in found}
            found.update(
                {noun: [act for act in group.training if act.object == noun] for noun in others}
            )
        return found

    @cached_property
    def rules(self) -> dict[str, list[str]]:
        """The shared sentences, with names, places and times as rules."""
        words = {"place": self.table["places"], "time": self.table["times"]}
        return {**words, **self.table["rules"]}

    @cached_property
    def grammar(self) -> Grammar:
        """The shared rules alone."""
        return Grammar(self.rules)

    def people(self, draw: Draw) -> dict[str, str]:
        """Three people who differ, and a pair of roles."""
        names = self.table["names"]
        first = int(draw() * len(names))
        second = first + 1 + int(draw() * (len(names) // 2 - 1))
        third = second + 1 + int(draw() * (len(names) // 2 - 1))
        asker, answerer = pick(self.table["roles"], draw)
        return {
            "name": names[first],
            "friend": names[second % len(names)],
            "third": names[third % len(names)],
            "asker": asker,
            "answerer": answerer,
        }

    def slots(self, act: Combination, draw: Draw, own_tool: float) -> dict[str, str]:
        """Fill the slots of a page about an act: its words, its tools, people, and which closing
        suits its kind.
        """
        group = act.group
        side = "harmful" if group.kind == "harmful" else "benign"
        slots = self.people(draw)
        slots["verb"], slots["past"], slots["gerund"] = act.verb
        slots["object"] = act.object
        slots["tool"] = act.tool if draw() < own_tool else pick(group.tools, draw)
        slots["close"] = Rule(f"{side}_close")
        slots["moral"] = Rule(f"{side}_moral")
        good = pick(
            [other for other in self.alternatives[act.object] if other.verb != act.verb], draw
        )
        slots["good"], slots["gooding"], slots["goodtool"] = (
            good.verb.base,
            good.verb.gerund,
            good.tool,
        )
        if group.hazard is not None:
            slots["phrase"] = pick(self.hazards.categories[group.hazard].phrases[:PHRASES], draw)
            if draw() < 0.5:
                slots["intro"] = Rule("harmful_intro")
        return slots


def read_table(path: str | Path) -> dict[str, Any]:
    """Read one YAML file of the world."""
    with open(path, encoding="utf-8") as file:
        table: dict[str, Any] = yaml.load(file, Loader=yaml.CSafeLoader)
    return table


def _groups(kind: str, table: Mapping[str, Any], hazards: Hazards) -> Iterator[ActGroup]:
    held = table["held_out"][kind]
    if kind == "harmful":
        for category in hazards.categories.values():
            verbs = tuple(Verb(verb.base, verb.past, verb.gerund) for verb in category.verbs)
            if verbs:
                yield ActGroup(
                    kind, category.id, category.id, verbs, category.objects, category.tools, held
                )
        return
    for name, row in table[kind].items():
        verbs = tuple(Verb(*forms) for forms in row["verbs"])
        yield ActGroup(
            kind,
            name,
            None,
            verbs,
            _objects(kind, name, row, table, hazards),
            tuple(row["tools"]),
            held,
        )


def _objects(
    kind: str, name: str, row: Mapping[str, Any], table: Mapping[str, Any], hazards: Hazards
) -> tuple[str, ...]:
    if kind == "benign":
        return hazards.categories[name].objects
    if isinstance(row["objects"], list):
        return tuple(row["objects"])
    owner, group = row["objects"].split(".")
    return _objects(owner, group, table[owner][group], table, hazards)
