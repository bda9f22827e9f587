"""Tests of estimate: a run of any size is validated and its cost estimated before it is built."""

from pathlib import Path

import pytest
from transformers.models.llama import LlamaConfig, LlamaForCausalLM

from pipeline.estimate import lines
from safelm.pretraining.convert import architecture
from safelm.pretraining.cost import flops_per_token, memory, parameters
from safelm.pretraining.estimate import check_parameters
from specs.shape import SHAPES, Shape

FULL = Path("specs/setups/paper.yaml")
TEXT = FULL.read_text(encoding="utf-8")


def test_the_paper_s_run_is_planned_to_the_row() -> None:
    report = "\n".join(lines(FULL, "safe"))
    assert (
        "599,999,381,504 of 600,000,000,000 tokens in 286,102 steps of 1,024 x 2,048" in report
    )  # paper §6
    assert "smollm2-1.7b: 1,711,638,528 parameters" in report and "warm-up 2,000 steps" in report
    assert "64.9 of 80 GiB a GPU" in report and report.endswith("fits")


def test_the_cost_is_near_that_of_the_paper() -> None:
    """Four nodes of eight H100 took six to seven days (paper §6), whose 6ND omits attention."""
    shape = Shape.read("smollm2-1.7b")
    dense = flops_per_token(shape, 2048) - 12 * shape.layers * shape.hidden * 2048
    assert dense * 600e9 == pytest.approx(6.1e21, rel=0.02)
    assert any("32 GPUs: 7.4 days" in line for line in lines(FULL, "safe"))


SIZED = [path.stem for path in SHAPES.glob("*.yaml") if path.stem != "continued"]


@pytest.mark.parametrize("name", sorted(SIZED))
def test_parameters_are_those_of_the_model(name: str) -> None:
    shape = Shape.read(name)
    check_parameters(shape)
    untied = shape.model_copy(update={"tied": False})
    assert parameters(untied) - parameters(shape) == shape.vocab_size * shape.hidden


def test_flops_are_counted_as_a_small_model_multiplies() -> None:
    """Each weight takes two operations forward and four backward; attention is left out."""
    shape = Shape.read("nano")
    model = LlamaForCausalLM(LlamaConfig.from_dict(architecture(shape)))
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert flops_per_token(shape, 0) == 6 * weights


def test_memory_is_shared_by_tensor_parallel_ranks() -> None:
    shape = Shape.read("smollm2-360m")
    alone, shared = memory(shape, 2048, 16, 1), memory(shape, 2048, 16, 2)
    assert alone["optimizer"] == 16 * parameters(shape) and all(
        alone[name] == 2 * shared[name] for name in alone
    )


def test_a_replaced_part_reads_what_is_made_of_it_alone(tmp_path: Path) -> None:
    parts = ", ".join(f"score_{score}: {{weight: 1.0, replaced_by: rephrased}}" for score in (1, 3))
    path = tmp_path / "run.yaml"
    path.write_text(TEXT.replace("rephrased: 1.0, refusals: 6.0", f"{parts}, refusals: 1.0"))
    rows = [line.split() for line in lines(path, "safe")]
    tokens = {row[1]: int(row[3].replace(",", "")) for row in rows if row[0] == "2"}
    assert tokens["score_1-rephrased"] / tokens["score_3-rephrased"] == pytest.approx(
        6.04 / 2.96, rel=1e-3
    )
    assert tokens["score_1-rephrased"] / tokens["refusals"] == pytest.approx(6.04 / 4.15, rel=1e-3)


def test_a_corpus_that_does_not_fill_a_row_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(TEXT.replace("tagged: 10000000000", "tagged: 1000"), encoding="utf-8")
    assert ["2", "tagged", "0", "0", "0.00"] in [line.split() for line in lines(path, "safe")]
