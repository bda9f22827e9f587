"""After a change, and whatever is left over, a build equals a clean one (R2, R3)."""

import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import forked
from tests.faults.inject import Fault
from tests.faults.toy import SMALL, State, Toy, small
from tests.faults.whole import torn


def add_a_row(toy: Toy) -> None:
    with (toy.root / "web/01.jsonl").open("a") as file:
        file.write(
            '{"text": "How to steal the painting in street 9. First, wait. Then, take it."}\n'
        )


def add_a_file(toy: Toy) -> None:
    shutil.copy(toy.root / "web/01.jsonl", toy.root / "web/00a.jsonl")


def remove_a_file(toy: Toy) -> None:
    (toy.root / "web/01.jsonl").unlink()


def swap_two_files(toy: Toy) -> None:
    first, second = toy.root / "web/00.jsonl", toy.root / "web/01.jsonl"
    first.rename(toy.root / "web/x")
    second.rename(first)
    (toy.root / "web/x").rename(second)


def change_the_version_of_a_library(toy: Toy) -> None:
    """Put a distribution of the same name first on the path, as Python finds versions."""
    folder = toy.root / "pyarrow-99.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: pyarrow\nVersion: 99.0\n")


def change_the_licence(toy: Toy) -> None:
    toy.edit("params.yaml", "license: CC0-1.0", "license: CC-BY-4.0")  # of the first source, web


CHANGES: dict[str, Callable[[Toy], None]] = {
    "a row": add_a_row,
    "a file more": add_a_file,
    "files swapped": swap_two_files,
    "a file less": remove_a_file,
    "licence of the source": change_the_licence,
    "number of shards": lambda toy: toy.change("ingest", rows_per_shard=5),
    "longest document": lambda toy: toy.change(
        "ingest", max_document_bytes=64, max_quarantined_share=0.9
    ),
    "ensemble": lambda toy: toy.change("score", ensemble={"rule": "mean", "of": ["lexicon"]}),
    "rate": lambda toy: toy.change("tags.unsafe", rate=0.25),
    "seed": lambda toy: toy.change("tags.unsafe", seed=2),
    "mode": lambda toy: toy.change("tags.unsafe", mode="exact"),
    "selection": lambda toy: toy.change("tags.unsafe", scores=[5]),
    "library": change_the_version_of_a_library,
}
TRIES = 5


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], State]:
    """Build projects with a change and nothing else; return their states."""
    known: dict[str, State] = {}

    def state(name: str) -> State:
        if name not in known:
            toy = small(tmp_path_factory.mktemp("clean") / "toy")
            CHANGES.get(name, lambda _: None)(toy)
            assert forked.build(toy).code == 0
            known[name] = toy.state()
        return known[name]

    return state


@pytest.mark.cases(quick=len(CHANGES) // 2 + 1, full=len(CHANGES) * TRIES)
def test_nothing_stale_is_used_after_a_change(
    case: int, clean: Callable[[str], State], tmp_path: Path
) -> None:
    draw, name = random.Random(case), list(CHANGES)[case * 2 % len(CHANGES)]
    toy = small(tmp_path / "toy")
    first = forked.build(toy, fault=Fault(draw.randrange(60, 400)))
    assert first.code in (0, -signal.SIGKILL)
    CHANGES[name](toy)
    assert clean(name) != clean("")
    again = forked.build(toy)
    assert again.code == 0, again.text
    assert toy.state() == clean(name), name
    assert torn(toy.root) == []


EDITS = {
    "code": (
        "tag unsafe",
        "safelm/text/tags.py",
        "if draw() < rate]",
        "if draw() < rate / 2]",
    ),
    "code far away": (
        "tag unsafe",
        "safelm/seeding.py",
        ".join(map(str, key))",
        ".join(map(str, key[::-1]))",
    ),
    "model": ("score web", "specs/hazards.yaml", "steal", "take"),
    "prompt": (
        "rephrase safe_web",
        "specs/prompts/rephrase/talk.yaml",
        "no one is afraid",
        "nobody is afraid",
    ),
    "prompts": ("rephrase safe_web", "params.yaml", "- talk", "- article"),
}


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """A project with code of its own, and everything that tag and rephrase read."""
    toy = Toy.make(tmp_path_factory.mktemp("scored") / "toy", **SMALL)
    assert forked.build(toy, "ingest web", "clean web", "score web").code == 0
    return toy


@pytest.mark.cases(quick=2, full=len(EDITS) * TRIES)
def test_nothing_stale_is_used_after_an_edit(case: int, scored: Toy, tmp_path: Path) -> None:
    stage, *edit = list(EDITS.values())[(case * 2 + case // len(EDITS)) % len(EDITS)]
    clean, toy = scored.copy(tmp_path / "clean"), scored.copy(tmp_path / "toy")
    clean.edit(*edit)
    for project in (clean, toy):
        assert project.start(*f"pipeline.{stage}".split()).wait() == 0
    assert clean.state() != toy.state()
    toy.edit(*edit)
    again = toy.start(*f"pipeline.{stage}".split())
    assert again.wait() == 0, again.text
    assert SMALL["files"] in toy.made(again.text).values(), again.text
    assert toy.state() == clean.state()


@pytest.mark.parametrize("name", EDITS)
def test_the_old_text_of_every_edit_occurs(name: str, scored: Toy, tmp_path: Path) -> None:
    """The quick run tries few of the edits, and would not see that a text was moved."""
    _, *edit = EDITS[name]
    scored.copy(tmp_path / "toy").edit(*edit)


def test_a_change_back_makes_nothing(clean: Callable[[str], State], tmp_path: Path) -> None:
    toy = small(tmp_path / "toy")
    for value in (0.5, 0.25, 0.5):
        toy.change("tags.unsafe", rate=value)
        result = forked.build(toy)
    assert set(toy.made(result.text).values()) == {0}
    assert toy.state() == clean("")


def remove(*names: str) -> Callable[[Toy, random.Random], None]:
    def removed(toy: Toy, draw: random.Random) -> None:
        for name in names:
            shutil.rmtree(toy.root / name, ignore_errors=True)

    return removed


def remove_an_object(toy: Toy, draw: random.Random) -> None:
    objects = sorted(toy.root.glob(".dvc/cache/files/md5/??/*"))
    if objects:
        draw.choice(objects).unlink()


def empty_an_object(toy: Toy, draw: random.Random) -> None:
    """Empty an object, as a power loss does to a file that was not synced."""
    objects = [
        path for path in sorted(toy.root.glob(".dvc/cache/files/md5/??/*")) if path.stat().st_size
    ]
    if objects:
        path = draw.choice(objects)
        path.unlink()  # build/ has its own name for the good bytes
        path.touch(mode=0o444)


def damage_objects(toy: Toy, draw: random.Random) -> None:
    """Damage every object of a stage unseen; what is made again must take its place."""
    remove(".safelm/index", "build")(toy, draw)
    for path in toy.root.glob(".dvc/cache/files/md5/??/*"):
        data = bytearray(path.read_bytes())
        path.unlink()
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        path.chmod(0o444)


def damage_a_shard(toy: Toy, draw: random.Random) -> None:
    """Shorten a shard, as a program that writes in place does."""
    found = sorted(toy.root.glob("build/**/*.parquet"))
    if found:
        path = draw.choice(found)
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data[: len(data) // 2])


def leave_stale_shards(toy: Toy, draw: random.Random) -> None:
    for folder in (toy.root / "build/tag/unsafe", toy.root / "build/ingest/web"):
        if folder.exists():
            shutil.copy(sorted(folder.glob("*.parquet"))[0], folder / "99999-00000.parquet")


def leave_marks(toy: Toy, draw: random.Random) -> None:
    """Leave DataTrove's own completion marks for every rank."""
    for stage in ("ingest/web", "score/web", "tag/unsafe"):
        folder = toy.root / ".safelm/logs" / stage / "completions"
        folder.mkdir(parents=True, exist_ok=True)
        for rank in range(8):
            (folder / f"{rank:05d}").touch()


def leave_attempts(toy: Toy, draw: random.Random) -> None:
    """Leave temporary directories of a killed build, one with the number of this process."""
    for folder in (".safelm/attempts", ".dvc/cache/safelm"):
        for name in ("build.tag.1", "artifact.build-tokenizer.1", "0123456789abcdef.host.1"):
            (toy.root / folder / name).mkdir(parents=True, exist_ok=True)
            (toy.root / folder / name / ".parquet").write_bytes(b"half")


REMAINS = (
    remove("build"),
    remove("build/tag/unsafe", "build/tokenizer"),
    remove("build/score"),
    remove(".safelm/index"),
    remove(".safelm"),
    remove(".dvc/cache"),
    remove_an_object,
    empty_an_object,
    damage_objects,
    damage_a_shard,
    leave_stale_shards,
    leave_marks,
    leave_attempts,
)


@pytest.mark.cases(quick=len(REMAINS), full=4 * len(REMAINS))
def test_leftovers_change_nothing(case: int, clean: Callable[[str], State], tmp_path: Path) -> None:
    draw = random.Random(case)
    toy = small(tmp_path / "toy")
    name = ("", "a file more", "a file less")[case % 3]
    CHANGES.get(name, lambda _: None)(toy)
    assert forked.build(toy, fault=Fault(draw.choice([0, 0, 200]))).code in (0, -signal.SIGKILL)
    shutil.rmtree(toy.root / "web")
    shutil.copytree(small(tmp_path / "source").root / "web", toy.root / "web")
    for leave in {REMAINS[case % len(REMAINS)], *draw.sample(REMAINS, draw.randrange(0, 3))}:
        leave(toy, draw)
    again = forked.build(toy)
    assert again.code == 0, again.text
    assert toy.state() == clean("")
