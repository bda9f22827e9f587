"""Damage to a build: `verify` finds it and names its stage, and `--repair` undoes it (I1, I2)."""

import hashlib
import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from safelm.builder.paths import cache
from safelm.maintenance.verify.lock_file import read_lock
from safelm.maintenance.verify.report import Fault
from tests.faults.damage import DAMAGE, Target, check_build, flip, junk, overwrite, targets
from tests.faults.toy import Toy

TOGETHER = 5  # flips in one repair
Counter = Callable[[int, int], int]


def verify(toy: Toy, *arguments: str) -> tuple[int, str]:
    running = toy.start("pipeline", "verify", *arguments)
    return running.wait(), running.text


def restores(toy: Toy, oracle: Toy) -> None:
    """Repair, and check that the build equals the undamaged one and that DVC has nothing to do."""
    code, text = verify(toy, "--repair")
    assert code == 0 and "all whole" in text, text
    assert toy.state() == oracle.state()
    assert check_build().findings == []
    assert "up to date" in toy.build()


def names(target: Target) -> bool:
    """Return whether the damaged file is found with a stage that owns it, by any of its names.

    A swap may damage the listing of the same folder too, behind which nothing can be seen.
    """
    for finding in check_build().findings:
        there = finding.path.exists() and target.path.exists()
        same = target.path in (finding.path, finding.name) or (
            there and finding.path.samefile(target.path)
        )
        if finding.stage in target.stages and (same or finding.path.suffix == ".dir"):
            return True
    return False


def test_every_flipped_bit_is_found_and_its_stage_named(finished: Toy, count: Counter) -> None:
    draw, all_of_them = random.Random(1), targets()
    for _ in range(count(50, 500)):
        target = draw.choice(all_of_them)
        before = target.path.read_bytes()
        flip(target, draw)
        assert names(target), target
        overwrite(target.path, before)
        assert not check_build().findings


def test_every_other_damage_is_found_and_its_stage_named(
    finished: Toy, count: Counter, tmp_path: Path
) -> None:
    draw, all_of_them = random.Random(2), targets()
    for number in range(count(20, 100)):
        kind, target = list(DAMAGE)[number % len(DAMAGE)], draw.choice(all_of_them)
        subprocess.run(["cp", "-a", "build", ".dvc", str(tmp_path)], check=True)
        DAMAGE[kind](target, draw)
        assert check_build().code and (kind == "extra" or names(target)), (kind, target)
        for name in ("build", ".dvc"):
            shutil.rmtree(name)
            (tmp_path / name).rename(name)


@pytest.mark.cases(quick=1, full=100)
def test_flipped_bits_are_undone(finished: Toy, oracle: Toy, case: int) -> None:
    draw = random.Random(case)
    for target in draw.sample(targets(), TOGETHER):
        flip(target, draw)
    restores(finished, oracle)


@pytest.mark.cases(quick=1, full=20)
def test_every_other_damage_is_undone(finished: Toy, oracle: Toy, case: int) -> None:
    draw = random.Random(case)
    for kind in DAMAGE:
        DAMAGE[kind](draw.choice([one for one in targets() if one.path.exists()]), draw)
    junk(draw)
    restores(finished, oracle)
    doctor = finished.start("pipeline", "doctor", "--fix")
    assert doctor.wait() == 0 and doctor.text.count("was being written to the cache") == 2, (
        doctor.text
    )


def test_damage_behind_a_damaged_listing_is_not_taken_by_key(finished: Toy, oracle: Toy) -> None:
    stage = read_lock()["ingest"]
    md5 = str(stage.outs[0].md5)
    for path in (
        finished.root / "build/ingest/web/00002.quarantine.jsonl",
        cache() / md5[:2] / md5[2:],
    ):
        flip(Target(path, frozenset()), random.Random(6))
    restores(finished, oracle)


def colleague(toy: Toy, root: Path, *, verified: bool) -> Toy:
    """Clone the project as somebody who has dvc.lock and the remote, and nothing else."""
    other = Toy.make(root)
    shutil.copy(toy.root / "dvc.lock", root)
    config = (root / ".dvc/config").read_text(encoding="utf-8")
    settings = f"    url = {toy.root / 'remote'}\n    verify = {str(verified).lower()}\n"
    config = config.replace("[core]", "[core]\n    remote = shared")
    config += f"['remote \"shared\"']\n{settings}"
    (root / ".dvc/config").write_text(config, encoding="utf-8")
    return other


def push(toy: Toy) -> list[Path]:
    """Push the build to a remote in `remote/`; return its objects."""
    for words in (
        ("remote", "add", "--default", "shared", str(toy.root / "remote")),
        ("push", "--quiet"),
    ):
        assert toy.start("dvc", *words).wait() == 0
    return sorted(path for path in (toy.root / "remote/files/md5").rglob("*") if path.is_file())


@pytest.mark.cases(quick=1, full=20)
def test_damage_in_the_remote_is_refused_or_found_and_undone(
    finished: Toy, oracle: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: int
) -> None:
    draw = random.Random(case)
    flip(
        Target(
            draw.choice([path for path in push(finished) if path.suffix != ".dir"]), frozenset()
        ),
        draw,
    )
    careful = colleague(finished, tmp_path / "careful", verified=True)
    assert careful.start("dvc", "pull", "--quiet").wait() != 0
    trusting = colleague(finished, tmp_path / "trusting", verified=False)
    assert trusting.start("dvc", "pull", "--quiet").wait() == 0
    monkeypatch.chdir(trusting.root)
    assert len(check_build().findings) >= 1
    restores(trusting, oracle)


def test_what_the_remote_has_whole_is_not_made_again(finished: Toy, oracle: Toy) -> None:
    push(finished)
    for target in random.Random(3).sample(
        [one for one in targets() if one.path.parts[0] == ".dvc"], 8
    ):
        flip(target, random.Random(4))
    code, text = verify(finished, "--repair")
    assert code == 0 and "fetched" in text and "again" not in text, text
    assert finished.state() == oracle.state()


def test_a_listing_that_leads_out_is_not_followed(
    finished: Toy, oracle: Toy, tmp_path: Path
) -> None:
    """A hostile remote gives dvc.lock and a listing (S1); DVC alone writes outside of it (F10)."""
    stage = read_lock()["tokenizer"]
    old = str(stage.outs[0].md5)
    evil = json.dumps(
        [{"md5": hashlib.md5(b"x").hexdigest(), "relpath": "../../../escaped"}]
    ).encode()
    new = hashlib.md5(evil).hexdigest() + ".dir"
    finished.edit("dvc.lock", old, new)
    for md5, data in ((new, evil), (hashlib.md5(b"x").hexdigest(), b"x")):
        path = cache() / md5[:2] / md5[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o444)
    build = finished.start("pipeline", "build")
    assert (
        build.wait() == 1 and "names a file outside of its folder: '../../../escaped'" in build.text
    )
    assert verify(finished)[0] & Fault.CORRUPT
    code, text = verify(finished, "--repair")
    assert code == 0, text
    assert finished.state() == oracle.state()
    assert not list(tmp_path.rglob("escaped")) and not list(tmp_path.parent.glob("escaped"))


def test_a_damaged_object_of_an_earlier_build_is_found_before_dvc_brings_it_back(
    finished: Toy, oracle: Toy
) -> None:
    earlier = [one for one in targets() if one.path.parts[0] == ".dvc" and "tag" in one.stages]
    finished.change("tags.unsafe", rate=0.25)
    finished.build()
    flip(earlier[0], random.Random(5))
    assert verify(finished)[0] == 0  # the current build does not need it
    assert verify(finished, "--all")[0] == Fault.CORRUPT
    assert verify(finished, "--all", "--repair")[0] == 0
    finished.change("tags.unsafe", rate=0.5)
    finished.build()
    assert finished.state() == oracle.state()
