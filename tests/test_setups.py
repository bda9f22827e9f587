"""Tests of setups: each is valid, lists what it needs, has a cost, and runs end to end in small."""

import json
import re
import shutil
from pathlib import Path

import pytest

from pipeline.estimate import lines
from safelm.builder.manifest import Manifest
from specs import SPECS
from specs.checks.needs import check_addresses, check_needs
from specs.params import Params
from specs.setup import SETUPS, SetupError, titles, use
from specs.validation import mistakes, read
from specs.yaml_source import SpecError, YamlFile, check
from tests.conftest import ROOT, copy_of_the_project
from tests.ingested import rows_of
from tests.stand_ins import WORLD, build_setup
from tests.test_start import write_weights

NAMES = sorted(path.stem for path in SETUPS.glob("*.yaml"))
REAL = [name for name in NAMES if name != "miniature"]


def setup(
    name: str, *edits: tuple[str, str], folder: Path | None = None
) -> tuple[YamlFile, Params]:
    """Read a setup, with some words replaced."""
    path = SETUPS / f"{name}.yaml"
    if folder:
        text = path.read_text(encoding="utf-8")
        path = folder / "params.yaml"
        for old, new in edits:
            assert old in text, old
            text = text.replace(old, new, 1)
        path.write_text(text, encoding="utf-8")
    file = YamlFile(path)
    return file, check(Params, file)


def test_the_default_is_the_miniature() -> None:
    assert (ROOT / "params.yaml").read_bytes() == (SETUPS / "miniature.yaml").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_setup_has_no_mistake(name: str) -> None:
    file, params = setup(name)
    assert file.problems(mistakes(params)) == []


def test_the_miniature_needs_nothing() -> None:
    assert read(SETUPS / "miniature.yaml", with_addresses=True)


def needed(name: str) -> dict[str, str]:
    """Return what a setup needs, by its location."""
    file, params = setup(name)
    found = file.problems([*check_needs(params), *check_addresses(params, {})])
    assert all(problem.line > 1 for problem in found)
    return {problem.at: problem.message for problem in found}


@pytest.mark.parametrize("name", REAL)
def test_what_a_setup_needs_is_one_list_with_remedies(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    needs, (_, params) = needed(name), setup(name)
    sources = {f"sources.{source}.path" for source in params.sources}
    engines = {f"engines.{row}.digest" for row, one in params.engines.items() if one.digest is None}
    assert sources | engines < needs.keys()
    assert all(re.search(r"; (fetch|set|write)|: set ", text) for text in needs.values())
    assert "gated, so first agree to" in needs["sources.chat.path"]
    path = params.tokenizer.path or ""
    assert f"hf download {path.partition('/')[2]} --local-dir {path} " in needs["tokenizer.path"]


def test_a_server_without_an_address_is_needed() -> None:
    _, params = setup("paper")
    ((at, message),) = check_addresses(params, {})
    assert at == ("engines", "annotator") and "set SAFELM_ANNOTATOR_URL" in message
    assert not list(check_addresses(params, {"SAFELM_ANNOTATOR_URL": "http://127.0.0.1:1/v1"}))


@pytest.mark.parametrize("name", NAMES)
def test_a_setup_has_a_cost(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").symlink_to(SPECS)
    _, params = setup(name)
    if name == "continued":
        with pytest.raises(SpecError, match="fetch the weights"):
            lines(SETUPS / "continued.yaml", None)
        write_weights(tmp_path / "weights/HuggingFaceTB/SmolLM2-135M", max_position_embeddings=4096)
    found = "\n".join(lines(SETUPS / f"{name}.yaml", None))
    assert all(f"models.{model}:" in found for model in params.models)
    assert found.count(": fits") == len(params.models)


def test_a_family_of_three_sizes_and_two_budgets_is_one_file(tmp_path: Path) -> None:
    small = "  small: {mixture: safe, shape: smollm2-135m, budget: for_360m, seed: 1}\n"
    file, params = setup("paper", ("\nmodels:\n", f"\nmodels:\n{small}"), folder=tmp_path)
    assert file.problems(mistakes(params)) == []
    # Each with the batch of its own recipe.
    costs = {name: lines(file.path, name)[1] for name in ("small", "safe_360m", "safe")}
    assert costs["small"].endswith("of 300,000,000,000 tokens in 286,102 steps of 512 x 2,048")
    assert costs["safe_360m"].endswith("tokens in 143,051 steps of 1,024 x 2,048")
    assert costs["safe"].endswith("of 600,000,000,000 tokens in 286,102 steps of 1,024 x 2,048")


# A mistake in each of ten places of the setups: the edit, its location, and words of the message.
MISTAKES = {
    "a budget of no row": (
        "paper",
        ("budget: for_360m,", "budget: for_36m,"),
        "models.standard_360m.budget",
        "did you mean for_360m",
    ),
    "a tuning of no row": (
        "paper",
        ("instruct: for_360m,", "instruct: tiny,"),
        "models.standard_360m.instruct",
        "rows are default, for_360m",
    ),
    "another batch than the recipe's": (
        "paper",
        ("tokens: 600000000000, ", "tokens: 600000000000, batch_size: 512, "),
        "models.standard.shape",
        "got 1024 in specs/shapes, 512 in budgets",
    ),
    "no batch": (
        "continued",
        ("    batch_size: 128 ", "    # batch_size: 1 "),
        "models.standard.shape",
        "got none in specs/shapes, none in budgets",
    ),
    "too few tokens for the warm-up": (
        "paper",
        ("tokens: 300000000000", "tokens: 3000000000"),
        "models.standard_360m.shape",
        "must warm up in fewer steps",
    ),
    "pages to tune on": (
        "released",
        ("source: chat", "source: math"),
        "instruct.default.source",
        "must hold dialogues",
    ),
    "labels that score what is written": (
        "released",
        (
            "rephrase: {}",
            "rephrase:\n  more: {from: web, scores: [1], engine: judge, prompts: [article], "
            "max_score: 3, seed: 1}",
        ),
        "rephrase.more",
        "add gate: ROW",
    ),
    "an audit by the scorer": (
        "continued",
        ("  judge: auditor", "  judge: encoder"),
        "audit.judge",
        "must be a judge",
    ),
    "a judge of no engine": (
        "released",
        ("engine: guard, prompt", "engine: gaurd, prompt"),
        "evaluate.judges.help.engine",
        "did you mean guard",
    ),
    "a label of another kind": (
        "released",
        ("label: folder", "label: column"),
        "sources.web.label",
        "must be 'folder'",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_refused_with_its_line(mistake: str, tmp_path: Path) -> None:
    name, edit, at, words = MISTAKES[mistake]
    with pytest.raises(SpecError) as error:
        file, params = setup(name, edit, folder=tmp_path)
        file.refuse(file.problems(mistakes(params)))
    (problem, *_) = [problem for problem in error.value.problems if problem.at == at]
    assert words in problem.message
    row = at.split(".")[-2]
    near = (tmp_path / "params.yaml").read_text(encoding="utf-8").splitlines()
    assert any(word in near[problem.line - 1] for word in (row, *at.split(".")[-1:]))


UNMATCHED = {
    "a size of no corpus": (("    tagged: 1", "    taged: 1"), "estimate.tokens.taged", "tagged?"),
    "no size": (("    stackoverflow: 6000000000\n", ""), "estimate.tokens", "of stackoverflow"),
    "a batch the ranks cannot share": (("gpus: 32", "gpus: 48"), "estimate.gpus", "fewer gpus"),
    "heads the ranks cannot share": (("tp: 1\n", "tp: 64\n"), "estimate.tp", "divide gpus"),
    "read too often": (("refuseweb, epochs: 12.0", "refuseweb, epochs: 0.5"), "mixtures", "reads"),
    "made of another corpus": (
        ("rephrased: 1.0", "score_2: {weight: 1.0, replaced_by: rephrased}"),
        "estimate.tokens.rephrased",
        "are made of score_2",
    ),
}


@pytest.mark.parametrize("mistake", UNMATCHED)
def test_sizes_that_do_not_match_are_refused(mistake: str, tmp_path: Path) -> None:
    edit, location, words = UNMATCHED[mistake]
    file, _ = setup("paper", edit, folder=tmp_path)
    with pytest.raises(SpecError) as error:
        lines(file.path, None)
    assert any(at.at.startswith(location) and words in at.message for at in error.value.problems)


# safelm use


def test_use_restores_a_setup_but_no_edit_is_lost(tmp_path: Path) -> None:
    target = tmp_path / "params.yaml"
    use("paper", force=False, target=target)
    use("miniature", force=False, target=target)  # that of the paper is saved: it ships
    edited = target.read_text(encoding="utf-8").replace("seed: 1", "seed: 2")
    target.write_text(edited, encoding="utf-8")
    with pytest.raises(SetupError, match="has edits that are not committed"):
        use("paper", force=False, target=target)
    assert target.read_text(encoding="utf-8") == edited
    use("paper", force=True, target=target)
    assert target.read_bytes() == (SETUPS / "paper.yaml").read_bytes()


def test_an_unknown_setup_is_corrected(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"got papre; files are .*did you mean paper\?"):
        use("papre", force=False, target=tmp_path / "params.yaml")


def test_every_setup_has_a_title_of_its_own() -> None:
    assert [*titles()] == NAMES and len(set(titles().values())) == len(NAMES)


# End to end


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_a_setup_runs_end_to_end_in_small(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--full"):
        pytest.skip("takes a quarter of an hour; --full runs it")
    project = copy_of_the_project(tmp_path / "safelm")
    params = build_setup(project, name)
    build = project.root / "build"
    summary = json.loads((build / "report/summary.json").read_bytes())
    assert set(summary["models"]) == set(params["models"])
    for corpus in ("rephrased", "refusals", "education", "tagged"):
        assert Manifest.read(build / "tokenize" / corpus).ledger.rows_out
    if name == "released":
        # Every page has the score of its folder, and no other.
        scores = {row["id"]: row["score"] for row in rows_of(build / "score/web")}
        labels = {row["id"]: WORLD[row["text"]] for row in rows_of(build / "clean/web")}
        assert scores == labels and set(labels.values()) == set(range(6))
    if name == "continued":
        # The weights got the tag, and dialogues of several exchanges came in.
        train = json.loads((build / "instruct/safe/train.json").read_bytes())
        assert train["knows_tag"] and train["pairs"]["tagged"]
        assert any(row["parent"] for row in rows_of(build / "clean/chat"))
    shutil.rmtree(project.root)
