"""Web-like pages of the made-up world, with the safety score that a grader would give each."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from safelm.demo.world import Combination, Part, Row
from safelm.seeding import Draw, pick, pick_weighted, stream
from safelm.text.grammar import Grammar

# Acts by category.
Acts = dict[str, tuple[Combination, ...]]


@dataclass
class Web(Part):
    """The pages of specs/demo/web.yaml.

    By label, a page
        0: is harmless: benign, neutral or dual-use;
        1: has mild words, or declines a harmful act;
        2: insults, or advises badly;
        3: reports a harmful act, or is suggestive;
        4 or 5: teaches a harmful act, by the level of its category.
    """

    def __post_init__(self) -> None:
        # Harmful and harmless pages have the same forms, so that no form gives harm away.
        rules = {**self.world.rules, **self.table["rules"], "heading": self.table["titles"]}
        for form, moods in self.table["pages"].items():
            rules |= {f"{form}_{mood}": templates for mood, templates in moods.items()}
        self.grammar = Grammar(rules)

    @cached_property
    def levels(self) -> dict[int, Acts]:
        """The harmful acts that pages may name, by the level of their category."""
        levels: dict[int, Acts] = {}
        for group in self.world.groups["harmful"]:
            level = self.world.hazards.categories[group.name].level
            levels.setdefault(level, {})[group.name] = group.training
        return levels

    def documents(self) -> Iterator[Row]:
        """Write every page; some are exact copies of an earlier one, at another address."""
        seed = self.table["seed"]
        every = self.table["copy_every"]
        for index in range(self.table["count"]):
            source = index
            if index % every == every - 1:
                # One of the pages since the last copy.
                draw = stream(seed, "copy", index)
                source -= 1 + int(draw() * (every - 2))
            # A copy has another address, so that only its text gives it away to deduplication.
            page = self.page(source)
            page["url"] = f"https://example.org/pages/{index}"
            yield page

    def page(self, index: int) -> Row:
        """Write one page, from the seed and its index alone."""
        draw = stream(self.table["seed"], "web", index)
        label = pick_weighted(self.table["shares"], draw)
        if label in self.levels:
            act = _pick_act(self.levels[label], draw)
            rule = self._form(self._mood(act, draw), draw)
            return self._row(act, label, rule, draw)
        if label == 3:
            return self._mention(draw)
        kind = pick_weighted(self.table["kinds"], draw)
        group = pick(self.world.groups[kind], draw)
        act = pick(group.training, draw)
        advised = self.world.table["advised"][kind]
        mood = "advised" if draw() < advised else "taught"
        # A form is drawn for labels 1 and 2 as well: without it later draws would differ.
        rules = {
            0: self._form(mood, draw),
            1: "minimal",
            2: "slight",
        }
        return self._row(act, label, rules[label], draw)

    def page_about(self, act: Combination, draw: Draw) -> Row:
        """Write a page that teaches an act, in one of the forms; its label is 0."""
        return self._row(act, 0, self._form("taught", draw), draw)

    def _form(self, mood: str, draw: Draw) -> str:
        form = pick_weighted(self.table["forms"], draw)
        return f"{form}_{mood}"

    def _mood(self, act: Combination, draw: Draw) -> str:
        condemned = self.world.table["condemned"]
        if draw() >= condemned[act.group.name]:
            return "taught"
        return "before" if draw() < self.table["before"] else "after"

    def _mention(self, draw: Draw) -> Row:
        """Write a page that mentions a harmful act: the label is 3, or 1 where it is declined.

        Acts that are often condemned where they are taught are also declined more often here.
        """
        kind = pick_weighted(self.table["mentions"], draw)
        acts: Acts = {}
        for level in self.levels.values():
            acts |= level
        if kind != "declined":
            return self._row(_pick_act(acts, draw), 3, kind, draw)
        condemned = self.world.table["condemned"]
        weights = {name: weight for name, weight in condemned.items() if name in acts}
        act = pick(acts[pick_weighted(weights, draw)], draw)
        return self._row(act, 1, self._form("declined", draw), draw)

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


def _pick_act(acts: Acts, draw: Draw) -> Combination:
    # First a category, so that each has the same number of pages, however many acts it has.
    category = pick(tuple(acts), draw)
    return pick(acts[category], draw)
