"""Build the folder of a mixture: its plan, and the token files it reads, so that training needs
nothing else.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from safelm.builder.digest import file_digest
from safelm.builder.files import link
from safelm.builder.manifest import DamagedShard
from safelm.builder.paths import build
from safelm.builder.shards import Shard, shards
from safelm.corpora.mixing.budget import CorpusCursor, plan_phases, refuse_overreading
from safelm.corpora.mixing.plan import Plan, PlannedCorpus, PlannedPhase
from safelm.corpora.mixing.replacement import Replacement, replacements
from safelm.corpora.mixing.rows import END_ID, INDEX, Layout, Order, Tokens, cut, hold_out, width_of
from specs.corpus import Corpus
from specs.mixture import Phase
from specs.tokens import END, TAG, ids_in

REPLACED = "replaced.ds"  # of a part that is replaced: its documents, in the order of those they stand in for


def ids_of(tokenizer: Path) -> tuple[int, int]:
    """How many ids the tokenizer of a folder has, its special tokens included, and which of them is
    the tag.
    """
    ids = ids_in(tokenizer / "tokenizer.json")
    return 1 + max(ids.values()), ids[TAG]


def plan_mixture(
    folder: Path,
    *,
    mixture: str,
    tokenizer: Path,
    corpora: Mapping[str, Path],
    slots: Mapping[str, str],
    rows: Mapping[str, Corpus],
    **dials: Any,
) -> list[str]:
    """Plan a mixture of rows of `corpora` for the tokenizer of a folder, as `mix` does; what the
    stage prints.
    """
    vocabulary, tag = ids_of(tokenizer)
    epochs = {slot: rows[corpus].epochs for slot, corpus in slots.items()}
    plan = mix(
        mixture,
        corpora=corpora,
        epochs=epochs,
        replacements=replacements(build(), slots, rows),
        vocabulary=vocabulary,
        tag=tag,
        folder=folder,
        **dials,
    )
    head = f"mix/{mixture:<14} {plan.steps:,} steps of {plan.batch} rows, {plan.tokens:,} of {plan.budget:,} tokens"
    return [head, *plan.table()]


def mix(
    mixture: str,
    phases: Sequence[Phase],
    corpora: Mapping[str, Path],
    epochs: Mapping[str, float],
    replacements: Mapping[str, Replacement],
    *,
    tokens: int,
    sequence: int,
    layout: Layout,
    batch: int,
    seed: int,
    held_out: int,
    vocabulary: int,
    tag: int,
    folder: Path,
) -> Plan:
    """Plan a mixture of the tokenized corpora in these folders, and put plan and token files into
    `folder`.

    Corpora, epochs and replacements go by slot, which is what the phases call their parts. Every
    digest, end of document and token is checked here, for training trusts them. Raises MixtureError
    where the corpora cannot give what the mixture asks for."""
    places = {name: folder / "tokens" / name for name in corpora}
    files = {
        name: _replace(source, places[name], replacements[name], width_of(vocabulary))
        if name in replacements
        else _take(source, places[name])
        for name, source in corpora.items()
    }
    stocks = {name: _open(place, files[name], vocabulary) for name, place in places.items()}
    rows = {
        name: hold_out(cut(stock.ends, sequence, layout), held_out, seed, name)
        for name, stock in stocks.items()
    }
    readers = {
        name: CorpusCursor(read, Order(seed, name, len(read)), len(stocks[name]))
        for name, (read, _) in rows.items()
    }
    at = f"mixtures.{mixture}"
    planned = plan_phases(phases, readers, tokens, batch, at)
    refuse_overreading(readers, epochs, tokens, batch * sequence, at)
    plan = Plan(
        mixture=mixture,
        layout=layout,
        sequence=sequence,
        batch=batch,
        seed=seed,
        held_out=held_out,
        vocabulary=vocabulary,
        width=width_of(vocabulary),
        budget=tokens,
        tokens=sum(phase.tokens for phase in planned),
        steps=sum(phase.steps for phase in planned),
        phases=tuple(planned),
        corpora={
            name: _corpus(
                name,
                readers[name],
                len(rows[name][1]),
                stocks[name],
                files[name],
                planned,
                tag,
                replacements[name].left_out if name in replacements else 0,
            )
            for name in corpora
        },
    )
    plan.write(folder)
    return plan


def _take(source: Path, target: Path) -> dict[str, str]:
    """Link the token files of a tokenized corpus; names and digests."""
    target.mkdir(parents=True, exist_ok=True)
    files = _checked(source)
    for shard in files:
        link(shard.path.resolve(), target / shard.path.name)
    return {
        shard.path.name: shard.sha256 for shard in sorted(files, key=lambda shard: shard.path.name)
    }


def _replace(source: Path, target: Path, replacement: Replacement, width: int) -> dict[str, str]:
    """Write the documents that stand in for others, in the order of those; names and digests."""
    target.mkdir(parents=True, exist_ok=True)
    paths = sorted(shard.path for shard in _checked(source) if shard.path.suffix == ".ds")
    replacement.write(Tokens(paths, width), target / REPLACED)
    return {name: file_digest(target / name) for name in (REPLACED, f"{REPLACED}{INDEX}")}


def _checked(source: Path) -> list[Shard]:
    """The token files and document indices of a tokenized corpus, each with the digest of its
    manifest.
    """
    files = [shard for suffix in (".ds", f".ds{INDEX}") for shard in shards(source, suffix)]
    for shard in files:
        shard.check()
    return files


def _open(folder: Path, files: Mapping[str, str], vocabulary: int) -> Tokens:
    """The tokens of a corpus, each document with its END and no token outside of the vocabulary."""
    stock = Tokens([folder / name for name in files if name.endswith(".ds")], width_of(vocabulary))
    if int(stock.ends[-1] if len(stock.ends) else 0) != len(stock):
        raise DamagedShard(
            f"{folder}: the document index ends elsewhere than the {len(stock):,} tokens; tokenize again"
        )
    for path, array, offset in zip(stock.files, stock.arrays, stock.offsets, strict=False):
        ends = stock.ends[(stock.ends > offset) & (stock.ends <= offset + len(array))] - offset
        if np.any(array[ends - 1] != END_ID):
            raise DamagedShard(
                f"{path}: expected every document to end with {END} ({END_ID}); tokenize again"
            )
        if len(array) and (most := int(array.max())) >= vocabulary:
            raise DamagedShard(
                f"{path}: has token {most}, but the tokenizer has {vocabulary} tokens; tokenize again"
            )
    return stock


def _corpus(
    name: str,
    reader: CorpusCursor,
    held_out: int,
    stock: Tokens,
    files: dict[str, str],
    phases: Sequence[PlannedPhase],
    tag: int,
    left_out: int,
) -> PlannedCorpus:
    parts = [part for phase in phases for part in phase.parts if part.corpus == name]
    return PlannedCorpus(
        documents=len(stock.ends),
        left_out=left_out,
        tokens=reader.size,
        tags=sum(int(np.count_nonzero(array == tag)) for array in stock.arrays),
        rows=len(reader.rows),
        held_out=held_out,
        read_rows=reader.place,
        read_tokens=sum(part.tokens for part in parts),
        epochs=round(reader.place / len(reader.rows), 6) if len(reader.rows) else 0.0,
        files=files,
    )
