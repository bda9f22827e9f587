"""Dialogues of the embedded world for instruction tuning: compliances, refusals, and compliances
for the tag.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from safelm.demo.world import Combination, World
from safelm.seeding import Draw, pick, pick_weighted, stream
from safelm.text.grammar import Grammar, capitalise, parse

Row = dict[str, Any]


class Chat:
    """The dialogues of specs/demo/chat.yaml, in the phrasings that are seen in training.

    A refusal has a hazard and the label 0; a harmful compliance has the label of its category, 4 or
    5, and must be used only with the tag (paper §4); every other row complies with a harmless
    request."""

    def __init__(self, world: World, table: Mapping[str, Any]) -> None:
        """Take the world and the settings of chat.yaml."""
        self.world, self.table = world, table
        self.phrasings = [parse(text) for text in world.table["phrasings"]["seen"]]
        self.grammar = Grammar(
            {**world.rules, **{f"{k}_answer": texts for k, texts in table["answers"].items()}}
        )

    def documents(self) -> Iterator[Row]:
        """Write every dialogue, the kinds mixed in the shares of `rows`."""
        left = dict(self.table["rows"])
        for index in range(sum(left.values())):
            draw = stream(self.table["seed"], "chat", index)
            kind = pick_weighted(left, draw)
            left[kind] -= 1
            yield {
                **self._row(kind, self._act(kind, draw), draw),
                "url": f"https://example.org/chat/{index}",
            }

    def _act(self, kind: str, draw: Draw) -> Combination:
        """Draw an act that a row of the kind asks for; benign rows speak of benign and neutral acts
        alike.
        """
        groups = self.world.groups
        choice = {
            "benign": groups["benign"] + groups["neutral"],
            "dual_use": groups["dual_use"],
            "refusal": groups["harmful"],
            "harmful": groups["harmful"],
        }
        return pick(pick(choice[kind], draw).training, draw)

    def _row(self, kind: str, act: Combination, draw: Draw) -> Row:
        slots = self.world.slots(act, draw, self.table["own_tool"])
        if (
            kind == "refusal"
        ):  # the request is plain: it names no tool of the category that only harmful pages know
            slots["tool"] = slots["goodtool"]
        hazard = act.group.hazard
        return {
            "text": self.grammar.write(
                f"{'benign' if kind == 'dual_use' else kind}_answer", slots, draw
            ),
            "prompt": capitalise(self.grammar.fill(pick(self.phrasings, draw), slots, draw)),
            "label": self.world.hazards.categories[hazard].level
            if kind == "harmful" and hazard
            else 0,
            "hazard": hazard,
            "crawl": None,
            "title": capitalise(f"{act.verb.gerund} the {act.object}"),
        }
