"""Dependencies of dvc.yaml: DVC looks at exactly the stages whose keys an edit changes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.dependencies import (
    code_read,
    read_stages,
    refuse_outdated_rows,
    update_dependencies,
)
from pipeline.rows import rows_read
from safelm.builder.fingerprint import import_closure
from safelm.builder.locks import StageError
from tests.conftest import Project
from tests.sketch import commit, sketch

# The modules that define the blocks and the artifact functions of each stage: their closures enter
# its keys, with the scorers of params.yaml (a lexicon and n-grams) and its template engine.
SCORERS = ("safelm.scoring.lexicon", "safelm.scoring.ngrams", "safelm.scoring.base")
JUDGED = ("safelm.documents.shards", *SCORERS)
WRITERS = ("safelm.synthesis.writer", "safelm.llm.templates.engine", *JUDGED)
MODULES = {
    "ingest": (
        "safelm.ingestion.demo",
        "safelm.ingestion.child_safety",
        "safelm.ingestion.duplicates",
        "safelm.documents.shards",
    ),
    "clean": ("safelm.cleaning.clean", "safelm.documents.shards"),
    "annotate": ("safelm.scoring.pool", *JUDGED),
    "fit": ("safelm.scoring.fit", *JUDGED),
    "score": ("safelm.scoring.ensemble", *JUDGED),
    "audit": ("safelm.scoring.audit", *JUDGED),
    "rephrase": WRITERS,
    "refuse": WRITERS,
    "educate": WRITERS,
    "tag": ("safelm.corpora.tagging", "safelm.documents.shards"),
    "card": ("safelm.corpora.report_card", "safelm.scoring.registry", *JUDGED),
    "tokenizer": ("safelm.corpora.tokenization",),
    "tokenize": ("safelm.corpora.token_files", "safelm.documents.shards"),
    "mix": ("safelm.corpora.mixing.mixture",),
    "pretrain": ("safelm.pretraining.launch",),
    "instruct": ("safelm.posttraining.stages",),
    "finetune": ("safelm.posttraining.stages",),
    "overlap": ("safelm.evaluation.overlap",),
    "evaluate": ("safelm.evaluation.evaluate",),
    "relearn": ("safelm.evaluation.attacks.relearning",),
    "compare": ("safelm.evaluation.evaluate",),
    "attack": ("safelm.evaluation.attacks.attack",),
    "report": ("safelm.report.build",),
}
# An edit of a module, and the stages that DVC looks at although their keys stay: they depend on its
# folder, or make blocks with a registry that imports it. Elsewhere these sets are empty.
MODULE_EDITS = {
    "safelm/ingestion/html.py": {"ingest"},  # a reader that no source uses
    "safelm/scoring/lexicon.py": set(),
    "safelm/synthesis/gates.py": set(),
    "safelm/corpora/tagging.py": set(),
    "safelm/corpora/mixing/mixture.py": set(),
    "safelm/pretraining/worker.py": set(),
    "safelm/posttraining/trainer.py": set(),
    "safelm/models/chat.py": set(),
    "safelm/decoding/branch.py": set(),
    "safelm/demo/world.py": {"clean"},  # prompts of suites, which are values of a block
    "safelm/evaluation/judges/demo_rule.py": set(),
    "safelm/llm/server.py": {"annotate", "audit", "score"},  # the registry of scorers
    "safelm/stats/ranking.py": {"clean", "report"},
    "safelm/builder/scheduler.py": {"ingest", "clean", "annotate", "fit", "score"},
    "safelm/report/build.py": set(),
    "safelm/serve/server.py": set(),
    "safelm/maintenance/gc.py": set(),
    "specs/paper.py": set(),
    "specs/params.py": set(),
}
# An edit of data or params: words, what they become, and the stages that must be made again. DVC
# watches blocks of params.yaml: the last set are stages whose key has only other rows of a block.
DATA_EDITS = {
    "a prompt": ("specs/prompts/rephrase/podcast.yaml", "", "# edited\n", {"rephrase"}, set()),
    "a prompt of no row": ("specs/judges/harm.yaml", "", "# edited\n", set(), set()),
    "a suite": (
        "specs/suites/harmful.yaml",
        "",
        "# edited\n",
        {"overlap", "evaluate"},
        {"compare"},
    ),
    "a suite of no row": ("specs/suites/xstest.yaml", "", "# edited\n", set(), set()),
    "a shape": ("specs/shapes/nano.yaml", "", "# edited\n", {"pretrain"}, {"mix"}),
    "the budget of mixtures": (
        "params.yaml",
        "  tokens: 450000\n",
        "  tokens: 400000\n",
        {"mix"},
        set(),
    ),
    "a weight of one mixture": (
        "params.yaml",
        "refusals: 1.0",
        "refusals: 2.0",
        {"mix@safe", "report"},
        set(),
    ),
    "the rate of tags": (
        "params.yaml",
        "rate: 0.05",
        "rate: 0.1",
        {"tag@unsafe", "instruct", "report"},
        set(),
    ),
    "the scores of a writer": (
        "params.yaml",
        "    scores: [1, 2, 3]",
        "    scores: [2, 3]",
        {"rephrase@safe_web", "report"},
        set(),
    ),
    "a gate": (
        "params.yaml",
        "min_words: 12",
        "min_words: 13",
        {"rephrase", "refuse", "educate"},
        set(),
    ),
    "a prompt of every suite more": (
        "params.yaml",
        "max_prompts: 144",
        "max_prompts: 145",
        {"overlap", "evaluate", "relearn", "report"},
        {"compare", "attack"},
    ),
}
# One process asks DVC after every edit: to load DVC takes longer than to ask it.
ASK = """
import json, sys
from pathlib import Path
from dvc.repo import Repo
found = []
for name, old, new in json.load(sys.stdin):
    path = Path(name)
    before = path.read_bytes()
    text = before.decode()
    assert old in text, (name, old)
    path.write_text(text.replace(old, new, 1) if old else text + new)
    with Repo() as repo:
        found.append(sorted(repo.status()))
    path.write_bytes(before)
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return sketch(tmp_path_factory.mktemp("sketch") / "safelm")


@pytest.fixture(scope="module")
def changed(project: Project) -> dict[str, set[str]]:
    """The stages that DVC calls out of date after each edit."""
    edits = {path: (path, "", "\nEDITED = 1\n") for path in MODULE_EDITS}
    edits |= {name: edit[:3] for name, edit in DATA_EDITS.items()}
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=project.root,
        input=json.dumps(list(edits.values())),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(edits, map(set, json.loads(done.stdout)), strict=True))


def groups(stages: set[str]) -> set[str]:
    """Stages by the name that their branches share."""
    return {stage.partition("@")[0] for stage in stages}


@pytest.mark.parametrize("path", MODULE_EDITS)
def test_dvc_sees_an_edit_of_a_module_where_a_key_changes(
    path: str, changed: dict[str, set[str]]
) -> None:
    module = path.removesuffix(".py").replace("/", ".")
    made_again = {stage for stage, modules in MODULES.items() if module in import_closure(modules)}
    assert groups(changed[path]) == made_again | MODULE_EDITS[path]


@pytest.mark.parametrize("name", DATA_EDITS)
def test_dvc_sees_an_edit_of_data_or_params_where_a_key_changes(
    name: str, changed: dict[str, set[str]]
) -> None:
    *_, made_again, looked_at = DATA_EDITS[name]
    expected = made_again | looked_at
    found = changed[name]
    assert {stage if stage in expected else stage.partition("@")[0] for stage in found} == expected


def test_every_stage_has_its_modules_in_the_table() -> None:
    assert set(MODULES) == set(read_stages())


@pytest.mark.parametrize("stage", MODULES)
def test_a_stage_depends_on_every_module_of_its_keys(stage: str) -> None:
    listed = code_read(stage)
    paths = [_path(module) for module in import_closure(MODULES[stage])]
    parents = {path: [path, *map(str, Path(path).parents)] for path in paths}
    assert [path for path in paths if not set(parents[path]).intersection(listed)] == []


def _path(module: str) -> str:
    path = Path(*module.split("."))
    return str(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))


STAGES = {
    "ingest": {"foreach": "${sources}", "do": {"outs": ["build/ingest/${key}"]}},
    "evaluate": {
        "matrix": {"model": "${models}", "stage": ["base", "tuned"]},
        "outs": ["build/evaluate/${item.model}-${item.stage}"],
    },
}
PARAMS = {
    "sources": {"web": {}, "math": {}},
    "models": {"a": {}, "b": {}},
    "evaluate": {"suites": ["harmful", "benign"]},
    "relearn": {
        "one": {"models": ["a", "b"], "stage": "tuned"},
        "two": {"models": ["a"], "stage": "base"},
    },
}


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("build/ingest/*", ["build/ingest/math", "build/ingest/web"]),
        ("build/evaluate/*-base", ["build/evaluate/a-base", "build/evaluate/b-base"]),
        ("specs/{evaluate.suites}.yaml", ["specs/benign.yaml", "specs/harmful.yaml"]),
        (
            "build/{relearn.stage}/{relearn.models}",
            ["build/base/a", "build/tuned/a", "build/tuned/b"],
        ),
        ("specs/{relearn.prompt}.yaml", []),
        ("build/*", []),
    ],
)
def test_a_pattern_stands_for_rows(pattern: str, paths: list[str]) -> None:
    stages = {**STAGES, "report": {"meta": {"reads": [pattern]}}}
    assert rows_read("report", stages, PARAMS) == paths


ROWS = """\
  talks:
    {from: web, scores: [3, 4, 5], engine: template, prompts: [talk], max_score: 2, seed: 1}

refuse:
"""
CORPUS = "  talks: {from: rephrase/talks, epochs: 9.0}\n\ncard:\n"
MODELS = """\
  refused:
    phases:
      - {share: 1, proportions: natural, parts: {score_0: 1.0, refusals: 1.0, talks: 1.0}}

models:
  refused: {mixture: refused, shape: nano, seed: 1}
"""


def test_rows_added_built_and_removed_leave_no_trace(project: Project, tmp_path: Path) -> None:
    """A folder of a removed row stays in build/: it may enter no hash, here or in a clone."""
    params = project.root / "params.yaml"
    before = params.read_text(encoding="utf-8")
    edits = {"\nrefuse:\n": ROWS, "\ncard:\n": CORPUS, "\nmodels:\n": MODELS}
    after = before
    for old, new in edits.items():
        assert old in after
        after = after.replace(old, new, 1)
    params.write_text(after, encoding="utf-8")
    printed = project.run(sys.executable, "-m", "pipeline", "build").stdout
    assert "report reads other rows now" in printed
    assert (project.root / "build/evaluate/refused-finetune/made").is_file()
    assert (project.root / "build/rephrase/talks/made").is_file()
    for row in ("build/pretrain/refused", "build/rephrase/talks", "specs/prompts/rephrase/talk"):
        assert row in (project.root / "dvc.yaml").read_text(encoding="utf-8")

    params.write_text(before, encoding="utf-8")
    project.run(sys.executable, "-m", "pipeline", "build")
    assert (project.root / "build/evaluate/refused-finetune/made").is_file()
    project.dvc("remote", "add", "--force", "--default", "shared", str(tmp_path / "remote"))
    project.dvc("push", "--quiet")
    commit(project, "Remove the rows")
    project.run("git", "clone", "-q", str(project.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.dvc("pull", "--quiet")
    assert "everything is up to date" in clone.run(sys.executable, "-m", "pipeline", "build").stdout
    assert not (clone.root / "build/evaluate/refused-finetune").exists()
    assert not (clone.root / "build/rephrase/talks").exists()


def test_dvc_alone_refuses_rows_that_dvc_yaml_does_not_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stages = {"report": {"meta": {"reads": ["build/mix/{mixtures.name}"]}, "deps": ["build/mix/a"]}}
    Path("dvc.yaml").write_text(json.dumps({"stages": stages}))
    Path("params.yaml").write_text(json.dumps({"mixtures": {"b": {"name": "b"}}}))
    with pytest.raises(StageError, match="`safelm check` updates it"):
        refuse_outdated_rows("report")
    update_dependencies(with_code=False)
    refuse_outdated_rows("report")


def test_the_rest_of_dvc_yaml_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = """\
# A comment.
stages:
  report:  # another
    meta: {reads: ["build/mix/{mixtures.name}"]}
    deps:
      - notes.txt
      - build/mix/old
    params: [report]
"""
    Path("dvc.yaml").write_text(text)
    Path("params.yaml").write_text(json.dumps({"mixtures": {"b": {"name": "b"}}}))
    assert update_dependencies(with_code=False) == ["report"]
    listed = "    deps: [notes.txt, build/mix/b]\n"
    assert Path("dvc.yaml").read_text() == text.replace(
        "    deps:\n      - notes.txt\n      - build/mix/old\n", listed
    )
    assert update_dependencies(with_code=False) == []
