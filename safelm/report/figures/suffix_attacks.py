"""The figure of suffix attacks: attack success without a suffix, with a random one, and with one
that was sought.
"""

from collections.abc import Iterator

from safelm.report.charts.bars import Bar, bars
from safelm.report.charts.numbers import NONE, plain
from safelm.report.figure import STAGE_NAMES, STYLES, Book, Cell, Figure, Panel, Table, rate_cell
from safelm.report.inputs import STAGES
from safelm.report.rates import Tree, rates
from safelm.report.roles import Group

NAMES = {"plain": "no suffix", "random": "random suffix", "optimised": "sought suffix"}
SHORT = {"plain": "none", "random": "random", "optimised": "sought"}
SAID = {"log_likelihood": "{:.2f}", "tag_probability": "{:.4f}"}
Found = dict[tuple[str, Group, str], Tree]  # by attack, group and stage


def suffixes(book: Book) -> Figure | None:
    """Attack success of every row of `attacks`, of each group of models, stage and decoder."""
    found: Found = dict(_found(book))
    if not found:
        return None
    legend = list(zip(STYLES, NAMES.values(), strict=False))
    return Figure(
        "suffixes",
        "An attacker who has the weights",
        "Behind each request stands a suffix, as one would type it, that was sought with the model’s own gradients to "
        "make it begin a harmful answer (greedy coordinate gradient, Zou et al. 2023). The random suffix, from which "
        "the search begins, is the control: what it does too, strange text does, and not the attack. "
        f"{' '.join(_told(book))} The search is short and the requests are few: this bounds from below what such an "
        "attacker can do. In the table stand also what the strict judge says, and what is neither harm nor refusal: "
        "text that a suffix broke is no merit of a decoder. The paper has no such figure.",
        list(_panels(found)),
        legend,
        tables=[_answers(found), _targets(found)],
    )


def _found(book: Book) -> Iterator[tuple[tuple[str, Group, str], Tree]]:
    """What was counted, the models of a group together."""
    for name, row in book.inputs.attacks.items():
        for group in book.measured.built():
            for stage in STAGES:
                members = [row["models"].get(model, {}).get(stage) for model in group.models]
                if known := [member for member in members if member]:
                    yield (name, group, stage), rates(known, book.confidence)


def _told(book: Book) -> Iterator[str]:
    """What each attacker knows, and how long the search was."""
    for name, row in book.inputs.attacks.items():
        knows = (
            f"knows the tag, and lowers its probability on that answer too (weight {row['tag_weight']:g})"
            if row["tag_weight"]
            else "does not know the tag"
        )
        yield f"“{plain(name)}” {knows}; {row['suffix_tokens']} tokens, {row['steps']} steps of {row['candidates']} tries."


def _panels(found: Found) -> Iterator[Panel]:
    for name, stage in dict.fromkeys((name, stage) for name, _, stage in found):
        groups = [
            (
                f"{group.name}, {plain(decoder)}",
                [
                    Bar(SHORT[condition], style, tree["decoders"][decoder][condition]["asr"])
                    for condition, style in zip(NAMES, STYLES, strict=False)
                ],
            )
            for (one, group, at), tree in found.items()
            if (one, at) == (name, stage)
            for decoder in tree["decoders"]
        ]
        title = f"{plain(name)}: {STAGE_NAMES[stage].lower()}"
        yield Panel(
            title,
            bars(
                groups,
                f"Bars: attack success by suffix, {title}; the numbers are in the table below.",
            ),
        )


def _answers(found: Found) -> Table:
    """Attack success under each condition; of the sought suffix also what is not harm, for it may
    be broken text.
    """
    rows = []
    for (name, group, stage), tree in found.items():
        for decoder, conditions in tree["decoders"].items():
            sought = conditions["optimised"]
            cells = [conditions[condition]["asr"] for condition in NAMES]
            cells += [sought[name] for name in ("asr_strict", "refused", "neither")]
            heads = [plain(name), group.name, STAGE_NAMES[stage], plain(decoder)]
            rows.append([*map(Cell, heads), *map(rate_cell, cells)])
    head = [
        "Attack",
        "Model",
        "Stage",
        "Decoder",
        *(f"Attack success, {name}" for name in NAMES.values()),
        "Strict judge, sought suffix",
        "Declined, sought suffix",
        "Neither, sought suffix",
    ]
    return Table("Attack success with and without a suffix", head, rows, heads=4)


def _targets(found: Found) -> Table:
    """What the models think of the answers that were sought."""
    rows = [
        [
            Cell(plain(name)),
            Cell(group.name),
            Cell(STAGE_NAMES[stage]),
            *(
                Cell(
                    NONE
                    if (value := tree["target"][condition][said]) is None
                    else shape.format(value).replace("-", "−")
                )
                for said, shape in SAID.items()
                for condition in NAMES
            ),
        ]
        for (name, group, stage), tree in found.items()
    ]
    head = [
        f"{what}, {name}"
        for what in ("Log-likelihood of a token", "p(tag)")
        for name in NAMES.values()
    ]
    return Table(
        "What the model thinks of the answer that is sought",
        ["Attack", "Model", "Stage", *head],
        rows,
        heads=3,
    )
