"""Tests of estimate: a run of any size is validated and its cost estimated before it is built."""

from pathlib import Path

import pytest
from transformers.models.llama import LlamaConfig, LlamaForCausalLM

from pipeline.estimate import lines
from safelm.pretraining.convert import architecture
from safelm.pretraining.cost import flops_per_token, memory, parameters
from safelm.pretraining.estimate import check_parameters
from specs.shape import SHAPES, Shape
from specs.yaml_source import SpecError

FULL = Path("specs/setups/full_size.yaml")
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
    assert any("32 GPUs: 7.4 days" in line for line in lines(FULL, None))


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


MISTAKES = {
    "read too often": (
        ("score_5: 1120000000}, epochs: 6.0", "score_5: 1120000000}, epochs: 0.5"),
        "mixtures.safe",
        "reads corpus refusals 0.84 times",
    ),
    "an unknown corpus": (
        ("tagged: 1.0", "taged: 1.0"),
        "mixtures.safe.phases.1.parts.taged",
        "row of corpora",
    ),
    "an unknown shape": (
        ("shape: smollm2-1.7b", "shape: smollm-1.7b"),
        "models.safe.shape",
        "got smollm-1.7b",
    ),
    "an unknown mixture": (
        ("{mixture: safe,", "{mixture: sfae,"),
        "models.safe.mixture",
        "got sfae",
    ),
    "rows too long": (
        ("sequence_length: 2048", "sequence_length: 4096"),
        "mix.sequence_length",
        "at most the 2048 positions",
    ),
    "a batch the ranks cannot share": (
        ("batch_size: 1024", "batch_size: 1000"),
        "mix.batch_size",
        "multiple of the 32 data parallel",
    ),
    "heads the ranks cannot share": (("tp: 1,", "tp: 64,"), "cluster.tp", "divide gpus"),
    "a warm-up longer than training": (
        ("tokens: 600000000000", "tokens: 2000000000"),
        "models.safe.shape",
        "recipe.warmup 2,000, and 2,000,000,000 tokens are 954 steps); "
        "write mix.tokens: 4198498304",
    ),
    "an unknown key": (("gpus: 32", "gpu_count: 32"), "cluster.gpu_count", "unknown key"),
    "a share of 0": (
        ("{share: 1,", "{share: 0,"),
        "mixtures.safe.phases.0.share",
        "greater than 0",
    ),
    "documents of unknown length": (("layout: packed", "layout: document"), "mix.layout", "packed"),
    "a replacement that was not made of it": (
        ("rephrased: 1.0", "score_2: {weight: 1.0, replaced_by: rephrased}"),
        "mixtures.safe.phases.1.parts.score_2.replaced_by",
        "made_of: {score_2: …}",
    ),
    "a replacement read a second time": (
        ("rephrased: 1.0", "rephrased: 1.0, score_1: {weight: 1.0, replaced_by: rephrased}"),
        "mixtures.safe.phases.1.parts.score_1.replaced_by",
        "a part too",
    ),
    "a dose that fills the phase": (
        ("refusals: 1.0", "refusals: {budget_share: 0.85}"),
        "mixtures.safe.phases.1.share",
        "budget_share",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_refused_with_the_line_to_change(mistake: str, tmp_path: Path) -> None:
    (old, new), location, words = MISTAKES[mistake]
    assert old in TEXT
    path = tmp_path / "run.yaml"
    path.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(SpecError) as error:
        lines(path, None)
    (problem, *_) = [problem for problem in error.value.problems if location in problem.at]
    assert words in problem.message
    text = path.read_text(encoding="utf-8").splitlines()[problem.line - 1]
    assert location.rpartition(".")[2].split("_")[0] in text or new in text


def test_a_replaced_part_reads_what_is_made_of_it_alone(tmp_path: Path) -> None:
    parts = ", ".join(f"score_{score}: {{weight: 1.0, replaced_by: rephrased}}" for score in (1, 3))
    path = tmp_path / "run.yaml"
    path.write_text(TEXT.replace("rephrased: 1.0", parts), encoding="utf-8")
    rows = [line.split() for line in lines(path, "safe")]
    tokens = {row[1]: int(row[3].replace(",", "")) for row in rows if row[0] == "2"}
    assert tokens["score_1-rephrased"] / tokens["score_3-rephrased"] == pytest.approx(
        6.04 / 2.96, rel=1e-3
    )
    assert tokens["score_1-rephrased"] / tokens["refusals"] == pytest.approx(6.04 / 4.15, rel=1e-3)


def test_a_batch_other_than_that_of_the_recipe_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(TEXT.replace("batch_size: 1024", "batch_size: 512"), encoding="utf-8")
    assert any(
        "the recipe of smollm2-1.7b was made for 1,024" in line for line in lines(path, "safe")
    )


def test_a_corpus_that_does_not_fill_a_row_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(TEXT.replace("{tokens: 10000000000,", "{tokens: 1000,"), encoding="utf-8")
    assert ["2", "tagged", "0", "0", "0.00"] in [line.split() for line in lines(path, "safe")]
