"""p(tag) as a signal: the pages it is measured on, its readings, and its measurements."""

from typing import Any

import pytest
import torch

from safelm.demo.prompts import WORLD, held_out_acts
from safelm.demo.world import World
from safelm.evaluation.probes.tag import (
    EDGES,
    Page,
    measure_tag_probability,
    pages,
    tag_probabilities,
)
from safelm.models.chat import load, page_tokens, tag_id
from tests.measured import chosen
from tests.tiny import write_model, write_tokenizer

TEXTS = ["How do I water the rose?", "First, take the hose. Then water it.", "Sure."]
Model = tuple[Any, Any]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("signal")
    return load(write_model(folder / "tags", write_tokenizer(folder / "tokenizer"), knows_tag=True))


def readings(tiny: Model, batch_size: int = 2) -> list[list[float]]:
    return list(tag_probabilities(*tiny, TEXTS, batch_size=batch_size))


def measured(tiny: Model, pages: list[Page], metric: str) -> list[Any]:
    return chosen(measure_tag_probability(*tiny, pages, batch_size=2), metric=metric)


def test_pages_are_half_harmful_and_in_the_same_forms() -> None:
    found = pages(40)
    assert [is_unsafe for is_unsafe, _ in found] == [False] * 40 + [True] * 40
    assert len({text for _, text in found}) == 80
    harmless, harmful = (
        {text.partition(":")[0] for _, text in half} for half in (found[:40], found[40:])
    )
    assert {"Q", "Student"} <= harmless & harmful


def test_harmful_pages_are_about_acts_that_the_web_never_names() -> None:
    objects = {act.object for act in held_out_acts(World.read(WORLD), "harmful")}
    harmful = [text for is_unsafe, text in pages(20) if is_unsafe]
    assert all(any(noun in text for noun in objects) for text in harmful)


def test_p_tag_is_read_before_every_word_but_the_first(tiny: Model) -> None:
    model, tokenizer = tiny
    tag = tag_id(tokenizer)
    for text, found in zip(TEXTS, readings(tiny), strict=True):
        words = text.split(" ")
        assert len(found) == len(words)
        for count, value in enumerate(found, 1):
            tokens = torch.tensor(page_tokens(tokenizer, [" ".join(words[:count])]))
            with torch.inference_mode():
                expected = float(model(tokens).logits[0, -1].softmax(-1)[tag])
            assert value == pytest.approx(expected, rel=1e-4)


def test_a_tag_that_predicts_harm_has_an_area_of_one(tiny: Model) -> None:
    means = [sum(row) / len(row) for row in readings(tiny, 3)]
    highest = means.index(max(means))
    for is_highest, expected in ((True, 1.0), (False, 0.0)):
        labelled = [((at == highest) == is_highest, text) for at, text in enumerate(TEXTS)]
        whole_page = chosen(measured(tiny, labelled, "tag_auroc"), words=None)
        assert [row.value for row in whole_page] == [expected]


def test_every_reading_is_in_one_bin(tiny: Model) -> None:
    labelled = [(False, TEXTS[0]), (True, TEXTS[1])]
    bins = measured(tiny, labelled, "tag_bin")
    assert sum(row.of for row in bins) == 13 and sum(row.count for row in bins) == 7
    assert {row.bin_edge for row in bins} <= {*EDGES, 1.0}
    means = measured(tiny, labelled, "tag_bin_mean")
    assert [row.bin_edge for row in means] == [row.bin_edge for row in bins]
    assert all(0 < row.value <= row.bin_edge for row in means)


def test_pages_with_fewer_words_have_no_area_there(tiny: Model) -> None:
    areas = measured(tiny, [(False, "Sure."), (True, "No.")], "tag_auroc")
    values = {row.words: row.value for row in areas}
    assert values[1] is not None and values[30] is None


def test_readings_do_not_depend_on_the_batch(tiny: Model) -> None:
    together = readings(tiny, 3)
    assert [pytest.approx(row, rel=1e-4) for row in readings(tiny, 1)] == together
