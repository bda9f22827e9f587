"""Tests of pretrain: the recipe, the patches, the conversion, and a run of a few dozen steps."""

import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
import yaml

from safelm.builder.environment import VariableError
from safelm.corpora.mixing.mixture import build_mixture
from safelm.corpora.mixing.plan import Plan
from safelm.pretraining import flash_attention
from safelm.pretraining.batches import read_row
from safelm.pretraining.checkpoint import CURVE, commit, newest
from safelm.pretraining.config import nanotron_config
from safelm.pretraining.convert import llama_tensors, parse_shape, read_nanotron
from safelm.pretraining.cpu import cuda_as_cpu
from safelm.pretraining.job import CONFIG, Job
from safelm.pretraining.launch import check_plan, pretrain
from safelm.pretraining.patches import PatchError, check_version
from safelm.pretraining.process import TrainingError, environment
from safelm.pretraining.publish import check_read_counts
from safelm.pretraining.schedule import learning_rates, rate_factor, warmup_and_decay
from safelm.pretraining.tensors import Tensor, read, write
from specs.mixture import Phase
from specs.shape import SHAPES, Shape, read_shape
from tests.token_files import write_corpus, write_tokenizer

ROOT = Path(__file__).resolve().parents[1]
NANO = Shape.read("nano")


# The recipe


def test_warmup_and_decay_are_shares_of_the_steps() -> None:
    assert warmup_and_decay(NANO.recipe, 440, 220) == (22, 132)
    assert warmup_and_decay(NANO.recipe, 1, 1) == (1, 1)
    assert warmup_and_decay(Shape.read("smollm2-1.7b").recipe, 286_102, 286_102) == (2000, 28_610)


def test_mixtures_of_one_budget_warm_up_alike_whatever_their_steps() -> None:
    assert (
        learning_rates(NANO.recipe, 531, 220, 100)
        == learning_rates(NANO.recipe, 666, 220, 100)
        != learning_rates(NANO.recipe, 531, 300, 100)
    )


def test_a_warm_up_longer_than_training_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer steps than the 900 of the plan"):
        warmup_and_decay(Shape.read("smollm2-360m").recipe, 900, 900)


def test_one_minus_square_root_falls_fast_and_then_slowly() -> None:
    law = [
        rate_factor(step, warmup=10, start=100, decay=100, low=0.2, style="1-sqrt")
        for step in (5, 50, 125, 200, 300)
    ]
    assert law == pytest.approx([0.5, 1.0, 0.2 + 0.8 * (1 - math.sqrt(0.25)), 0.2, 0.2])


def test_shapes_have_the_sizes_they_are_named_for() -> None:
    sizes = {}
    for path in SHAPES.glob("*.yaml"):
        shape = read_shape(path.stem)
        if not isinstance(shape, Shape):
            continue
        keys = shape.kv_heads * (shape.hidden // shape.heads)
        layer = (
            2 * shape.hidden * (shape.hidden + keys)
            + 3 * shape.hidden * shape.ffn
            + 2 * shape.hidden
        )
        sizes[path.stem] = shape.vocab_size * shape.hidden + shape.layers * layer + shape.hidden
    millions = {name: size / 1e6 for name, size in sizes.items()}
    assert millions == pytest.approx(
        {"nano": 0.8, "smollm2-135m": 135, "smollm2-360m": 362, "smollm2-1.7b": 1711}, rel=0.01
    )


# The substitute for flash-attn


def test_attention_stays_within_each_document_of_a_line() -> None:
    q, k, v = torch.randn(3, 9, 2, 4, generator=torch.Generator().manual_seed(0)).unbind()
    bounds = torch.tensor([0, 4, 9], dtype=torch.int32)
    line = flash_attention.flash_attn_varlen_func(q, k, v, bounds, bounds, 5, 5, causal=True)
    for piece in (slice(0, 4), slice(4, 9)):
        scores = torch.einsum("qhd,khd->hqk", q[piece], k[piece]) / 2
        scores = scores.masked_fill(torch.ones(scores.shape[1:]).triu(1).bool(), -torch.inf)
        assert torch.allclose(
            line[piece], torch.einsum("hqk,khd->qhd", scores.softmax(-1), v[piece]), atol=1e-6
        )


@pytest.mark.parametrize("theta", [10_000.0, 130_000.0])
def test_rotary_turns_the_halves_of_a_head_by_angles_of_theta(theta: float) -> None:
    x = torch.randn(1, 5, 1, 4, generator=torch.Generator().manual_seed(0))
    turned = flash_attention.RotaryEmbedding(4, base=theta).rotate(x)[0, 3, 0]
    pairs = torch.complex(x[0, 3, 0, :2], x[0, 3, 0, 2:]) * torch.polar(
        torch.ones(2), 3 / theta ** torch.tensor([0, 0.5])
    )
    assert torch.allclose(turned, torch.cat([pairs.real, pairs.imag]), atol=1e-6)


def test_neighbours_are_turned_when_interleaved() -> None:
    x = torch.randn(1, 5, 1, 4, generator=torch.Generator().manual_seed(0))
    halves = flash_attention.RotaryEmbedding(4).rotate(x[..., [0, 2, 1, 3]])
    assert torch.allclose(
        flash_attention.RotaryEmbedding(4, interleaved=True).rotate(x)[..., [0, 2, 1, 3]], halves
    )


def test_the_real_flash_attn_is_left_in_place(tmp_path: Path) -> None:
    (tmp_path / "flash_attn").mkdir()
    (tmp_path / "flash_attn/__init__.py").write_text("real = True\n", encoding="utf-8")
    code = (
        "from safelm.pretraining import flash_attention as f; print(f.install()); "
        "import flash_attn; flash_attn.real"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True
    )
    assert (done.returncode, done.stdout) == (0, b"False\n")


# The patches


def test_another_nanotron_is_refused() -> None:
    check_version("0.4")
    with pytest.raises(
        PatchError, match=r"written for nanotron 0.4 \(got 0.5\); install nanotron==0.4"
    ):
        check_version("0.5")


def test_cuda_is_read_as_the_cpu_only_inside_the_context() -> None:
    with cuda_as_cpu():
        assert torch.zeros(2, device="cuda").to("cuda").device.type == "cpu"
    with pytest.raises((AssertionError, RuntimeError)):
        torch.zeros(2, device="cuda:7")


# Files


def test_safetensors_are_read_by_the_library_and_by_us(tmp_path: Path) -> None:
    values = {"b": np.arange(6, dtype="<f4").reshape(2, 3), "a": np.arange(3, dtype="<f4")}
    write(
        tmp_path / "x.safetensors",
        {name: Tensor("F32", array) for name, array in values.items()},
        {"z": "1", "y": "2"},
    )
    loaded = safetensors.numpy.load_file(tmp_path / "x.safetensors")
    assert all(np.array_equal(loaded[name], values[name]) for name in values)
    tensors, metadata = read(tmp_path / "x.safetensors")
    assert np.array_equal(tensors["b"].values, values["b"]) and metadata == {"y": "2", "z": "1"}


def test_tensor_parallel_shards_are_merged(tmp_path: Path) -> None:
    # Two chunks of two rows; each rank holds one row of each chunk.
    whole = np.arange(8, dtype="<f4").reshape(4, 2)
    for rank in (0, 1):
        pairs = [
            f"{c},{c + 1},None|None,None,None#{2 * c + rank},{2 * c + rank + 1},None|None,None,None"
            for c in (0, 1)
        ]
        metadata = {
            "unsharded_shape": "(np.int64(4), 2)",
            "local_global_slices_pairs": ";".join(pairs),
        }
        path = tmp_path / f"qkv/model_weight_pp-rank-0-of-1_tp-rank-{rank}-of-2.safetensors"
        path.parent.mkdir(exist_ok=True)
        write(path, {"data": Tensor("F32", whole[rank::2])}, metadata)
    assert np.array_equal(read_nanotron(tmp_path)["qkv.weight"].values, whole)
    assert parse_shape("(np.int64(384), 128)") == parse_shape("(384, 128)") == (384, 128)


def test_grouped_queries_and_an_untied_head_keep_their_rows() -> None:
    shape = NANO.model_copy(
        update={"hidden": 8, "heads": 4, "kv_heads": 2, "ffn": 3, "layers": 1, "tied": False}
    )
    sizes = {
        "attn.qkv_proj": 16,
        "attn.o_proj": 8,
        "mlp.gate_up_proj": 6,
        "mlp.down_proj": 8,
        "input_layernorm": 1,
        "post_attention_layernorm": 1,
    }
    tensors = {
        f"model.decoder.0.pp_block.{name}.weight": Tensor("F32", np.arange(size))
        for name, size in sizes.items()
    }
    for name in (
        "token_position_embeddings.pp_block.token_embedding",
        "final_layer_norm.pp_block",
        "lm_head.pp_block",
    ):
        tensors[f"model.{name}.weight"] = Tensor("F32", np.arange(1))
    rows = {name: tensor.values.tolist() for name, tensor in llama_tensors(tensors, shape).items()}
    attention = [rows[f"model.layers.0.self_attn.{name}_proj.weight"] for name in "qkv"]
    assert attention == [[*range(8)], [*range(8, 12)], [*range(12, 16)]]
    assert (
        rows["model.layers.0.mlp.up_proj.weight"] == [3, 4, 5]
        and "lm_head.weight" in rows
        and len(rows) == 12
    )


def checkpointed(folder: Path, *steps: int) -> Path:
    """Make a run with checkpoints of these steps."""
    for step in steps:
        attempt = folder / f"{step}.attempt"
        (attempt / "model").mkdir(parents=True)
        (attempt / "model/weights").write_bytes(bytes(range(step % 256)) * 9)
        (attempt / CURVE).write_text(f"step,tokens\n{step},{step * 10}\n", encoding="utf-8")
        commit(attempt, folder / str(step), "ours")
    return folder


def test_the_newest_intact_checkpoint_is_used(tmp_path: Path) -> None:
    checkpoint = newest(checkpointed(tmp_path, 2, 9, 10), "ours")
    assert checkpoint and (checkpoint.step, checkpoint.tokens) == (10, 100)
    assert newest(tmp_path / "none", "ours") is None


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a flipped bit": lambda folder: flip(folder / "model/weights"),
    "a torn file": lambda folder: os.truncate(folder / "model/weights", 5),
    "a missing file": lambda folder: (folder / CURVE).unlink(),
    "a file too many": lambda folder: (folder / "model/more").write_bytes(b""),
    "no record": lambda folder: (folder / "record.json").unlink(),
    "a torn record": lambda folder: os.truncate(folder / "record.json", 40),
    "another run's": lambda folder: flip_key(folder / "record.json"),
}


def flip_key(path: Path) -> None:
    path.write_text(
        path.read_text(encoding="utf-8").replace('"ours"', '"theirs"'), encoding="utf-8"
    )


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_checkpoint_before_a_damaged_one_is_used(damage: str, tmp_path: Path) -> None:
    checkpointed(tmp_path, 2, 10)
    DAMAGE[damage](tmp_path / "10")
    checkpoint = newest(tmp_path, "ours")
    assert checkpoint and checkpoint.step == 2 and not (tmp_path / "10").exists()


def test_no_checkpoint_holds_a_pickle(tiny: Path) -> None:
    kinds = {path.suffix for path in (tiny / "nanotron").rglob("*") if path.is_file()}
    assert kinds == {".safetensors", ".json", ".yaml"}


# Refusals


def planned(folder: Path, vocabulary: int = 64) -> Plan:
    """Plan 40 steps of two corpora of counting documents, one of them tagged."""
    documents = [[first + step for step in range(8 + first % 7)] for first in range(4, 44)] * 3
    write_corpus(folder / "build/tokenize/web", documents)
    write_corpus(
        folder / "build/tokenize/tagged",
        [[*document[:4], 3, *document[4:]] for document in documents],
    )
    phases = [
        Phase(share=1, proportions="natural", parts={"web": 1.0}),
        Phase(share=3, proportions="fixed", parts={"web": 2.0, "tagged": 1.0}),
    ]
    target = folder / "build/mix/tiny"
    target.mkdir(parents=True)
    corpora = {name: folder / "build/tokenize" / name for name in ("web", "tagged")}
    return build_mixture(
        "small",
        phases,
        corpora,
        dict.fromkeys(corpora, 20.0),
        {},
        tokens=7700,
        sequence_length=16,
        layout="document",
        batch_size=16,
        seed=1,
        held_out_rows=5,
        vocabulary=vocabulary,
        tag=3,
        folder=target,
    )


def test_a_vocabulary_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    plan = planned(tmp_path, vocabulary=2000)
    with pytest.raises(
        TrainingError, match="the tokenizer has 2,000 tokens, the shape has room for 1,536"
    ):
        check_plan(plan, NANO, tmp_path / "build/mix/tiny")


def test_changed_tokens_are_refused(tmp_path: Path) -> None:
    plan, path = planned(tmp_path), tmp_path / "build/mix/tiny/tokens/web/00000-00000.ds"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-4] + data[-2:] * 2)
    with pytest.raises(TrainingError, match=r"00000-00000.ds: is not the file of the plan"):
        check_plan(plan, NANO, tmp_path / "build/mix/tiny")


def test_reading_other_than_planned_is_refused(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    counts = [[[part.rows, part.tokens] for part in phase.parts] for phase in plan.phases]
    check_read_counts(plan, counts)
    counts[1][1][1] -= 1
    with pytest.raises(
        TrainingError, match=r"phases.1.parts.tagged: planned .* rows and .* tokens, read"
    ):
        check_read_counts(plan, counts)


def test_a_loss_that_is_not_finite_ends_training(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    planned(tmp_path)
    wild = NANO.model_copy(
        update={"recipe": NANO.recipe.model_copy(update={"learning_rate": 1e30})}
    )
    with pytest.raises(TrainingError, match="the training process ended with exit code 1"):
        pretrain(
            "wild",
            wild,
            tmp_path / "build/mix/tiny",
            tmp_path,
            seed=1,
            scratch_folder=tmp_path / "scratch",
            folder=tmp_path,
        )
    assert "pretrain/wild: the loss is nan at step" in capfd.readouterr().err


def test_ranks_are_a_whole_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned(tmp_path)
    monkeypatch.setenv("SAFELM_DP", "two")
    with pytest.raises(
        VariableError, match=r"SAFELM_DP: expected a whole number above 0 \(got 'two'\)"
    ):
        pretrain(
            "tiny",
            NANO,
            tmp_path / "build/mix/tiny",
            tmp_path,
            seed=1,
            scratch_folder=tmp_path / "scratch",
            folder=tmp_path,
        )


# The stage

PARAMS = "models: {tiny: {mixture: small, shape: nano, seed: 7}}\n"


def trained(folder: Path, **environment: str) -> Path:
    """Make a project with one plan, and train its model by the stage."""
    planned(folder)
    write_tokenizer(folder / "build/tokenizer", 64)
    (folder / "params.yaml").write_text(PARAMS, encoding="utf-8")
    command = [sys.executable, "-m", "pipeline.pretrain", "tiny"]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pretrain/tiny      799,616 parameters  ") and done.stderr == ""
    return folder / "build/pretrain/tiny"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("one"))


def curve(model: Path) -> dict[str, list[float]]:
    rows = list(csv.DictReader((model / "loss.csv").open(encoding="utf-8")))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def test_the_loss_falls(tiny: Path) -> None:
    losses = curve(tiny)["loss"]
    assert losses[0] > 7 and np.mean(losses[-5:]) < 4


def test_the_curve_has_every_step_of_the_schedule(tiny: Path) -> None:
    plan, columns = Plan.read(tiny.parents[1] / "mix/tiny"), curve(tiny)
    assert (
        columns["step"] == list(range(1, plan.steps + 1)) and columns["tokens"][-1] == plan.tokens
    )
    assert (
        columns["learning_rate"][:4] == [0, 0.00133333, 0.00266667, 0.004]
        and columns["learning_rate"][-1] < 0.0005
    )


def held_out(model: Path) -> dict[tuple[str, int], float]:
    rows = csv.DictReader((model / "held_out.csv").open(encoding="utf-8"))
    return {(row["corpus"], int(row["step"])): float(row["loss"]) for row in rows}


def test_the_loss_on_held_out_rows_falls(tiny: Path) -> None:
    plan, losses = Plan.read(tiny.parents[1] / "mix/tiny"), held_out(tiny)
    steps = sorted({0, 1, 4, 16, plan.phases[0].steps, plan.steps})
    assert sorted({step for _, step in losses}) == steps
    assert {corpus for corpus, step in losses if step <= plan.phases[0].steps} == {"web"}
    assert (
        losses["web", 0] > 7 and losses["web", plan.steps] < 4 and losses["tagged", plan.steps] < 4
    )


def test_the_held_out_loss_is_that_of_the_published_model(tiny: Path) -> None:
    from transformers import AutoModelForCausalLM

    mixture = tiny.parents[1] / "mix/tiny"
    plan, model = (
        Plan.read(mixture),
        AutoModelForCausalLM.from_pretrained(tiny, local_files_only=True),
    )
    tokens, rows = plan.open_held_out(mixture, "tagged")
    losses = []
    for start, length in zip(rows.starts, rows.lengths, strict=True):
        row = torch.from_numpy(read_row(tokens, int(start), int(start + length)).astype(np.int64))
        with torch.no_grad():
            scores = model(row[None, :-1]).logits[0].log_softmax(-1)
        losses += (-scores.gather(1, row[1:, None])).flatten().tolist()
    assert len(rows) == 5 and held_out(tiny)["tagged", plan.steps] == pytest.approx(
        np.mean(losses), abs=1e-5
    )


def test_speeds_are_written_outside_of_build(tiny: Path) -> None:
    for name, most in (("tokens_per_second", 1e6), ("mfu", 1.0)):
        rows = list(
            csv.DictReader(
                (tiny.parents[2] / f".safelm/plots/{name}/tiny.csv").open(encoding="utf-8")
            )
        )
        assert [row["step"] for row in rows] == ["10", "20", "30"]
        assert all(0 < float(row[name]) < most for row in rows)


def test_training_read_what_was_planned(tiny: Path) -> None:
    summary = json.loads((tiny / "train.json").read_text(encoding="utf-8"))
    parts = [part for phase in summary["phases"] for part in phase["parts"].values()]
    assert len(parts) == 3 and all(part["read"] == part["planned"] > 0 for part in parts)
    assert summary["knows_tag"] is True and summary["parameters"] == 799_616


def test_bytes_do_not_depend_on_the_folder_or_on_checkpoints(tiny: Path, tmp_path: Path) -> None:
    again = trained(tmp_path, SAFELM_CHECKPOINT_STEPS="7")
    names = sorted(str(path.relative_to(tiny)) for path in tiny.rglob("*") if path.is_file())
    assert [
        name for name in names if (tiny / name).read_bytes() != (again / name).read_bytes()
    ] == []
    assert len([name for name in names if name.startswith("nanotron/")]) == 24


def test_no_path_of_the_machine_is_published(tiny: Path) -> None:
    texts = [path for path in tiny.rglob("*") if path.suffix in {".json", ".yaml", ".csv"}]
    assert len(texts) > 6 and not [
        path for path in texts if str(tiny.parents[2]) in path.read_text(encoding="utf-8")
    ]


@pytest.fixture(scope="module")
def answers(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Compute with the patched Nanotron on the published checkpoint."""
    run = tmp_path_factory.mktemp("probe")
    mixture = tiny.parents[1] / "mix/tiny"
    config = nanotron_config("tiny", NANO, Plan.read(mixture), 7, 1, 1)
    (run / CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
    Job(
        model="tiny",
        mixture=str(mixture),
        seed=7,
        rope_theta=NANO.rope_theta,
        decay_style=NANO.recipe.decay_style,
        key="",
        checkpoint_interval=9,
        start=str(tiny / "nanotron"),
        flops_per_token=1.0,
        plots="",
        shared={},
    ).write(run)
    command = [sys.executable, "-m", "tests.nanotron_probe"]
    subprocess.run(command, cwd=run, env=environment(1), check=True)
    return dict(np.load(run / "answers.npz"))


def test_the_converted_model_gives_the_logits_of_nanotron(
    tiny: Path, answers: dict[str, np.ndarray]
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny, local_files_only=True)
    with torch.no_grad():
        logits = model(torch.from_numpy(answers["ids"])).logits.numpy()
    assert np.abs(logits).max() > 1 and np.abs(logits - answers["logits"]).max() <= 1e-5
    assert model.generation_config.eos_token_id == 0


def test_the_logits_are_equal_with_another_theta(
    tiny: Path, answers: dict[str, np.ndarray]
) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(tiny)
    config.rope_parameters["rope_theta"] = 300.0
    model = AutoModelForCausalLM.from_pretrained(tiny, config=config, local_files_only=True)
    with torch.no_grad():
        logits = model(torch.from_numpy(answers["ids"])).logits.numpy()
    assert (
        np.abs(logits - answers["turned"]).max() <= 1e-5 < np.abs(logits - answers["logits"]).max()
    )


def test_documents_in_a_line_have_the_loss_of_documents_alone(
    answers: dict[str, np.ndarray],
) -> None:
    first, second, both = answers["losses"]
    assert both == pytest.approx((11 * first + 19 * second) / 30, abs=1e-5)


def test_a_masked_label_carries_no_loss(answers: dict[str, np.ndarray]) -> None:
    whole, masked, masked_otherwise = answers["masked"]
    assert masked == masked_otherwise != whole


def test_learning_rates_are_those_of_nanotron(answers: dict[str, np.ndarray]) -> None:
    linear, our_linear, cosine, our_cosine = answers["rates"]
    assert our_linear == pytest.approx(linear) and our_cosine == pytest.approx(cosine)
