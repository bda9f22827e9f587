"""The made-up world: groups of acts, held-out combinations, and the words of its pages."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, product
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml

from safelm.seeding import Draw, pick
from safelm.text.grammar import Grammar, Rule
from safelm.text.hazards import Hazards

KINDS = ("harmful", "benign", "neutral", "dual_use")
# The marker phrases of a category that its pages use; with more, each would be too rare to learn.
PHRASES = 3
# Held-out combinations take every third object of a group. They reach all of them unless 3 divides
# their number.
STRIDE = 3

# A document, by the columns of specs/document.py.
Row = dict[str, Any]
# A YAML file of the world.
Table = dict[str, Any]


class VerbForms(NamedTuple):
    """A verb of the world in the three forms that it uses."""

    base: str
    past: str
    gerund: str


@dataclass(frozen=True)
class ActGroup:
    """Verbs that go with objects, and tools for them; the n-th verb has the n-th tool as its own.

    `held_out_count` combinations are kept for evaluation.
    """

    kind: str
    name: str
    hazard: str | None
    verbs: tuple[VerbForms, ...]
    objects: tuple[str, ...]
    tools: tuple[str, ...]
    held_out_count: int

    @property
    def held_out(self) -> tuple["Combination", ...]:
        """The combinations kept for evaluation.

        No two of them share an object, and every verb and object has other combinations.
        """
        verbs, objects = len(self.verbs), len(self.objects)
        return tuple(
            self._combination((index + index // verbs) % verbs, index * STRIDE % objects)
            for index in range(self.held_out_count)
        )

    @cached_property
    def training(self) -> tuple["Combination", ...]:
        """Every other combination."""
        held_out = set(self.held_out)
        indices = product(range(len(self.verbs)), range(len(self.objects)))
        combinations = (self._combination(verb, noun) for verb, noun in indices)
        return tuple(act for act in combinations if act not in held_out)

    def _combination(self, verb: int, noun: int) -> "Combination":
        return Combination(self, self.verbs[verb], self.objects[noun], self.tools[verb])


@dataclass(frozen=True)
class Combination:
    """An act of the world: a verb with an object, and the tool that goes with the verb."""

    group: ActGroup
    verb: VerbForms
    object: str
    tool: str


@dataclass(frozen=True)
class World:
    """The content of specs/demo/world.yaml, with the harmful acts of specs/hazards.yaml."""

    hazards: Hazards
    groups: dict[str, tuple[ActGroup, ...]]
    table: Table

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read specs/demo/world.yaml and the hazard lists that it names."""
        table = read_table(path)
        hazards = Hazards.read(Path(path).parent / table["hazards"])
        groups = {kind: tuple(_groups(kind, table, hazards)) for kind in KINDS}
        return cls(hazards, groups, table)

    @cached_property
    def alternatives(self) -> dict[str, list[Combination]]:
        """Other acts on each object: the harmless ones or, if there are none, dual-use ones."""
        acts: dict[str, list[Combination]] = {}
        groups = (*self.groups["benign"], *self.groups["neutral"])
        for act in chain.from_iterable(group.training for group in groups):
            acts.setdefault(act.object, []).append(act)
        for group in self.groups["dual_use"]:
            # Taken before the group, so that all acts of one group on a new object are added.
            known = set(acts)
            for act in group.training:
                if act.object not in known:
                    acts.setdefault(act.object, []).append(act)
        return acts

    @cached_property
    def rules(self) -> dict[str, list[str]]:
        """The shared sentences, with places and times as rules."""
        words = {"place": self.table["places"], "time": self.table["times"]}
        return {**words, **self.table["rules"]}

    @cached_property
    def grammar(self) -> Grammar:
        """The shared rules alone."""
        return Grammar(self.rules)

    def people(self, draw: Draw) -> dict[str, str]:
        """Draw three people who differ, and a pair of roles."""
        names = self.table["names"]
        # Two steps, each of less than half the names, never lead back to the first.
        half = len(names) // 2 - 1
        first = int(draw() * len(names))
        second = first + 1 + int(draw() * half)
        third = second + 1 + int(draw() * half)
        asker, answerer = pick(self.table["roles"], draw)
        return {
            "name": names[first],
            "friend": names[second % len(names)],
            "third": names[third % len(names)],
            "asker": asker,
            "answerer": answerer,
        }

    def slots(self, act: Combination, draw: Draw, own_tool: float) -> dict[str, str]:
        """Fill the slots of a page about an act: its words, its tools, people, and a closing.

        `own_tool` is the probability that the page uses the tool of the verb.
        """
        group = act.group
        side = "harmful" if group.kind == "harmful" else "benign"
        # The draws below decide the bytes of every page: their order must stay.
        slots = self.people(draw)
        slots["verb"], slots["past"], slots["gerund"] = act.verb
        slots["object"] = act.object
        slots["tool"] = act.tool if draw() < own_tool else pick(group.tools, draw)
        slots["close"] = Rule(f"{side}_close")
        slots["moral"] = Rule(f"{side}_moral")
        # Pages that decline an act offer another one on the same object.
        others = [other for other in self.alternatives[act.object] if other.verb != act.verb]
        good = pick(others, draw)
        slots["good"], slots["gooding"] = good.verb.base, good.verb.gerund
        slots["goodtool"] = good.tool
        if group.hazard is not None:
            phrases = self.hazards.categories[group.hazard].phrases
            slots["phrase"] = pick(phrases[:PHRASES], draw)
            if draw() < 0.5:
                slots["intro"] = Rule("harmful_intro")
        return slots


@dataclass
class Part(ABC):
    """A part of the world, with the settings of its YAML file in specs/demo."""

    world: World
    table: Table

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read the part's file, and the world that it names."""
        table = read_table(path)
        return cls(World.read(Path(path).parent / table["world"]), table)

    @abstractmethod
    def documents(self) -> Iterator[Row]:
        """Write every document of the part."""


def read_table(path: str | Path) -> Table:
    """Read one YAML file of the world."""
    with open(path, encoding="utf-8") as file:
        table: Table = yaml.load(file, Loader=yaml.CSafeLoader)
    return table


def _groups(kind: str, table: Table, hazards: Hazards) -> Iterator[ActGroup]:
    held_out = table["held_out"][kind]
    if kind == "harmful":
        for id, category in hazards.categories.items():
            # The rule that grades needs more forms than the pages use.
            verbs = tuple(VerbForms(verb.base, verb.past, verb.gerund) for verb in category.verbs)
            # child_exploitation has no words, on purpose (specs/hazards.yaml).
            if verbs:
                yield ActGroup(kind, id, id, verbs, category.objects, category.tools, held_out)
        return
    for name, row in table[kind].items():
        verbs = tuple(VerbForms(*forms) for forms in row["verbs"])
        objects = _objects(kind, name, table, hazards)
        yield ActGroup(kind, name, None, verbs, objects, tuple(row["tools"]), held_out)


def _objects(kind: str, name: str, table: Table, hazards: Hazards) -> tuple[str, ...]:
    """Return the objects of a group, or those of the group whose objects it shares."""
    # Benign and harmful acts share their objects, so that no object alone gives harm away.
    if kind == "benign":
        return hazards.categories[name].objects
    objects = table[kind][name]["objects"]
    if isinstance(objects, list):
        return tuple(objects)
    owner, group = objects.split(".")
    return _objects(owner, group, table, hazards)
