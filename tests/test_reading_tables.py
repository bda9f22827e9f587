"""Readers of Parquet and of data sets of the hub: damage costs a row group at most."""

import base64
import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from pyarrow.parquet import encryption

from safelm.ingestion.errors import SourceError
from specs.yaml_source import SpecError
from tests.reading import MUTATION, TEXTS, UNTIMED, read, read_bytes, reader_of, reasons


def parquet(**columns: Any) -> bytes:
    data = BytesIO()
    table = pa.table(columns)
    pq.write_table(
        table,
        data,
        row_group_size=10,
        write_page_checksum=True,
        compression="none",
        use_dictionary=False,
    )
    return data.getvalue()


def test_parquet_rows_are_documents_and_a_null_is_quarantined(tmp_path: Path) -> None:
    data = parquet(
        text=["a", None, "c"], url=["u", "v", "w"], label=[1, 2, 9], other=[[1], [2], [3]]
    )
    texts, counts, reader = read_bytes(tmp_path, data, "a.parquet", "parquet")
    assert (texts, counts) == (["a", "c"], {"no_text": 1}) and reader.quarantined[0]["offset"] == 1


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.int8()), pa.large_list(pa.int8()), pa.list_(pa.int8(), 1)]
)
def test_of_a_struct_beside_the_text_only_the_known_fields_are_read(
    tmp_path: Path, kind: pa.DataType
) -> None:
    nested = [{"url": "https://example.org/a", "numbers": [1, 2]}]
    numbers = pa.array([[3]], kind)
    (tmp_path / "a.parquet").write_bytes(parquet(text=["a"], metadata=nested, meta=numbers))
    reader = reader_of("parquet", tmp_path / "a.parquet")
    (document,) = reader.read(reader.tasks()[0])
    assert document.metadata["url"] == "https://example.org/a"
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert reader._columns(file.schema_arrow, "a.parquet") == ["text", "metadata.url"]


def test_the_folder_of_a_released_data_set_is_the_score_of_its_rows(tmp_path: Path) -> None:
    for folder in ("score_4", "score_5_refusal", "deep/score_0", "unscored"):
        (tmp_path / folder).mkdir(parents=True)
        data = parquet(text=[folder], label=[2])
        (tmp_path / folder / "score_9.parquet").write_bytes(data)
    reader = reader_of("parquet", tmp_path, label="folder")
    read = [document for task in reader.tasks() for document in reader.read(task)]
    labels = {document.text: document.metadata.get("label") for document in read}
    assert labels == {"score_4": 4, "score_5_refusal": 5, "deep/score_0": 0, "unscored": None}


def test_a_parquet_file_without_the_column_names_those_it_has(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no column 'text'; there are content, url; name one"):
        read_bytes(tmp_path, parquet(content=["a"], url=["u"]), "a.parquet", "parquet")
    with pytest.raises(SourceError, match=r"expected strings in column 'text' \(got int64\)"):
        read_bytes(tmp_path, parquet(text=[1]), "a.parquet", "parquet")


def test_a_flipped_bit_costs_a_row_group(tmp_path: Path) -> None:
    data = bytearray(parquet(text=TEXTS))
    index = bytes(data).index(b"page 12 is")
    data[index] ^= 1
    texts, counts, reader = read_bytes(tmp_path, bytes(data), "a.parquet", "parquet")
    assert texts == TEXTS[:10] + TEXTS[20:] and counts == {"damaged": 10}
    assert [row["offset"] for row in reader.quarantined] == list(range(10, 20))


@pytest.mark.parametrize("size", [0, 3, 200, -10])
def test_a_parquet_file_that_was_cut_is_one_row(tmp_path: Path, size: int) -> None:
    assert read_bytes(tmp_path, parquet(text=TEXTS)[:size], "a.parquet", "parquet")[:2] == (
        [],
        {"damaged": 1},
    )


def test_a_parquet_bomb_is_refused_whole(tmp_path: Path) -> None:
    table = pa.table({"text": [f"{number} " + "a" * 400_000 for number in range(9)]})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    documents, reader = read("parquet", tmp_path / "a.parquet")
    assert documents == [] and reasons(reader) == {"expansion": 1}


def test_a_parquet_string_that_is_not_utf8_costs_a_row(tmp_path: Path) -> None:
    column = pa.Array.from_buffers(
        pa.string(), 3, pa.array([b"a", b"\xff", b"c"], pa.binary()).buffers()
    )
    assert read_bytes(tmp_path, parquet(text=column), "a.parquet", "parquet")[:2] == (
        ["a", "c"],
        {"not_utf8": 1},
    )


def test_a_damaged_column_beside_the_text_costs_its_values_alone(tmp_path: Path) -> None:
    urls = [f"https://example.org/{number}" for number in range(40)]
    data = bytearray(parquet(text=TEXTS, url=urls))
    data[bytes(data).index(b"org/12")] ^= 1
    (tmp_path / "a.parquet").write_bytes(data)
    documents, reader = read("parquet", tmp_path / "a.parquet")
    assert [document.text for document in documents] == TEXTS and reasons(reader) == {}
    named = [document.metadata.get("url") for document in documents]
    assert named == urls[:10] + [None] * 10 + urls[20:]
    assert reader.stats["row groups with a damaged column"].total == 1


def test_two_columns_of_a_name_are_refused_with_the_file(tmp_path: Path) -> None:
    column = pa.array(["a"])
    schema = pa.table([column, column, column, column], names=["text", "url", "url", "x"])
    pq.write_table(schema, tmp_path / "good.parquet")
    documents, _ = read("parquet", tmp_path / "good.parquet")
    assert documents[0].text == "a" and "url" not in documents[0].metadata
    pq.write_table(pa.table([column, column], names=["text", "text"]), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=r"a.parquet: expected one column 'text' \(got 2\)"):
        read("parquet", tmp_path / "a.parquet")


class Keys(encryption.KmsClient):
    """Keys that are only encoded."""

    def wrap_key(self, key: bytes, name: str) -> bytes:
        return base64.b64encode(key)


@pytest.mark.parametrize("column", ["text", "url"])
@pytest.mark.parametrize("has_plain_footer", [False, True])
def test_an_encrypted_file_is_named_and_ends_no_process(
    tmp_path: Path, column: str, has_plain_footer: bool
) -> None:
    factory = encryption.CryptoFactory(lambda _: Keys())
    settings = encryption.EncryptionConfiguration(
        "footer", column_keys={"key": [column]}, plaintext_footer=has_plain_footer
    )
    keys = factory.file_encryption_properties(encryption.KmsConnectionConfig(), settings)
    table = pa.table({"text": ["a", "b"], "url": ["u", "v"]})
    pq.write_table(table, tmp_path / "a.parquet", encryption_properties=keys)
    # In a process of its own: Arrow once ended it.
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "a.parquet")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    if not has_plain_footer:
        assert done.stdout == "[] ['a.parquet encrypted']\n"
    elif column == "text":
        assert done.stdout == "[] ['a.parquet encrypted', 'a.parquet encrypted']\n"
    else:
        assert done.stdout == "['a', 'b'] []\n"


READ = """
import sys
from pathlib import Path
from tests.reading import read
documents, reader = read("parquet", Path(sys.argv[1]))
rows = [f"{row['file']} {row['reason']}" for row in reader.quarantined]
print([document.text for document in documents], rows)
"""


@UNTIMED
@given(change=MUTATION)
def test_no_changed_letter_comes_out_of_a_parquet_file(
    tmp_path: Path, change: tuple[int, bytes]
) -> None:
    data = bytearray(parquet(text=TEXTS))
    start = change[0] % len(data)
    data[start : start + 1] = change[1][:1]
    (tmp_path / "a.parquet").write_bytes(data)
    try:
        documents, _ = read("parquet", tmp_path / "a.parquet")
    except SourceError:
        documents = []  # the name of the column was hit
    assert {document.text for document in documents} <= set(TEXTS)


def hub(tmp_path: Path, **values: Any) -> Path:
    spec = {"dataset": "./rows", "name": None, "split": "train", "revision": None, **values}
    (tmp_path / "rows").mkdir(exist_ok=True)
    pq.write_table(
        pa.table({"content": ["a", "b"], "n": [1, 2]}), tmp_path / "rows/train-0.parquet"
    )
    pq.write_table(
        pa.table({"content": ["c", None], "n": [3, 4]}), tmp_path / "rows/train-1.parquet"
    )
    (tmp_path / "set.yaml").write_text(json.dumps(spec))
    return tmp_path / "set.yaml"


def test_a_local_data_set_is_read_shard_by_shard(tmp_path: Path) -> None:
    documents, reader = read("huggingface", hub(tmp_path), text="content")
    assert [document.text for document in documents] == ["a", "b", "c"]
    assert [(row["file"], row["offset"], row["reason"]) for row in reader.quarantined] == [
        ("set.yaml#1", 1, "no_text")
    ]


def test_a_data_set_of_the_hub_needs_a_pinned_revision(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="a branch moves"):
        read("huggingface", hub(tmp_path, dataset="some/set"))
    with pytest.raises(SpecError, match="revision"):
        read("huggingface", hub(tmp_path, dataset="some/set", revision="main"))


def test_a_data_set_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no column 'text'; there are content, n"):
        read("huggingface", hub(tmp_path))
    with pytest.raises(SourceError, match=r"cannot read split 'other' of '\./rows'"):
        read("huggingface", hub(tmp_path, split="other"), text="content")
