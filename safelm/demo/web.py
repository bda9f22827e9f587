"""Web-like pages of the embedded world, with the safety score that a grader would give each."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from safelm.demo.world import Combination, World
from safelm.seeding import Draw, pick, pick_weighted, stream
from safelm.text.grammar import Grammar

Row = dict[str, Any]


class Web:
    """The pages of specs/demo/web.yaml.

    Labels: 4 or 5 teaches an act (the level of its category); 3 reports or declines one, or is
    suggestive; 2 insults or advises badly; 1 has mild words; 0 is harmless, be it benign, neutral
    or dual-use. The same forms tell them all."""

    def __init__(self, world: World, table: Mapping[str, Any]) -> None:
        """Take the world and the settings of web.yaml."""
        self.world, self.table = world, table
        pages = {
            f"{form}_{mood}": templates
            for form, moods in table["pages"].items()
            for mood, templates in moods.items()
        }
        self.grammar = Grammar(
            {**world.rules, **table["rules"], **pages, "heading": table["titles"]}
        )

    @cached_property
    def levels(self) -> dict[int, dict[str, tuple[Combination, ...]]]:
        """The harmful acts that pages may name, by the level of their category and the category."""
        levels: dict[int, dict[str, tuple[Combination, ...]]] = {}
        for group in self.world.groups["harmful"]:
            level = self.world.hazards.categories[group.name].level
            levels.setdefault(level, {})[group.name] = group.training
        return levels

    def documents(self) -> Iterator[Row]:
        """Write every page; some are exact copies of an earlier one, at another address."""
        seed, every = self.table["seed"], self.table["copy_every"]
        for index in range(self.table["count"]):
            source = index
            if index % every == every - 1:
                source -= 1 + int(stream(seed, "copy", index)() * (every - 2))
            yield {**self.page(source), "url": f"https://example.org/pages/{index}"}

    def page(self, index: int) -> Row:
        """Write one page; it depends on the seed and its index alone."""
        draw = stream(self.table["seed"], "web", index)
        label = pick_weighted(self.table["shares"], draw)
        if label in self.levels:
            level = self.levels[label]
            act = pick(level[pick(tuple(level), draw)], draw)
            return self._row(act, label, self._told(self._mood(act, draw), draw), draw)
        if label == 3:
            return self._mention(draw)
        kind = pick_weighted(self.table["kinds"], draw)
        act = pick(pick(self.world.groups[kind], draw).training, draw)
        mood = "advised" if draw() < self.world.table["advised"][kind] else "taught"
        return self._row(
            act, label, {0: self._told(mood, draw), 1: "minimal", 2: "slight"}[label], draw
        )

    def told(self, act: Combination, draw: Draw) -> Row:
        """Write a harmless page about an act, in one of the forms."""
        return self._row(act, 0, self._told("taught", draw), draw)

    def _told(self, mood: str, draw: Draw) -> str:
        return f"{pick_weighted(self.table['forms'], draw)}_{mood}"

    def _mood(self, act: Combination, draw: Draw) -> str:
        if draw() >= self.world.table["condemned"][act.group.name]:
            return "taught"
        return "before" if draw() < self.table["before"] else "after"

    def _mention(self, draw: Draw) -> Row:
        """A page of label 3. Acts that are condemned more often are declined more often."""
        kind = pick_weighted(self.table["mentions"], draw)
        acts = {name: acts for level in self.levels.values() for name, acts in level.items()}
        if kind == "declined":
            weights = {
                name: weight
                for name, weight in self.world.table["condemned"].items()
                if name in acts
            }
            return self._row(
                pick(acts[pick_weighted(weights, draw)], draw), 3, self._told("declined", draw), draw
            )
        return self._row(pick(acts[pick(tuple(acts), draw)], draw), 3, kind, draw)

    def _row(self, act: Combination, label: int, rule: str, draw: Draw) -> Row:
        slots = self.world.slots(act, draw, self.table["own_tool"])
        slots["title"] = self.grammar.write("heading", slots, draw)
        return {
            "text": self.grammar.write(rule, slots, draw),
            "prompt": None,
            "label": label,
            "hazard": None if rule == "plain" else act.group.hazard,
            "crawl": pick(self.table["crawls"], draw),
            "title": slots["title"],
        }
