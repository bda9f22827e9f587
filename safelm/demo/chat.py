"""Dialogues of the made-up world for instruction tuning."""

from collections.abc import Iterator
from dataclasses import dataclass

from safelm.demo.world import Combination, Part, Row
from safelm.seeding import Draw, pick, pick_weighted, stream
from safelm.text.grammar import Grammar, capitalise, parse


@dataclass
class Chat(Part):
    """The dialogues of specs/demo/chat.yaml, in the phrasings that training may see.

    Most rows comply with a harmless request. A refusal has a hazard and the label 0. A harmful
    compliance has the label of its category, 4 or 5, and may be trained on only with the tag
    (paper §4).
    """

    def __post_init__(self) -> None:
        self.phrasings = [parse(text) for text in self.world.table["phrasings"]["seen"]]
        answers = {f"{kind}_answer": texts for kind, texts in self.table["answers"].items()}
        self.grammar = Grammar({**self.world.rules, **answers})

    def documents(self) -> Iterator[Row]:
        """Write every dialogue, with the kinds mixed."""
        # As many rows of each kind as `rows` says, drawn without replacement.
        left = dict(self.table["rows"])
        for index in range(sum(left.values())):
            draw = stream(self.table["seed"], "chat", index)
            kind = pick_weighted(left, draw)
            left[kind] -= 1
            act = self._act(kind, draw)
            row = self._row(kind, act, draw)
            row["url"] = f"https://example.org/chat/{index}"
            yield row

    def _act(self, kind: str, draw: Draw) -> Combination:
        """Draw an act for a row; benign rows speak of benign and neutral acts alike."""
        groups = self.world.groups
        choice = {
            "benign": groups["benign"] + groups["neutral"],
            "dual_use": groups["dual_use"],
            "refusal": groups["harmful"],
            "harmful": groups["harmful"],
        }
        group = pick(choice[kind], draw)
        return pick(group.training, draw)

    def _row(self, kind: str, act: Combination, draw: Draw) -> Row:
        slots = self.world.slots(act, draw, self.table["own_tool"])
        if kind == "refusal":
            # A request names no tool that only harmful pages know.
            slots["tool"] = slots["goodtool"]
        hazard = act.group.hazard
        label = 0
        if kind == "harmful" and hazard:
            label = self.world.hazards.categories[hazard].level
        # Dual-use requests are harmless, so they are answered as benign ones are.
        answer = "benign" if kind == "dual_use" else kind
        return {
            "text": self.grammar.write(f"{answer}_answer", slots, draw),
            "prompt": capitalise(self.grammar.fill(pick(self.phrasings, draw), slots, draw)),
            "label": label,
            "hazard": hazard,
            "crawl": None,
            "title": capitalise(f"{act.verb.gerund} the {act.object}"),
        }
