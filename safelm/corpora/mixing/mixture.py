"""The folder of a mixture: its plan and the token files that training reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from safelm.builder.digest import file_digest
from safelm.builder.files import link
from safelm.builder.manifest import DamagedShard, Manifest
from safelm.builder.paths import build
from safelm.builder.shards import Shard, shards
from safelm.corpora.mixing import MixtureError
from safelm.corpora.mixing.cursor import CorpusCursor
from safelm.corpora.mixing.phases import make_plan
from safelm.corpora.mixing.plan import Plan
from safelm.corpora.mixing.replacement import Replacement, replacements
from safelm.corpora.mixing.rows import (
    END_ID,
    INDEX,
    Layout,
    ReadingOrder,
    Tokens,
    cut_rows,
    hold_out,
)
from specs.corpus import Corpus
from specs.mixture import Phase
from specs.tokens import END, TAG, ids_in, token_bytes

# The documents of a replaced part, in the order of the documents that they replace.
REPLACED = "replaced.ds"


def plan_mixture(
    folder: Path,
    *,
    mixture: str,
    tokenizer: Path,
    corpora: Mapping[str, Path],
    slots: Mapping[str, str],
    rows: Mapping[str, Corpus],
    **settings: Any,
) -> list[str]:
    """Build the folder of a mixture, as the stage `mix` does.

    Args:
        folder: gets plan.json and the token files.
        mixture: a row of `mixtures`.
        tokenizer: the tokenizer's folder.
        corpora: the folder of token files of each slot.
        slots: the corpus that each slot reads.
        rows: rows of `corpora`, by name.
        settings: the phases and the block `mix` of params.yaml, for `build_mixture`.

    Returns:
        The lines that the stage prints.
    """
    for slot, corpus in slots.items():
        if not rows[corpus].allow_empty:
            _refuse_empty(f"corpora.{corpus}", corpora[slot])
    vocabulary, tag = vocabulary_and_tag(tokenizer)
    plan = build_mixture(
        mixture,
        corpora=corpora,
        max_epochs={slot: rows[corpus].epochs for slot, corpus in slots.items()},
        replacements=replacements(build(), slots, rows),
        vocabulary=vocabulary,
        tag=tag,
        folder=folder,
        **settings,
    )
    summary = (
        f"mix/{mixture:<14} {plan.steps:,} steps of {plan.batch} rows, "
        f"{plan.tokens:,} of {plan.budget:,} tokens"
    )
    return [summary, *plan.table()]


def _refuse_empty(at: str, folder: Path) -> None:
    """Refuse a tokenized corpus without a document: a mixture would silently read nothing of it."""
    ledger = Manifest.read(folder).ledger
    if not ledger.rows_out:
        raise MixtureError(
            f"{at}: expected documents for a part of the mixture, but it selects none "
            f"({ledger.summary()}); change what it selects, leave the part out, or write "
            "allow_empty: true to go on without it"
        )


def vocabulary_and_tag(tokenizer: Path) -> tuple[int, int]:
    """Return the number of ids of the tokenizer in a folder, and the id of the tag."""
    ids = ids_in(tokenizer / "tokenizer.json")
    return 1 + max(ids.values()), ids[TAG]


def build_mixture(
    mixture: str,
    phases: Sequence[Phase],
    corpora: Mapping[str, Path],
    max_epochs: Mapping[str, float],
    replacements: Mapping[str, Replacement],
    *,
    tokens: int,
    sequence_length: int,
    layout: Layout,
    batch_size: int,
    seed: int,
    held_out_rows: int,
    vocabulary: int,
    tag: int,
    folder: Path,
) -> Plan:
    """Plan a mixture of tokenized corpora and write the plan and its token files to `folder`.

    Training relies on the files, so every digest, document end and token is checked here.

    Args:
        mixture: a row of `mixtures`.
        phases: its phases, in order.
        corpora: the folder of token files of each slot, by the names that phases use.
        max_epochs: how often each slot may be read.
        replacements: the replacement of each replaced slot.
        tokens: the budget of the whole mixture.
        sequence_length: the most tokens of a row.
        layout: "document" or "packed", see `cut_rows`.
        batch_size: rows in a step.
        seed: seeds the reading order and the choice of held-out rows.
        held_out_rows: rows of each corpus that training never reads.
        vocabulary: the ids of the tokenizer.
        tag: the id of the harmfulness tag.
        folder: gets plan.json and tokens/<slot>/.

    Raises:
        MixtureError: the corpora cannot provide what the mixture asks for.
        DamagedShard: a token file is missing, changed or invalid.
    """
    cursors = {}
    facts = {}
    for slot, source in corpora.items():
        target = folder / "tokens" / slot
        left_out = 0
        if slot in replacements:
            files = _write_replacement(source, target, replacements[slot], vocabulary)
            left_out = replacements[slot].left_out
        else:
            files = _link_token_files(source, target)
        # What is checked is what training will read, not the source.
        opened = _open_checked(target, files, vocabulary)
        rows = cut_rows(opened.ends, sequence_length, layout)
        read, held_out = hold_out(rows, held_out_rows, seed, slot)
        order = ReadingOrder(seed, slot, len(read))
        cursors[slot] = CorpusCursor(read, order, len(opened))
        facts[slot] = {
            "documents": len(opened.ends),
            "left_out": left_out,
            "tags": sum(int(np.count_nonzero(array == tag)) for array in opened.arrays),
            "held_out": len(held_out),
            "files": files,
        }
    plan = make_plan(
        mixture,
        phases,
        cursors,
        max_epochs,
        facts,
        budget=tokens,
        sequence=sequence_length,
        batch=batch_size,
        layout=layout,
        seed=seed,
        held_out=held_out_rows,
        vocabulary=vocabulary,
    )
    plan.write(folder)
    return plan


def _link_token_files(source: Path, target: Path) -> dict[str, str]:
    """Link the token files of a tokenized corpus; return their digests by name."""
    target.mkdir(parents=True, exist_ok=True)
    digests = {}
    for shard in _token_shards(source):
        # Linked, so that training needs nothing outside of the mixture's folder.
        link(shard.path.resolve(), target / shard.path.name)
        digests[shard.path.name] = shard.sha256
    return dict(sorted(digests.items()))


def _write_replacement(
    source: Path,
    target: Path,
    replacement: Replacement,
    vocabulary: int,
) -> dict[str, str]:
    """Write the replacing documents in the order of the replaced ones; return digests by name."""
    target.mkdir(parents=True, exist_ok=True)
    paths = [shard.path for shard in _token_shards(source) if shard.path.suffix == ".ds"]
    tokens = Tokens(sorted(paths), token_bytes(vocabulary))
    replacement.write(tokens, target / REPLACED)
    written = (REPLACED, f"{REPLACED}{INDEX}")
    return {name: file_digest(target / name) for name in written}


def _token_shards(source: Path) -> list[Shard]:
    """Return the token files and document indices of a tokenized corpus, with checked digests."""
    files = [*shards(source, ".ds"), *shards(source, f".ds{INDEX}")]
    # DVC does not notice changed bytes in its cache.
    for shard in files:
        shard.check()
    return files


def _open_checked(folder: Path, files: Mapping[str, str], vocabulary: int) -> Tokens:
    """Open the tokens of a corpus and check them.

    Every document must end with END, and every token must be in the vocabulary.
    """
    paths = [folder / name for name in files if name.endswith(".ds")]
    tokens = Tokens(paths, token_bytes(vocabulary))
    # A torn index would cut documents short, or let one run into the next.
    end = int(tokens.ends[-1]) if len(tokens.ends) else 0
    if end != len(tokens):
        raise DamagedShard(
            f"{folder}: expected the document index to end with the {len(tokens):,} tokens "
            f"(got {end:,}); tokenize again"
        )
    # `offsets` has one entry more, the end of the last file.
    for path, array, offset in zip(tokens.files, tokens.arrays, tokens.offsets, strict=False):
        # The documents of this file; none crosses files.
        ends = tokens.ends - offset
        is_here = (ends > 0) & (ends <= len(array))
        last_tokens = array[ends[is_here] - 1]
        if np.any(last_tokens != END_ID):
            raise DamagedShard(
                f"{path}: expected every document to end with {END} ({END_ID}); tokenize again"
            )
        largest = int(array.max(initial=0))
        if largest >= vocabulary:
            raise DamagedShard(
                f"{path}: has token {largest}, but the tokenizer has {vocabulary} tokens; "
                "tokenize again"
            )
    return tokens
