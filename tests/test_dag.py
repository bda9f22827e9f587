"""Test the whole DAG, small: what it builds, and what an edit of params.yaml makes stale."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from safelm.builder.manifest import Manifest
from tests.conftest import Project, copy_of_the_project

MODEL_STAGES = ("pretrain", "instruct", "finetune")
DATA_STAGES = (
    "ingest",
    "clean",
    "annotate",
    "score",
    "rephrase",
    "refuse",
    "educate",
    "tag",
    "tokenize",
)


def manifests(root: Path, *folders: str) -> dict[str, bytes]:
    found = [
        path for folder in folders for path in (root / "build" / folder).rglob("manifest.json")
    ]
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(found)}


def restored(project: Project, name: str) -> "Restored":
    return Restored(project, name)


class Restored:
    """Puts a file, and the build, back as they were."""

    def __init__(self, project: Project, name: str) -> None:
        self.project, self.path = project, project.root / name

    def __enter__(self) -> None:
        self.text = self.path.read_text(encoding="utf-8")
        self.lock = (self.project.root / "dvc.lock").read_text(encoding="utf-8")

    def __exit__(self, *error: object) -> None:
        self.path.write_text(self.text, encoding="utf-8")
        (self.project.root / "dvc.lock").write_text(self.lock, encoding="utf-8")
        self.project.dvc("checkout", "--quiet", "--force")


def test_the_summary_holds_every_model_and_stage(built: Project) -> None:
    summary = json.loads((built.root / "build/report/summary.json").read_text(encoding="utf-8"))
    assert set(summary["models"]) == {"standard", "safe"}
    for model in summary["models"].values():
        assert set(model) == set(MODEL_STAGES)
        for stage in model.values():
            rates = [
                stage[decoder][name]
                for decoder in ("greedy", "safebeam")
                for name in ("asr", "over_refusal")
            ]
            for rate in [*rates, stage["utility"]["accuracy"]]:
                assert rate["low"] <= rate["value"] <= rate["high"]
                assert rate["value"] == pytest.approx(rate["count"] / rate["of"], abs=1e-6)


def test_every_claim_has_a_verdict(built: Project) -> None:
    summary = json.loads((built.root / "build/report/summary.json").read_text(encoding="utf-8"))
    verdicts = {claim["verdict"] for claim in summary["claims"]}
    assert summary["claims"] and verdicts <= {
        "reproduced",
        "contradicted",
        "not distinguishable",
        "judges disagree",
        "not testable",
        "not measured",
    }


def test_every_row_of_every_data_stage_is_accounted_for(built: Project) -> None:
    found = manifests(built.root, *DATA_STAGES)
    assert len(found) >= len(DATA_STAGES)
    for data in found.values():
        Manifest.parse(data).ledger.check("dag")


def test_a_second_build_runs_nothing(built: Project) -> None:
    assert "up to date" in built.run(sys.executable, "-m", "pipeline", "build").stdout
    assert "Data and pipelines are up to date." in built.dvc("repro")


def test_verify_finds_all_whole_and_doctor_nothing(built: Project) -> None:
    """Of every stage: those of one folder, of folders with manifests inside, of pieces, of no
    manifest at all.
    """
    assert "all whole" in built.run(sys.executable, "-m", "pipeline", "verify").stdout
    built.run(sys.executable, "-m", "pipeline", "doctor")


def test_dvc_shows_metrics_and_plots(built: Project) -> None:
    assert "safe-pretrain.json" in built.dvc("metrics", "show")
    page = built.dvc("plots", "show").strip().removeprefix("file://")
    assert Path(page).stat().st_size > 10_000


def test_a_mixture_weight_makes_only_its_own_branch_stale(built: Project) -> None:
    with restored(built, "params.yaml"):
        built.edit("params.yaml", ("refusals: 1.0", "refusals: 2.0"))
        assert built.changed() == {"mix@safe", "report"}
        built.dvc("repro", "--single-item", "mix@safe")
        assert built.changed() == {"pretrain@safe", "report"}


def test_a_threshold_of_rephrase_makes_no_earlier_stage_stale(built: Project) -> None:
    with restored(built, "params.yaml"):
        built.edit("params.yaml", ("    scores: [1, 2, 3]", "    scores: [2, 3]"))
        assert built.changed() == {"rephrase@safe_web", "report"}
        built.dvc("repro", "--single-item", "rephrase@safe_web", "tokenize@rephrased", "mix")
        changed = built.changed()
        assert "pretrain@safe" in changed and "pretrain@standard" not in changed
        assert not {"ingest@web", "fit", "score@web", "tokenizer", "tokenize@score_0"} & changed


def test_a_mixture_row_is_one_branch(built: Project) -> None:
    with restored(built, "params.yaml"):
        phase = "{share: 1, proportions: natural, parts: {score_0: 1.0, refusals: 1.0}}"
        row = f"  refused:\n    phases:\n      - {phase}\n"
        built.edit(
            "params.yaml",
            (
                "\nmodels:\n",
                f"{row}\nmodels:\n  refused: {{mixture: refused, shape: nano, seed: 1}}\n",
            ),
        )
        new = {"mix@refused", *(f"{stage}@refused" for stage in MODEL_STAGES)}
        new |= {f"evaluate@refused-{stage}" for stage in MODEL_STAGES}
        assert built.changed() == new | {"report"}
        ask = "from safelm.builder.status import outdated; print(*outdated().needs)"
        assert set(built.run(sys.executable, "-c", ask).stdout.split()) == new | {"report"}


def test_a_colleague_pulls_and_runs_nothing(built: Project, tmp_path: Path) -> None:
    built.dvc("remote", "add", "--force", "--default", "shared", str(tmp_path / "remote"))
    built.dvc("push", "--quiet")
    built.run("git", "add", "-A")
    built.run(
        "git",
        "-c",
        "user.name=test",
        "-c",
        "user.email=test@example.org",
        "commit",
        "-q",
        "-m",
        "Build",
    )
    built.run("git", "clone", "-q", str(built.root), str(tmp_path / "clone"))
    colleague = Project(tmp_path / "clone")
    colleague.dvc("pull", "--quiet")
    assert "Data and pipelines are up to date." in colleague.dvc("repro")
    # One page more: the pulled shards are known, so only what reads the new page is made.
    assert manifests(colleague.root, "ingest") == manifests(built.root, "ingest")


def test_another_folder_and_one_worker_give_the_same_bytes(built: Project, tmp_path: Path) -> None:
    other = copy_of_the_project(tmp_path / "deep" / "down" / "elsewhere")
    target = ["pretrain@standard", "card"]
    other.run(
        sys.executable,
        "-m",
        "dvc",
        "repro",
        *target,
        SAFELM_WORKERS="1",
        TZ="Asia/Tokyo",
        PYTHONHASHSEED="7",
    )
    ours = manifests(other.root, *DATA_STAGES)
    assert ours == {
        name: data for name, data in manifests(built.root, *DATA_STAGES).items() if name in ours
    }
    locks = [
        yaml.safe_load((project.root / "dvc.lock").read_text())["stages"]
        for project in (built, other)
    ]
    assert {name: locks[1][name]["outs"] for name in locks[1]} == {
        name: locks[0][name]["outs"] for name in locks[1]
    }
    shutil.rmtree(other.root)
