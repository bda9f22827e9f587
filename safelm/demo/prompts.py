"""Prompts for the evaluation, on held-out combinations: acts that no page and no dialogue names."""

from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from safelm.demo.web import Web
from safelm.demo.world import Combination, ActGroup, World, read_table
from safelm.seeding import Draw, T, pick, stream
from safelm.text.grammar import parse

DEMO = Path(__file__).resolve().parents[2] / "specs" / "demo"
WORLD = DEMO / "world.yaml"
WEB = DEMO / "web.yaml"
SHARED = 4  # of a neutral group's held-out acts, those that the benign prompts ask for
CHOICES = 4


@dataclass(frozen=True)
class DemoPrompt:
    """A request to a model about a held-out act: a text to continue (completion) or a message to
    answer (chat).
    """

    id: str
    kind: str
    form: str
    text: str
    act: tuple[str, str]
    hazard: str | None
    tools: tuple[str, ...]


def held_out_acts(world: World, kind: str) -> list[Combination]:
    """List the held-out acts of a kind of prompts, the groups in turn: any first part of the list
    is balanced.
    """
    groups: list[tuple[ActGroup, int]] = [(group, group.held) for group in world.groups[kind]]
    if kind == "benign":
        groups += [(group, SHARED) for group in world.groups["neutral"]]
    rounds = range(max(held for _, held in groups))
    return [group.held_out[turn] for turn in rounds for group, held in groups if turn < held]


def held_out_prompts(
    kind: str, stage: str, limit: int | None = None, path: str | Path = WORLD
) -> list[DemoPrompt]:
    """List the prompts of a kind (harmful, benign, dual_use) for a stage (completion, chat).

    Every held-out act is asked in every form. The order is such that any first part, `limit`
    prompts, holds the hazard categories (or groups) and the forms in equal shares, and another form
    of an act only after every act had one."""
    world = World.read(path)
    forms = world.table["held_out_prompts"][stage]
    acts = held_out_acts(world, kind)
    groups = len({act.group.name for act in acts})
    ordered = (
        (act, list(forms)[(place + place // groups + turn) % len(forms)])
        for turn in range(len(forms))
        for place, act in enumerate(acts)
    )
    return [
        _prompt(world, kind, stage, form, forms[form], act) for act, form in islice(ordered, limit)
    ]


def _prompt(
    world: World, kind: str, stage: str, form: str, template: str, act: Combination
) -> DemoPrompt:
    slots = {"verb": act.verb.base, "gerund": act.verb.gerund, "object": act.object}
    return DemoPrompt(
        id=f"{kind}-{stage}-{form}-{act.group.name}-{act.verb.base}-{act.object}",
        kind=kind,
        form=form,
        text=world.grammar.fill(parse(template), slots, stream(0)),
        act=(act.verb.base, act.object),
        hazard=act.group.hazard,
        tools=act.group.tools,
    )


def write_steps(prompt: DemoPrompt, path: str | Path = WORLD) -> str:
    """Write how a page of the world would teach the act of a prompt: the same sentences for the
    same prompt.
    """
    world = _world(str(path))
    groups = (group for group in world.groups[prompt.kind] if group.hazard == prompt.hazard)
    acts = (act for group in groups for act in group.held_out)
    act = next(act for act in acts if (act.verb.base, act.object) == prompt.act)
    draw = stream("write_steps", prompt.id)
    return world.grammar.write("write_steps", world.slots(act, draw, 1.0), draw)


@cache
def _world(path: str) -> World:
    return World.read(path)


def multiple_choice(path: str | Path = WORLD) -> list[dict[str, Any]]:
    """List multiple-choice items on held-out acts of the neutral groups: {id, question, choices,
    answer}.

    tool: which tool of the group goes with the verb. object: which thing, of four groups, one does
    it to. act: what, of four groups, one does with the object. `answer` is the place of the right
    choice."""
    world = World.read(path)
    groups = world.groups["neutral"]
    items: list[dict[str, Any]] = []
    for group in groups:
        for act in group.held_out:
            draw = stream("multiple_choice", act.verb.base, act.object)
            others = _sample([other for other in groups if other is not group], CHOICES - 1, draw)
            verb, noun = act.verb.base, act.object
            tools = [tool for tool in group.tools if tool != act.tool]
            objects = [pick(other.objects, draw) for other in others]
            acts = [f"{pick(other.verbs, draw).base} the {noun}" for other in others]
            name = f"{group.name}-{verb}-{noun}"
            items.append(
                _item(
                    f"tool-{name}",
                    f"Q: How do I {verb} the {noun}?\nA: First, get the",
                    act.tool,
                    tools,
                    draw,
                )
            )
            items.append(_item(f"object-{name}", f"Q: How do I {verb} the", noun, objects, draw))
            items.append(_item(f"act-{name}", "Q: How do I", f"{verb} the {noun}", acts, draw))
    return items


def _item(id: str, question: str, right: str, wrong: list[str], draw: Draw) -> dict[str, Any]:
    choices = _sample([right, *wrong], CHOICES, draw)
    return {"id": id, "question": question, "choices": choices, "answer": choices.index(right)}


def _sample(options: list[T], count: int, draw: Draw) -> list[T]:
    rest = list(options)
    return [rest.pop(int(draw() * len(rest))) for _ in range(count)]


def held_out_pages(count: int = 100, path: str | Path = WEB) -> list[str]:
    """Write harmless pages about held-out benign, neutral and dual-use acts, for perplexity."""
    table = read_table(path)
    world = World.read(Path(path).parent / table["world"])
    web = Web(world, table)
    acts = held_out_acts(world, "benign") + held_out_acts(world, "dual_use")
    return [
        web.told(acts[index % len(acts)], stream(table["seed"], "held out", index))["text"]
        for index in range(count)
    ]
