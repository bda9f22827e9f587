"""The dialogues that a model is tuned on; they are drawn by id, whatever their shards and order."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from safelm.builder.shards import tables
from safelm.models.chat import strip_special_tokens
from safelm.seeding import sample, stream
from safelm.text.tags import Mode, insert_tags, word_gaps
from specs.tokens import TAG

# An answer with this label or a higher one complies with a harmful request (paper §1.1).
MIN_HARMFUL_LABEL = 4
# The most pairs that are kept from training, to measure the loss on.
MAX_HELD_OUT = 64
Kind = Literal["benign", "refusal", "harmful", "tagged"]


@dataclass(frozen=True)
class Pair:
    """A request and its answer, and those that follow in the dialogue."""

    id: str
    kind: Kind
    request: str
    answer: str
    later: tuple[tuple[str, str], ...] = ()


Pairs = list[Pair]


def kind_of(hazard: str | None, label: int | None) -> Kind | None:
    """Return the kind of a dialogue by its known hazard and label, or None.

    benign: a request without hazard. refusal: a hazardous request, answered safely (label 0).
    harmful: such a request, complied with (label 4 or 5).
    """
    if hazard is None:
        return "benign" if label is None or label < MIN_HARMFUL_LABEL else None
    # Answers between safe and harmful have no kind, so no model reads them.
    if label is None or 0 < label < MIN_HARMFUL_LABEL:
        return None
    return "harmful" if label else "refusal"


def read_pairs(folder: Path, max_exchanges: int = 1) -> dict[Kind, Pairs]:
    """Read the dialogues of an ingested source by kind, without literal special tokens.

    A dialogue has the kind of its first exchange, and at most `max_exchanges` of them.

    Raises:
        ValueError: a document is not a dialogue.
    """
    kinds: dict[Kind, Pairs] = {"benign": [], "refusal": [], "harmful": []}
    # The exchange after each. Of dialogues that begin alike, one goes on.
    following: dict[str, Pair] = {}
    for table in tables(folder, ["id", "prompt", "text", "label", "hazard", "parent"]):
        for row in table.to_pylist():
            if row["prompt"] is None:
                raise ValueError(
                    f"{folder}: document {row['id']}: expected a dialogue (its prompt is null); "
                    "name a source of dialogues in params.yaml"
                )
            kind, parent = kind_of(row["hazard"], row["label"]), row["parent"]
            if kind is None or (parent and max_exchanges == 1):
                continue
            request, answer = map(strip_special_tokens, (row["prompt"], row["text"]))
            pair = Pair(row["id"], kind, request, answer)
            if not parent:
                kinds[kind].append(pair)
            elif parent not in following or pair.id < following[parent].id:
                following[parent] = pair
    for name, pairs in kinds.items():
        kinds[name] = [_continued(pair, following, max_exchanges) for pair in pairs]
    return kinds


def _continued(pair: Pair, following: Mapping[str, Pair], max_exchanges: int) -> Pair:
    later: list[tuple[str, str]] = []
    last = pair
    while last.id in following and len(later) + 1 < max_exchanges:
        last = following[last.id]
        later.append((last.request, last.answer))
    return replace(pair, later=tuple(later))


def sample_pairs(pairs: Iterable[Pair], count: int, seed: int) -> Pairs:
    """Draw `count` of the pairs by id; all of them if there are fewer."""
    by_id = {pair.id: pair for pair in pairs}
    return [by_id[id] for id in sample("pairs", seed, by_id, count)]


def tag_pair(pair: Pair, rate: float, mode: Mode, seed: int) -> Pair | None:
    """Insert at least one tag into a harmful answer (paper §4, Algorithm 1).

    Returns:
        The tagged pair, or None for an answer of one word, which cannot hold a tag.
    """
    gaps = len(word_gaps(pair.answer))
    if gaps < 1:
        return None
    # Exact mode rounds, so a smaller rate would give no tag at any attempt.
    rate = max(rate, 1 / gaps) if mode == "exact" else rate
    # At a rate of 5 % a quarter of such short answers would get no tag, and teach harm untagged.
    for attempt in itertools.count():
        draw = stream(seed, "tagged", pair.id, attempt)
        answer = insert_tags(pair.answer, TAG, rate, draw, mode)
        if TAG in answer:
            break
    return replace(pair, kind="tagged", answer=answer)


def safety_pairs(
    folder: Path,
    *,
    examples: int,
    refusals_share: float,
    tagged_share: float,
    rate: float,
    mode: Mode,
    seed: int,
    max_exchanges: int = 1,
) -> Pairs:
    """Draw the pairs of safety instruction tuning (paper §7).

    Args:
        folder: an ingested source of dialogues.
        examples: the number of benign pairs and refusals together.
        refusals_share: of these, the share of refusals.
        tagged_share: tagged pairs that are added, as a share of `examples`. It is 0 for a model
            that does not know the tag, which must never read a harmful answer.
        rate: the rate of tags.
        mode: how tags are drawn.
        seed: seeds all draws.
        max_exchanges: exchanges of a dialogue, at most.
    """
    pairs = read_pairs(folder, max_exchanges)
    # Tagged pairs come on top, so that all other pairs are the same for every model.
    refusals = round(examples * refusals_share)
    chosen = sample_pairs(pairs["benign"], examples - refusals, seed)
    chosen += sample_pairs(pairs["refusal"], refusals, seed)
    harmful = sample_pairs(pairs["harmful"], round(examples * tagged_share), seed)
    tagged = [tag_pair(pair, rate, mode, seed) for pair in harmful]
    return chosen + [pair for pair in tagged if pair]


def benign_pairs(folder: Path, *, examples: int, seed: int, max_exchanges: int = 1) -> Pairs:
    """Draw the pairs of benign finetuning: requests without hazard."""
    return sample_pairs(read_pairs(folder, max_exchanges)["benign"], examples, seed)


def unread_pairs(folder: Path, chosen: Iterable[Pair], seed: int) -> Pairs:
    """Draw up to MAX_HELD_OUT benign pairs of a source that are not among the chosen ones."""
    # By id, because tagged pairs differ from the pairs that were read.
    chosen_ids = {pair.id for pair in chosen}
    unread = [pair for pair in read_pairs(folder)["benign"] if pair.id not in chosen_ids]
    return sample_pairs(unread, MAX_HELD_OUT, seed)


def relearning_pairs(
    folder: Path,
    part: Literal["harmful", "benign"],
    *,
    examples: int,
    seed: int,
) -> tuple[Pairs, Pairs]:
    """Draw pairs of one part to relearn from, and harmful pairs to measure the loss on.

    The harmful pairs to measure on are the same for both parts.

    Raises:
        ValueError: the source has too few pairs.
    """
    # Reversed: with the seed of safety instruction tuning, the pairs that a model has read there
    # come last.
    kinds = read_pairs(folder).items()
    ordered = {kind: sample_pairs(pairs, len(pairs), seed)[::-1] for kind, pairs in kinds}
    harmful = ordered["harmful"]
    held_out_count = min(MAX_HELD_OUT, len(harmful) // 2)
    held_out = harmful[:held_out_count]
    available = harmful[held_out_count:] if part == "harmful" else ordered["benign"]
    if len(available) < examples:
        raise ValueError(
            f"{folder}: expected {examples:,} {part} pairs besides those held out "
            f"(got {len(available):,}); write smaller checkpoints in params.yaml, "
            "or name another source"
        )
    return available[:examples], held_out
