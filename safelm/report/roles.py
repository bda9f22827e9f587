"""Which model plays which part of the paper: read from what its mixture holds, so that rows may
have any name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from specs.corpus import Corpus, scores_of, tags_of
from specs.decoder import DecoderRow, SafeBeam
from specs.mixture import Mixture, Model

RUNGS = {  # the ladder of Figure 4: what each rung adds to the one before it
    "raw": "raw web, scores 0–5",
    "score_0": "score 0 only",
    "rephrase": "+ rephrasing",
    "refusal": "+ native refusal",
    "moral": "+ moral education",
    "tags": "+ harmfulness tags",
}
WRITERS = {"rephrase": "rephrase", "refuse": "refusal", "educate": "moral"}


@dataclass(frozen=True)
class Group:
    """The models of one mixture and shape; they differ in their seed alone and are reported
    together.
    """

    name: str
    mixture: str
    shape: str
    models: tuple[str, ...]
    rung: str | None
    has_tags: bool
    reads: frozenset[str]  # its corpora, whenever they are read
    start: float  # the share of training that goes by before written or tagged text is read
    is_dosed: bool  # whether some part is a dose


@dataclass(frozen=True)
class Roles:
    """The groups of the build and their parts in the paper; a part nobody plays is None."""

    groups: tuple[Group, ...]
    standard: Group | None
    filtered: Group | None
    safe: Group | None

    @property
    def ladder(self) -> list[Group]:
        """One group per rung that was built, in the order of Figure 4."""
        return [group for rung in RUNGS if (group := on_rung(self.groups, rung))]


@dataclass(frozen=True)
class DecoderRoles:
    """The decoders that the claims speak of, by their names in params.yaml; one that is not asked
    for is None.
    """

    plain: str
    safebeam: str | None
    branch: str | None
    threshold: str | None
    control: str | None


def rung_of(mixture: Mixture, corpora: Mapping[str, Corpus]) -> tuple[str | None, bool]:
    """The rung of the ladder that a mixture stands on (None beside it), and whether it holds tagged
    pages.

    The first rung reads every score of the web, untagged; the others read no raw unsafe page that
    is not tagged."""
    read = [corpora[name] for name in mixture.corpora if name in corpora]
    unsafe = _unsafe_scores(read)
    has_tags = any(tags_of(corpus) for corpus in read)
    written = [WRITERS[corpus.from_] for corpus in read if corpus.from_ in WRITERS]
    if unsafe:
        whole = unsafe == _unsafe_scores(corpora.values())
        return ("raw" if whole and not written and not has_tags else None), has_tags
    if has_tags:
        return ("tags" if written else None), True
    order = list(RUNGS)
    return max(written, key=order.index, default="score_0"), False


def _unsafe_scores(corpora: Iterable[Corpus]) -> set[int]:
    return {score for corpus in corpora for score in scores_of(corpus) or [] if score > 0}


def start_of(mixture: Mixture, corpora: Mapping[str, Corpus]) -> float:
    """The share of training that goes by before the first written or tagged text is read; 1 where
    none is.
    """
    shares, whole = 0, sum(phase.share for phase in mixture.phases)
    for phase in mixture.phases:
        read = [corpora[name] for name in phase.slots.values() if name in corpora]
        if any(corpus.from_ in WRITERS or tags_of(corpus) for corpus in read):
            return shares / whole
        shares += phase.share
    return 1.0


def on_rung(groups: Iterable[Group], rung: str) -> Group | None:
    """The first group on a rung."""
    return next((group for group in groups if group.rung == rung), None)


def roles(
    models: Mapping[str, Model], mixtures: Mapping[str, Mixture], corpora: Mapping[str, Corpus]
) -> Roles:
    """Who is the paper's standard, filtered and safe model; where a mixture does not tell, the
    row's name does.
    """
    groups = tuple(_groups(models, mixtures, corpora))
    named = {group.name: group for group in groups}
    highest = [on_rung(groups, rung) for rung in ("tags", "moral", "refusal", "rephrase")]
    return Roles(
        groups=groups,
        standard=on_rung(groups, "raw") or named.get("standard"),
        filtered=on_rung(groups, "score_0") or named.get("filtered"),
        safe=next((group for group in highest if group), None) or named.get("safe"),
    )


def _groups(
    models: Mapping[str, Model], mixtures: Mapping[str, Mixture], corpora: Mapping[str, Corpus]
) -> Iterable[Group]:
    members: dict[tuple[str, str], list[str]] = {}
    for name, model in models.items():
        members.setdefault((model.mixture, model.shape), []).append(name)
    taken: set[str] = set()
    for (mixture, shape), names in members.items():
        rung, has_tags = rung_of(mixtures[mixture], corpora)
        others = taken | {name for name in models if name not in names}
        choices = [
            *(names if len(names) == 1 else []),
            mixture,
            f"{mixture} ({shape})",
            " + ".join(names),
        ]
        name = next(choice for choice in choices if choice not in others)
        taken.add(name)
        row = mixtures[mixture]
        is_dosed = any(phase.budget_shares for phase in row.phases)
        start = start_of(row, corpora)
        yield Group(
            name,
            mixture,
            shape,
            tuple(names),
            rung,
            has_tags,
            frozenset(row.corpora),
            start,
            is_dosed,
        )


def decoder_roles(decoders: Mapping[str, DecoderRow]) -> DecoderRoles:
    """`greedy` and `safebeam` by name, else the first decoder of their kind; the control drops at
    random.
    """

    def first(*rules: str) -> str | None:
        return next(
            (
                name
                for name, row in decoders.items()
                if isinstance(row, SafeBeam) and row.drop in rules
            ),
            None,
        )

    plain = next(
        (name for name, row in decoders.items() if row.method == "greedy"), next(iter(decoders))
    )
    return DecoderRoles(
        plain="greedy" if "greedy" in decoders else plain,
        safebeam="safebeam" if "safebeam" in decoders else first("half", "boundary"),
        branch=next((name for name, row in decoders.items() if row.method == "branch"), None),
        threshold=first("absolute"),
        control=first("random"),
    )
