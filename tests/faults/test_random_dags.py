"""Random DAGs and random edits, compared with a model of what must be made (D4)."""

import json
import random
from pathlib import Path

import pytest

from tests.faults import forked
from tests.faults.dags import Model, Node, edit, outcome, random_nodes, run_node, write
from tests.faults.toy import ROOT, Toy

EDITS = 5


def compare(seed: int) -> None:
    """Build a DAG, then edit and build it a few times."""
    draw = random.Random(seed)
    nodes, model = random_nodes(draw), Model()
    for step in range(EDITS + 1):
        write(nodes)
        for number in range(len(nodes)):
            run_node(number)
        assert outcome(nodes) == model.build(nodes), (seed, step, nodes)
        edit(nodes, draw)


@pytest.mark.cases(quick=6, full=1000)
def test_shards_made_and_texts_are_those_of_the_model(case: int, tmp_path: Path) -> None:
    result = forked.run(tmp_path, compare, case)
    assert result.code == 0, result.text[-3000:]


def stages(nodes: list[Node]) -> str:
    """Write dvc.yaml as JSON, which is YAML too."""
    entries = {}
    for number, node in enumerate(nodes):
        name = f"n{number}"
        lines = [f"lines-{number}"] if node.lines else []
        entries[name] = {
            "cmd": f"python -m tests.faults.dags {number}",
            "deps": [*lines, *(f"build/n{parent}" for parent in node.parents)],
            "params": [{"nodes.json": [f"{name}.{key}" for key in ("value", "kind", "parents")]}],
            "outs": [f"build/{name}"],
        }
    return json.dumps({"stages": entries})


@pytest.mark.cases(quick=1, full=12)
def test_dvc_asks_every_stage_that_has_something_to_make(
    case: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(1000 + case)
    toy = Toy.make(tmp_path / "toy")
    toy.environment["PYTHONPATH"] = str(ROOT)
    monkeypatch.chdir(toy.root)
    nodes, model = random_nodes(draw)[:4], Model()
    for step in range(3):
        write(nodes)
        (toy.root / "dvc.yaml").write_text(stages(nodes))
        toy.build()
        assert outcome(nodes) == model.build(nodes), (case, step, nodes)
        edit(nodes, draw)
