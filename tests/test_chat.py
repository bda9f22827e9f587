"""Tests of models in the chat format: ends of answers, dates in templates, limits of attention."""

from datetime import date
from pathlib import Path

import pytest
import torch
from transformers import (
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from safelm.decoding import BeamSearch, Decoder, Greedy
from safelm.evaluation.bounds import GenerationSettings
from safelm.evaluation.generation import CompletionModel
from safelm.models.chat import TODAY, load, request_tokens
from tests.tiny import write_model, write_tokenizer

GREEDY, BEAM = Greedy(), BeamSearch(beams=3, candidates=3)
SHAPE = {"vocab_size": 320, "bos_token_id": 0, "eos_token_id": 0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", write_tokenizer(tmp_path / "tokenizer"))


def completion_model(folder: Path, model: PreTrainedModel | None = None) -> CompletionModel:
    """Open the model of a folder, or another model with its tokenizer; it continues texts."""
    torch.manual_seed(0)
    if model is not None:
        model.save_pretrained(folder)
    return CompletionModel(*load(folder), is_chat=False)


def settings(decoder: Decoder, max_new_tokens: int) -> GenerationSettings:
    return GenerationSettings(decoder=decoder, max_new_tokens=max_new_tokens, batch_size=2, seed=1)


def test_an_answer_ends_at_the_end_tokens_of_the_model(folder: Path) -> None:
    loaded = completion_model(folder)
    prompt = loaded.prompt_tokens(["How do I"])
    with torch.inference_mode():
        first = int(loaded.model(torch.tensor(prompt)).logits[0, -1].argmax())
    assert loaded.complete(["How do I"], settings(GREEDY, 12))[0]["completion"]
    loaded.model.generation_config.eos_token_id = [0, first]
    assert loaded.complete(["How do I"], settings(GREEDY, 12))[0]["completion"] == ""


def test_a_template_with_a_date_gives_the_same_text_every_day(folder: Path) -> None:
    _, tokenizer = load(folder)
    tokenizer.chat_template = "{{ strftime_now('%Y-%m-%d') }}: {{ messages[0].content }}"
    text = tokenizer.decode(request_tokens(tokenizer, ["How do I water the rose?"])[0])
    assert text == f"{TODAY}: How do I water the rose?" and date.today() != TODAY


def test_a_prompt_beyond_the_window_of_a_layer_does_not_fit(folder: Path) -> None:
    shape = MistralConfig(
        **SHAPE,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=24,
    )
    loaded = completion_model(folder, MistralForCausalLM(shape))
    prompts = ["How", "How do I water the rose? " * 8]
    assert loaded.fits(prompts, 6) == [True, False]
    assert len(loaded.complete(prompts[:1], settings(BEAM, 6))) == 1
    with pytest.raises(ValueError, match="expected attention over the whole text"):
        loaded.complete(prompts, settings(BEAM, 6))


def test_an_architecture_without_the_attention_of_pytorch_is_decoded(folder: Path) -> None:
    shape = GPTJConfig(
        **SHAPE,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=128,
        rotary_dim=8,
        initializer_range=0.5,
    )
    loaded = completion_model(folder, GPTJForCausalLM(shape))
    tokens = loaded.prompt_tokens(["How do I water"])[0]
    for _ in range(8):
        with torch.inference_mode():
            tokens = [*tokens, int(loaded.model(torch.tensor([tokens])).logits[0, -1].argmax())]
    completion = loaded.complete(["How do I water"], settings(GREEDY, 8))[0]["completion"]
    written = loaded.tokenizer.decode(tokens[-8:], skip_special_tokens=False)
    assert written.startswith(str(completion)) and completion


def test_an_architecture_that_masks_by_position_is_refused(folder: Path) -> None:
    shape = GPTNeoConfig(
        **SHAPE,
        hidden_size=32,
        num_layers=2,
        attention_types=[[["global", "local"], 1]],
        num_heads=2,
        max_position_embeddings=128,
    )
    loaded = completion_model(folder, GPTNeoForCausalLM(shape))
    with pytest.raises(
        ValueError, match=r"GPTNeoForCausalLM: attends by the index of a key .* position_ids alone"
    ):
        loaded.complete(["How do I"], settings(GREEDY, 6))
