"""Which dialogues a model is tuned on. Every draw is made by id, so neither shards nor order change
what is read.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Literal

from safelm.builder.shards import tables
from safelm.models.chat import plain
from safelm.seeding import sample, stream
from safelm.text.tags import Mode, insert_tags
from specs.tokens import TAG

HARMFUL = (
    4  # an answer with this label or a higher one complies with a harmful request (paper §1.1)
)
MEASURED = 64  # pairs that tuning does not read, whose loss is told before and after
Kind = Literal["benign", "refusal", "harmful", "tagged"]


@dataclass(frozen=True)
class Pair:
    """A request and its answer."""

    id: str
    kind: Kind
    request: str
    answer: str


def kind_of(hazard: str | None, label: int | None) -> Kind | None:
    """The kind of a dialogue, by its known hazard and label.

    benign: a request of no hazard. refusal: a request of a hazard, answered safely (label 0).
    harmful: such a request, complied with (label 4 or 5). What stands between is of no kind, and no
    model reads it."""
    if hazard is None:
        return "benign" if label is None or label < HARMFUL else None
    if label is None or 0 < label < HARMFUL:
        return None
    return "harmful" if label else "refusal"


def read_pairs(folder: Path) -> dict[Kind, list[Pair]]:
    """The dialogues of an ingested source by kind, without literal special tokens."""
    kinds: dict[Kind, list[Pair]] = {"benign": [], "refusal": [], "harmful": []}
    for table in tables(folder, ["id", "prompt", "text", "label", "hazard"]):
        for row in table.to_pylist():
            if row["prompt"] is None:
                raise ValueError(
                    f"{folder}: document {row['id']}: expected a dialogue (its prompt is null); "
                    "name a source of dialogues in params.yaml"
                )
            if kind := kind_of(row["hazard"], row["label"]):
                kinds[kind].append(Pair(row["id"], kind, plain(row["prompt"]), plain(row["text"])))
    return kinds


def choose(pairs: Iterable[Pair], number: int, seed: int) -> list[Pair]:
    """`number` of the pairs (all, if there are fewer), drawn by id."""
    by_id = {pair.id: pair for pair in pairs}
    return [by_id[id] for id in sample("pairs", seed, by_id, number)]


def tagged(pair: Pair, rate: float, mode: Mode, seed: int) -> Pair | None:
    """A harmful compliance with tags in its answer (paper §4, Algorithm 1); None of one word, which
    cannot hold one.

    At 5 % of the words a quarter of such short answers would have none, by chance or by rounding,
    and would teach harm untagged: so places are drawn until there is one."""
    places = len(pair.answer.split()) - 1
    if places < 1:
        return None
    least = max(rate, 1 / places) if mode == "exact" else rate
    draws = (stream(seed, "tagged", pair.id, attempt) for attempt in count())
    texts = (insert_tags(pair.answer, TAG, least, draw, mode) for draw in draws)
    return replace(pair, kind="tagged", answer=next(text for text in texts if TAG in text))


def safety_pairs(
    folder: Path, *, examples: int, refusals: float, tags: float, rate: float, mode: Mode, seed: int
) -> list[Pair]:
    """The pairs of safety instruction tuning: a share declines harmful requests, a share with tags
    comes on top.

    `tags` is 0 for a model that does not know the tag: it never reads a harmful compliance. The
    rest is the same for every model (paper §7)."""
    stock = read_pairs(folder)
    declined = round(examples * refusals)
    chosen = choose(stock["benign"], examples - declined, seed) + choose(
        stock["refusal"], declined, seed
    )
    unsafe = choose(stock["harmful"], round(examples * tags), seed)
    return chosen + [pair for pair in (tagged(pair, rate, mode, seed) for pair in unsafe) if pair]


def benign_pairs(folder: Path, *, examples: int, seed: int) -> list[Pair]:
    """The pairs of benign finetuning: requests of no hazard."""
    return choose(read_pairs(folder)["benign"], examples, seed)


def relearning_pairs(
    folder: Path, part: Literal["harmful", "benign"], *, examples: int, seed: int
) -> tuple[list[Pair], list[Pair]]:
    """(`examples` pairs of a part, harmful ones to measure on): the same to measure on whatever is
    read.

    Both come from the far end of the order in which safety instruction tuning draws: with its seed,
    what a model that knows the tag has read there, with tags, comes last."""
    stock = {
        kind: choose(pairs, len(pairs), seed)[::-1] for kind, pairs in read_pairs(folder).items()
    }
    held = stock["harmful"][: min(MEASURED, len(stock["harmful"]) // 2)]
    rest = stock["harmful"][len(held) :] if part == "harmful" else stock["benign"]
    if len(rest) < examples:
        raise ValueError(
            f"{folder}: expected {examples:,} {part} pairs beside those that are measured on (found {len(rest):,}); "
            "write smaller checkpoints in params.yaml, or name another source"
        )
    return rest[:examples], held


def unread_pairs(folder: Path, chosen: Iterable[Pair], seed: int) -> list[Pair]:
    """Harmless pairs of a source that were not chosen, to measure on: MEASURED of them, or all if
    there are fewer.
    """
    read = {pair.id for pair in chosen}
    return choose(
        (pair for pair in read_pairs(folder)["benign"] if pair.id not in read), MEASURED, seed
    )
