"""An encoder is finetuned on labels, saved as transformers has it, and grades a document by its
worst chunk.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from safelm.builder.paths import build
from safelm.builder.shards import tables
from safelm.scoring.encoder import EncoderScorer
from safelm.scoring.encoder_model import EncoderError, load_encoder, save_encoder
from safelm.scoring.encoder_training import finetune, weighted_loss
from safelm.scoring.labels import HELD_OUT
from specs.scorer import RECIPES, Recipe, Step
from tests.encoder import write_encoder
from tests.ingested import ATTACK, CRIME, PARAMS, SAFE, WEB, ingested, rows_of, stage

ROW = "  deep: {kind: encoder, model: encoder, revision: null, recipe: brief, sequence_length: 24, unsafe_weight: 2.0}\n"

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
    chunks, owners = scorer.chunks(["the rose", " ".join(["red"] * 25), ""])
    assert [len(chunk) for chunk in chunks] == [
        4,
        12,
        12,
        7,
        2,
    ]  # 10 words and the two ends in each
    assert owners.tolist() == [0, 1, 1, 1, 2]


def test_the_score_of_a_text_is_the_highest_of_its_chunks(scorer: EncoderScorer) -> None:
    texts = [" ".join(SAFE[:4]), "", SAFE[0], " ".join([*ATTACK, *CRIME])]
    by_chunk, owners = scorer.chunk_probabilities(texts)
    for place, grade in enumerate(scorer.grade(texts)):
        chunks = by_chunk[owners == place]
        assert grade is not None and grade.probabilities is not None
        assert grade.score == chunks.argmax(axis=1).max()
        for level in range(6):
            assert sum(grade.probabilities[level:]) == pytest.approx(
                chunks[:, level:].sum(axis=1).max(), abs=1e-5
            )


def test_a_text_is_graded_alike_alone_and_among_others(scorer: EncoderScorer) -> None:
    texts = [*SAFE, *CRIME, *ATTACK, " ".join(SAFE)]
    together, (alone,) = scorer.grade(texts), scorer.grade(texts[-1:])
    assert together[-1] is not None and alone is not None and together[-1].score == alone.score
    np.testing.assert_allclose(
        together[-1].probabilities or (), alone.probabilities or (), atol=1e-5
    )


def test_the_loss_on_unsafe_documents_is_multiplied() -> None:
    class Outputs:
        logits = torch.tensor([[2.0, 0, 0, 0, 0, 0], [0, 0, 1.0, 0, 0, 0]])

    plain = torch.nn.functional.cross_entropy(
        Outputs.logits, torch.tensor([0, 3]), reduction="none"
    )
    loss = weighted_loss(torch.tensor([1.0] + [100.0] * 5))(Outputs(), torch.tensor([0, 3]))
    assert loss.item() == pytest.approx((plain[0] + 100 * plain[1]).item() / 2)


def test_the_recipes_are_the_papers() -> None:
    small, large = Recipe.read("small").steps, Recipe.read("large").steps
    assert (small[-1].trains, small[-1].epochs, small[-1].learning_rate, small[-1].batch) == (
        "all",
        50,
        1e-5,
        8,
    )
    assert [step.trains for step in large] == ["head", "all"]
    assert [(step.epochs, step.learning_rate, step.batch) for step in large] == [
        (1, 1e-3, 32),
        (5, 1e-6, 8),
    ]
    assert all(Recipe.read(path.stem).source for path in RECIPES.glob("*.yaml"))


def test_what_is_no_encoder_is_refused(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match="expected a folder with an encoder"):
        load_encoder(tmp_path / "nothing", None, 12)
    with pytest.raises(EncoderError, match="hf download acme/encoder --revision 0123"):
        load_encoder("acme/encoder", "0123", 12)
    with pytest.raises(EncoderError, match="at most its 24 positions"):
        load_encoder(encoder, None, 100, new_head=True)


KINDS = {
    "bert": 24,
    "roberta": 22,
    "gpt2": 24,
}  # and how many tokens it can place: RoBERTa counts from behind the pad


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_with_any_head_or_none_can_be_finetuned_up_to_its_last_position(
    tmp_path: Path, kind: str
) -> None:
    texts = [" ".join(SAFE), *CRIME, "rose"]
    scores = [0] + [4] * len(CRIME) + [0]
    write_encoder(tmp_path, texts, kind)
    two = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=2)
    two.save_pretrained(tmp_path)
    edit(
        tmp_path / "config.json", pad_token_id=1 if kind == "roberta" else None
    )  # the tokenizer's says the same
    with pytest.raises(
        EncoderError, match=rf"at most its {KINDS[kind]} positions .got {KINDS[kind] + 1}"
    ):
        load_encoder(tmp_path, None, KINDS[kind] + 1, new_head=True)
    with pytest.raises(EncoderError, match=r"expected weights with a 6-way head .got .2"):
        load_encoder(tmp_path, None, KINDS[kind])
    model, tokenizer = load_encoder(tmp_path, None, KINDS[kind], new_head=True)
    step = Step(trains="all", epochs=1, learning_rate=1e-3, batch=8, weight_decay=0.0)
    losses = finetune(
        model,
        tokenizer,
        texts,
        scores,
        steps=[step],
        warmup=0.0,
        sequence_length=KINDS[kind],
        unsafe_weight=1.0,
        seed=1,
    )
    save_encoder(model, tokenizer, losses, tmp_path / "fitted")
    graded = EncoderScorer.read(tmp_path / "fitted", KINDS[kind]).grade(texts)
    assert graded == EncoderScorer(model, tokenizer, KINDS[kind]).grade(texts)
    assert len(graded) == len(texts) and None not in graded


def test_a_fitted_encoder_gets_no_head_by_chance(encoder: Path) -> None:
    with pytest.raises(
        EncoderError, match=r"expected weights with a 6-way head .got nothing for classifier"
    ):
        EncoderScorer.read(encoder, 12)


def test_only_the_head_of_an_encoder_may_be_another(encoder: Path) -> None:
    edit(encoder / "config.json", intermediate_size=48)
    with pytest.raises(
        EncoderError, match=r"that its config.json gives .got .64. where .48. is needed for bert"
    ):
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


def test_no_text_has_no_grade(scorer: EncoderScorer) -> None:
    assert scorer.grade([]) == []


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **values}))


def test_code_that_comes_with_an_encoder_is_not_run(encoder: Path) -> None:
    config = json.loads((encoder / "config.json").read_bytes())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.Own"},
    }
    (encoder / "config.json").write_text(json.dumps(config))
    (encoder / "own.py").write_text(
        "from pathlib import Path\nPath('ran').write_text('')\nclass Own: ...\n"
    )
    with pytest.raises(EncoderError, match="that transformers can load"):
        load_encoder(encoder, None, 12)
    assert not list(encoder.rglob("ran")) and not Path("ran").exists()


@pytest.fixture
def fitted(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(encoder.parent)
    monkeypatch.setattr("specs.scorer.RECIPES", encoder.parent)
    Path("brief.yaml").write_text(BRIEF)
    text = PARAMS.replace("fit: {", f"{ROW}fit: {{").replace(
        "scorers: [lexicon, ngrams]", "scorers: [lexicon, deep]"
    )
    Path("params.yaml").write_text(text.replace("of: [lexicon, ngrams]", "of: [deep]"))
    ingested("ingest/web", WEB, 30)
    stage("annotate")
    stage("fit")
    return build("fit", "deep")


def test_it_learns_is_saved_and_scores(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads((build("fit") / "held_out.json").read_bytes())["scorers"]["deep"]
    assert found["recall_at_3"] == 1.0 and found["auroc"]["value"] > 0.9
    names = sorted(path.name for path in fitted.iterdir())
    assert {"config.json", "loss.csv", "model.safetensors", "tokenizer.json", HELD_OUT} <= set(
        names
    )
    assert not [name for name in names if name.endswith((".bin", ".pkl", ".pt"))]
    stage("score")
    rows = rows_of(build("score", "deep"))
    assert [row["score"] for row in rows_of(build("score"))] == [row["score"] for row in rows]
    assert all(
        (row["score"] >= 3) == (page["label"] >= 3)
        for row, page in zip(rows, rows_of(build("ingest/web")), strict=True)
    )
    # The held-out grades are those of the saved model.
    graded = {
        row["id"]: row["score"]
        for table in tables(build("score", "deep"))
        for row in table.to_pylist()
    }
    held = pq.read_table(fitted / HELD_OUT).to_pylist()
    assert held and all(graded[row["id"]] == row["score"] for row in held)
    # A second fit takes everything, and names no place of this machine.
    before = {
        path.name: path.stat().st_mtime_ns
        for path in fitted.iterdir()
        if path.name != "manifest.json"
    }
    stage("fit")
    assert {
        path.name: path.stat().st_mtime_ns for path in fitted.iterdir() if path.name in before
    } == before
    here = str(Path.cwd()).encode()
    assert not [name for name in names if here in (fitted / name).read_bytes()]


PLAIN = """
import sys
from transformers import AutoModelForSequenceClassification, AutoTokenizer
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
tokenizer, texts = AutoTokenizer.from_pretrained(sys.argv[1]), ["the rose is red", "then hack the server"]
logits = model(**tokenizer(texts, return_tensors="pt", padding=True)).logits
print(model.config.num_labels, *logits.argmax(-1).tolist())
assert not [name for name in sys.modules if name.startswith("safelm")]
"""


def test_it_loads_in_plain_transformers(fitted: Path) -> None:
    command = [sys.executable, "-c", PLAIN, str(fitted.absolute())]
    done = subprocess.run(command, capture_output=True, text=True, cwd=fitted)
    assert done.stdout.split()[:2] == ["6", "0"], done.stderr
