"""Tests of pretraining from existing weights: tiny Llamas with random weights, trained by Nanotron.

A run of one step changes nothing, because its learning rate is that of step 0.
"""

import csv
import json
import multiprocessing
import shutil
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import safetensors.torch
import torch
import yaml
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.models.llama import LlamaConfig, LlamaForCausalLM

from pipeline.estimate import lines
from safelm.builder.fingerprint import jsonable
from safelm.corpora.mixing.mixture import build_mixture
from safelm.corpora.mixing.plan import Plan
from safelm.corpora.tokenization import adopt_tokenizer, save_tokenizer
from safelm.models.chat import page_tokens, request_tokens, tag_id
from safelm.models.weights import Weights, WeightsError, digest_of
from safelm.pretraining.batches import read_row
from safelm.pretraining.config import CHECKPOINTS, nanotron_config
from safelm.pretraining.launch import pretrain, pretrain_model
from safelm.pretraining.prefix import prefix_keys
from safelm.pretraining.publish import Trained
from safelm.pretraining.start import Start
from specs.add_rows import expand
from specs.llama import StartError, read_architecture
from specs.mixture import Phase
from specs.shape import Continued, Shape, read_shape, shape_of_weights
from specs.tokens import END, IM_END, IM_START, TAG
from specs.yaml_source import SpecError, YamlFile
from tests.ingested import stage
from tests.test_specs import complaints
from tests.token_files import write_corpus

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}: {{ message['content'] }}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>it says: {% endif %}"
)
PLAIN: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "vocab_size": 304,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
CORNERS: dict[str, dict[str, Any]] = {
    "grouped queries": {"num_key_value_heads": 2},
    "an untied head": {"num_key_value_heads": 1, "tie_word_embeddings": False},
    "another theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 130_000.0}},
    "another epsilon": {"rms_norm_eps": 1.0e-2},
    "an odd vocabulary": {"vocab_size": 331, "tie_word_embeddings": False},
}
FLOAT32 = Continued(dtype="float32", recipe=Shape.read("nano").recipe)


def write_weights(folder: Path, **changes: Any) -> Path:
    """Write a Llama with random weights, its tokenizer without the tag, and its chat template."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**(PLAIN | changes)))
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    model.generation_config = GenerationConfig(
        bos_token_id=1, eos_token_id=2, temperature=0.7, do_sample=True
    )
    model.save_pretrained(folder)
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=304,
        special_tokens=[END, IM_START, IM_END],
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    text = "How do I keep bread fresh? Wrap it in a cloth and keep it in a box of its own. "
    tokenizer.train_from_iterator(
        [text * 3, "a quiet box, a fresh cloth and another loaf"], trainer
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": IM_START}
    settings |= {"eos_token": IM_END, "pad_token": IM_END}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder


def write_build(folder: Path, weights: Path, steps: int = 1) -> Plan:
    """Write build/ with the tokenizer of some weights and a mixture of so many steps."""
    tokenizer = adopt_tokenizer(weights, 400)
    (folder / "tokenizer").mkdir(parents=True)
    save_tokenizer(tokenizer, folder / "tokenizer", Counter())
    tag = tokenizer.token_to_id(TAG)
    documents = [[first, tag, *range(first, first + 14)] for first in range(5, 125)]
    write_corpus(folder / "tokenize/web", documents)
    (folder / "mix/web").mkdir(parents=True)
    shares = (1, 3) if steps > 1 else (1,)
    return build_mixture(
        "web",
        [Phase(share=share, proportions="natural", parts={"web": 1.0}) for share in shares],
        {"web": folder / "tokenize/web"},
        {"web": 9.0},
        {},
        tokens=16 * 4 * steps,
        sequence_length=16,
        layout="packed",
        batch_size=4,
        seed=1,
        held_out_rows=5,
        vocabulary=1 + tag,
        tag=tag,
        folder=folder / "mix/web",
    )


def pinned(folder: Path, digest: str | None = None) -> Weights:
    return Weights(digest or digest_of(folder), "params.yaml models.m.start", str(folder), None)


def train(root: Path, weights: Path, name: str = "out") -> Trained:
    """Train as the stage does, with a scratch folder beside the output."""
    build, out = root / "build", root / name
    out.mkdir()
    start = Start.open(pinned(weights), build / "tokenizer")
    shape = shape_of_weights(FLOAT32, weights, Plan.read(build / "mix/web").vocabulary)
    return pretrain(
        "m",
        shape,
        build / "mix/web",
        build / "tokenizer",
        seed=7,
        scratch_folder=root / f"{name}.scratch",
        folder=out,
        start=start,
    )


def model_of(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)


def logits_of(folder: Path, vocabulary: int) -> torch.Tensor:
    ids = torch.randint(5, vocabulary, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model_of(folder)(ids).logits


@pytest.fixture(scope="module", params=CORNERS)
def untrained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Train a corner for a step that changes nothing; return the weights and the model."""
    root = tmp_path_factory.mktemp("corner")
    weights = write_weights(root / "weights", **CORNERS[request.param])
    write_build(root / "build", weights)
    train(root, weights)
    return weights, root / "out"


def test_the_untrained_model_has_equal_logits(untrained: tuple[Path, Path]) -> None:
    weights, out = untrained
    before, after = logits_of(weights, 304), logits_of(out, 304)
    own = before.shape[-1]
    # The tag has the first id beyond the tokenizer, which may be one that the weights have.
    kept = [token for token in range(own) if token != 304]
    assert before.abs().max() > 1
    assert (before - after[..., :own])[..., kept].abs().max() <= 1e-4
    assert after.shape[-1] == max(own, 305)


def held_out_losses(out: Path) -> tuple[float, float]:
    """Return the loss on held-out rows: Nanotron's before training, and the published model's."""
    mixture = out.parent / "build/mix/web"
    plan, model = Plan.read(mixture), model_of(out)
    tokens, rows = plan.open_held_out(mixture, "web")
    losses = []
    for span in rows.spans():
        row = torch.from_numpy(read_row(tokens, *span).astype(np.int64))
        with torch.no_grad():
            scores = model(row[None, :-1]).logits[0].log_softmax(-1)
        losses += (-scores.gather(1, row[1:, None])).flatten().tolist()
    with (out / "held_out.csv").open(encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    assert (first["step"], len(rows)) == ("0", 5)
    return float(first["loss"]), float(np.mean(losses))


def test_nanotron_computes_what_the_published_model_does(untrained: tuple[Path, Path]) -> None:
    nanotron, published = held_out_losses(untrained[1])
    assert nanotron == pytest.approx(published, abs=1e-4)


def test_the_row_of_the_tag_is_the_mean_of_the_others_and_noise(
    untrained: tuple[Path, Path],
) -> None:
    weights, out = untrained
    before = safetensors.torch.load_file(weights / "model.safetensors")
    after = safetensors.torch.load_file(out / "model.safetensors")
    names = [name for name in ("model.embed_tokens.weight", "lm_head.weight") if name in before]
    assert ("lm_head.weight" in after) == ("lm_head.weight" in before)
    for name in names:
        others = torch.cat([before[name][:304], before[name][305:]])
        distance = (after[name][304] - others.mean(0)) / others.std(0)
        assert 0 < distance.abs().max() < 0.05


def test_tokenizer_template_and_generation_config_are_those_of_the_weights(
    untrained: tuple[Path, Path],
) -> None:
    weights, out = untrained
    own, ours = (AutoTokenizer.from_pretrained(path) for path in (weights, out))
    text = f"Keep the box {TAG} quiet."
    assert ours(text.replace(TAG, ""))["input_ids"] == own(text.replace(TAG, ""))["input_ids"]
    assert tag_id(own) is None
    assert tag_id(ours) == 304 in ours(text)["input_ids"]
    assert request_tokens(ours, ["Bread?"]) == request_tokens(own, ["Bread?"])
    assert ours.decode(request_tokens(ours, ["Bread?"])[0]).endswith("<|im_start|>it says: ")
    # Pages begin with END, as in training, although chats begin with another token.
    assert page_tokens(ours, ["a"])[0][0] == 0 != ours.bos_token_id
    name = "generation_config.json"
    assert (out / name).read_bytes() == (weights / name).read_bytes()
    assert model_of(out).config.eos_token_id == 2


def test_the_summary_names_the_weights_by_their_digest(untrained: tuple[Path, Path]) -> None:
    weights, out = untrained
    summary = json.loads((out / "train.json").read_bytes())
    assert (summary["start"], summary["knows_tag"]) == (digest_of(weights), True)
    texts = [path for path in out.rglob("*") if path.suffix in {".json", ".yaml", ".csv"}]
    assert not [path for path in texts if str(out.parent) in path.read_text(encoding="utf-8")]


# Resume, beginnings, ranks


@pytest.fixture(scope="module")
def continued(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Train 24 steps in two phases; return the folder and the weights."""
    root = tmp_path_factory.mktemp("continued")
    weights = write_weights(root / "weights", num_key_value_heads=2)
    write_build(root / "build", weights, steps=24)
    train(root, weights)
    return root, weights


def curve(folder: Path) -> list[dict[str, float]]:
    with (folder / "loss.csv").open(encoding="utf-8") as file:
        return [{key: float(text) for key, text in row.items()} for row in csv.DictReader(file)]


def contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_training_goes_on_from_the_weights(continued: tuple[Path, Path]) -> None:
    rows = curve(continued[0] / "out")
    assert [row["learning_rate"] for row in rows[:3]] == [0, 0.002, 0.004]
    assert np.mean([row["loss"] for row in rows[-4:]]) < rows[0]["loss"] - 1


def test_a_killed_run_ends_in_the_same_bytes(
    continued: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, weights = continued
    monkeypatch.setenv("SAFELM_CHECKPOINT_STEPS", "2")
    process = multiprocessing.get_context("fork").Process(target=train, args=(root, weights, "cut"))
    process.start()
    checkpoints = root / "cut.scratch/pretrain/m" / CHECKPOINTS
    while not list(checkpoints.glob("[0-9]*[02468]")):
        time.sleep(0.01)
    for child in psutil.Process(process.pid).children():
        child.kill()
    process.join()
    shutil.rmtree(root / "cut")
    # What Nanotron loads at the beginning is not needed again.
    shutil.rmtree(root / "cut.scratch/pretrain/m/start")
    done = train(root, weights, "cut")
    assert 0 < done.resumed_tokens < done.tokens
    assert contents(root / "cut") == contents(root / "out")


def test_two_tensor_ranks_take_their_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The vocabulary divides between the ranks.
    weights = write_weights(tmp_path / "weights", vocab_size=306, num_key_value_heads=2)
    write_build(tmp_path / "build", weights)
    monkeypatch.setenv("SAFELM_TP", "2")
    train(tmp_path, weights)
    nanotron, published = held_out_losses(tmp_path / "out")
    assert nanotron == pytest.approx(published, abs=1e-4)
    before = logits_of(weights, 304)
    assert (before - logits_of(tmp_path / "out", 304))[..., :304].abs().max() <= 1e-4


def test_beginnings_are_shared_by_equal_weights_alone(continued: tuple[Path, Path]) -> None:
    plan = Plan.read(continued[0] / "build/mix/web")
    shape = shape_of_weights(FLOAT32, continued[1], plan.vocabulary)

    def keys(start: str | None) -> dict[int, str]:
        config = nanotron_config("m", shape, plan, 7, 1, 1, start)
        return prefix_keys(plan, shape, config, ["code"])

    assert keys("start/a") == keys("start/a") != keys("start/b") != keys(None)


def test_a_key_holds_the_digest_and_not_the_path(tmp_path: Path) -> None:
    weights = Weights("abc", "models.a.start", "one/folder", None)
    other = replace(weights, model="another/folder", row="models.b.start")
    assert jsonable(weights) == jsonable(other) == {"digest": "abc"}
    assert jsonable(replace(weights, digest="def")) != jsonable(weights)


def test_the_stage_takes_the_model_of_a_moved_folder_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = write_weights(tmp_path / "weights")
    write_build(tmp_path / "build", weights)
    for folder in ("weights", "moved"):
        weights = weights.rename(tmp_path / folder)
        start = {"model": folder, "revision": None, "digest": digest_of(weights)}
        row = {"mixture": "web", "shape": "continued", "seed": 7, "start": start}
        text = yaml.safe_dump({"models": {"web": row}})
        Path("params.yaml").write_text(text, encoding="utf-8")
        stage("pretrain", "web")
    first, second = capsys.readouterr().out.splitlines()
    assert "1 steps" in first
    assert "cached" in second
    # In bfloat16, as the file of the shape says.
    tensors = safetensors.torch.load_file("build/pretrain/web/model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


# Chat templates


def test_a_template_in_the_tokenizer_config_is_kept(tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "weights")
    (weights / "chat_template.jinja").unlink()
    settings = json.loads((weights / "tokenizer_config.json").read_bytes())
    settings["chat_template"] = TEMPLATE
    (weights / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    assert AutoTokenizer.from_pretrained(published_files(tmp_path)).chat_template == TEMPLATE


def test_weights_without_a_template_get_that_of_the_build(tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "weights")
    (weights / "chat_template.jinja").unlink()
    out = published_files(tmp_path)
    ours = (tmp_path / "build/tokenizer/chat_template.jinja").read_text(encoding="utf-8")
    assert AutoTokenizer.from_pretrained(out).chat_template == ours


def published_files(root: Path) -> Path:
    """Publish the files of root/weights other than the tensors."""
    write_build(root / "build", root / "weights")
    out = shutil.copytree(root / "build/tokenizer", root / "out")
    (out / "config.json").write_text("{}", encoding="utf-8")
    Start.open(pinned(root / "weights"), root / "build/tokenizer").write_files(out)
    return out


# Refusals


@pytest.mark.parametrize(
    ("name", "tensor", "shape", "got"),
    [
        ("model.norm.weight", None, r"\(32,\)", r"\(0,\)"),
        ("model.layers.1.mlp.down_proj.weight", torch.ones(32, 1), r"\(32, 48\)", r"\(32, 1\)"),
        ("model.norm.weight", torch.full((32,), torch.nan), r"\(32,\)", r"\(32,\)"),
    ],
    ids=["missing", "another shape", "not finite"],
)
def test_tensors_that_do_not_fit_are_refused(
    name: str, tensor: torch.Tensor | None, shape: str, got: str, tmp_path: Path
) -> None:
    weights = write_weights(tmp_path / "weights")
    write_build(tmp_path / "build", weights)
    tensors = safetensors.torch.load_file(weights / "model.safetensors")
    tensors.pop(name)
    if tensor is not None:
        tensors[name] = tensor
    safetensors.torch.save_file(tensors, weights / "model.safetensors")
    start = Start.open(pinned(weights), tmp_path / "build/tokenizer")
    message = rf"{name}: expected finite numbers of shape {shape} \(got {got}\)"
    with pytest.raises(StartError, match=message):
        start.write_checkpoint(shape_of_weights(FLOAT32, weights, 305), 7, tmp_path / "checkpoint")


def test_half_precision_is_read_exactly(tmp_path: Path) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        weights = write_weights(tmp_path / str(dtype))
        model_of(weights).to(dtype).save_pretrained(weights)
        build = tmp_path / f"build {dtype}"
        write_build(build, weights)
        start = Start.open(pinned(weights), build / "tokenizer")
        shape = shape_of_weights(FLOAT32, weights, 305)
        start.write_checkpoint(shape, 7, tmp_path / "checkpoint")
        path = next(tmp_path.rglob("checkpoint/model/**/down_proj/*.safetensors"))
        ours = safetensors.torch.load_file(path)["data"]
        own = safetensors.torch.load_file(weights / "model.safetensors")
        layer = path.parts[path.parts.index("decoder") + 1]
        assert torch.equal(ours, own[f"model.layers.{layer}.mlp.down_proj.weight"].float())


def test_other_weights_than_those_pinned_are_refused(tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "weights")
    digest = digest_of(weights)
    for given, words in (("0" * 64, "are not those of 0"), (None, "are not pinned yet")):
        other = replace(pinned(weights), digest=given)
        with pytest.raises(WeightsError, match=f"m.start.digest: .* {words}.*; write.*{digest}"):
            other.folder()


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "weights")
    write_build(tmp_path / "build", weights)
    values = json.loads((tmp_path / "build/tokenizer/tokenizer.json").read_bytes())
    values["pre_tokenizer"]["add_prefix_space"] = True
    (tmp_path / "build/tokenizer/tokenizer.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(StartError, match=r"expected the tokenizer of .*; write tokenizer.path: "):
        Start.open(pinned(weights), tmp_path / "build/tokenizer")


def test_a_recipe_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"models.m: expected `start`"):
        pretrain_model(
            tmp_path,
            model="m",
            shape=FLOAT32,
            mixture=tmp_path,
            tokenizer=tmp_path,
            seed=1,
            weights=None,
        )


# The architecture

SAFE = "safe:     {mixture: safe, shape: nano, seed: 1}"


@pytest.mark.parametrize(
    ("row", "location", "words"),
    [
        ("shape: continued, seed: 1", "safe.shape", "must have an architecture (got continued"),
        (
            "shape: continued, seed: 1, start: {model: org/name, revision: null, digest: null}",
            "safe.start.revision",
            "got null for org/name, which is not a folder here",
        ),
        (
            "shape: smollm2-135m, seed: 1, start: {model: FOLDER, revision: null, digest: null}",
            "safe.shape",
            "must be the architecture of the weights (got hidden: 576 in specs/shapes",
        ),
        (
            "shape: continued, seed: 1, start: {model: FOLDER, revision: null, digest: null}",
            "tokenizer.path",
            "must be the folder of the tokenizer of models.safe.start (got null, to train one)",
        ),
    ],
    ids=["a recipe alone", "no commit", "another architecture", "another tokenizer"],
)
def test_rows_that_cannot_start_are_refused(
    row: str, location: str, words: str, tmp_path: Path
) -> None:
    weights = config_with(tmp_path / "weights", hidden_size=48, num_attention_heads=3)
    row = row.replace("FOLDER", str(weights))
    found = complaints(tmp_path, (SAFE, f"safe: {{mixture: safe, {row}}}"))
    assert [text for text in found if location in text and words in text]


def config_with(folder: Path, **changes: Any) -> Path:
    """Write the config.json of SmolLM2-135M-Instruct by transformers 4, with changes."""
    values = {
        "model_type": "llama",
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 9.999999747378752e-06,
        "rope_scaling": None,
        "rope_theta": 100000,
        "tie_word_embeddings": True,
    }
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values | changes), encoding="utf-8")
    return folder


def test_the_shape_is_that_of_the_weights(tmp_path: Path) -> None:
    smol = config_with(tmp_path)
    taken = shape_of_weights(read_shape("continued"), smol, 49153)
    checked = shape_of_weights(read_shape("smollm2-135m"), smol, 49153)
    assert (taken.hidden, taken.kv_heads, taken.rope_theta, taken.tied) == (576, 3, 1e5, True)
    assert (taken.vocab_size, checked.vocab_size) == (49153, 49280)
    assert (taken.positions, checked.positions) == (8192, 2048)
    assert taken.norm_eps == checked.norm_eps == 9.999999747378752e-06


def test_another_architecture_than_that_of_the_shape_is_refused(tmp_path: Path) -> None:
    message = r"must be the architecture of the weights \(got rope_theta: 100000.0 in specs/shapes"
    with pytest.raises(StartError, match=message):
        shape_of_weights(read_shape("smollm2-135m"), config_with(tmp_path, rope_theta=1e4), 0)
    with pytest.raises(StartError, match=r"must have room for the 60,000 tokens"):
        shape_of_weights(read_shape("smollm2-135m"), config_with(tmp_path, vocab_size=60000), 0)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "mistral"},
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"rope_scaling": {"type": "yarn", "factor": 4.0}},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5}},
        {"quantization_config": {"bits": 4}},
        {"head_dim": 128},
    ],
    ids=str,
)
def test_what_nanotron_does_not_compute_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"config.json: .*; choose a plain Llama"):
        read_architecture(config_with(tmp_path, **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": "576"}, "must be a whole number"),
        ({"hidden_size": 577}, "heads must divide hidden"),
        ({"num_hidden_layers": 0}, "must be greater than 0"),
        ({"rms_norm_eps": None}, "must be a number"),
    ],
    ids=str,
)
def test_a_malformed_configuration_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(StartError, match=message):
        shape_of_weights(read_shape("continued"), config_with(tmp_path, **change), 0)


# Experiments and estimates


def test_all_seeds_of_an_experiment_start_from_the_same_weights(tmp_path: Path) -> None:
    start = "{model: weights, revision: null, digest: abc}"
    path = tmp_path / "rows.yaml"
    path.write_text(
        f"models:\n  m: {{mixture: safe, shape: continued, seeds: [1, 2], start: {start}}}\n",
        encoding="utf-8",
    )
    rows = expand(YamlFile(path), {})["models",]
    assert [row["seed"] for row in rows.values()] == [1, 2]
    assert [row["start"]["digest"] for row in rows.values()] == ["abc", "abc"]


def test_a_recipe_alone_has_no_cost(tmp_path: Path) -> None:
    text = Path("specs/setups/paper.yaml").read_text(encoding="utf-8")
    path = tmp_path / "run.yaml"
    path.write_text(text.replace("shape: smollm2-1.7b", "shape: continued"), encoding="utf-8")
    with pytest.raises(SpecError, match=r"must have an architecture \(got continued"):
        lines(path, None)
