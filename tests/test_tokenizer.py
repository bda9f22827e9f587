"""Tests of tokenizer: training, adopting an existing one, and the files that are saved."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from safelm.builder.paths import build
from safelm.corpora.tokenization import (
    adopt_tokenizer,
    sample_documents,
    save_tokenizer,
    size_of,
    texts_of,
    train_tokenizer,
)
from specs.tokens import SPECIAL, TAG
from tests.ingested import PARAMS, SAFE, ingested, stage

CHAT = [{"prompt": f"Is tree {number} tall?", "text": "It is."} for number in range(9)]
TOKENIZER = train_tokenizer(SAFE, 400)


SOURCE = "{reader: jsonl, path: none, files: '*', text: text, license: none}"


def params(*sources: str, edit: tuple[str, str] = ("", "")) -> None:
    """Write params.yaml, with these sources."""
    rows = ", ".join(f"{source}: {SOURCE}" for source in sources)
    Path("params.yaml").write_text(f"{PARAMS.replace(*edit)}sources: {{{rows}}}\n")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params("web")


def pieces(text: str, tokenizer: Tokenizer = TOKENIZER) -> list[str]:
    return tokenizer.encode(text, add_special_tokens=False).tokens


def test_special_tokens_have_the_first_ids() -> None:
    assert [TOKENIZER.token_to_id(token) for token in SPECIAL] == [0, 1, 2, 3]


def test_a_digit_is_a_token() -> None:
    assert pieces(" garden 117") == ["Ġgarden", "Ġ", "1", "1", "7"]


def test_the_tag_is_one_token_and_takes_no_space() -> None:
    assert pieces(f"The rose{TAG} is{TAG} tall") == ["The", "Ġrose", TAG, "Ġis", TAG, "Ġtall"]


@pytest.mark.parametrize(
    "text", ["The rose.\n\n  Two  spaces\t", "Zoë 🌹 naïve 薔薇", "a\x00b", ""]
)
def test_any_text_survives_encoding_and_decoding(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text).ids, skip_special_tokens=False) == text


def test_few_texts_give_fewer_tokens() -> None:
    assert 260 <= size_of(train_tokenizer(["a b"], 400)) < 400


def test_the_order_of_texts_does_not_matter() -> None:
    assert train_tokenizer(SAFE[::-1], 400).to_str() == TOKENIZER.to_str()


def test_each_source_is_sampled_and_dialogues_are_read_with_their_prompts() -> None:
    ingested("clean/web", [{"text": text} for text in SAFE], 7)
    ingested("clean/chat", CHAT)
    documents = list(sample_documents([build("clean", "chat"), build("clean", "web")], 5, 1))
    assert [document.metadata["source"] for document in documents] == ["chat"] * 5 + ["web"] * 5
    assert list(texts_of(documents[:1], {"chat": 0})) == [documents[0].metadata["prompt"], "It is."]  # type: ignore[arg-type]  # a dict counts as well


def test_transformers_reads_the_output_of_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transformers import AutoTokenizer

    ingested("clean/web", [{"text": text} for text in SAFE])
    stage("tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(build("tokenizer"))
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 0, 0)
    assert sorted(tokenizer.all_special_tokens) == sorted(SPECIAL)
    assert (
        tokenizer(f"rose{TAG} is").input_ids
        == Tokenizer.from_file("build/tokenizer/tokenizer.json").encode(f"rose{TAG} is").ids
    )
    turns = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Yes<|im_"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == (
        "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\nYes<|im_<|im_end|>\n"
    )
    prompt = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n"


def test_tokens_json_has_the_size_of_the_vocabulary() -> None:
    ingested("clean/web", [{"text": text} for text in SAFE])
    ingested("clean/chat", CHAT)
    params("web", "chat")
    stage("tokenizer")
    tokens = json.loads((build("tokenizer") / "tokens.json").read_bytes())
    assert tokens["vocabulary"] == size_of(Tokenizer.from_file("build/tokenizer/tokenizer.json"))
    assert tokens["special"] == {token: id for id, token in enumerate(SPECIAL)}
    assert tokens["documents"] == {"chat": 9, "web": 40}


def test_a_source_removed_from_params_is_not_read() -> None:
    ingested("clean/web", [{"text": text} for text in SAFE])
    ingested("clean/gone", CHAT)
    stage("tokenizer")
    assert json.loads((build("tokenizer") / "tokens.json").read_bytes())["documents"] == {"web": 40}


def test_a_source_for_evaluation_is_not_read() -> None:
    ingested("clean/web", [{"text": text} for text in SAFE])
    ingested("clean/chat", CHAT)
    params("web")
    row = f"chat: {SOURCE.replace('{', '{usage: evaluation_only, ', 1)}"
    text = Path("params.yaml").read_text().replace("sources: {", f"sources: {{{row}, ")
    Path("params.yaml").write_text(text)
    stage("tokenizer")
    assert json.loads((build("tokenizer") / "tokens.json").read_bytes())["documents"] == {"web": 40}


def test_the_same_bytes_on_one_thread_and_in_other_shards() -> None:
    ingested("clean/web", [{"text": text} for text in SAFE], 7)
    stage("tokenizer")
    before = (build("tokenizer") / "tokenizer.json").read_bytes()
    ingested("clean/web", [{"text": text} for text in SAFE[::-1]], 40)
    command = [sys.executable, "-m", "pipeline.tokenizer"]
    root = str(Path(__file__).parents[1])
    subprocess.run(
        command, check=True, env={**os.environ, "PYTHONPATH": root, "RAYON_NUM_THREADS": "1"}
    )
    assert (build("tokenizer") / "tokenizer.json").read_bytes() == before


def foreign(*special: str) -> Path:
    """An existing tokenizer with these special tokens, in a folder."""
    tokenizer = Tokenizer(BPE())
    tokenizer.train_from_iterator(
        ["ab ab"], BpeTrainer(special_tokens=list(special), show_progress=False)
    )
    Path("foreign").mkdir()
    tokenizer.save("foreign/tokenizer.json")
    return Path("foreign")


def test_an_existing_tokenizer_gets_the_missing_tokens() -> None:
    path = foreign("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    before = Tokenizer.from_file(str(path / "tokenizer.json")).get_vocab_size()
    adopted = adopt_tokenizer(path, before + 1)
    assert (adopted.token_to_id(TAG), adopted.token_to_id("<|endoftext|>")) == (before, 0)
    assert pieces(f"ab{TAG}", adopted)[-1] == TAG


def test_an_existing_tokenizer_that_is_too_large_is_refused() -> None:
    path = foreign("<|endoftext|>")
    with pytest.raises(ValueError, match=r"tokenizer.vocab_size: .* \(got 5\); write vocab_size: "):
        adopt_tokenizer(path, 5)


def test_an_existing_tokenizer_without_end_at_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="to be token 0"):
        adopt_tokenizer(foreign("<s>"), 100)


def test_an_existing_tokenizer_is_saved_by_the_stage() -> None:
    foreign("<|endoftext|>")
    ingested("clean/web", [{"text": text} for text in SAFE])
    params("web", edit=("path: null", "path: foreign"))
    stage("tokenizer")
    save_tokenizer(adopt_tokenizer(Path("foreign"), 400), Path("foreign"), {})  # type: ignore[arg-type]  # no documents
    assert (
        Path("foreign/tokenizer.json").read_bytes()
        == (build("tokenizer") / "tokenizer.json").read_bytes()
    )


def test_a_folder_without_a_tokenizer_is_refused() -> None:
    with pytest.raises(FileNotFoundError, match="expected a folder with tokenizer"):
        adopt_tokenizer(Path("nowhere"), 400)
