"""Everything that figures and claims are made from."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from safelm.report.charts.numbers import readable
from safelm.report.inputs import Declared, Inputs, read_inputs
from safelm.report.layout import STYLES
from safelm.report.measured import Measured, pool
from safelm.report.roles import DecoderRoles, Group, Roles, decoder_roles, roles
from safelm.stats.rates import Rate
from specs.corpus import ScoredCorpus
from specs.decoder import DecoderRow
from specs.paper import Paper

SAFEBEAM = {
    "half": "SafeBeam, as published",
    "boundary": "SafeBeam, at word boundaries",
    "absolute": "SafeBeam, absolute threshold",
    "random": "the control: a random half dropped",
}


@dataclass(frozen=True, eq=False)
class ReportData:
    """What was declared, read and measured. Compared by identity, so that results can be cached."""

    declared: Declared
    inputs: Inputs
    roles: Roles
    decoders: DecoderRoles
    measured: Measured  # of groups, pooled over their seeds
    single: Measured  # of each model
    external: Measured  # of each external model
    paper: Paper

    @property
    def confidence(self) -> float:
        """The confidence of intervals, such as 0.95."""
        return self.declared.confidence

    @cached_property
    def built(self) -> list[Group]:
        """The groups of which something was evaluated."""
        measured = self.measured.values("group")
        return [group for group in self.roles.groups if group.name in measured]

    @cached_property
    def all_decoders(self) -> list[str]:
        """The decoders in use, in the order of params.yaml."""
        in_use = self.measured.values("decoder")
        return [name for name in self.declared.decoders if name in in_use]

    @cached_property
    def main_decoders(self) -> list[str]:
        """The decoders of Figure 2 in use: greedy and SafeBeam."""
        main = (self.decoders.plain, self.decoders.safebeam)
        return [name for name in main if name in self.all_decoders]

    def groups_at(self, stage: str) -> list[Group]:
        """Return the groups that were evaluated after a stage."""
        return [group for group in self.built if stage in self.measured.stages(group.name)]

    def headlines(self, measured: Measured, name: str, stage: str) -> dict[str, Rate | None]:
        """Return the rates that people ask for first, of a group or a model at a stage."""
        plain, safebeam = self.decoders.plain, self.decoders.safebeam
        return {
            "asr": measured.rate("asr", name, stage, plain),
            "asr_safebeam": measured.rate("asr", name, stage, safebeam),
            "benign_compliance": measured.rate("complied", name, stage, plain),
            "over_refusal": measured.rate("over_refusal", name, stage, plain),
            "utility": measured.rate("accuracy", name, stage),
        }

    @property
    def rephrased(self) -> list[str]:
        """The corpora of rephrased text."""
        return [name for name, row in self.declared.corpora.items() if row.from_ == "rephrase"]

    @property
    def rephrased_from(self) -> list[str]:
        """The scored corpora that were rephrased."""
        scores = set(self.declared.rephrased_scores)
        corpora = self.declared.corpora.items()
        scored = [(name, row) for name, row in corpora if isinstance(row, ScoredCorpus)]
        return [name for name, row in scored if set(row.scores) <= scores]

    def style(self, decoder: str) -> str:
        """Return the colour and pattern of a decoder, the same on the whole page."""
        return STYLES[list(self.declared.decoders).index(decoder) % len(STYLES)]

    def legend(self, decoders: Iterable[str]) -> list[tuple[str, str]]:
        """Return the styles of decoders and their meaning."""
        rows, used = self.declared.decoders.items(), set(decoders)
        return [(self.style(name), describe(name, row)) for name, row in rows if name in used]


def describe(name: str, decoder: DecoderRow) -> str:
    """Describe a decoder in a few words."""
    title = readable(name)
    if decoder.method == "branch":
        bound = decoder.max_tag_probability
        refusal = "" if bound is None else f", refused above {bound:g}"
        answers = f"{decoder.branches} whole answers, weighed by the tag"
        return f"{title} (ours: {answers}{refusal})"
    if decoder.method == "safebeam":
        absolute = decoder.drop == "absolute"
        threshold = f" {decoder.max_tag_probability:g}" if absolute else ""
        return f"{title} ({SAFEBEAM[decoder.drop]}{threshold})"
    method = decoder.method.replace("_", "-")
    return title if title == decoder.method else f"{title} ({method})"


def read_data(folder: Path, declared: Declared) -> ReportData:
    """Read build/ and pool what was measured."""
    inputs = read_inputs(folder, declared)
    parts = roles(declared.models, declared.mixtures, declared.corpora, declared.comparisons)
    names: dict[str, str] = {}
    for group in parts.groups:
        names |= dict.fromkeys(group.models, group.name)
    single = {name: name for name in declared.models}
    external = {name: name for name in declared.external_models}
    order = (list(declared.decoders), declared.confidence)
    return ReportData(
        declared=declared,
        inputs=inputs,
        roles=parts,
        decoders=decoder_roles(declared.decoders),
        measured=pool(inputs.measurements, names, *order),
        single=pool(inputs.measurements, single, *order),
        external=pool(inputs.external, external, *order),
        paper=Paper.read(),
    )
