"""Tests of training on two ranks under torchrun, data-parallel and tensor-parallel, with gloo."""

from pathlib import Path

import numpy as np
import pytest

from safelm.pretraining.launch import pretrain
from safelm.pretraining.publish import Trained
from safelm.pretraining.tensors import read
from specs.shape import Shape
from tests.test_pretrain import curve, planned
from tests.token_files import write_tokenizer

TINY = Shape.read("nano").model_copy(
    update={"hidden": 16, "layers": 1, "ffn": 32, "heads": 2, "kv_heads": 2}
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    planned(folder)
    write_tokenizer(folder / "build/tokenizer", 64)
    return folder


def train(project: Path, name: str) -> Trained:
    build, out = project / "build", project / name
    out.mkdir()
    return pretrain(
        "tiny",
        TINY,
        build / "mix/tiny",
        build / "tokenizer",
        seed=7,
        scratch_folder=project / f"{name}.scratch",
        folder=out,
    )


def weights(model: Path) -> dict[str, np.ndarray]:
    return {name: tensor.values for name, tensor in read(model / "model.safetensors")[0].items()}


@pytest.fixture(scope="module")
def alone(project: Path) -> Path:
    train(project, "alone")
    return project / "alone"


def test_two_data_ranks_read_the_same_rows_and_learn_the_same(
    project: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAFELM_DP", "2")
    train(project, "dp")  # what was read is compared with the plan there, summed over the ranks
    one_rank, two_ranks = curve(alone), curve(project / "dp")
    assert (
        two_ranks["tokens"] == one_rank["tokens"]
        and two_ranks["learning_rate"] == one_rank["learning_rate"]
    )
    assert two_ranks["loss"] == pytest.approx(one_rank["loss"], abs=0.05)
    assert {name: array.shape for name, array in weights(project / "dp").items()} == {
        name: array.shape for name, array in weights(alone).items()
    }


def test_two_tensor_ranks_give_one_model(
    project: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAFELM_TP", "2")
    train(project, "tp")
    one_rank, two_ranks = curve(alone), curve(project / "tp")
    assert two_ranks["tokens"] == one_rank["tokens"]
    assert (
        two_ranks["loss"][0] == pytest.approx(one_rank["loss"][0], abs=0.1)
        and two_ranks["loss"][-1] < two_ranks["loss"][0] - 2
    )
    assert len(list((project / "tp/nanotron/optimizer").iterdir())) == 2
    arrays = weights(project / "tp")
    assert {name: array.shape for name, array in arrays.items()} == {
        name: array.shape for name, array in weights(alone).items()
    }
    assert all(np.isfinite(array).all() and array.std() > 0 for array in arrays.values())
