"""Tests of the encoder of tokenize: the same tokens as the reference, document by document."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datatrove.data import Document
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.normalizers import NFC

from safelm.corpora.encoding import CHECKED, KERNEL, REFERENCE, Encoded, Encoder, unknown_part
from safelm.corpora.token_files import end_documents
from safelm.corpora.tokenization import train_tokenizer
from specs.tokens import END, SPECIAL
from tests.ingested import CRIME, SAFE

TOKENIZER = train_tokenizer([*SAFE, *CRIME], 400)

# Digits and spaces of several kinds, contractions, controls, emoji of several code points, and
# parts of the special tokens.
PIECES = [
    *("the", " The", "a", " ", "  ", "\n", "\r\n", "\t", "1", "23", "'s", "'S", "\u2019t", "'ve"),
    *(
        "é",
        "e\u0301",
        "ß",
        "\u017f",
        "İ",
        "\ufb01",
        "漢",
        "字",
        "\u0661",
        "\u0967",
        "\u00b2",
        "\u00bd",
    ),
    *(
        "\u2167",
        "\U0001d7d8",
        "🌹",
        "\U0001f469\u200d\U0001f467",
        "\u200d",
        "\u00a0",
        "\u3000",
        "\u2028",
    ),
    *(
        "\x85",
        "\x1c",
        "\x00",
        "\ufeff",
        "\U000e0001",
        "\U0010ffff",
        "<",
        "|>",
        "<|im_",
        "_",
        "-",
        ".",
    ),
    *SPECIAL,
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=20).map("".join)


def without_digits(values: Any) -> None:
    values["pre_tokenizer"] = values["pre_tokenizer"]["pretokenizers"][1]


def with_ids_in_another_order(values: Any) -> None:
    vocabulary = values["model"]["vocab"]
    last = len(vocabulary) + len(SPECIAL) - 1
    for token in vocabulary.keys() - set(SPECIAL):
        vocabulary[token] = last - vocabulary[token]


def with_empty_affixes(values: Any) -> None:
    values["model"] |= {"continuing_subword_prefix": "", "end_of_word_suffix": ""}


def without_a_byte(values: Any) -> None:
    # As in SmolLM2's, which has no byte 1: text with it loses it.
    del values["model"]["vocab"]["\u0101"]


def write(edit: Any, folder: Path) -> Path:
    """Write a tokenizer.json, edited."""
    values = json.loads(TOKENIZER.to_str())
    edit(values)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(values))
    return path


KNOWN = (dict, without_digits, with_ids_in_another_order, with_empty_affixes, without_a_byte)


@pytest.fixture(scope="module", params=KNOWN)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    path = write(request.param, tmp_path_factory.mktemp("encoder"))
    assert unknown_part(path) is None
    return Encoder(path, KERNEL)


@given(texts=st.lists(TEXTS, min_size=1, max_size=5))
def test_the_kernel_gives_the_tokens_of_the_reference(encoder: Encoder, texts: list[str]) -> None:
    encoded = encoder.encode(texts)
    expected = encoder.encode_by_reference(texts)
    assert encoded.ids.tolist() == expected.ids.tolist()
    assert encoded.ends.tolist() == expected.ends.tolist()


def normalized(values: Any) -> None:
    values["normalizer"] = json.loads(NFC().__getstate__())


def with_prefix_space(values: Any) -> None:
    values["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = True


def with_byte_fallback(values: Any) -> None:
    values["model"]["byte_fallback"] = True


def with_an_unknown_setting(values: Any) -> None:
    values["model"]["split_on"] = "whitespace"


def with_a_post_processor(values: Any) -> None:
    values["post_processor"] = {"type": "ByteLevel"}


def with_an_ordinary_added_token(values: Any) -> None:
    values["added_tokens"][3]["special"] = False


@pytest.mark.parametrize(
    ("edit", "part"),
    [
        (normalized, 'normalizer {"type": "NFC"}'),
        (with_prefix_space, 'pre_tokenizer {"type": "Sequence"'),
        (with_byte_fallback, "model.byte_fallback true"),
        (with_an_unknown_setting, 'model.split_on "whitespace"'),
        (with_a_post_processor, 'post_processor {"type": "ByteLevel"}'),
        (with_an_ordinary_added_token, f"added token {SPECIAL[3]!r}, which is not"),
    ],
)
def test_what_the_kernel_was_not_tested_with_is_named(edit: Any, part: str, tmp_path: Path) -> None:
    assert (unknown_part(write(edit, tmp_path)) or "").startswith(part)


def documents(*texts: str) -> list[Document]:
    return [Document(text=text, id=f"id{number}") for number, text in enumerate(texts)]


def test_a_difference_names_the_document(tmp_path: Path) -> None:
    encoder = Encoder(write(dict, tmp_path), KERNEL)
    pages = documents(END, "The rose.")
    encoder.check(pages, encoder.encode([page.text for page in pages]))
    (tmp_path / "other").mkdir()
    other = Encoder(write(with_ids_in_another_order, tmp_path / "other"), REFERENCE)
    encoder.reference = other.reference
    with pytest.raises(
        ValueError, match=r"document id1: expected the tokens of tokenizers [\d.]+ \("
    ):
        encoder.check(pages, encoder.encode([page.text for page in pages]))


def test_only_the_first_documents_are_compared(tmp_path: Path) -> None:
    encoder = Encoder(write(dict, tmp_path), KERNEL)
    pages = documents(*["The rose."] * (CHECKED.rows + 1))
    encoded = encoder.encode([page.text for page in pages])
    wrong = encoded.ids.copy()
    wrong[-1] += 1
    encoder.check(pages, Encoded(wrong, encoded.ends))
    wrong[0] += 1
    with pytest.raises(ValueError, match="document id0"):
        encoder.check(pages, Encoded(wrong, encoded.ends))


def test_every_document_is_ended_once() -> None:
    encoded = Encoded(np.array([5, 6, 7]), np.array([2, 2, 3]))
    tokens, ends = end_documents(encoded, 0)
    assert (tokens.tolist(), ends.tolist()) == ([5, 6, 0, 0, 7, 0], [3, 4, 6])


def test_an_end_within_a_document_is_an_error() -> None:
    with pytest.raises(ValueError, match="once in each of 1 documents"):
        end_documents(Encoded(np.array([5, 0, 7]), np.array([3])), 0)
