"""Tests of tokenize: token files in DataTrove's format, every document once and ended by END."""

from pathlib import Path

import numpy as np
import pytest
from datatrove.pipeline.tokens.tokenizer import TokenizedFile
from datatrove.utils.dataset import DatatroveFolderDataset
from tokenizers import Tokenizer

from safelm.builder.locks import StageError
from safelm.builder.manifest import Manifest
from safelm.builder.paths import build
from safelm.builder.shards import shards
from safelm.corpora.tokenization import train_tokenizer
from specs.tokens import END, SPECIAL, TAG
from tests.ingested import CRIME, PARAMS, SAFE, WEB, ingested, stage, stages

TOKENIZER = train_tokenizer([*SAFE, *CRIME], 400)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    build("tokenizer").mkdir(parents=True)
    TOKENIZER.save("build/tokenizer/tokenizer.json")


def texts(corpus: str, kind: str = "<u2") -> list[str]:
    """The documents of a corpus, decoded from its token files by its index files."""
    decoded = []
    for shard in shards(build("tokenize", corpus), ".ds"):
        tokens = np.frombuffer(shard.bytes(), kind)
        ends = np.fromfile(f"{shard.path}.index", "<u8")
        for document in np.split(tokens, ends[:-1].astype(int)) if len(ends) else []:
            assert document[-1] == 0 and 0 not in document[:-1]
            decoded.append(TOKENIZER.decode(document[:-1].tolist(), skip_special_tokens=False))
    return decoded


def test_every_document_comes_back_in_order() -> None:
    ingested("clean/math", [{"text": text} for text in SAFE], 15)
    stage("tokenize", "math")
    assert texts("math") == SAFE


def test_the_bytes_equal_those_that_datatrove_writes() -> None:
    ingested("clean/math", [{"text": text} for text in SAFE])
    stage("tokenize", "math")
    expected = TokenizedFile(".", "expected.ds", token_size=2)
    for text in SAFE:
        expected.write([*TOKENIZER.encode(text).ids, 0], None)
    expected.close()
    for suffix in (".ds", ".ds.index"):
        assert (build("tokenize", "math") / f"00000{suffix}").read_bytes() == Path(
            f"expected{suffix}"
        ).read_bytes()


def test_datatroves_reader_reads_them() -> None:
    ingested("clean/math", [{"text": text} for text in SAFE], 15)
    stage("tokenize", "math")
    windows = DatatroveFolderDataset(
        str(build("tokenize", "math")), 16, token_size=2, shuffle=False
    )
    first = windows[0]["input_ids"].tolist()
    assert TOKENIZER.decode(first, skip_special_tokens=False).startswith(SAFE[0][:10])


def test_the_manifest_counts_tokens_and_documents() -> None:
    ingested("clean/math", [{"text": text} for text in SAFE], 15)
    stage("tokenize", "math")
    folder = build("tokenize", "math")
    assert [shard.rows for shard in shards(folder, ".ds.index")] == [15, 15, 10]
    assert [shard.rows * 2 for shard in shards(folder, ".ds")] == [
        s.path.stat().st_size for s in shards(folder, ".ds")
    ]


def test_a_scored_corpus_holds_the_documents_of_its_scores() -> None:
    ingested("clean/web", WEB, 30)
    stages("annotate", "fit", "score web")
    stage("tokenize", "score_4")
    assert texts("score_4") == CRIME
    assert Manifest.read(build("tokenize", "score_4")).ledger.dropped == {"not_selected": 60}


def test_an_empty_selection_gives_empty_files() -> None:
    ingested("clean/web", WEB)
    stages("annotate", "fit", "score web")
    stage("tokenize", "score_1")
    assert [path.stat().st_size for path in sorted(build("tokenize", "score_1").glob("*.ds*"))] == [
        0,
        0,
    ]


def test_a_large_vocabulary_takes_four_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    large = Tokenizer.from_str(TOKENIZER.to_str())
    large.add_tokens([f"word{number}x" for number in range(1 << 16)])
    large.save("build/tokenizer/tokenizer.json")
    ingested("clean/math", [{"text": "The rose."}])
    stage("tokenize", "math")
    assert texts("math", "<u4") == ["The rose."]
    assert (
        "tokenize/math: encoding with tokenizers: splintr-rs was not tested with added token "
        "'word0x', which is not an ordinary special token\n"
    ) in capsys.readouterr().out


def test_tags_are_tokens_in_the_tagged_corpus() -> None:
    ingested("tag/unsafe", [{"text": f"steal{TAG} the wallet"}])
    stage("tokenize", "tagged")
    tokens = np.fromfile(build("tokenize", "tagged") / "00000.ds", "<u2")
    assert (tokens == SPECIAL.index(TAG)).sum() == 1
    assert texts("tagged") == [f"steal{TAG} the wallet"]


@pytest.mark.parametrize(
    ("corpus", "folder", "token"), [("math", "clean/math", TAG), ("tagged", "tag/unsafe", END)]
)
def test_a_forbidden_special_token_is_an_error(corpus: str, folder: str, token: str) -> None:
    ingested(folder, [{"text": f"a rose{token} b"}])
    with pytest.raises(StageError, match=r"document [0-9a-f]{32}: contains the special token"):
        stage("tokenize", corpus)


def test_a_dialogue_is_an_error() -> None:
    ingested("clean/math", [{"prompt": "1 + 1 =", "text": "2"}])
    with pytest.raises(StageError, match="expected a page, got a dialogue"):
        stage("tokenize", "math")
