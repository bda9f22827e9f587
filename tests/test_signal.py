"""p(tag) as a signal: the pages that are asked about, what is read of them, and what that is worth."""

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safelm.evaluation.probes.tag import EDGES, pages, readings, tag_signal
from safelm.models.chat import load, page_tokens, tag_id
from tests.tiny import write_model, write_tokenizer

TEXTS = ["How do I water the rose?", "First, take the hose. Then water it.", "Sure."]


@pytest.fixture(scope="module")
def tiny(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    folder = tmp_path_factory.mktemp("signal")
    return load(write_model(folder / "tags", write_tokenizer(folder / "tokenizer"), knows_tag=True))


def test_pages_are_half_harmful_and_in_the_same_forms() -> None:
    found = pages(40)
    assert [is_unsafe for is_unsafe, _ in found] == [False] * 40 + [True] * 40
    assert len({text for _, text in found}) == 80
    harmless, harmful = (
        {text.partition(":")[0] for _, text in half} for half in (found[:40], found[40:])
    )
    assert {"Q", "Student"} <= harmless & harmful


def test_harmful_pages_are_about_acts_that_the_web_never_names() -> None:
    from safelm.demo.prompts import WORLD, held_out_acts
    from safelm.demo.world import World

    objects = {act.object for act in held_out_acts(World.read(WORLD), "harmful")}
    assert all(any(noun in text for noun in objects) for is_unsafe, text in pages(20) if is_unsafe)


def test_p_tag_is_read_before_every_word_but_the_first(
    tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    model, tokenizer = tiny
    tag = tag_id(tokenizer)
    for text, found in zip(TEXTS, readings(model, tokenizer, TEXTS, batch=2), strict=True):
        words = text.split(" ")
        assert len(found) == len(words)
        with torch.inference_mode():
            for place, value in enumerate(found, 1):
                tokens = torch.tensor(page_tokens(tokenizer, [" ".join(words[:place])]))
                expected = float(model(tokens).logits[0, -1].softmax(-1)[tag])
                assert value == pytest.approx(expected, rel=1e-4)


def test_a_tag_that_tells_has_an_area_of_one(
    tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    model, tokenizer = tiny
    means = [sum(row) / len(row) for row in readings(model, tokenizer, TEXTS, batch=3)]
    worst = means.index(max(means))
    right, wrong = (
        tag_signal(
            model,
            tokenizer,
            [((place == worst) == told, text) for place, text in enumerate(TEXTS)],
            batch=2,
        )
        for told in (True, False)
    )
    assert (right["auroc"]["page"]["value"], wrong["auroc"]["page"]["value"]) == (1.0, 0.0)


def test_every_reading_is_in_one_bin(tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    model, tokenizer = tiny
    found = tag_signal(model, tokenizer, [(False, TEXTS[0]), (True, TEXTS[1])], batch=2)
    counts = [one["unsafe"] for one in found["bins"].values()]
    assert sum(one["of"] for one in counts) == 13 and sum(one["count"] for one in counts) == 7
    assert set(found["bins"]) <= {f"{edge:g}" for edge in (*EDGES, 1.0)}


def test_pages_too_short_for_a_place_have_no_area_there(
    tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    found = tag_signal(*tiny, [(False, "Sure."), (True, "No.")], batch=2)
    assert found["auroc"]["1"] is not None and found["auroc"]["30"] is None


def test_the_first_readings_do_not_depend_on_the_batch(
    tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    alone, together = (list(readings(*tiny, TEXTS, batch=batch)) for batch in (1, 3))
    assert [pytest.approx(row, rel=1e-4) for row in alone] == together
