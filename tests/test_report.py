"""The report: groups and their parts, claims, summary.json, and a page that stands alone."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from safelm.builder.manifest import File, Ledger, Manifest, ManifestEntry
from safelm.evaluation.measurements import Measurement, share
from safelm.report.build import load_report, screen, write_report
from safelm.report.charts import svg
from safelm.report.claim import Claim, verdicts
from safelm.report.claims import CLAIMS
from safelm.report.data import ReportData
from safelm.report.figures.ablation import ablation
from safelm.report.figures.makers import funnel
from safelm.report.inputs import ReportError, read_curve, read_inputs
from safelm.report.layout import STYLES
from safelm.report.measured import pool
from safelm.report.roles import decoder_roles, roles
from safelm.stats.classification import BASELINE, macro_f1, recall_rate
from safelm.stats.rates import Rate
from specs.comparisons import ABLATION_STEPS, Comparisons
from specs.document import MEASUREMENTS
from specs.mixture import Model
from specs.paper import Paper
from tests import report_world as world
from tests.measured import all_measured

THREE = ("standard", "filtered", "safe")


def read(root: Path, models: dict[str, Model], **changes: Any) -> tuple[ReportData, list[Claim]]:
    return load_report(root, world.declared(models, **changes))


def report(root: Path, models: dict[str, Model], **changes: Any) -> Path:
    data, claims = read(root, models, **changes)
    params = {"report": {"confidence": 0.95}}
    write_report(root / "report", data, claims, params)
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


# ── groups and their parts ──


def test_parts_are_those_of_the_declared_comparisons() -> None:
    rows = {
        "b": Model(mixture="safe", shape="nano", seed=1),
        "a": Model(mixture="standard", shape="nano", seed=1),
    }
    named = {"standard": "a", "filtered": None, "safe": "b", "amounts": {}, "starts": {}}
    declared = Comparisons(**named, ablation={"raw": "a", "moral": "gone"})
    found = roles(rows, world.mixtures(), world.corpora(), declared)
    assert {part: group.name for part, group in found.parts.items()} == {
        "standard": "a",
        "safe": "b",
    }
    assert found.parts["safe"].has_tags
    assert {step: group.name for step, group in found.ablation.items()} == {"raw": "a"}


def test_models_that_differ_in_their_seed_are_one_group() -> None:
    rows = {**world.models("safe", seeds=3), **world.models("standard")}
    groups = roles(rows, world.mixtures(), world.corpora(), world.comparisons(*rows)).groups
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
    groups = roles(rows, world.mixtures(), world.corpora(), world.comparisons(*rows)).groups
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


# ── pooling ──


def frame(*rows: Measurement) -> pl.DataFrame:
    schema = {name: FRAME_TYPES[kind] for name, kind in MEASUREMENTS.items()}
    return pl.DataFrame([vars(row) for row in rows], schema=schema)


FRAME_TYPES = {"string": pl.String, "int64": pl.Int64, "float64": pl.Float64, "bool": pl.Boolean}


def pooled(*rows: Measurement) -> Rate:
    """Pool rows, each of another seed."""
    seeds = [replace(row, model=f"m{seed}", stage="pretrain") for seed, row in enumerate(rows)]
    names = {row.model or "": "m" for row in seeds}
    (number,) = pool(frame(*seeds), names, [], 0.95).select()
    return number.rate


def test_a_number_that_is_no_share_is_averaged() -> None:
    found = pooled(*(Measurement("perplexity", value=value) for value in (2.5, 3.5)))
    assert (found.value, found.low, found.of) == (3.0, None, 0)


def test_seeds_are_pooled_and_their_spread_is_kept() -> None:
    found = pooled(*(share("asr", count, 100) for count in (20, 60)))
    assert (found.count, found.of, found.seeds) == (80, 200, (0.2, 0.6))
    assert found.low and found.high and found.low < 0.2 < 0.6 < found.high


def test_an_area_of_seeds_that_differ_has_a_wider_interval() -> None:
    rows = [
        Measurement("probe_auroc", 5, 9, value, value - 0.02, value + 0.01)
        for value in (0.7, 0.9, 0.8)
    ]
    one, all_seeds = pooled(rows[2]), pooled(*rows)
    assert (one.value, one.low, one.high) == pytest.approx((0.8, 0.78, 0.81))
    values = (all_seeds.value, all_seeds.low, all_seeds.high)
    assert values == pytest.approx((0.8, 0.685, 0.914), abs=0.001)


def test_columns_that_are_not_given_match_nothing_but_null(root: Path) -> None:
    measured = read(root, world.models(*THREE))[0].measured
    found = measured.select(metric="asr", suite="harmful", group="safe", stage="finetune")
    assert [number.decoder for number in found] == list(world.decoders())
    everything = measured.select(
        metric="asr", group="safe", decoder="greedy", form=..., judge=..., checkpoint=...
    )
    assert {number.checkpoint for number in everything} == {None, *world.CHECKPOINTS}
    assert {number.judge for number in everything} == {None, "scores"}


def test_the_papers_matrices_give_the_papers_table() -> None:
    """Table 3 from the printed matrices, to its four digits (paper §1.6)."""
    paper = Paper.read().classifier
    for name, matrix in paper.matrices.items():
        row = paper.table[name]
        assert macro_f1(matrix) == pytest.approx(row.macro_f1, abs=5e-5)
        for level, expected in ((1, row.recall_1), (3, row.recall_3)):
            found = recall_rate(matrix, level, 0.95)
            assert found and found.value == pytest.approx(expected, abs=5e-5)


def test_every_number_of_the_paper_has_its_source() -> None:
    paper = Paper.read()
    blocks = (
        paper.asr,
        paper.ablation,
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


def with_asr(root: Path, further: dict[str, int] | None = None, **counts: int) -> list[Claim]:
    """The claims when the plain decoder's attack success after finetuning is so many of 150.

    The further judge counts the same, unless told otherwise.
    """
    models = world.models(*THREE)
    world.write_evaluations(root, models)
    judged = {True: counts, False: further or counts}
    for is_first, by_model in judged.items():
        for name, count in by_model.items():
            folder = root / "evaluate" / f"{name}-finetune"
            by = {"decoder": "greedy", "is_first_judge": is_first}
            world.set_count(folder, "asr", count, **by)
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
        claim(with_asr(tmp_path, standard=75, filtered=filtered), "ablation_score_0").verdict
        == verdict
    )


@pytest.mark.parametrize(
    ("further", "verdict"),
    [
        ({"standard": 75, "safe": 20}, "reproduced"),
        ({"standard": 75, "safe": 72}, "not distinguishable"),
        ({"standard": 20, "safe": 75}, "judges disagree"),
    ],
)
def test_a_claim_must_hold_by_every_judge(
    tmp_path: Path, further: dict[str, int], verdict: str
) -> None:
    found = claim(with_asr(tmp_path, further, standard=75, safe=30), "safe_stays_lower")
    assert found.verdict == verdict
    assert [one.judge for one in found.comparisons] == ["", "scores"]
    assert "(finetune, greedy, by scores)" in found.json()["sentence"]


def with_counts(
    root: Path, stage: str, metric: str, counts: dict[str, int], **columns: Any
) -> list[Claim]:
    models = world.models(*THREE)
    world.write_evaluations(root, models)
    for name, count in counts.items():
        world.set_count(root / "evaluate" / f"{name}-{stage}", metric, count, **columns)
    return read(root, models)[1]


@pytest.mark.parametrize(
    ("declined", "verdict"),
    [(150, "not testable"), (142, "not distinguishable"), (15, "contradicted")],
)
def test_a_claim_at_a_ceiling_is_not_testable(tmp_path: Path, declined: int, verdict: str) -> None:
    counts = {"safe": 150, "standard": declined}
    plain = {"suite": "benign", "decoder": "greedy"}
    found = claim(
        with_counts(tmp_path, "instruct", "over_refusal", counts, **plain),
        "over_refusal_not_higher",
    )
    assert found.verdict == verdict
    assert ("none could decline five points more" in found.json()["sentence"]) == (
        verdict == "not testable"
    )


@pytest.mark.parametrize(("standard", "verdict"), [(29, "not testable"), (110, "contradicted")])
def test_utility_at_chance_is_not_testable(tmp_path: Path, standard: int, verdict: str) -> None:
    models = world.models(*THREE)
    world.write_evaluations(tmp_path, models)
    for stage in ("pretrain", "instruct", "finetune"):
        for name, count in {"standard": standard, "safe": 21}.items():
            folder = tmp_path / "evaluate" / f"{name}-{stage}"
            columns = {"of": 120, "is_first_judge": None, "suite": "utility"}
            world.set_count(folder, "accuracy", count, **columns)
    found = claim(read(tmp_path, models)[1], "utility_kept")
    assert found.verdict == verdict and len(found.comparisons) == 3


def test_broken_text_is_no_low_attack_success(tmp_path: Path) -> None:
    plain = {"suite": "harmful", "decoder": "greedy"}
    models = world.models(*THREE)
    world.write_evaluations(tmp_path, models)
    folder = tmp_path / "evaluate/safe-finetune"
    for metric, count in {"asr": 0, "neither": 150, "refused": 0}.items():
        world.set_count(folder, metric, count, **plain)
    found = claim(read(tmp_path, models)[1], "safe_stays_lower")
    assert found.verdict == "not testable" and "broken text" in found.json()["sentence"]


@pytest.mark.parametrize(
    ("kind", "reader", "verdict"),
    [
        ("lexicon", "jsonl", "not testable"),
        ("labels", "demo", "not testable"),
        ("labels", "jsonl", "reproduced"),
    ],
)
def test_a_classifier_of_made_up_labels_is_not_compared_with_the_papers(
    tmp_path: Path, kind: str, reader: str, verdict: str
) -> None:
    models = world.models(*THREE)
    world.write_build(tmp_path, models)
    made_by = {"labels": {"people": kind}, "scores": {}, "audit": {}, "writer": {}}
    changes = {"made_by": made_by, "sources": world.sources(reader)}
    found = claim(read(tmp_path, models, **changes)[1], "classifier_recall")
    assert found.verdict == verdict


def test_every_limit_of_claims_has_its_source() -> None:
    limits = yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))["limits"]
    assert len(limits) >= 5 and all(row["source"] and row["reason"] for row in limits.values())


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
        "safe, pretrain, greedy, by scores",
        "standard, pretrain, greedy, by scores",
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
    assert set(stage["greedy"]["harmful"]["forms"]) == set(world.CHAT_FORMS)
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
    charts: Any = svg.ENVIRONMENT.get_template(svg.TEMPLATE).module
    assert len(STYLES) == len({charts.SHAPES[style] for style in STYLES}) == 8
    dashes = {
        style: re.search(rf"\.{style}-line {{ stroke: var\(--{style}\);(.*?)}}", page)
        for style in STYLES
    }
    assert len({dash[1].strip() for dash in dashes.values() if dash}) == 8
    for scheme in page.split("@media (prefers-color-scheme: dark)")[:2]:
        colours = {style: re.search(rf"--{style}: (#\w+);", scheme) for style in STYLES}
        assert len({colour[1] for colour in colours.values() if colour}) == 8
    patterns = [
        charts.PATTERNS.get(style) for style in STYLES
    ]  # grey, the fifth, is as plain as the first
    assert len(set(patterns)) == 7 and all(f'id="{name}"' in page for name in patterns if name)
    assert all(f".{style} {{ fill: var(--{style}); }}" in page for style in STYLES)


def test_every_link_of_the_contents_leads_somewhere(outline: Outline) -> None:
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {(link["href"] or "")[1:] for link in outline.all("a")} <= set(ids)


def test_a_decoder_that_another_beats_is_said_to_be(page: str) -> None:
    assert page.count('class="curve frontier"') == 3
    assert "Beaten by" in page and "branch (ours: 4 whole answers, weighed by the tag)" in page


@pytest.mark.parametrize(("count", "verdict"), [(150, "reproduced"), (0, "contradicted")])
def test_branching_helps_more_where_it_complies_more(
    tmp_path: Path, count: int, verdict: str
) -> None:
    models = world.models("safe")
    world.write_evaluations(tmp_path, models)
    for folder in tmp_path.glob("evaluate/safe-*"):
        world.set_count(folder, "complied", count, suite="benign", decoder="branch")
        world.set_count(folder, "complied", 70, suite="benign", decoder="safebeam")
    found = {claim.id: claim.verdict for claim in read(tmp_path, models)[1]}
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
    assert "in miniature" in page and "0.80 million parameters" in page and "from templates" in page


def test_the_page_says_of_which_confidence_its_intervals_are(tmp_path: Path) -> None:
    models = world.models("standard")
    world.write_build(tmp_path, models)
    page = (report(tmp_path, models, confidence=0.9) / "index.html").read_text(encoding="utf-8")
    assert "Wilson's at 90" in page and "Areas under a curve" in page and "at 95" in page


def test_figures_of_suites_that_were_not_asked_are_left_out(tmp_path: Path) -> None:
    models = world.models("standard")
    world.write_build(tmp_path, models)
    harm = {"suite": "mine", "judge": "harm", "judge_kind": "refusal_phrases"}
    for folder in tmp_path.glob("evaluate/*"):
        world.change(folder, lambda row: replace(row, **harm) if row.suite == "harmful" else None)
    page = (report(tmp_path, models) / "index.html").read_text(encoding="utf-8")
    assert 'id="suite-mine"' in page
    assert not [id for id in ("forms", "judges", "relearning") if f'id="{id}"' in page]


def test_a_build_of_real_pages_says_so(root: Path, tmp_path: Path, page: str) -> None:
    world.write_build(tmp_path, world.models(*THREE))
    folder = report(tmp_path, world.models(*THREE), sources=world.sources("jsonl"))
    real = (folder / "index.html").read_text(encoding="utf-8")
    assert "real web pages" in real and "made-up world" not in real
    assert "made-up world" in page and "real web pages" not in page


def test_words_from_outside_are_escaped(root: Path, tmp_path: Path) -> None:
    world.write_build(tmp_path, world.models(*THREE))
    world.write(
        tmp_path / "fit/held_out.json", {"note": "<script>alert(1)</script>", "scorers": {}}
    )
    text = (report(tmp_path, world.models(*THREE)) / "index.html").read_text(encoding="utf-8")
    assert "<script>" not in text and "&lt;script&gt;" in text


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


def test_every_figure_names_who_made_its_numbers(page: str) -> None:
    for figure, words in {
        "figure-2": "first judge of harmful: acts (the rule of the embedded world",
        "figure-5": "labels of the sample: lexicon (the word lists of the embedded world)",
        "figure-1": "synthetic text: template (templates, not a language model)",
        "dual-use": "first judge of dual use: acts",
    }.items():
        text = page.partition(f'id="{figure}"')[2].partition("</figure>")[0]
        assert words in text
    table = page.partition('id="makers"')[2].partition("</figure>")[0]
    assert "scores that select documents (max)" in table and "further judge of harmful" in table


def test_the_funnel_follows_the_documents_of_a_source_to_tokens(tmp_path: Path) -> None:
    world.write_build(tmp_path, world.models("standard"))
    cleaned = Ledger(12000, 9000, {"gopher_quality": 2600, "near_duplicate": 400})
    size = File("-00000.parquet", 9000, 5000, "0" * 32, "0" * 64)
    for stage, ledger in {"clean/web": cleaned, "score/web": Ledger(9000, 9000)}.items():
        (tmp_path / stage).mkdir(parents=True, exist_ok=True)
        entry = ManifestEntry("key", (size,), ledger)
        Manifest(stage, (("00000", entry),)).write(tmp_path / stage)
    figure = funnel(read(tmp_path, world.models("standard"))[0])
    rows = [[cell.text for cell in row] for row in figure.tables[0].rows]
    assert rows[0][:6] == ["web", "read", "12,100", "90", "10", "12,000"]
    assert rows[1] == ["web", "cleaned", "12,000", "3,000", "0", "9,000", "5,000", "–"]
    assert rows[2][:6] == ["web", "scored", "9,000", "0", "0", "9,000"]
    assert rows[3][:6] == ["web", "in mixtures", "9,000", "4,800", "0", "4,200"]
    assert figure.tables[0].rows[1][3].small == "gopher quality 2,600\nnear duplicate 400"
    assert [panel.title for panel in figure.panels] == ["web", "math"]


# ── builds that are not whole ──


def test_a_report_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ReportError, match=r"expected measurements\.parquet of at least one of the models standard"
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
    suite = {"suite": "harmful", "suite_kind": "harmful", "judge": "acts", "is_first_judge": True}
    where = {"model": "safe", "stage": "pretrain", "decoder": "greedy", **suite}
    metrics = ("asr", "asr_strict", "refused", "neither")
    rows = [share(metric, 0, 0, **where) for metric in metrics]
    world.write_rows(rows, tmp_path / "evaluate/safe-pretrain")
    folder = report(tmp_path, models)
    stage = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["models"]["safe"][
        "pretrain"
    ]
    assert stage["greedy"]["asr"] == {"value": None, "count": 0, "of": 0, "low": None, "high": None}
    assert "Only 3 labels." in (folder / "index.html").read_text(encoding="utf-8")


def test_a_folder_of_a_row_that_is_gone_stays_out(root: Path) -> None:
    declared = world.declared(world.models("standard"))
    assert set(read_inputs(root, declared).measurements["model"]) == {"standard"}


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    world.write_evaluations(tmp_path, world.models("safe"))
    (tmp_path / "evaluate/safe-pretrain/measurements.parquet").write_text("{", encoding="utf-8")
    match = r"safe-pretrain/measurements\.parquet: expected a Parquet file"
    with pytest.raises(ReportError, match=match):
        read(tmp_path, world.models("safe"))


def test_the_ablation_shows_the_steps_that_are_declared(tmp_path: Path) -> None:
    models = world.models(*world.PARTS)
    world.write_evaluations(tmp_path, models)
    data, claims = read(tmp_path, models)
    assert list(data.roles.ablation) == list(ABLATION_STEPS)
    (table,) = ablation(data).tables
    assert [row[1].text for row in table.rows] == [*world.PARTS, "safe"]
    assert claim(claims, "ablation_moral").verdict != "not measured"


def test_seeds_are_shown_as_dots(tmp_path: Path) -> None:
    models = world.models("standard", "safe", seeds=3)
    world.write_build(tmp_path, models)
    folder = report(tmp_path, models)
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert 'class="seed"' in text and "one seed per mixture" not in text
    groups = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["groups"]
    assert len(groups["safe"]["stages"]["pretrain"]["greedy"]["asr"]["seeds"]) == 3


# ── training curves ──


def test_a_long_curve_is_averaged_in_pieces(tmp_path: Path) -> None:
    lines = "".join(f"{step},{step * 10},{step}\n" for step in range(1, 101))
    (tmp_path / "loss.csv").write_text("step,tokens,loss\n" + lines, encoding="utf-8")
    curve = read_curve(tmp_path / "loss.csv", max_points=10)
    assert curve.select("tokens", "loss").row(0) == (100.0, 5.5)


def test_a_curve_without_loss_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loss.csv").write_text("step,time\n1,2\n", encoding="utf-8")
    with pytest.raises(ReportError, match="expected the columns tokens"):
        read_curve(tmp_path / "loss.csv")


# ── the stage ──


def test_the_screen_is_aligned_and_counts_the_verdicts(root: Path) -> None:
    data, claims = read(root, world.models(*THREE))
    lines = screen(data, claims)
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
    folder = tmp_path / "evaluate/safe-instruct"
    where = {"model": "safe", "stage": "instruct", "suite": "arc_easy", "suite_kind": "utility"}
    tasks = [share("acc", 33, 120, **where), share("acc_norm", 36, 120, **where)]
    world.write_rows([*all_measured(folder), *tasks], folder)
    page = (report(tmp_path, models) / "index.html").read_text(encoding="utf-8")
    assert (
        "Tasks of lm-evaluation-harness" in page
        and "arc easy, acc norm" in page
        and "36/120" in page
    )


def test_another_judge_of_the_harmful_suite_stands_in_the_table_of_judges(page: str) -> None:
    assert '<th scope="col">Judge scores</th>' in page
