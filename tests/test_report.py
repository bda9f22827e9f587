"""The report: who plays which part, what the claims say, and a page that stands alone."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from safelm.report.build import bind, build_report, screen, statement
from safelm.report.charts.svg import PATTERNS, SHAPES, element, nice_ticks, shortened
from safelm.report.charts.xy import Point, apart, frontier
from safelm.report.claim import Claim, verdicts
from safelm.report.evidence import macro_f1, recall
from safelm.report.figure import STYLES, Book
from safelm.report.inputs import ReportError, read_curve, read_inputs
from safelm.report.page import notes
from safelm.report.rates import rates
from safelm.report.roles import decoder_roles, roles, rung_of
from safelm.stats.classification import BASELINE
from safelm.stats.rates import Rate
from safelm.stats.rates import rate as rate_of
from specs.mixture import Model
from specs.paper import Paper
from tests import report_world as world

THREE = ("standard", "filtered", "safe")


def read(root: Path, models: dict[str, Model]) -> tuple[Book, list[Claim]]:
    return bind(root, world.declared(models))


def report(root: Path, models: dict[str, Model], **changes: str) -> Path:
    book, claims = read(root, models)
    words = changes.get("statement", statement(book.inputs, world.sources(), "template"))
    build_report(
        root / "report", book, claims, statement=words, params={"report": {"confidence": 0.95}}
    )
    return root / "report"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of three models, and its report."""
    folder = tmp_path_factory.mktemp("build")
    world.write_build(folder, world.models(*THREE))
    report(folder, world.models(*THREE))
    return folder


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "report/index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def summary(root: Path) -> dict[str, Any]:
    return json.loads((root / "report/summary.json").read_text(encoding="utf-8"))


# ── who plays which part ──


@pytest.mark.parametrize(
    ("name", "rung"),
    [
        ("standard", "raw"),
        ("filtered", "score_0"),
        ("rephrased", "rephrase"),
        ("refusals", "refusal"),
        ("moral", "moral"),
        ("safe", "tags"),
    ],
)
def test_a_mixture_stands_on_the_rung_of_what_it_holds(name: str, rung: str) -> None:
    assert rung_of(world.mixtures()[name], world.corpora()) == (rung, name == "safe")


@pytest.mark.parametrize(
    "parts",
    [
        ("score_0", "score_1"),
        ("score_0", "score_1", "tagged"),
        ("score_0", "tagged"),
        ("score_0", "score_5", "refusals"),
    ],
)
def test_other_mixtures_stand_beside_the_ladder(parts: tuple[str, ...]) -> None:
    assert rung_of(world.mixture(*parts), world.corpora())[0] is None


def test_parts_are_found_whatever_the_rows_are_called() -> None:
    rows = {
        "b": Model(mixture="all", shape="nano", seed=1),
        "a": Model(mixture="web", shape="nano", seed=1),
    }
    mixtures = {"web": world.mixtures()["standard"], "all": world.mixtures()["safe"]}
    found = roles(rows, mixtures, world.corpora())
    assert found.standard and found.standard.name == "a"
    assert found.safe and found.safe.name == "b"
    assert found.filtered is None


def test_where_mixtures_do_not_tell_the_names_do() -> None:
    rows = {"standard": Model(mixture="odd", shape="nano", seed=1)}
    found = roles(rows, {"odd": world.mixture("score_0", "score_1")}, world.corpora())
    assert found.standard and found.standard.name == "standard"


def test_models_that_differ_in_their_seed_are_one_group() -> None:
    rows = {**world.models("safe", seeds=3), **world.models("standard")}
    groups = roles(rows, world.mixtures(), world.corpora()).groups
    assert [(group.name, len(group.models)) for group in groups] == [("safe", 3), ("standard", 1)]


def test_groups_of_one_mixture_and_two_shapes_have_two_names() -> None:
    rows = {
        name: Model(mixture="safe", shape=shape, seed=seed)
        for name, shape, seed in [
            ("a", "nano", 1),
            ("b", "nano", 2),
            ("c", "wide", 1),
            ("d", "wide", 2),
        ]
    }
    groups = roles(rows, world.mixtures(), world.corpora()).groups
    assert [group.name for group in groups] == ["safe", "safe (wide)"]


def test_decoders_are_known_by_their_rule() -> None:
    rows = {name.replace("safebeam", "mine"): row for name, row in world.decoders().items()}
    found = decoder_roles(rows)
    assert (found.plain, found.safebeam, found.branch, found.threshold, found.control) == (
        "greedy",
        "mine",
        "branch",
        "threshold",
        "random_drop",
    )


# ── rates ──


def test_counts_anywhere_in_a_tree_become_rates() -> None:
    found = rates(
        [{"a": {"b": {"count": 1, "of": 4, "value": 0.25}}, "perplexity": 2.5, "none": None}], 0.95
    )
    assert isinstance(found["a"]["b"], Rate) and found["a"]["b"].value == 0.25
    assert (found["perplexity"], found["none"]) == (2.5, None)


def test_seeds_are_pooled_and_their_spread_is_kept() -> None:
    found = rates([{"asr": {"count": count, "of": 100}} for count in (20, 60)], 0.95)["asr"]
    assert (found.count, found.of, found.seeds) == (80, 200, (0.2, 0.6))
    assert found.low < 0.2 < 0.6 < found.high


def test_an_area_of_seeds_that_differ_has_a_wider_interval() -> None:
    trees = [
        {"last": {"value": value, "low": value - 0.02, "high": value + 0.01}}
        for value in (0.7, 0.9, 0.8)
    ]
    one, found = rates(trees[2:], 0.95)["last"], rates(trees, 0.95)["last"]
    assert one == pytest.approx({"value": 0.8, "low": 0.78, "high": 0.81})
    assert found["value"] == pytest.approx(0.8)
    assert found["low"] == pytest.approx(0.685, abs=0.001) and found["high"] == pytest.approx(
        0.914, abs=0.001
    )


def test_the_papers_matrices_give_the_papers_table() -> None:
    """Table 3 from the printed matrices, to its four digits (paper §1.6)."""
    paper = Paper.read().classifier
    for name, matrix in paper.matrices.items():
        row = paper.table[name]
        assert macro_f1(matrix) == pytest.approx(row.macro_f1, abs=5e-5)
        for level, expected in ((1, row.recall_1), (3, row.recall_3)):
            found = recall(matrix, level, 0.95)
            assert found and found.value == pytest.approx(expected, abs=5e-5)


def test_every_number_of_the_paper_has_its_source() -> None:
    paper = Paper.read()
    blocks = (
        paper.asr,
        paper.ladder,
        paper.over_refusal,
        paper.utility,
        paper.classifier,
        paper.card,
    )
    assert all(block.source for block in blocks)
    for row in (paper.over_refusal.standard, paper.over_refusal.safe):
        assert sum(row.model_dump().values()) == paper.over_refusal.of


# ── claims ──


def claim(claims: list[Claim], id: str) -> Claim:
    return next(one for one in claims if one.id == id)


def with_asr(root: Path, **counts: int) -> list[Claim]:
    """The claims when the plain decoder's attack success after finetuning is so many of 150."""
    models = world.models(*THREE)
    world.write_evaluations(root, models)
    for name, count in counts.items():
        path = root / "evaluate" / f"{name}-finetune" / "metrics.json"
        values = json.loads(path.read_text(encoding="utf-8"))
        values["decoders"]["greedy"]["harmful"]["asr"] = world.fixed(count, 150)
        world.write(path, values)
    return read(root, models)[1]


@pytest.mark.parametrize(
    ("safe", "verdict"), [(30, "reproduced"), (120, "contradicted"), (72, "not distinguishable")]
)
def test_a_claim_follows_the_counts(tmp_path: Path, safe: int, verdict: str) -> None:
    assert claim(with_asr(tmp_path, standard=75, safe=safe), "safe_stays_lower").verdict == verdict


@pytest.mark.parametrize(
    ("filtered", "verdict"),
    [(110, "reproduced"), (40, "contradicted"), (75, "not distinguishable")],
)
def test_filtering_alone_must_be_worse_to_reproduce_the_paper(
    tmp_path: Path, filtered: int, verdict: str
) -> None:
    assert (
        claim(with_asr(tmp_path, standard=75, filtered=filtered), "ladder_score_0").verdict
        == verdict
    )


def test_what_was_not_built_is_not_measured(tmp_path: Path) -> None:
    models = world.models("standard")
    world.write_evaluations(tmp_path, models)
    _, claims = read(tmp_path, models)
    assert {one.id for one in claims if one.verdict != "not measured"} == {
        "instruct_lowers_asr",
        "finetune_undoes_standard",
    }
    assert all(
        "not measured" in one.json()["sentence"] or "nothing" in one.json()["sentence"]
        for one in claims
        if one.verdict == "not measured"
    )


def test_a_claim_shows_both_rates_their_difference_and_the_papers_numbers(
    summary: dict[str, Any],
) -> None:
    found = next(one for one in summary["claims"] if one["id"] == "safety_lowers_base_asr")
    assert found["paper"] == {"safe": 28.8, "standard": 44.1}
    assert set(found["ours"]) == {
        "safe, pretrain, greedy",
        "standard, pretrain, greedy",
        "differences",
    }
    gap = found["ours"]["differences"][0]
    assert gap["low"] < gap["value"] < gap["high"] < 0
    number = r"[+−]\d+\.\d"
    assert re.search(rf"difference {number} points \[{number}, {number}\]$", found["sentence"])


def test_every_claim_names_its_source_and_stands_once(summary: dict[str, Any]) -> None:
    ids = [one["id"] for one in summary["claims"]]
    assert len(ids) == len(set(ids)) >= 15
    assert all(one["source"] and one["claim"].endswith((".", "?")) for one in summary["claims"])
    assert not [
        one["sentence"] for one in summary["claims"] if "('" in one["sentence"]
    ]  # as Python shows a tuple


# ── summary.json and the tables ──


def leaves(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict) and {"value", "count", "of"} <= set(node):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from leaves(value)


def test_every_rate_of_the_summary_has_its_count_and_interval(summary: dict[str, Any]) -> None:
    found = list(leaves(summary["models"]))
    assert len(found) > 300
    for one in found:
        assert one["low"] <= one["value"] <= one["high"]
        assert one["value"] == pytest.approx(one["count"] / one["of"], abs=1e-6)


def test_the_summary_has_what_people_ask_for(summary: dict[str, Any]) -> None:
    assert list(summary["models"]) == list(THREE)
    stage = summary["models"]["safe"]["instruct"]
    assert set(stage) == {"greedy", "safebeam", "branch", "threshold", "random_drop", "utility"}
    wanted = {
        "asr",
        "asr_strict",
        "refused",
        "neither",
        "benign_compliance",
        "over_refusal",
        "dual_use_over_refusal",
    }
    assert wanted <= {name for name, value in stage["greedy"].items() if value}
    assert set(stage["greedy"]["forms"]) == set(world.CHAT_FORMS)
    assert stage["utility"]["perplexity"] > 1


def test_the_ledger_of_the_summary_keeps_the_law(summary: dict[str, Any]) -> None:
    for row in summary["ledger"].values():
        lost = sum(row["dropped"].values()) + sum(row["quarantined"].values())
        assert row["rows_in"] == row["rows_out"] + lost


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_tables_of_the_plots_are_tidy(root: Path) -> None:
    plots = root / "report/plots"
    assert len(table(plots / "asr.csv")) == 3 * (2 + 2 + 5)
    assert list(table(plots / "confusion.csv")[0]) == ["actual", "predicted"]
    assert len(table(plots / "confusion.csv")) == 1030
    assert {row["model"] for row in table(plots / "loss.csv")} == set(THREE)
    assert len(table(plots / "loss/safe.csv")) <= 120
    assert {row["corpus"] for row in table(plots / "hazards/score_5.csv")} == {"score_5"}


def test_metrics_are_one_short_row_a_model_and_stage(root: Path) -> None:
    files = sorted((root / "report/metrics").glob("*.json"))
    assert len(files) == 9
    row = json.loads((root / "report/metrics/safe-pretrain.json").read_text(encoding="utf-8"))
    assert list(row) == ["asr", "asr_safebeam", "benign_compliance", "over_refusal", "utility"]


# ── the page ──


class Outline(HTMLParser):
    """What a machine that reads aloud would meet."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    parser = Outline()
    parser.feed(page)
    return parser


def test_every_element_is_closed(outline: Outline) -> None:
    assert outline.open == []


def test_the_page_loads_and_runs_nothing(page: str, outline: Outline) -> None:
    policy = next(
        meta for meta in outline.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"
    loaders = {
        "script",
        "img",
        "link",
        "iframe",
        "object",
        "embed",
        "audio",
        "video",
        "form",
        "base",
    }
    assert not loaders & {tag for tag, _ in outline.tags}
    assert all(not name.startswith("on") for _, attributes in outline.tags for name in attributes)
    assert not re.search(r"https?://|@import|url\((?!#)", page)


def test_every_table_can_be_read_aloud(outline: Outline) -> None:
    tables = len(outline.all("table"))
    assert tables >= 15
    assert len(outline.all("caption")) == tables
    assert all(head.get("scope") in {"col", "row"} for head in outline.all("th"))
    regions = [row for row in outline.all("div") if row.get("class") == "scroll"]
    assert len(regions) == tables and all(
        row["tabindex"] == "0" and row["aria-label"] for row in regions
    )


def test_every_chart_says_what_it_is(outline: Outline) -> None:
    charts = [svg for svg in outline.all("svg") if svg.get("class") == "chart"]
    assert len(charts) >= 20
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    assert all(
        svg.get("aria-hidden") == "true"
        for svg in outline.all("svg")
        if svg.get("class") != "chart"
    )


def test_eight_series_are_told_apart_by_colour_mark_dash_and_pattern(page: str) -> None:
    assert len(STYLES) == len({SHAPES[style] for style in STYLES}) == 8
    dashes = {
        style: re.search(rf"\.{style}-line {{ stroke: var\(--{style}\);(.*?)}}", page)
        for style in STYLES
    }
    assert len({dash[1].strip() for dash in dashes.values() if dash}) == 8
    for scheme in page.split("@media (prefers-color-scheme: dark)")[:2]:
        colours = {style: re.search(rf"--{style}: (#\w+);", scheme) for style in STYLES}
        assert len({colour[1] for colour in colours.values() if colour}) == 8
    patterns = [
        PATTERNS.get(style) for style in STYLES
    ]  # grey, the fifth, is as plain as the first
    assert len(set(patterns)) == 7 and all(f'id="{name}"' in page for name in patterns if name)
    assert all(f".{style} {{ fill: var(--{style}); }}" in page for style in STYLES)


def test_every_link_of_the_contents_leads_somewhere(outline: Outline) -> None:
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {(link["href"] or "")[1:] for link in outline.all("a")} <= set(ids)


def test_the_frontier_is_what_no_other_beats() -> None:
    shares = {
        "low": (0.1, 0.4),
        "ours": (0.1, 0.9),
        "greedy": (0.4, 0.95),
        "worse": (0.4, 0.9),
        "again": (0.1, 0.9),
    }
    points = [
        Point(name, "s1", *(rate_of(round(share * 20), 20, 0.95) for share in pair))
        for name, pair in shares.items()
    ]
    assert [point.label for point in frontier(points)] == ["ours", "greedy", "again"]


def test_a_decoder_that_another_beats_is_said_to_be(page: str) -> None:
    assert page.count('class="curve frontier"') == 3
    assert "Beaten by" in page and "branch (ours: 4 whole answers, weighed by the tag)" in page


@pytest.mark.parametrize(("count", "verdict"), [(150, "reproduced"), (0, "contradicted")])
def test_branching_helps_more_where_it_complies_more(
    tmp_path: Path, count: int, verdict: str
) -> None:
    world.write_evaluations(tmp_path, world.models("safe"))
    for path in tmp_path.glob("evaluate/safe-*/metrics.json"):
        values = json.loads(path.read_bytes())
        values["decoders"]["branch"]["benign"]["complied"] = world.fixed(count, 150)
        values["decoders"]["safebeam"]["benign"]["complied"] = world.fixed(70, 150)
        world.write(path, values)
    found = {claim.id: claim.verdict for claim in read(tmp_path, world.models("safe"))[1]}
    assert found["branch_helps_more"] == found["branch_keeps_compliance"] == verdict


def test_the_figures_of_the_paper_are_there(outline: Outline) -> None:
    figures = {figure["id"] for figure in outline.all("figure")}
    assert {
        "figure-1",
        "figure-2",
        "figure-3",
        "figure-4",
        "figure-5",
        "decoders",
        "forms",
        "training",
    } <= figures
    assert {"audit", "reliability", "cascades"} <= figures


def test_a_classifier_stands_beside_the_simplest_one(page: str) -> None:
    assert f"{BASELINE}, for comparison" in page and "[+2.0, +8.0]" in page


def test_what_p_tag_knows_is_shown_of_models_that_know_the_tag(outline: Outline, page: str) -> None:
    assert "tag-signal" in {figure["id"] for figure in outline.all("figure")}
    heads = [
        page.index(f">{head}<")
        for head in ("after 1", "after 4", "after 16", "after 32", "Mean of the page")
    ]
    assert heads == sorted(heads) and "up to 0.02" in page


def test_counts_and_intervals_stand_in_the_tables(page: str, summary: dict[str, Any]) -> None:
    rate = summary["models"]["safe"]["pretrain"]["safebeam"]["asr"]
    assert (
        f"[{rate['low'] * 100:.1f}, {rate['high'] * 100:.1f}] {rate['count']}/{rate['of']}" in page
    )
    assert "paper 11.6" in page


def test_the_page_says_that_it_is_a_miniature(page: str) -> None:
    assert (
        "This is a miniature" in page
        and "0.80 million parameters" in page
        and "from templates" in page
    )


def test_the_page_says_of_which_confidence_its_intervals_are(tmp_path: Path) -> None:
    models = world.models("standard")
    world.write_build(tmp_path, models)
    book, _ = bind(tmp_path, replace(world.declared(models), confidence=0.9))
    first = notes(book)[0]
    assert "Wilson's at 90" in first and "Areas under a curve" in first and "at 95" in first


def test_figures_of_suites_that_were_not_asked_are_left_out(tmp_path: Path) -> None:
    models = world.models("standard")
    world.write_build(tmp_path, models)
    for path in tmp_path.glob("evaluate/*/metrics.json"):
        values = json.loads(path.read_bytes())
        asked = {"kind": "harmful", "judge": "harm", "judges": {"harm": "refusal_phrases"}}
        for row in [values, *values.get("doses", {}).values()]:
            row["decoders"] = {
                name: {"mine": suites["harmful"]} for name, suites in row["decoders"].items()
            }
        world.write(path, {**values, "suites": {"mine": asked}})
    page = (report(tmp_path, models) / "index.html").read_text(encoding="utf-8")
    assert 'id="suite-mine"' in page
    assert not [id for id in ("forms", "judges", "relearning") if f'id="{id}"' in page]


def test_a_build_of_real_pages_says_so(root: Path) -> None:
    book, _ = read(root, world.models(*THREE))
    words = statement(book.inputs, world.sources("jsonl"), "template")
    assert "real web pages" in words and "made-up world" not in words


def test_words_from_outside_are_escaped(root: Path, tmp_path: Path) -> None:
    world.write_build(tmp_path, world.models(*THREE))
    world.write(
        tmp_path / "fit/held_out.json", {"note": "<script>alert(1)</script>", "scorers": {}}
    )
    text = (report(tmp_path, world.models(*THREE)) / "index.html").read_text(encoding="utf-8")
    assert "<script>" not in text and "&lt;script&gt;" in text


def test_an_element_escapes_what_it_is_given() -> None:
    assert element("text", "a<b", x=1.25, class_='"') == '<text x="1.2" class="&#34;">a&lt;b</text>'


def test_the_same_build_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    world.write_build(tmp_path, world.models(*THREE))
    again = report(tmp_path, world.models(*THREE))
    files = sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert len(files) > 20
    assert all(
        (again / name).read_bytes() == (root / "report" / name).read_bytes() for name in files
    )


def test_no_path_of_the_machine_is_in_the_report(root: Path) -> None:
    for path in (root / "report").rglob("*.*"):
        assert path.is_dir() or str(root) not in path.read_text(encoding="utf-8")


# ── builds that are not whole ──


def test_a_report_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ReportError, match=r"expected metrics\.json of at least one of the models standard"
    ):
        read(tmp_path, world.models("standard"))


def test_evaluations_alone_make_a_report(tmp_path: Path) -> None:
    world.write_evaluations(tmp_path, world.models("safe"))
    text = (report(tmp_path, world.models("safe")) / "index.html").read_text(encoding="utf-8")
    assert 'id="figure-2"' in text and 'id="figure-5"' not in text


def test_nothing_to_count_is_shown_as_nothing(tmp_path: Path) -> None:
    """Real pages may hold no harmful one, a scorer nothing to learn from and a corpus no word."""
    models = world.models(*THREE)
    world.write_build(tmp_path, models)
    world.write(
        tmp_path / "fit/held_out.json", {"note": "Only 3 labels.", "scorers": {}, "known": None}
    )
    empty = {"corpus": "score_5", "documents": 0, "words": 0, "scores": [0] * 6, "hazards": []}
    for name in world.corpora():
        world.write(tmp_path / "card" / name / "card.json", {**empty, "corpus": name})
    path = tmp_path / "evaluate/safe-pretrain/metrics.json"
    nothing = {
        name: {"count": 0, "of": 0, "value": None}
        for name in ("asr", "asr_strict", "refused", "neither")
    }
    world.write(path, {"decoders": {"greedy": {"harmful": nothing}}, "utility": None})
    folder = report(tmp_path, models)
    stage = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["models"]["safe"][
        "pretrain"
    ]
    assert stage["greedy"]["asr"] == {"value": None, "count": 0, "of": 0, "low": None, "high": None}
    assert "Only 3 labels." in (folder / "index.html").read_text(encoding="utf-8")


def test_a_folder_of_a_row_that_is_gone_stays_out(root: Path) -> None:
    names = {
        "models": ["standard"],
        "others": [],
        "mixtures": [],
        "corpora": [],
        "sources": [],
        "tags": [],
    }
    assert list(read_inputs(root, **names).metrics) == ["standard"]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    world.write_evaluations(tmp_path, world.models("safe"))
    (tmp_path / "evaluate/safe-pretrain/metrics.json").write_text("{", encoding="utf-8")
    with pytest.raises(ReportError, match=r"safe-pretrain/metrics\.json: expected JSON"):
        read(tmp_path, world.models("safe"))


def test_the_ladder_shows_the_rungs_that_exist(tmp_path: Path) -> None:
    models = world.models(*world.PARTS)
    world.write_evaluations(tmp_path, models)
    book, claims = read(tmp_path, models)
    assert [group.rung for group in book.measured.roles.ladder] == [
        "raw",
        "score_0",
        "rephrase",
        "refusal",
        "moral",
        "tags",
    ]
    assert claim(claims, "ladder_moral").verdict != "not measured"


def test_seeds_are_shown_as_dots(tmp_path: Path) -> None:
    models = world.models("standard", "safe", seeds=3)
    world.write_build(tmp_path, models)
    folder = report(tmp_path, models)
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert 'class="seed"' in text and "one seed per mixture" not in text
    groups = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["groups"]
    assert len(groups["safe"]["stages"]["pretrain"]["greedy"]["asr"]["seeds"]) == 3


# ── the pencil ──


def test_ticks_are_round_and_reach_the_top() -> None:
    assert nice_ticks(7.3) == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert nice_ticks(0.83) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert nice_ticks(0.0) == [0.0, 1.0]


def test_names_at_the_ends_of_curves_do_not_lie_on_each_other() -> None:
    places = apart([50.0, 51.0, 52.0, 53.0], 13.0, 60.0)
    assert all(after - before >= 13.0 for before, after in pairwise(places))
    assert places[-1] <= 60.0


def test_a_long_name_is_cut() -> None:
    assert shortened("score 0", 100.0) == "score 0"
    assert shortened("a very long name of a corpus", 60.0).endswith("…")


def test_a_long_curve_is_averaged_in_pieces(tmp_path: Path) -> None:
    lines = "".join(f"{step},{step * 10},{step}\n" for step in range(1, 101))
    (tmp_path / "loss.csv").write_text("step,tokens,loss\n" + lines, encoding="utf-8")
    assert read_curve(tmp_path / "loss.csv", points=10)[0] == (100.0, 5.5)


def test_a_curve_without_loss_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loss.csv").write_text("step,time\n1,2\n", encoding="utf-8")
    with pytest.raises(ReportError, match="expected the columns tokens"):
        read_curve(tmp_path / "loss.csv")


# ── the stage ──


def test_the_screen_is_aligned_and_counts_the_verdicts(root: Path) -> None:
    book, claims = read(root, world.models(*THREE))
    lines = screen(book, claims)
    assert len(lines) == 11 and len({len(line) for line in lines[:-1]}) == 1
    assert lines[-1].startswith(f"claims: {verdicts(claims)['reproduced']} reproduced")


def test_the_stage_writes_the_page_and_says_where(tmp_path: Path) -> None:
    """params.yaml as it stands, on a build of its three models; and without anything slow to
    import.
    """
    world.write_build(tmp_path / "build", world.models(*THREE))
    (tmp_path / "params.yaml").write_bytes(Path("params.yaml").read_bytes())
    code = (
        "import sys; from pipeline.report import main; main(); "
        "print(sorted({'torch', 'transformers', 'datatrove', 'dvc'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path.cwd()), "PATH": ""},
    )
    assert done.stdout.splitlines()[-2:] == ["report: build/report/index.html", "[]"]
    assert (tmp_path / "build/report/index.html").is_file()


def test_tasks_of_the_harness_are_a_table_of_their_own(tmp_path: Path) -> None:
    models = world.models("safe")
    world.write_build(tmp_path, models)
    path = tmp_path / "evaluate/safe-instruct/metrics.json"
    metrics = json.loads(path.read_bytes())
    metrics["utility"]["tasks"] = {
        "arc_easy": {"acc": world.fixed(33, 120), "acc_norm": world.fixed(36, 120)}
    }
    world.write(path, metrics)
    page = (report(tmp_path, models) / "index.html").read_text(encoding="utf-8")
    assert (
        "Tasks of lm-evaluation-harness" in page
        and "arc easy, acc norm" in page
        and "36/120" in page
    )


def test_another_judge_of_the_harmful_suite_stands_in_the_table_of_judges(page: str) -> None:
    assert '<th scope="col">Judge scores</th>' in page
