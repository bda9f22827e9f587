"""The scheduler: every stage starts once, after what it reads, in few processes and full lanes."""

import time
from collections import deque
from pathlib import Path

import pytest

from safelm.builder import scheduler
from safelm.builder.manifest import CHANGED
from safelm.builder.scheduler import BuildError, Schedule
from safelm.builder.status import Needs


def batches(needs: Needs, jobs: int) -> list[list[str]]:
    """Build without DVC: lanes end in the order in which they began."""
    schedule, lanes, started = Schedule(needs, jobs), deque[list[str]](), []
    while True:
        while len(lanes) < jobs and (batch := schedule.next_batch()):
            assert all(set(needs[name]) <= schedule.done.union(batch) for name in batch)
            lanes.append(batch)
            started.append(batch)
        if not lanes:
            return started
        schedule.done.update(lanes.popleft())


def shipped() -> Needs:
    """The graph of the project's own dvc.yaml."""
    from dvc.repo import Repo

    with Repo(str(Path(__file__).parents[1])) as repo:
        graph = repo.index.graph
    return {
        stage.addressing: frozenset(needed.addressing for needed in graph.successors(stage))
        for stage in graph
    }


@pytest.mark.parametrize("jobs", [1, 2, 7])
def test_every_stage_of_the_project_starts_once_in_few_processes(jobs: int) -> None:
    needs = shipped()
    started = batches(needs, jobs)
    built = [stage for batch in started for stage in batch]
    assert sorted(built) == sorted(needs) and built[-1] == "report"
    assert len(started) < 0.85 * len(needs)


def test_a_chain_is_one_process() -> None:
    needs = {"a": [], "b": ["a"], "c": ["b"]}
    assert batches(needs, 2) == [["a", "b", "c"]]


def test_branches_that_part_are_built_side_by_side() -> None:
    needs = {"fit": [], "score": ["fit"], "tag": ["fit"], "card": ["score"]}
    assert batches(needs, 2) == [["fit"], ["score", "card"], ["tag"]]


def test_the_longest_way_goes_first() -> None:
    needs = {"card": [], "tune@a": [], "evaluate@a": ["tune@a"], "report": ["card", "evaluate@a"]}
    assert batches(needs, 1)[0] == ["tune@a", "evaluate@a"]


def test_quick_branches_of_a_stage_share_a_process() -> None:
    needs = {f"tokenize@{name}": [] for name in "abcdefgh"}
    assert [len(batch) for batch in batches(needs, 2)] == [4, 2, 1, 1]


def test_slow_branches_have_a_process_each() -> None:
    schedule = Schedule({f"pretrain@{name}": [] for name in "abcdefgh"}, jobs=2)
    schedule.record(["pretrain@z"], seconds=100.0)
    assert schedule.next_batch() == ["pretrain@a"] and schedule.next_batch() == ["pretrain@b"]


def test_a_stage_waits_for_a_running_one() -> None:
    schedule = Schedule({"a": [], "b": [], "c": ["a", "b"]}, jobs=2)
    assert [schedule.next_batch() for _ in range(3)] == [["a"], ["b"], []]
    schedule.done.update("ab")
    assert schedule.next_batch() == ["c"]


@pytest.fixture
def dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command in place of `dvc`, which a test writes: sh gets the words after it."""
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "dvc.sh"
    monkeypatch.setattr(scheduler, "DVC", ["sh", str(script)])
    return script


def test_a_failing_stage_shows_the_end_of_its_log_and_where_it_is(dvc: Path) -> None:
    dvc.write_text("echo first; echo 'report: no measurements'; exit 255")
    with pytest.raises(BuildError) as error:
        scheduler.build({"report": []}, jobs=1)
    assert "report: no measurements" in str(error.value)
    assert str(error.value).endswith("the whole log is .safelm/logs/report.log")
    assert "Traceback" not in str(error.value)


def test_a_stage_that_is_busy_is_tried_again(dvc: Path) -> None:
    busy = "build/x is busy, it is being blocked by:"
    dvc.write_text(f"[ -e tried ] && exit 0; touch tried; echo '{busy}'; exit 255")
    scheduler.build({"report": []}, jobs=1)
    assert Path("tried").exists()


DAMAGE = f"echo x >> tries; echo 'build/a/x: the file {CHANGED}'"


def test_a_stage_that_found_damage_runs_again(dvc: Path) -> None:
    dvc.write_text(f"{DAMAGE}; [ $(wc -l < tries) = 2 ] || exit 255")
    scheduler.build({"report": []}, jobs=1)
    assert Path("tries").read_text() == "x\n" * 2


def test_a_stage_that_finds_damage_again_fails(dvc: Path) -> None:
    dvc.write_text(f"{DAMAGE}; exit 255")
    with pytest.raises(BuildError, match=CHANGED):
        scheduler.build({"report": []}, jobs=1)
    assert Path("tries").read_text() == "x\n" * 2


def test_a_stage_starts_while_the_process_of_its_input_goes_on(dvc: Path) -> None:
    """The lane of a and b has built a, as its log says: c need not wait for b."""
    lane = scheduler.Lane(["a", "b"])
    lane.process.wait()
    lane.log.write_text("Running stage 'a':\n> x\nUpdating lock\n\nRunning stage 'b':\n")
    assert lane._before(lane.log.read_text()) == ["a"]


def test_the_summary_leaves_out_what_dvc_says(
    dvc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dvc.write_text("echo \"Running stage 'a':\"; echo '> python -m pipeline.a'; echo 'a  3 rows'")
    scheduler.build({"a": []}, jobs=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a  3 rows" and lines[1].startswith("a ") and len(lines) == 2


def test_what_a_stage_waits_for_is_shown_while_it_runs(
    dvc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dvc.write_text("echo 'waiting for engines.a at http://b: no answer'; touch told; sleep 60")
    lane = scheduler.Lane(["a"])
    while not Path("told").exists():
        time.sleep(0.01)
    assert lane.check() == [] and lane.check() == []
    lane.process.kill()
    lane.process.wait()
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["waiting for engines.a at http://b: no answer"]
    assert "waiting" not in lane.summary()
