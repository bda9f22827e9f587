"""Groups of models, and their parts in the paper, as `comparisons` in params.yaml declares them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from specs.comparisons import ABLATION_STEPS, Comparisons
from specs.corpus import Corpus, tags_of
from specs.decoder import DecoderRow
from specs.mixture import Mixture, Model

PARTS = ("standard", "filtered", "safe")


@dataclass(frozen=True)
class Group:
    """Models that differ in their seed alone, and are pooled."""

    name: str
    mixture: str
    shape: str
    models: tuple[str, ...]
    step: str | None  # of the ablation
    has_tags: bool


@dataclass(frozen=True)
class Roles:
    """The groups of the build and their declared parts; a part without a model is None."""

    groups: tuple[Group, ...]
    parts: Mapping[str, Group]  # standard, filtered and safe
    ablation: Mapping[str, Group]  # by step
    amounts: Mapping[str, Mapping[float, Group]]
    starts: Mapping[str, Mapping[float, Group]]

    def part(self, name: str) -> str | None:
        """Return the part that a group plays in the claims."""
        return next((part for part, group in self.parts.items() if group.name == name), None)


@dataclass(frozen=True)
class DecoderRoles:
    """The decoders that claims compare, by their names in params.yaml; None where there is none."""

    plain: str
    safebeam: str | None
    branch: str | None
    threshold: str | None
    control: str | None


def roles(
    models: Mapping[str, Model],
    mixtures: Mapping[str, Mixture],
    corpora: Mapping[str, Corpus],
    comparisons: Comparisons,
) -> Roles:
    """Look up the groups that `comparisons` names; each is named by one of its models."""
    declared = comparisons.ablation
    steps = {declared[step]: step for step in ABLATION_STEPS if step in declared}
    tagged = {name for name, row in corpora.items() if tags_of(row)}
    with_tags = {name for name, row in mixtures.items() if tagged.intersection(row.corpora)}
    groups = tuple(_groups(models, with_tags, steps))
    by_model: dict[str | None, Group] = {}
    for group in groups:
        by_model |= dict.fromkeys(group.models, group)

    def present(rows: Mapping[Any, str | None]) -> dict[Any, Group]:
        return {key: by_model[row] for key, row in rows.items() if row in by_model}

    def series(tables: Mapping[str, Mapping[float, str]]) -> dict[str, dict[float, Group]]:
        return {name: present(dict(sorted(rows.items()))) for name, rows in tables.items()}

    return Roles(
        groups=groups,
        parts=present({part: getattr(comparisons, part) for part in PARTS}),
        ablation=present({step: row for row, step in steps.items()}),
        amounts=series(comparisons.amounts),
        starts=series(comparisons.starts),
    )


def _groups(
    models: Mapping[str, Model], with_tags: set[str], steps: Mapping[str, str]
) -> Iterator[Group]:
    """Group models; a group has the name of its only model or mixture, unless that is taken."""
    members: dict[str, list[str]] = {}
    for name, model in models.items():
        members.setdefault(str(model.model_copy(update={"seed": 0})), []).append(name)
    taken: set[str] = set()
    for names in members.values():
        mixture, shape = models[names[0]].mixture, models[names[0]].shape
        others = taken | (models.keys() - set(names))
        only = names if len(names) == 1 else []
        choices = [*only, mixture, f"{mixture} ({shape})", " + ".join(names)]
        name = next(choice for choice in choices if choice not in others)
        taken.add(name)
        step = next((steps[model] for model in names if model in steps), None)
        yield Group(name, mixture, shape, tuple(names), step, mixture in with_tags)


def decoder_roles(decoders: Mapping[str, DecoderRow]) -> DecoderRoles:
    """Find the decoders of the claims: `greedy` and `safebeam` by name, others by their method."""
    names: dict[str, str] = {}
    # In reverse, so that of several decoders of one method the first remains.
    for name, row in reversed([*decoders.items()]):
        names[f"{row.method} {getattr(row, 'drop', '')}".strip()] = name
    published = names.get("safebeam half") or names.get("safebeam boundary")
    return DecoderRoles(
        plain="greedy" if "greedy" in decoders else names.get("greedy", next(iter(decoders))),
        safebeam="safebeam" if "safebeam" in decoders else published,
        branch=names.get("branch"),
        threshold=names.get("safebeam absolute"),
        control=names.get("safebeam random"),
    )
