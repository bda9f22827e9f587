"""Dose and response: what more or less of one ingredient does, all else as in the safe model."""

from collections.abc import Mapping
from dataclasses import dataclass

from safelm.report.charts.numbers import plain
from safelm.report.charts.xy import Series, steps
from safelm.report.figure import STAGE_NAMES, Book, Cell, Figure, Panel, Table, rate_cell
from safelm.report.roles import Group
from specs.corpus import Corpus, TagRow, tags_of
from specs.mixture import BudgetShare, Mixture, Part

TAGGED, RATE = "tagged pages", "rate of tags"


@dataclass(frozen=True)
class Recipe:
    """A mixture as amounts of parts, and all that must be alike for a comparison of amounts."""

    frame: tuple[object, ...]
    amounts: Mapping[str, Mapping[int, Part]]  # part: phase: weight, dose or replacement
    tags: TagRow | None  # where the mixture reads one tagged corpus


def recipe(mixture: Mixture, corpora: Mapping[str, Corpus], tags: Mapping[str, TagRow]) -> Recipe:
    """A mixture's recipe; tagged corpora have one name, so that those of different rates are the
    same part.
    """
    tagged = {name: row for name in mixture.corpora if (row := tags_of(corpora[name]))}
    alone = next(iter(tagged)) if len(tagged) == 1 else None
    amounts: dict[str, dict[int, Part]] = {}
    for index, phase in enumerate(mixture.phases):
        for part, amount in phase.parts.items():
            amounts.setdefault(TAGGED if part == alone else part, {})[index] = amount
    frame = tuple((phase.share, phase.proportions) for phase in mixture.phases)
    return Recipe(frame, amounts, tags[tagged[alone]] if alone else None)


def difference(one: Recipe, other: Recipe) -> tuple[str, float, float] | None:
    """(what, how much here, how much there) where two recipes differ in one amount alone; a part
    left out is 0.
    """
    if one.frame != other.frame:
        return None
    names = dict.fromkeys([*one.amounts, *other.amounts])
    parts = [name for name in names if one.amounts.get(name) != other.amounts.get(name)]
    if one.tags and other.tags and one.tags != other.tags:
        only_rate = one.tags.model_copy(update={"rate": other.tags.rate}) == other.tags
        return (RATE, one.tags.rate, other.tags.rate) if only_rate and not parts else None
    if len(parts) != 1:
        return None
    here, there = one.amounts.get(parts[0], {}), other.amounts.get(parts[0], {})
    kinds = {
        "dose" if isinstance(amount, BudgetShare) else "weight"
        for amount in (*here.values(), *there.values())
    }
    before, after = _amount(here), _amount(there)
    if (
        len(kinds) > 1
        or before is None
        or after is None
        or (here and there and here.keys() != there.keys())
    ):
        return None
    return f"{kinds.pop()} of {plain(parts[0])}", before, after


def _amount(phases: Mapping[int, Part]) -> float | None:
    """The one amount of a part in every phase that reads it; None where there are several, or it is
    replaced.
    """
    found = {
        amount.budget_share if isinstance(amount, BudgetShare) else amount
        for amount in phases.values()
    } or {0.0}
    only = found.pop()
    return only if not found and isinstance(only, float) else None


def responses(book: Book) -> dict[str, dict[float, Group]]:
    """The models that differ from the safe one in one amount alone, by what differs and by its
    amount.
    """
    safe = book.measured.roles.safe
    found: dict[str, dict[float, Group]] = {}
    if safe is None:
        return found
    recipes = {
        group.name: recipe(book.mixtures[group.mixture], book.corpora, book.tags)
        for group in (safe, *book.measured.built())
    }
    for group in book.measured.built():
        one = (
            difference(recipes[safe.name], recipes[group.name])
            if group.shape == safe.shape
            else None
        )
        if one:
            what, here, there = one
            found.setdefault(what, {here: safe}).setdefault(there, group)
    return {what: dict(sorted(groups.items())) for what, groups in found.items()}


def dose_response(book: Book) -> list[Figure]:
    """Attack success and benign compliance by the amount of each ingredient that was varied."""
    safe = book.measured.roles.safe
    return (
        [_figure(book, safe, what, groups) for what, groups in responses(book).items()]
        if safe
        else []
    )


def _figure(book: Book, safe: Group, what: str, groups: Mapping[float, Group]) -> Figure:
    places = [f"{amount * 100:g} %" if what == RATE else f"{amount:g}" for amount in groups]
    decoders = [*book.main, *([book.parts.branch] if book.parts.branch else [])]
    measured, panels, table = book.measured, [], []
    for title, rate in (
        ("Attack success", measured.asr),
        ("Harmless requests answered", measured.complied),
    ):
        for stage in measured.stages():
            found = {
                name: [rate(group, stage, name) for group in groups.values()] for name in decoders
            }
            series = [
                Series(plain(name), book.style(name), rates)
                for name, rates in found.items()
                if any(rates)
            ]
            label = f"Lines: {title.lower()} by {what}, {STAGE_NAMES[stage].lower()}; the numbers are in the table below."
            chart = steps(series, places, label, x_title=what, y_title=f"{title.lower()}, %")
            panels.append(Panel(STAGE_NAMES[stage], chart))
            table += [
                [
                    Cell(title),
                    Cell(STAGE_NAMES[stage]),
                    Cell(plain(name)),
                    *map(rate_cell, found[name]),
                ]
                for name in decoders
                if any(found[name])
            ]
    return Figure(
        f"dose-{what.replace(' ', '-')}",
        f"Dose and response: {what}",
        f"Models that read what {safe.name} reads, but for the {what}: {_listed(groups, places)}. The "
        "budget of tokens stays, so more of one thing is less of all others.",
        panels,
        book.legend(decoders),
        tables=[Table(f"By {what}", ["Rate", "Stage", "Decoder", *places], table, heads=3)],
    )


def _listed(groups: Mapping[float, Group], places: list[str]) -> str:
    return ", ".join(
        f"{place} ({group.name})" for place, group in zip(places, groups.values(), strict=True)
    )
