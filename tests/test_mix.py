"""Tests of mix: rows, budgets and plans, and training that reads exactly what is planned."""

import hashlib
import math
import sys
from collections import Counter
from itertools import accumulate, chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from pipeline import mix as stage
from safelm.builder.manifest import DamagedShard, Ledger, Manifest, ManifestEntry
from safelm.corpora.mixing import MixtureError
from safelm.corpora.mixing.budget import largest_remainder, part_shares
from safelm.corpora.mixing.mixture import build_mixture, plan_mixture, vocabulary_and_tag
from safelm.corpora.mixing.plan import PLAN, Plan, PlannedPart
from safelm.corpora.mixing.replacement import Replacement, match_parents, replacements
from safelm.corpora.mixing.rows import ReadingOrder, Tokens, cut_rows
from safelm.pretraining.batches import Batches
from safelm.pretraining.publish import check_read_counts
from specs.corpus import ScoredCorpus, WholeCorpus
from specs.mixture import Phase
from specs.yaml_source import SpecError
from tests.ingested import ingested, rows_of
from tests.scored import scored
from tests.token_files import write_corpus, write_tokenizer


def phase(share: int = 1, proportions: str = "natural", **parts: Any) -> Phase:
    return Phase.model_validate({"share": share, "proportions": proportions, "parts": parts})


def plan(folder: Path, lengths: dict[str, list[int]], phases: list[Phase], **options: Any) -> Plan:
    """Plan a mixture of corpora with documents of these lengths, END included.

    All other tokens are different.
    """
    first = 1
    for name, sizes in lengths.items():
        documents = []
        for size in sizes:
            documents.append(range(first, first + size - 1))
            first += size - 1
        write_corpus(folder / "tokenize" / name, documents)
    settings = {
        "tokens": 200,
        "sequence_length": 8,
        "layout": "document",
        "batch_size": 2,
        "seed": 1,
        "held_out_rows": 0,
        "vocabulary": 1 << 16,
        "tag": 3,
    }
    slots = {name: corpus for item in phases for name, corpus in item.slots.items()}
    epochs = options.pop("epochs", dict.fromkeys(slots, 1000.0))
    replaced = options.pop("replaced", {})
    (folder / "mix").mkdir()
    corpora = {name: folder / "tokenize" / corpus for name, corpus in slots.items()}
    return build_mixture(
        "m", phases, corpora, epochs, replaced, **(settings | options), folder=folder / "mix"
    )


def small(folder: Path, corpus: str) -> Plan:
    """Plan one step over the corpus in `folder`."""
    (folder / "mix").mkdir()
    return build_mixture(
        "m",
        [phase(**{corpus: 1})],
        {corpus: folder / corpus},
        {corpus: 9.0},
        {},
        tokens=24,
        sequence_length=8,
        batch_size=4,
        layout="document",
        seed=1,
        held_out_rows=0,
        vocabulary=8,
        tag=3,
        folder=folder / "mix",
    )


# Rows


def test_a_row_is_a_document_or_a_piece_of_a_long_one() -> None:
    rows = cut_rows(np.array([3, 13, 13, 14]), 4, "document")
    assert list(zip(rows.starts, rows.lengths, strict=True)) == [
        (0, 3),
        (3, 4),
        (7, 4),
        (11, 2),
        (13, 1),
    ]


def test_packed_rows_are_full_and_leave_the_last_tokens() -> None:
    rows = cut_rows(np.array([3, 13, 15]), 4, "packed")
    assert list(zip(rows.starts, rows.lengths, strict=True)) == [(0, 4), (4, 4), (8, 4)]


def test_an_empty_corpus_has_no_rows() -> None:
    assert [
        len(cut_rows(np.zeros(0, np.int64), 4, layout)) for layout in ("document", "packed")
    ] == [
        0,
        0,
    ]


def test_tokens_are_read_across_files(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "c", [[1, 2, 3], [4], [5, 6]], shards=3)
    tokens = Tokens(sorted(folder.glob("*.ds")), 2)
    assert list(tokens.span(2, 7)) == [3, 0, 4, 0, 5]
    assert list(tokens.ends) == [4, 6, 9]


def test_every_epoch_reads_every_row_once_in_another_order() -> None:
    order = ReadingOrder(1, "web", 20)
    read = order.rows(np.arange(60)).reshape(3, 20)
    assert [sorted(epoch) for epoch in read] == [list(range(20))] * 3
    assert len({tuple(epoch) for epoch in read}) == 3
    assert (
        list(order.epoch(0))
        != list(ReadingOrder(2, "web", 20).epoch(0))
        != list(ReadingOrder(1, "math", 20).epoch(0))
    )


# Budgets


@given(
    st.dictionaries(st.text("abc", min_size=1), st.floats(0.01, 1e6), min_size=1),
    st.integers(0, 10_000),
)
def test_the_largest_remainder_adds_up(quotas: dict[str, float], total: int) -> None:
    whole = largest_remainder(quotas, total)
    assert sum(whole.values()) == total
    assert all(
        abs(whole[name] - total * quotas[name] / sum(quotas.values())) < 1.001 for name in quotas
    )


def test_natural_parts_weigh_their_tokens_and_fixed_parts_do_not() -> None:
    sizes = {"web": 900, "refusals": 50}
    assert part_shares(phase(web=1, refusals=6), sizes, "")["refusals"] == 0.25
    assert part_shares(phase(proportions="fixed", web=3, refusals=1), sizes, "")["refusals"] == 0.25


def test_each_phase_has_its_share_of_the_tokens(tmp_path: Path) -> None:
    made = plan(
        tmp_path,
        {"web": [6] * 90, "math": [3] * 20},
        [phase(1, web=1), phase(4, web=1, math=2)],
        tokens=300,
    )
    assert [item.tokens for item in made.phases] == pytest.approx([60, 240], abs=6)
    assert [part.tokens for part in made.phases[1].parts] == pytest.approx(
        [240 * 540 / 660, 240 * 120 / 660], abs=9
    )


def test_an_empty_corpus_gives_nothing_and_is_listed(tmp_path: Path) -> None:
    made = plan(tmp_path, {"web": [6] * 50, "worst": []}, [phase(web=1, worst=1)])
    assert [(part.corpus, part.rows) for part in made.phases[0].parts] == [
        ("web", made.steps * 2),
        ("worst", 0),
    ]
    assert made.corpora["worst"].documents == 0


def test_a_part_without_a_document_stops_the_mixture_unless_its_row_allows_it(
    tmp_path: Path,
) -> None:
    ledger = Ledger(rows_in=7, dropped={"not_selected": 7})
    Manifest("tokenize/worst", (("00000", ManifestEntry("key", (), ledger)),)).write(tmp_path)
    row = {"from": "clean/web", "scores": [5], "epochs": 1.0}

    def mix(**keys: bool) -> None:
        rows = {"worst": ScoredCorpus(**row, **keys)}
        folders = {"worst": tmp_path}
        slots = {"worst": "worst"}
        plan_mixture(
            tmp_path, mixture="m", tokenizer=tmp_path, corpora=folders, slots=slots, rows=rows
        )

    refused = (
        r"corpora.worst: expected documents .* \(7 in = 0 out \+ 7 dropped \(not_selected 7\)\)"
    )
    with pytest.raises(MixtureError, match=refused):
        mix()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        mix(allow_empty=True)


def test_a_small_corpus_of_natural_proportions_is_read_once_at_least(tmp_path: Path) -> None:
    made = plan(tmp_path, {"web": [6] * 5000, "worst": [6]}, [phase(web=1, worst=1)], tokens=600)
    assert [part.rows for part in made.phases[0].parts] == [made.phases[0].rows - 1, 1]


REFUSED = {
    "phases.0.parts.worst: expected documents for a weight of 1 (the corpus is empty)": (
        {"web": [6] * 50, "worst": []},
        [phase(proportions="fixed", web=1, worst=1)],
        {},
    ),
    "phases.1: expected documents to read, but worst have none": (
        {"web": [6] * 50, "worst": []},
        [phase(web=1), phase(worst=1)],
        {},
    ),
    "phases.0.parts.math: rounds to no row: its share is 0.4 of": (
        {"web": [6] * 50, "math": [6] * 50},
        [phase(proportions="fixed", web=499, math=1)],
        {},
    ),
    "phases.0.parts.math: rounds to no row: its 6 tokens do not fill one": (
        {"web": [6] * 50, "math": [6]},
        [phase(proportions="fixed", web=1, math=1)],
        {"layout": "packed"},
    ),
    "phases.0: rounds to no batch: its 2 tokens are 0.3 of 2 rows": (
        {"web": [6] * 50},
        [phase(1, web=1), phase(99, web=1)],
        {},
    ),
    "reads corpus web 3.40 times (34 rows of 10; at most 2 allowed)": (
        {"web": [6] * 10},
        [phase(web=1)],
        {"epochs": {"web": 2.0}},
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_mixture_that_its_corpora_cannot_provide_is_refused(message: str, tmp_path: Path) -> None:
    lengths, phases, options = REFUSED[message]
    with pytest.raises(MixtureError) as error:
        plan(tmp_path, lengths, phases, **options)
    assert f"mixtures.m{'.' if message.startswith('phases') else ': '}{message}" in str(error.value)


def test_the_budget_that_is_advised_fits(tmp_path: Path) -> None:
    with pytest.raises(MixtureError, match=r"write tokens: ") as error:
        plan(tmp_path / "a", {"web": [6] * 40}, [phase(web=1)], tokens=900, epochs={"web": 1.5})
    advised = int(str(error.value).partition("write tokens: ")[2].partition(" ")[0])
    planned = plan(
        tmp_path / "b", {"web": [6] * 40}, [phase(web=1)], tokens=advised, epochs={"web": 1.5}
    )
    assert 1.3 < planned.corpora["web"].epochs <= 1.5


def test_all_corpora_that_are_read_too_often_are_named_at_once(tmp_path: Path) -> None:
    lengths, epochs = (
        {"web": [6] * 9, "math": [6] * 9, "code": [6] * 9},
        {"web": 2.0, "math": 1.0, "code": 9.0},
    )
    parts = {"web": 1, "math": 1, "code": 1}
    with pytest.raises(
        MixtureError,
        match=r"corpus web .* at most 2 allowed\), corpus math .* at most 1 allowed\); ",
    ) as error:
        plan(tmp_path / "a", lengths, [phase(**parts)], tokens=500, epochs=epochs)
    found = str(error.value)
    assert "corpora.math.epochs: 3.12 and corpora.web.epochs: 3.12 or " in found
    advised = int(found.partition("write tokens: ")[2].partition(" ")[0])
    assert (
        plan(tmp_path / "b", lengths, [phase(**parts)], tokens=advised, epochs=epochs)
        .corpora["math"]
        .epochs
        <= 1
    )


# Training reads what is planned

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=40)
MIXTURES = st.fixed_dictionaries(
    {
        "lengths": st.fixed_dictionaries({"a": LENGTHS, "b": LENGTHS, "c": LENGTHS | st.just([])}),
        "phases": st.lists(
            st.builds(
                phase,
                share=st.integers(1, 4),
                proportions=st.sampled_from(["natural", "fixed"]),
                a=st.floats(0.5, 3),
                b=st.integers(1, 3),
            )
            | st.builds(phase, share=st.integers(1, 2), b=st.just(1), c=st.floats(0.3, 6)),
            min_size=1,
            max_size=3,
        ),
        "tokens": st.integers(150, 600),
        "sequence_length": st.integers(3, 12),
        "batch_size": st.sampled_from([1, 4, 8]),
        "layout": st.sampled_from(["document", "packed"]),
        "held_out_rows": st.sampled_from([0, 0, 3]),
        "seed": st.integers(0, 99),
    }
)


Row = tuple[int, ...]


def rows_read(batches: Batches) -> tuple[list[list[Row]], str]:
    """Return the rows of each step, and a digest of every byte of its batches."""
    steps, digest = [], hashlib.sha256()
    for batch in batches:
        for name in sorted(batch):
            digest.update(
                f"{name} {batch[name].dtype} {tuple(batch[name].shape)}".encode()
                + batch[name].numpy().data
            )
        lengths, labels = batch["input_mask"].sum(1).tolist(), batch["label_ids"].flatten().tolist()
        ends = list(accumulate(lengths))
        steps.append(
            [tuple(labels[end - length : end]) for length, end in zip(lengths, ends, strict=True)]
        )
    return steps, digest.hexdigest()


def rows_planned(made: Plan, folder: Path, part: PlannedPart) -> list[Row]:
    """Return the rows that a part of a phase should read, from the token files."""
    tokens, rows, order = made.open_corpus(folder, part.corpus)
    numbers = order.rows(np.arange(part.first, part.first + part.rows))
    return [
        tuple(tokens.span(rows.starts[row], rows.starts[row] + rows.lengths[row]).tolist())
        for row in numbers
    ]


def assert_reading_is_gapless(made: Plan, folder: Path) -> None:
    """Phases read a corpus without a gap; each epoch has every row once, in an order of its own."""
    positions = dict.fromkeys(made.corpora, 0)
    for part in (part for item in made.phases for part in item.parts if part.rows):
        assert part.first == positions[part.corpus]
        positions[part.corpus] += part.rows
    for name, corpus in made.corpora.items():
        assert positions[name] == corpus.read_rows
        order = made.open_corpus(folder, name)[2]
        orders = [order.epoch(number).tolist() for number in range(math.ceil(corpus.epochs))]
        assert [sorted(order) for order in orders] == [list(range(corpus.rows))] * len(orders)
        assert corpus.rows < 10 or len(set(map(tuple, orders))) == len(orders)


def assert_held_out_rows_are_not_read(made: Plan, folder: Path, read: set[Row]) -> None:
    """No held-out row is read, but for duplicates: an empty document is END alone."""
    for name, corpus in made.corpora.items():
        tokens, rows = made.open_held_out(folder, name)
        assert (
            len(rows)
            == corpus.held_out
            == min(made.held_out, (corpus.rows + corpus.held_out) // 10)
        )
        spans = zip(rows.starts, rows.starts + rows.lengths, strict=True)
        assert {tuple(tokens.span(*span).tolist()) for span in spans} & read <= {(0,)}


@settings(max_examples=200, deadline=None)
@given(MIXTURES)
def test_training_reads_every_phase_and_part_as_planned(mixture: dict[str, Any]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name) / "mix"
        try:
            made = plan(Path(name), **mixture)
        except MixtureError:
            reject()
        written = (folder / PLAN).read_bytes()
        batches = Batches(made, folder, seed=3, micro_batch=made.batch)
        steps, digest = rows_read(batches)
        assert rows_read(Batches(Plan.read(folder), folder, seed=3, micro_batch=made.batch)) == (
            steps,
            digest,
        )
        check_read_counts(made, batches.read_counts.tolist())
        assert (folder / PLAN).read_bytes() == written
        assert len(steps) == made.steps and {len(step) for step in steps} == {made.batch}
        for item in made.phases:
            read, steps = Counter(chain(*steps[: item.steps])), steps[item.steps :]
            assert read == Counter(
                chain(*(rows_planned(made, folder, part) for part in item.parts))
            )
            assert sum(len(row) * count for row, count in read.items()) == item.tokens
            assert_held_out_rows_are_not_read(made, folder, set(read))
        assert abs(made.tokens - mixture["tokens"]) <= made.batch * made.sequence / 2
        assert_reading_is_gapless(made, folder)


# Budget shares, replacements, twins

STOCK = {"web": [7, 5, 8] * 40, "refusals": [4, 6] * 20}


@pytest.mark.parametrize("layout", ["document", "packed"])
def test_schedules_with_equal_budget_shares_read_the_same_rows(layout: str, tmp_path: Path) -> None:
    parts, read = {"web": 1.0, "refusals": {"budget_share": 0.2}}, []
    for start in (0, 20, 60):
        begun = [phase(start, web=1.0)] if start else []
        made = plan(
            tmp_path / str(start),
            STOCK,
            [*begun, phase(100 - start, **parts)],
            tokens=600,
            layout=layout,
        )
        folder = tmp_path / str(start) / "mix"
        (part,) = [part for item in made.phases for part in item.parts if part.corpus == "refusals"]
        assert (
            abs(part.tokens - 120) <= 4 and sum(item.tokens for item in made.phases) == made.tokens
        )
        assert abs(made.tokens - 600) <= made.batch * made.sequence / 2
        batches = Batches(made, folder, 3, micro_batch=2)
        rows = [row for step in rows_read(batches)[0] for row in step]
        check_read_counts(made, batches.read_counts.tolist())
        own = set(rows_planned(made, folder, part))
        read.append(sorted(row for row in rows if row in own))
    assert read[0] == read[1] == read[2] and len(read[0]) >= 15


def test_without_a_budget_share_a_later_start_reads_less(tmp_path: Path) -> None:
    tokens = []
    for start in (20, 60):
        phases = [phase(start, web=1.0), phase(100 - start, web=1.0, refusals=1.0)]
        tokens.append(
            plan(tmp_path / str(start), STOCK, phases, tokens=600).corpora["refusals"].read_tokens
        )
    assert tokens[0] == pytest.approx(2 * tokens[1], rel=0.1)


def test_a_budget_share_may_cross_the_end_of_an_epoch(tmp_path: Path) -> None:
    made = plan(tmp_path, STOCK, [phase(web=1.0, refusals={"budget_share": 0.5})], tokens=600)
    assert made.corpora["refusals"].read_tokens == pytest.approx(300, abs=4)
    assert made.corpora["refusals"].epochs == pytest.approx(1.5, abs=0.05)


def test_a_budget_share_of_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        MixtureError,
        match=r"phases\.0\.parts\.worst: rounds to no row: its budget share is 60.0 tokens",
    ):
        plan(
            tmp_path,
            {"web": [6] * 90, "worst": []},
            [phase(web=1.0, worst={"budget_share": 0.1})],
            tokens=600,
        )


def test_replacements_have_the_order_of_the_originals() -> None:
    replacement = match_parents(["a", "b", "c", "d"], ["c", "x", "a", None, "d"])
    assert replacement.documents.tolist() == [2, 0, 4] and replacement.left_out == 1


def twins(folder: Path, **options: Any) -> list[tuple[Plan, Path, list[Row]]]:
    """Plan a mixture of unsafe documents, and a twin of their rephrasings; read their rows."""
    lengths = {"web": [7] * 60, "unsafe": [6] * 30, "rephrased": [6] * 30}
    # The last rephrasing is of the first document.
    backwards = Replacement(np.arange(30)[::-1].copy(), 0)
    mixtures = []
    for name, unsafe, replaced in (
        ("raw", 1.0, {}),
        ("twin", {"weight": 1.0, "replaced_by": "rephrased"}, {"unsafe-rephrased": backwards}),
    ):
        made = plan(
            folder / name,
            lengths,
            [phase(web=1.0, unsafe=unsafe)],
            tokens=1200,
            replaced=replaced,
            **options,
        )
        steps, _ = rows_read(Batches(made, folder / name / "mix", 3, micro_batch=2))
        mixtures.append((made, folder / name / "mix", list(chain(*steps))))
    return mixtures


def numbered(made: Plan, folder: Path, corpus: str) -> dict[Row, int]:
    """Number the rows of a corpus in its own order."""
    tokens, rows, _ = made.open_corpus(folder, corpus)
    ends = rows.starts + rows.lengths
    return {
        tuple(tokens.span(*span).tolist()): number
        for number, span in enumerate(zip(rows.starts, ends, strict=True))
    }


def test_a_twin_reads_all_other_rows_at_the_same_positions(tmp_path: Path) -> None:
    (_, _, raw), (_, _, twin) = twins(tmp_path)
    same = [old == new for old, new in zip(raw, twin, strict=True)]
    assert same == [len(row) == 7 for row in raw] and 50 < same.count(False) < 100


def test_a_twin_reads_each_rephrasing_at_the_position_of_its_original(tmp_path: Path) -> None:
    (made, folder, raw), (twin_made, twin_folder, twin) = twins(tmp_path)
    originals, rephrasings = (
        numbered(made, folder, "unsafe"),
        numbered(twin_made, twin_folder, "unsafe-rephrased"),
    )
    pairs = [
        (originals[old], rephrasings[new])
        for old, new in zip(raw, twin, strict=True)
        if len(old) == 6
    ]
    assert len(set(pairs)) == 30 and all(old == new for old, new in pairs)
    assert replaced(twin_made, twin_folder) == [
        documents(tmp_path)[number] for number in reversed(range(30))
    ]


def documents(folder: Path) -> list[Row]:
    """Return the rephrasings as they were tokenized."""
    tokens = Tokens(sorted((folder / "twin/tokenize/rephrased").glob("*.ds")), 2)
    return [tuple(tokens.span(end - 6, end).tolist()) for end in tokens.ends]


def replaced(made: Plan, folder: Path) -> list[Row]:
    """Return the rephrasings as the twin has them."""
    tokens = made.open_corpus(folder, "unsafe-rephrased")[0]
    return [tuple(tokens.span(end - 6, end).tolist()) for end in tokens.ends]


def test_packed_rephrasings_follow_the_order_of_the_originals(tmp_path: Path) -> None:
    _, (made, folder, read) = twins(tmp_path, layout="packed")
    assert replaced(made, folder) == [documents(tmp_path)[number] for number in reversed(range(30))]
    tokens, rows, _ = made.open_corpus(folder, "unsafe-rephrased")
    packed = [tuple(tokens.span(start, start + 8).tolist()) for start in rows.starts]
    assert (
        len(packed) == 30 * 6 // 8
        and set(packed) <= set(read)
        and {len(row) for row in read} == {8}
    )


def test_replacements_are_matched_by_parent_and_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pages = [{"text": f"Page {number}.", "label": number % 2} for number in range(9)]
    ingested("clean/web", pages, 4)
    scored()
    ids = [row["id"] for row in rows_of(Path("build/clean/web"))]
    written = [
        {"text": f"Instead of {number}.", "parent": ids[number]} for number in (7, 1, 4, 5)
    ]  # none of page 3
    ingested("rephrase/safe_web", written, 3)
    corpora = {
        "score_1": ScoredCorpus.model_validate({"from": "clean/web", "scores": [1], "epochs": 1.0}),
        "rephrased": WholeCorpus.model_validate({"from": "rephrase/safe_web", "epochs": 1.0}),
    }
    slots = {"score_1-rephrased": "rephrased", "score_1": "score_1"}
    matched = replacements(Path("build"), slots, corpora)
    assert list(matched) == ["score_1-rephrased"] and matched["score_1-rephrased"].left_out == 1
    assert [written[number]["text"] for number in matched["score_1-rephrased"].documents] == [
        "Instead of 1.",
        "Instead of 5.",
        "Instead of 7.",
    ]


def test_a_growing_corpus_leaves_the_order_of_the_others(tmp_path: Path) -> None:
    read = []
    for size in (10, 25):
        made = plan(
            tmp_path / str(size),
            {"web": [7] * 60, "more": [6] * size},
            [phase(web=1.0, more=1.0)],
            tokens=420 + 6 * size,
        )
        rows = chain(*rows_read(Batches(made, tmp_path / str(size) / "mix", 3, micro_batch=2))[0])
        read.append([row for row in rows if len(row) == 7])
    short, long = sorted(read, key=len)
    assert len(short) > 50 and [row for row in long if row in set(short)] == short


def test_two_mixtures_of_one_budget_are_matched_in_tokens(tmp_path: Path) -> None:
    lengths = {"web": list(range(2, 60)) * 3, "refusals": [5, 9, 2] * 9}
    one = plan(
        tmp_path / "one", lengths, [phase(web=1)], tokens=3000, sequence_length=32, batch_size=4
    )
    two = plan(
        tmp_path / "two",
        lengths,
        [phase(1, web=1), phase(4, web=1, refusals=6)],
        tokens=3000,
        sequence_length=32,
        batch_size=4,
    )
    assert abs(one.tokens - two.tokens) <= 4 * 32


def test_the_model_seed_decides_the_order_of_rows(tmp_path: Path) -> None:
    made = plan(tmp_path, {"web": [6] * 90}, [phase(1, web=1), phase(2, web=1)])

    def read(seed: int) -> list[list[int]]:
        return [
            batch["label_ids"].flatten().tolist()
            for batch in Batches(made, tmp_path / "mix", seed, micro_batch=2)
        ]

    first = made.phases[0].steps
    assert read(1) == read(1) != read(2)
    assert [sorted(chain(*read(seed)[:first])) for seed in (1, 2)] == [
        sorted(chain(*read(1)[:first]))
    ] * 2


def test_batches_continue_from_any_step_and_divide_over_ranks(tmp_path: Path) -> None:
    made = plan(
        tmp_path,
        {"web": [6] * 90, "math": [4, 8] * 9},
        [phase(1, web=1), phase(2, web=1, math=1)],
        batch_size=4,
    )

    def read(**options: int) -> list[list[int]]:
        batches = Batches(made, tmp_path / "mix", 1, micro_batch=2, **options)
        return [batch["label_ids"].flatten().tolist() for batch in batches]

    whole = read()
    assert read(start=5) == whole[10:]
    assert [
        half
        for pair in zip(read(rank=0, ranks=2), read(rank=1, ranks=2), strict=True)
        for half in pair
    ] == whole


def test_a_line_of_documents_marks_where_each_ends(tmp_path: Path) -> None:
    made = plan(tmp_path, {"web": [3, 11]}, [phase(web=1)], tokens=14, batch_size=3)
    (batch,) = Batches(made, tmp_path / "mix", 1, micro_batch=3)
    inputs, labels = batch["input_ids"][0].tolist(), batch["label_ids"][0].tolist()
    assert sorted(batch["input_mask"].sum(1).tolist()) == [3, 3, 8]
    assert sorted(zip(inputs, labels, strict=True)) == [
        (0, 1),
        (0, 3),
        (1, 2),
        (2, 0),
        *((token, token + 1) for token in range(3, 12)),
        (12, 0),
    ]


def test_the_tag_carries_loss(tmp_path: Path) -> None:
    write_corpus(tmp_path / "tagged", [[5, 3, 6, 3, 7]] * 4)
    made = small(tmp_path, "tagged")
    (batch,) = Batches(made, tmp_path / "mix", 1, micro_batch=4)
    assert bool(batch["label_mask"][batch["label_ids"] == 3].all())
    assert made.corpora["tagged"].tags == 8


# On disk


def contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_the_same_params_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        plan(tmp_path / name, {"web": [6] * 50, "math": [3] * 9}, [phase(web=1, math=1)])
    assert contents(tmp_path / "one/mix") == contents(tmp_path / "two/mix")
    assert len(contents(tmp_path / "one/mix")) == 9


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = plan(tmp_path, {"web": [6] * 50}, [phase(web=1)])
    assert Plan.read(tmp_path / "mix") == made


def test_the_mixture_links_its_token_files(tmp_path: Path) -> None:
    plan(tmp_path, {"web": [6] * 50}, [phase(web=1)])
    linked = tmp_path / "mix/tokens/web/00000-00000.ds"
    assert linked.samefile(tmp_path / "tokenize/web/00000-00000.ds")


def test_a_missing_token_file_is_refused(tmp_path: Path) -> None:
    (write_corpus(tmp_path / "web", [[1, 2]] * 4) / "00000-00000.ds").unlink()
    with pytest.raises(DamagedShard, match=r"00000-00000.ds: is missing"):
        small(tmp_path, "web")


def test_a_changed_token_file_is_refused(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "web", [[1, 2]] * 4) / "00000-00000.ds"
    path.write_bytes(path.read_bytes()[:-2] + b"\x07\x00")
    with pytest.raises(DamagedShard, match=r"00000-00000.ds: expected sha256"):
        small(tmp_path, "web")


def test_a_token_outside_of_the_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DamagedShard, match="has token 441, but the tokenizer has 100 tokens"):
        plan(tmp_path, {"web": [10] * 50}, [phase(web=1)], vocabulary=100)


def test_a_document_without_its_end_is_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path / "web", [[1, 2], [3, 4]], end=5)
    with pytest.raises(DamagedShard, match="expected every document to end with"):
        small(tmp_path, "web")


PARAMS = """
corpora: {web: {from: clean/web, scores: [0], epochs: 2.0}, math: {from: clean/math, epochs: 2.0}}
budgets: {default: {tokens: 300, sequence_length: 8, layout: document, batch_size: 2}}
mix: {held_out_rows: 0, seed: 1}
models: {safe: {mixture: safe, shape: nano, seed: 1}}
mixtures: {safe: {phases: [{share: 1, proportions: natural, parts: {web: 1.0, math: 1.0}}]}}
"""


def test_the_stage_plans_a_row_of_params(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS, encoding="utf-8")
    write_corpus(Path("build/tokenize/web"), [[5, 6, 7]] * 60)
    write_corpus(Path("build/tokenize/math"), [[5, 6]] * 20)
    assert vocabulary_and_tag(write_tokenizer(Path("build/tokenizer"), 16)) == (16, 3)
    monkeypatch.setattr(sys, "argv", ["mix", "safe"])
    stage.main()
    assert Plan.read(Path("build/mix/safe")).tokens == 300
    assert capsys.readouterr().out.splitlines() == [
        "mix/safe           40 steps of 2 rows, 300 of 300 tokens",
        "phase  part  documents  rows  tokens  epochs",
        "1      web          60    60     240    1.00",
        "1      math         20    20      60    1.00",
    ]


def test_the_stage_names_the_line_of_a_mixture_that_reads_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS.replace("tokens: 300", "tokens: 3000"), encoding="utf-8")
    write_corpus(Path("build/tokenize/web"), [[5, 6, 7]] * 60)
    write_corpus(Path("build/tokenize/math"), [[5, 6]] * 20)
    write_tokenizer(Path("build/tokenizer"), 16)
    monkeypatch.setattr(sys, "argv", ["mix", "safe"])
    with pytest.raises(
        SpecError,
        match=r"^params\.yaml:6 mixtures\.safe: reads corpus web 10\.\d+ times .* 2 allowed",
    ):
        stage.main()
    assert not Path("build/mix/safe").exists()
