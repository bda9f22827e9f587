"""Encoder scorer: finetuned on labels, stored as plain transformers files, scored by chunks."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from safelm.builder.executors.local import LocalExecutor
from safelm.builder.paths import build, cache, scratch
from safelm.builder.plan import Plan
from safelm.builder.store import Store
from safelm.documents.shards import WriteDocuments
from safelm.scoring.encoder import EncoderScorer, GradeByEncoder
from safelm.scoring.encoder_chunks import chunk_probabilities, chunk_texts
from safelm.scoring.encoder_model import EncoderError, load_encoder, save_encoder
from safelm.scoring.encoder_training import LabelledChunks, finetune, weighted_loss
from safelm.scoring.labels import HELD_OUT
from safelm.scoring.registry import SafetyScorer
from specs.scorer import RECIPES, Recipe, Step
from tests.encoder import write_encoder
from tests.ingested import ATTACK, CRIME, PARAMS, SAFE, WEB, Rows, ingested, rows_of, stage

ROW = (
    "  deep: {kind: encoder, model: encoder, revision: null, recipe: brief, "
    "sequence_length: 24, unsafe_weight: 2.0}\n"
)

BRIEF = """
source: a test, for weights that begin random
warmup: 0.2
steps:
  - {trains: head, epochs: 2, learning_rate: 1.0e-2, batch: 8, weight_decay: 0.0}
  - {trains: all, epochs: 12, learning_rate: 3.0e-3, batch: 8, weight_decay: 1.0e-3}
"""


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    return write_encoder(tmp_path / "encoder", [*SAFE, *CRIME, *ATTACK])


@pytest.fixture
def scorer(encoder: Path) -> EncoderScorer:
    torch.manual_seed(1)
    return EncoderScorer(*load_encoder(encoder, None, 12, new_head=True), 12)


def test_a_long_text_is_cut_into_chunks_of_the_sequence(scorer: EncoderScorer) -> None:
    chunks, owners = chunk_texts(scorer.tokenizer, ["the rose", " ".join(["red"] * 25), ""], 12)
    # A full chunk has 10 words and two special tokens.
    assert list(map(len, chunks)) == [4, 12, 12, 7, 2]
    assert owners.tolist() == [0, 1, 1, 1, 2]


def test_the_score_of_a_text_is_the_highest_of_its_chunks(scorer: EncoderScorer) -> None:
    texts = [" ".join(SAFE[:4]), "", SAFE[0], " ".join([*ATTACK, *CRIME])]
    chunked, owners = chunk_texts(scorer.tokenizer, texts, 12)
    by_chunk = chunk_probabilities(scorer.model, scorer.tokenizer, chunked)
    for index, grade in enumerate(scorer.grade(texts)):
        chunks = by_chunk[owners == index]
        assert grade is not None and grade.probabilities is not None
        assert grade.score == chunks.argmax(axis=1).max()
        for level in range(6):
            highest = chunks[:, level:].sum(axis=1).max()
            assert sum(grade.probabilities[level:]) == pytest.approx(highest, abs=1e-5)


def test_a_text_is_graded_alike_alone_and_among_others(scorer: EncoderScorer) -> None:
    texts = [*SAFE, *CRIME, *ATTACK, " ".join(SAFE)]
    together, (alone,) = scorer.grade(texts)[-1], scorer.grade(texts[-1:])
    assert together is not None and alone is not None
    assert together.score == alone.score
    assert together.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


def test_the_loss_on_unsafe_documents_is_multiplied() -> None:
    class Outputs:
        logits = torch.tensor([[2.0, 0, 0, 0, 0, 0], [0, 0, 1.0, 0, 0, 0]])

    plain = torch.nn.functional.cross_entropy(
        Outputs.logits, torch.tensor([0, 3]), reduction="none"
    )
    loss = weighted_loss(torch.tensor([1.0] + [100.0] * 5))(Outputs(), torch.tensor([0, 3]))
    assert loss.item() == pytest.approx((plain[0] + 100 * plain[1]).item() / 2)


def test_an_unsafe_text_is_learnt_from_its_worst_chunk(scorer: EncoderScorer) -> None:
    texts = [" ".join(SAFE[:4]), SAFE[0], " ".join([*ATTACK[:2], *CRIME[:2]])]
    chunks, owners = chunk_texts(scorer.tokenizer, texts, 12)
    by_chunk = chunk_probabilities(scorer.model, scorer.tokenizer, chunks)
    data = LabelledChunks(chunks, owners, [0, 0, 5])
    assert data.labels.tolist() == [5 * (owner == 2) for owner in owners]
    data.choose(scorer.model, scorer.tokenizer)
    expected = by_chunk @ [0, 1, 2, 3, 4, 5]
    worst = [index for index, label in enumerate(data.labels) if label == 5]
    assert expected[worst].tolist() == [expected[owners == 2].max()]
    assert data.labels.tolist().count(0) == (owners < 2).sum()
    data.use_all()
    assert data.labels.tolist().count(5) == (owners == 2).sum() > 1


def test_harm_at_the_end_of_long_texts_is_learnt(encoder: Path) -> None:
    # The first chunk is the same for all.
    opening = "the rose in garden 1 is red and the tree is tall ."
    texts = [f"{opening} {text}" for text in [*SAFE[:20], *ATTACK]]
    scores = [0] * 20 + [5] * 20
    torch.manual_seed(1)
    model, tokenizer = load_encoder(encoder, None, 12, new_head=True)
    steps = [
        Step(trains="all", epochs=20, learning_rate=5e-3, batch=8, weight_decay=0.0),
    ]
    finetune(
        model,
        tokenizer,
        texts,
        scores,
        steps=steps,
        warmup=0.2,
        sequence_length=12,
        unsafe_weight=4.0,
        seed=1,
    )
    grades = EncoderScorer(model, tokenizer, 12).grade(texts)
    assert [grade.score for grade in grades if grade] == scores


def test_an_encoder_has_a_worker_for_each_gpu(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAFELM_WORKERS", "8")
    deep = GradeByEncoder(files=(encoder / "config.json",), sequence_length=12)
    nested = SafetyScorer(graders={"deep": deep}, rule="max", thresholds={"deep": 0})
    blocks = [Rows(table=[], size=1), nested, WriteDocuments()]
    plan = Plan.of("score", blocks, Store(cache(), scratch()))
    for gpus, workers in ((0, 8), (2, 2), (16, 8)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        assert LocalExecutor(plan).workers == workers


def settings(step: Step) -> tuple[str, int, float, int]:
    return step.trains, step.epochs, step.learning_rate, step.batch


def test_the_recipes_are_the_papers() -> None:
    small, large = Recipe.read("small").steps, Recipe.read("large").steps
    assert settings(small[-1]) == ("all", 50, 1e-5, 8)
    assert list(map(settings, large)) == [("head", 1, 1e-3, 32), ("all", 5, 1e-6, 8)]
    assert all(Recipe.read(path.stem).source for path in RECIPES.glob("*.yaml"))


def test_a_missing_encoder_or_too_long_a_sequence_is_refused(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match="expected a folder with an encoder"):
        load_encoder(tmp_path / "nothing", None, 12)
    with pytest.raises(EncoderError, match="hf download acme/encoder --revision 0123"):
        load_encoder("acme/encoder", "0123", 12)
    with pytest.raises(EncoderError, match="at most its 24 positions"):
        load_encoder(encoder, None, 100, new_head=True)


# The most tokens that each kind of encoder has positions for; RoBERTa's begin after the padding's.
KINDS = {"bert": 24, "roberta": 22, "gpt2": 24}


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_with_any_head_or_none_can_be_finetuned_up_to_its_last_position(
    tmp_path: Path, kind: str
) -> None:
    texts = [" ".join(SAFE), *CRIME, "rose"]
    scores = [0] + [4] * len(CRIME) + [0]
    write_encoder(tmp_path, texts, kind)
    two = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=2)
    two.save_pretrained(tmp_path)
    # The tokenizer has the same id.
    edit(tmp_path / "config.json", pad_token_id=1 if kind == "roberta" else None)
    length = KINDS[kind]
    with pytest.raises(EncoderError, match=rf"at most its {length} positions .got {length + 1}"):
        load_encoder(tmp_path, None, length + 1, new_head=True)
    with pytest.raises(EncoderError, match=r"expected weights with a 6-way head .got .2"):
        load_encoder(tmp_path, None, length)
    model, tokenizer = load_encoder(tmp_path, None, length, new_head=True)
    step = Step(trains="all", epochs=1, learning_rate=1e-3, batch=8, weight_decay=0.0)
    losses = finetune(
        model,
        tokenizer,
        texts,
        scores,
        steps=[step],
        warmup=0.0,
        sequence_length=length,
        unsafe_weight=1.0,
        seed=1,
    )
    save_encoder(model, tokenizer, losses, tmp_path / "fitted")
    graded = EncoderScorer.read(tmp_path / "fitted", length).grade(texts)
    assert graded == EncoderScorer(model, tokenizer, length).grade(texts)
    assert len(graded) == len(texts) and None not in graded


def test_a_fitted_encoder_without_a_head_is_refused(encoder: Path) -> None:
    message = r"expected weights with a 6-way head .got nothing for classifier"
    with pytest.raises(EncoderError, match=message):
        EncoderScorer.read(encoder, 12)


def test_weights_of_another_shape_are_refused_outside_the_head(encoder: Path) -> None:
    edit(encoder / "config.json", intermediate_size=48)
    message = r"that its config.json gives .got .64. where .48. is needed for bert"
    with pytest.raises(EncoderError, match=message):
        load_encoder(encoder, None, 12, new_head=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("pad", "message"),
    [(None, "a pad token .got none"), ("[NEW]", "a pad token among the .* of its model")],
)
def test_an_encoder_without_a_pad_token_is_refused(
    tmp_path: Path, kind: str, pad: str | None, message: str
) -> None:
    write_encoder(tmp_path, SAFE, kind)
    edit(tmp_path / "tokenizer_config.json", pad_token=pad)
    with pytest.raises(EncoderError, match=message):
        load_encoder(tmp_path, None, 12, new_head=True)


def test_no_texts_give_no_grades(scorer: EncoderScorer) -> None:
    assert scorer.grade([]) == []


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **values}))


def test_code_that_comes_with_an_encoder_is_not_run(encoder: Path) -> None:
    classes = {"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.Own"}
    edit(encoder / "config.json", model_type="own", auto_map=classes)
    (encoder / "own.py").write_text(
        "from pathlib import Path\nPath('ran').write_text('')\nclass Own: ...\n"
    )
    with pytest.raises(EncoderError, match="that transformers can load"):
        load_encoder(encoder, None, 12)
    assert not list(encoder.rglob("ran"))
    assert not Path("ran").exists()


@pytest.fixture
def fitted(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(encoder.parent)
    monkeypatch.setattr(Recipe, "folder", encoder.parent)
    Path("brief.yaml").write_text(BRIEF)
    text = PARAMS.replace("fit: {", f"{ROW}fit: {{")
    text = text.replace("scorers: [lexicon, ngrams]", "scorers: [lexicon, deep]")
    Path("params.yaml").write_text(text.replace("of: [lexicon, ngrams]", "of: [deep]"))
    ingested("clean/web", WEB, 30)
    stage("annotate")
    stage("fit")
    return build("fit", "deep")


def modification_times(folder: Path) -> dict[str, int]:
    paths = [path for path in folder.iterdir() if path.name != "manifest.json"]
    return {path.name: path.stat().st_mtime_ns for path in paths}


def test_the_stages_fit_and_score_use_the_encoder(fitted: Path) -> None:
    metrics = json.loads((build("fit") / "held_out.json").read_bytes())["scorers"]["deep"]
    assert metrics["recall_at_3"] == 1.0
    assert metrics["auroc"]["value"] > 0.9
    names = sorted(path.name for path in fitted.iterdir())
    assert {"config.json", "loss.csv", "model.safetensors", "tokenizer.json"} <= set(names)
    assert HELD_OUT in names
    assert not [name for name in names if name.endswith((".bin", ".pkl", ".pt"))]
    stage("score", "web")
    rows = rows_of(build("score", "web", "deep"))
    scores = [row["score"] for row in rows]
    assert [row["score"] for row in rows_of(build("score", "web"))] == scores
    labels = [page["label"] for page in rows_of(build("clean/web"))]
    assert [score >= 3 for score in scores] == [label >= 3 for label in labels]
    # The held-out grades are those of the stored model.
    graded = {row["id"]: row["score"] for row in rows}
    held_out = pq.read_table(fitted / HELD_OUT).to_pylist()
    assert held_out
    assert all(graded[row["id"]] == row["score"] for row in held_out)


def test_a_second_fit_is_cached_and_stores_no_local_path(fitted: Path) -> None:
    before = modification_times(fitted)
    stage("fit")
    assert modification_times(fitted) == before
    here = str(Path.cwd()).encode()
    assert not [path for path in fitted.iterdir() if here in path.read_bytes()]


PLAIN = """
import sys
from transformers import AutoModelForSequenceClassification, AutoTokenizer
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
texts = ["the rose is red", "then hack the server"]
logits = model(**tokenizer(texts, return_tensors="pt", padding=True)).logits
print(model.config.num_labels, *logits.argmax(-1).tolist())
assert not [name for name in sys.modules if name.startswith("safelm")]
"""


def test_a_fitted_encoder_loads_in_plain_transformers(fitted: Path) -> None:
    command = [sys.executable, "-c", PLAIN, str(fitted.absolute())]
    done = subprocess.run(command, capture_output=True, text=True, cwd=fitted)
    assert done.stdout.split()[:2] == ["6", "0"], done.stderr
