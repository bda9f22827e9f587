"""Groups of models, and their parts in the paper, as `comparisons` in params.yaml declares them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

from specs.comparisons import ABLATION_STEPS, Comparisons
from specs.corpus import Corpus, tags_of
from specs.decoder import DecoderRow
from specs.mixture import Mixture, Model

# The ablation of Figure 4: what each step adds to the one before it.
STEPS = {
    "raw": "raw web, scores 0–5",
    "score_0": "score 0 only",
    "rephrase": "+ rephrasing",
    "refusal": "+ native refusal",
    "moral": "+ moral education",
    "tags": "+ harmfulness tags",
}


@dataclass(frozen=True)
class Group:
    """Models of one mixture and shape, which differ in their seed alone and are pooled."""

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
    standard: Group | None
    filtered: Group | None
    safe: Group | None
    ablation: Mapping[str, Group]
    amounts: Mapping[str, Mapping[float, Group]]
    starts: Mapping[str, Mapping[float, Group]]

    @property
    def parts(self) -> dict[str, Group]:
        """The parts that models play in the claims."""
        parts = {"standard": self.standard, "filtered": self.filtered, "safe": self.safe}
        return {part: group for part, group in parts.items() if group}

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

    @property
    def named(self) -> dict[str, str | None]:
        """The decoder of each role."""
        return asdict(self)


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
    by_model: dict[str, Group] = {}
    for group in groups:
        by_model |= dict.fromkeys(group.models, group)

    def present(rows: Mapping[float, str]) -> dict[float, Group]:
        return {amount: by_model[row] for amount, row in sorted(rows.items()) if row in by_model}

    return Roles(
        groups=groups,
        standard=by_model.get(comparisons.standard or ""),
        filtered=by_model.get(comparisons.filtered or ""),
        safe=by_model.get(comparisons.safe or ""),
        ablation={step: by_model[row] for row, step in steps.items() if row in by_model},
        amounts={name: present(rows) for name, rows in comparisons.amounts.items()},
        starts={name: present(rows) for name, rows in comparisons.starts.items()},
    )


def _groups(
    models: Mapping[str, Model], with_tags: set[str], steps: Mapping[str, str]
) -> Iterator[Group]:
    members: dict[tuple[str, str], list[str]] = {}
    for name, model in models.items():
        members.setdefault((model.mixture, model.shape), []).append(name)
    taken: set[str] = set()
    for (mixture, shape), names in members.items():
        name = _group_name(mixture, shape, names, taken | (models.keys() - set(names)))
        taken.add(name)
        step = next((steps[model] for model in names if model in steps), None)
        yield Group(name, mixture, shape, tuple(names), step, mixture in with_tags)


def _group_name(mixture: str, shape: str, names: list[str], taken: Iterable[str]) -> str:
    """Name a group by its only model, else by its mixture, unless another group has that name."""
    choices = [mixture, f"{mixture} ({shape})", " + ".join(names)]
    if len(names) == 1:
        choices = [names[0], *choices]
    return next(choice for choice in choices if choice not in taken)


def decoder_roles(decoders: Mapping[str, DecoderRow]) -> DecoderRoles:
    """Find the decoders of the claims: `greedy` and `safebeam` by name, others by their method."""

    def first(method: str, *drops: str) -> str | None:
        for name, row in decoders.items():
            if row.method == method and (not drops or getattr(row, "drop", None) in drops):
                return name
        return None

    plain = "greedy" if "greedy" in decoders else first("greedy")
    return DecoderRoles(
        plain=plain or next(iter(decoders)),
        safebeam="safebeam" if "safebeam" in decoders else first("safebeam", "half", "boundary"),
        branch=first("branch"),
        threshold=first("safebeam", "absolute"),
        control=first("safebeam", "random"),
    )
