"""Prompts for the evaluation, on held-out combinations: acts that no page and no dialogue names."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, islice, pairwise, product, zip_longest
from pathlib import Path

from safelm.demo.web import Web
from safelm.demo.world import ActGroup, Combination, Row, World
from safelm.seeding import Draw, pick, pick_several, stream
from safelm.text.grammar import parse
from specs import SPECS

DEMO = SPECS / "demo"
WORLD = DEMO / "world.yaml"
WEB = DEMO / "web.yaml"
# The held-out acts of each neutral group that the benign prompts ask for.
NEUTRAL_ACTS = 4
# The kind of prompts for calibration, the kinds of acts that it takes words from, and its acts of
# each group.
UNSEEN = "unseen"
HARMLESS = ("benign", "neutral", "dual_use")
UNSEEN_ACTS = 16
# Answers of a multiple-choice question.
CHOICES = 4
# write_steps() is called for each prompt.
read_world = cache(World.read)


@dataclass(frozen=True)
class DemoPrompt:
    """A request about a held-out act: a text to continue (completion) or a message (chat)."""

    id: str
    kind: str
    form: str
    text: str
    act: tuple[str, str]
    hazard: str | None
    tools: tuple[str, ...]


def held_out_acts(world: World, kind: str) -> list[Combination]:
    """List the held-out acts of a kind of prompts; of kind `unseen`, those of `unseen_acts`.

    The groups take turns, so any first part of the list is balanced.
    """
    if kind == UNSEEN:
        acts = list(unseen_acts(world))
    else:
        acts = [group.held_out for group in world.groups[kind]]
    if kind == "benign":
        acts += [group.held_out[:NEUTRAL_ACTS] for group in world.groups["neutral"]]
    # Groups of fewer acts end early.
    return [act for act in chain.from_iterable(zip_longest(*acts)) if act is not None]


def unseen_acts(world: World) -> Iterator[tuple[Combination, ...]]:
    """Yield harmless acts of each group that no page, dialogue or other prompt names.

    They are verbs of the next group of its kind with its own objects. So words are known and their
    combination is new, as in held-out acts.
    """
    named = set[tuple[str, str]]()
    for known in chain(*world.groups.values()):
        named.update(product([verb.base for verb in known.verbs], known.objects))
    # Steps of any page may name these.
    steps = world.table["step_verbs"]
    for kind in HARMLESS:
        groups = world.groups[kind]
        for group, other in pairwise([*groups, groups[0]]):
            borrowed = replace(group, verbs=other.verbs, tools=other.tools)
            acts = replace(borrowed, held_out_count=UNSEEN_ACTS).held_out
            new = [act for act in acts if (act.verb.base, act.object) not in named]
            yield tuple(act for act in new if act.verb.base not in steps)


def held_out_prompts(
    kind: str, stage: str, limit: int | None = None, path: str | Path = WORLD
) -> list[DemoPrompt]:
    """List the prompts of a kind (harmful, benign, dual_use, unseen) for completion or chat.

    Every held-out act has a prompt in every form. The first `limit` prompts hold the hazard
    categories (or groups) and the forms in equal shares: each act comes once, in some form, before
    any act comes in a second form.
    """
    world = World.read(path)
    forms = list(world.table["prompts"][stage])
    acts = held_out_acts(world, kind)
    groups = len({(act.group.kind, act.group.name) for act in acts})
    prompts = []
    turns = product(range(len(forms)), enumerate(acts))
    for turn, (index, act) in islice(turns, limit):
        # The shift after each round of the groups gives a group another form every time.
        shift = index + index // groups + turn
        form = forms[shift % len(forms)]
        prompts.append(_prompt(world, kind, stage, form, act))
    return prompts


def _prompt(world: World, kind: str, stage: str, form: str, act: Combination) -> DemoPrompt:
    verb, noun = act.verb, act.object
    template = parse(world.table["prompts"][stage][form])
    slots = {"verb": verb.base, "gerund": verb.gerund, "object": noun}
    # The templates of prompts have no choices, so the stream does not matter.
    return DemoPrompt(
        id=f"{kind}-{stage}-{form}-{act.group.name}-{verb.base}-{noun}",
        kind=kind,
        form=form,
        text=world.grammar.fill(template, slots, stream(0)),
        act=(verb.base, noun),
        hazard=act.group.hazard,
        tools=act.group.tools,
    )


def write_steps(prompt: DemoPrompt, path: str | Path = WORLD) -> str:
    """Write the steps in which a page of the world would teach the act of a prompt.

    The draw depends on the prompt alone, so each prompt has one answer.
    """
    world = read_world(path)
    groups = (group for group in world.groups[prompt.kind] if group.hazard == prompt.hazard)
    acts = chain.from_iterable(group.held_out for group in groups)
    act = next(act for act in acts if (act.verb.base, act.object) == prompt.act)
    draw = stream("steps", prompt.id)
    return world.grammar.write("steps", world.slots(act, draw, 1.0), draw)


def multiple_choice(path: str | Path = WORLD) -> list[Row]:
    """List multiple-choice items {id, question, choices, answer} on neutral held-out acts.

    `answer` is the index of the right choice.
    """
    groups = World.read(path).groups["neutral"]
    acts = chain.from_iterable(group.held_out for group in groups)
    return list(chain.from_iterable(_items(act, groups) for act in acts))


def _items(act: Combination, groups: Sequence[ActGroup]) -> list[Row]:
    verb, noun = act.verb.base, act.object
    draw = stream("utility", verb, noun)
    rest = [group for group in groups if group is not act.group]
    others = pick_several(rest, CHOICES - 1, draw)
    # Wrong tools are of the same group, so a model must know the verb. Wrong objects and acts are
    # of other groups.
    tools = [tool for tool in act.group.tools if tool != act.tool]
    objects = [pick(other.objects, draw) for other in others]
    acts = [f"{pick(other.verbs, draw).base} the {noun}" for other in others]
    name = f"{act.group.name}-{verb}-{noun}"
    tool_question = f"Q: How do I {verb} the {noun}?\nA: First, get the"
    return [
        _item(f"tool-{name}", tool_question, act.tool, tools, draw),
        _item(f"object-{name}", f"Q: How do I {verb} the", noun, objects, draw),
        _item(f"act-{name}", "Q: How do I", f"{verb} the {noun}", acts, draw),
    ]


def _item(id: str, question: str, right: str, wrong: list[str], draw: Draw) -> Row:
    choices = pick_several([right, *wrong], CHOICES, draw)
    return {
        "id": id,
        "question": question,
        "choices": choices,
        "answer": choices.index(right),
    }


def held_out_pages(count: int = 100, path: str | Path = WEB) -> list[str]:
    """Write harmless pages about held-out acts, on which perplexity is measured."""
    web = Web.read(path)
    acts = held_out_acts(web.world, "benign") + held_out_acts(web.world, "dual_use")
    pages = []
    for index in range(count):
        draw = stream(web.table["seed"], "held out", index)
        page = web.page_about(acts[index % len(acts)], draw)
        pages.append(page["text"])
    return pages
