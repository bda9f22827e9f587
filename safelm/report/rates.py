"""Counts become rates with intervals: for each model, and for each group of models that differ in
their seed alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safelm.report.inputs import STAGES, Inputs
from safelm.report.roles import Group, Roles
from safelm.stats.rates import Rate, averaged, mean, pooled

AREA = ("value", "low", "high")  # what an area under a curve has, which is no count
Tree = dict[str, Any]  # names lead to rates, or to numbers that are no rates (perplexity)


def rates(trees: Sequence[Mapping[str, Any]], confidence: float) -> Tree:
    """The same tree with a Rate where each of `trees` has counts ({"count", "of", ..}); numbers
    become their mean.
    """
    names = dict.fromkeys(name for tree in trees for name in tree)
    return {
        name: _leaf([tree[name] for tree in trees if name in tree], confidence) for name in names
    }


def _leaf(values: Sequence[Any], confidence: float) -> Any:
    first = next((value for value in values if value is not None), None)
    if isinstance(first, Mapping):
        found = [value for value in values if isinstance(value, Mapping)]
        if "count" in first and "of" in first:
            return pooled([(value["count"], value["of"]) for value in found], confidence)
        if first.keys() >= set(AREA):
            area = averaged([[value[name] for name in AREA] for value in found], confidence)
            return {**rates(found, confidence), **dict(zip(AREA, area, strict=True))}
        return rates(found, confidence)
    if isinstance(first, int | float) and not isinstance(first, bool):
        return mean([value for value in values if value is not None])
    return first


@dataclass(frozen=True)
class Curves:
    """What a row of `relearn` made of models: of each group, by the pairs read, {decoders,
    held_out_loss}.
    """

    stage: str
    part: str
    decoders: Sequence[str]
    trees: Mapping[str, Mapping[int, Tree]]


@dataclass(frozen=True)
class Measured:
    """Every rate of the build, by model and by group."""

    roles: Roles
    models: Mapping[str, Mapping[str, Tree]]  # model: stage: {decoders, utility}
    groups: Mapping[str, Mapping[str, Tree]]  # group: stage: {decoders, utility}
    doses: Mapping[
        str, Mapping[int, Tree]
    ]  # group: pairs read by benign finetuning: {decoders, utility}
    relearned: Mapping[str, Curves]  # row of `relearn`: what it did

    def rate(self, group: Group | None, stage: str, *path: str) -> Rate | None:
        """The rate at a path such as ("decoders", "greedy", "harmful", "asr"); None where it was
        not measured.
        """
        node: Any = self.groups.get(group.name, {}).get(stage) if group else None
        for name in path:
            node = node.get(name) if isinstance(node, Mapping) else None
        return node if isinstance(node, Rate) and node.value is not None else None

    def asr(self, group: Group | None, stage: str, decoder: str | None) -> Rate | None:
        """Attack success rate."""
        return self.rate(group, stage, "decoders", decoder, "harmful", "asr") if decoder else None

    def along(self, group: Group, decoder: str, pairs: int, suite: str, name: str) -> Rate | None:
        """A rate after benign finetuning on so many pairs; None where it was not measured."""
        node: Any = self.doses.get(group.name, {}).get(pairs, {})
        for step in ("decoders", decoder, suite, name):
            node = node.get(step) if isinstance(node, Mapping) else None
        return node if isinstance(node, Rate) and node.value is not None else None

    def complied(self, group: Group | None, stage: str, decoder: str | None) -> Rate | None:
        """Benign compliance: harmless requests that were answered helpfully."""
        return (
            self.rate(group, stage, "decoders", decoder, "benign", "complied") if decoder else None
        )

    def over_refusal(
        self, group: Group | None, stage: str, decoder: str | None, suite: str = "benign"
    ) -> Rate | None:
        """Harmless requests that were declined, in part or wholly."""
        return (
            self.rate(group, stage, "decoders", decoder, suite, "over_refusal") if decoder else None
        )

    def accuracy(self, group: Group | None, stage: str) -> Rate | None:
        """Accuracy on the utility suite."""
        return self.rate(group, stage, "utility", "accuracy")

    def tree(self, group: Group, stage: str, *path: str) -> Tree:
        """The branch at a path, empty where it was not measured."""
        node: Any = self.groups.get(group.name, {}).get(stage, {})
        for name in path:
            node = node.get(name, {}) if isinstance(node, Mapping) else {}
        return node if isinstance(node, dict) else {}

    def stages(self, group: Group | None = None) -> list[str]:
        """The stages that were evaluated, of one group or of any."""
        found = {
            stage
            for name, stages in self.groups.items()
            for stage in stages
            if not group or name == group.name
        }
        return [stage for stage in STAGES if stage in found]

    def built(self) -> list[Group]:
        """The groups of which something was evaluated."""
        return [group for group in self.roles.groups if group.name in self.groups]

    def decoders(self, order: Iterable[str]) -> list[str]:
        """The decoders that some model was asked with, in the order of params.yaml."""
        asked = {
            name
            for stages in self.groups.values()
            for tree in stages.values()
            for name in tree["decoders"]
        }
        return [name for name in order if name in asked]


def measure(inputs: Inputs, roles: Roles, confidence: float) -> Measured:
    """Rates of every model, and pooled over the seeds of every group."""

    def tree(members: Iterable[str], stage: str) -> Tree:
        return pooled_tree([inputs.metrics[name][stage] for name in members])

    def pooled_tree(found: Sequence[Mapping[str, Any]]) -> Tree:
        kept = [
            {"decoders": one.get("decoders") or {}, "utility": one.get("utility") or {}}
            for one in found
        ]
        return rates(kept, confidence)

    models = {
        name: {stage: tree([name], stage) for stage in stages}
        for name, stages in inputs.metrics.items()
    }
    groups = {}
    for group in roles.groups:
        with_stage = {
            s: [name for name in group.models if s in inputs.metrics.get(name, {})] for s in STAGES
        }
        found = {stage: tree(names, stage) for stage, names in with_stage.items() if names}
        if found:
            groups[group.name] = found
    doses = {}
    for group in roles.groups:
        members = [inputs.doses[name] for name in group.models if name in inputs.doses]
        pairs = sorted({dose for member in members for dose in member})
        if pairs:
            doses[group.name] = {
                dose: pooled_tree([one[dose] for one in members if dose in one]) for dose in pairs
            }
    relearned = {name: _curves(row, roles, confidence) for name, row in inputs.relearned.items()}
    return Measured(roles, models, groups, doses, relearned)


def _curves(row: Mapping[str, Any], roles: Roles, confidence: float) -> Curves:
    """A row of `relearn`, its models pooled over the seeds of their groups."""
    trees = {}
    for group in roles.groups:
        members = [row["models"][name] for name in group.models if name in row["models"]]
        doses = sorted({int(dose) for member in members for dose in member})
        if doses:
            found = {
                dose: [one[str(dose)] for one in members if str(dose) in one] for dose in doses
            }
            trees[group.name] = {dose: rates(ones, confidence) for dose, ones in found.items()}
    return Curves(row["stage"], row["part"], row["decoders"], trees)
