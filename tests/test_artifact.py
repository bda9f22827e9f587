"""Artifacts have keys too: they are made once, whole or not at all, and are on disk once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from safelm.builder import fingerprint as code
from safelm.builder.artifact import Part, artifact
from safelm.builder.digest import content_digest
from safelm.builder.locks import StageError
from safelm.builder.manifest import DamagedShard, Manifest
from safelm.builder.paths import build, cache
from safelm.builder.shards import Shard
from safelm.builder.stage import import_records
from safelm.builder.store import Store

ROOT = Path(__file__).resolve().parent.parent
INDEX = Path(".safelm/index")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("words").mkdir()
    Path("words/one.txt").write_text("rose")
    return tmp_path


def model(folder: Path, *, words: Path, seed: int, change: str = "") -> list[str]:
    """Write two files; note the call, and change an input if told to."""
    with Path("calls").open("a") as file:
        file.write("x")
    text = (words / "one.txt").read_text()
    (folder / "deep").mkdir()
    (folder / "model.bin").write_text(f"{text} {seed}")
    (folder / "deep" / "state").write_text(text)
    if change:
        (words / "one.txt").write_text(change)
    return [f"model of {text}"]


def made(**values: object) -> int:
    """Build the artifact; return how many times the model was made."""
    Path("calls").write_text("")
    artifact("model/safe", model, **{"words": Path("words"), "seed": 1, **values})
    return len(Path("calls").read_text())


def test_a_cached_artifact_is_not_made_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert (made(), made()) == (1, 0)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "model of rose"
    assert second.startswith("model/safe         cached  2 files, 10 bytes")
    assert build("model/safe/deep/state").read_text() == "rose"


def test_another_value_or_another_input_makes_it_and_going_back_does_not() -> None:
    assert made() == 1
    assert made(seed=2) == 1
    Path("words/one.txt").write_text("tree")
    assert made() == 1 and build("model/safe/model.bin").read_text() == "tree 1"
    Path("words/one.txt").write_text("rose")
    assert (made(), made(seed=2)) == (0, 0)
    assert build("model/safe/model.bin").read_text() == "rose 2"


def test_a_comment_makes_nothing_and_a_change_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "ROOT", tmp_path)
    monkeypatch.setattr(model, "__module__", "safelm.thing")
    Path("safelm").mkdir()
    counts = []
    for text in (
        "import torch\nx = 1\n",
        '"""Doc."""\nimport torch  # why\n\nx = 1\n',
        "import torch\nx = 2\n",
    ):
        Path("safelm/thing.py").write_text(text)
        counts.append(made())
    assert counts == [1, 0, 1]


def test_code_that_is_started_by_name_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "safelm.pretraining.worker" in code.import_closure(["safelm.pretraining.launch"])
    assert "nanotron" in code.libraries(["safelm.pretraining.launch"])


def test_an_artifact_is_on_disk_once() -> None:
    made()
    assert build("model/safe/model.bin").stat().st_nlink == 2


def test_an_error_leaves_nothing() -> None:
    with pytest.raises(FileNotFoundError):
        made(words=Path("nowhere"))
    assert not build("model/safe").exists() and not list(cache().parent.parent.rglob("*.bin"))


DYING = """
import os, signal
from safelm.builder.artifact import artifact

def dying(folder):
    (folder / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

artifact("model/safe", dying)
"""


def test_a_killed_artifact_leaves_nothing() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", DYING], env=environment)
    assert done.returncode == -9
    assert not any(path.exists() for path in (build("model/safe"), INDEX, cache()))
    assert made() == 1


def test_an_input_that_changes_during_the_run_is_an_error() -> None:
    with pytest.raises(StageError, match="model/safe: a file or the code changed during the run"):
        made(change="tree")
    assert not build("model/safe").exists() and not INDEX.exists()


def test_an_artifact_without_a_file_is_an_error() -> None:
    with pytest.raises(StageError, match="model/safe: expected at least one file"):
        artifact("model/safe", lambda folder: [])


def test_a_damaged_input_is_refused() -> None:
    made()
    path = build("model/safe/deep/state")
    path.unlink()
    path.write_text("ruse")
    with pytest.raises(DamagedShard, match="build/model/safe/deep/state: expected sha256"):
        artifact("copy", lambda folder, base: [], base=build("model"))


def test_a_folder_counts_by_what_was_made_not_by_how() -> None:
    made()
    before = content_digest(build("model/safe"))
    made(seed=2)
    made(seed=1, change="")  # the same bytes, by another key
    assert content_digest(build("model/safe")) == before != content_digest(build("model"))


def test_a_manifest_cannot_write_outside_of_its_folder() -> None:
    made()
    text = build("model/safe/manifest.json").read_text()
    for name in ("../../escaped", "/escaped", "deep/../../x"):
        with pytest.raises((DamagedShard, ValueError), match="file"):
            Manifest.parse(text.replace("deep/state", name).encode())


def test_a_pulled_artifact_is_cached_without_the_index() -> None:
    import hashlib
    import shutil

    made()
    data = build("model/safe/manifest.json").read_bytes()
    md5 = hashlib.md5(data).hexdigest()
    store = Store(cache(), Path(".safelm"))
    listing = json.dumps([{"md5": md5, "relpath": "manifest.json"}]).encode()
    name_of_listing = f"{hashlib.md5(listing).hexdigest()}.dir"
    for name, content in ((md5, data), (name_of_listing, listing)):
        store.object(name).parent.mkdir(parents=True, exist_ok=True)
        store.object(name).write_bytes(content)
    Path("dvc.lock").write_text(
        f"stages:\n  model:\n    outs:\n    - {{path: build/model/safe, md5: {name_of_listing}}}\n"
    )
    shutil.rmtree(".safelm")
    assert import_records("model/safe", store) == 1
    assert made() == 0


def words_of(folder: Path, *, text: str) -> list[str]:
    """Write a part and note the call."""
    with Path("calls").open("a") as file:
        file.write(text[0])
    (folder / ".txt").write_text(text.split()[0])
    return []


def joined(folder: Path, *, parts: list[Shard]) -> list[str]:
    """Write a part from others and note the call."""
    with Path("calls").open("a") as file:
        file.write("+")
    (folder / ".txt").write_text(" ".join(part.bytes().decode() for part in parts))
    return []


def test_a_part_of_parts_is_made_after_them_and_again_only_when_they_differ() -> None:
    def calls(second: str) -> str:
        Path("calls").write_text("")
        parts = {
            "first": Part(words_of, {"text": "rose"}),
            "second": Part(words_of, {"text": second}),
        }
        whole = Part(joined, {"parts": list(parts.values())})
        artifact(
            "parts",
            lambda folder, parts: (folder / "names").write_text("x") and [],
            parts={"whole": whole, **parts},
        )
        return Path("calls").read_text()

    assert calls("tree") == "rt+" and build("parts/whole.txt").read_text() == "rose tree"
    assert calls("tree and leaf") == "t"  # another part with the same content
    assert calls("oak") == "o+" and build("parts/whole.txt").read_text() == "rose oak"
    assert calls("tree") == ""
