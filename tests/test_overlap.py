"""Overlap of prompts with the training text: exact or near, and reported apart."""

import json
from pathlib import Path

import pytest
from pyarrow.parquet import read_table

from safelm.builder.digest import file_digest
from safelm.builder.shards import write_table
from safelm.evaluation.overlap import OverlapIndex, find_overlap
from specs.document import OVERLAP
from specs.params import Params
from specs.suite import FileSuite, Suite
from tests import report_world as world
from tests.ingested import ingested, stage
from tests.test_differences import IDS, write_samples
from tests.test_report import report
from tests.tiny import PARAMS

ROOT = Path(__file__).parents[1]
PROMPT = "Tell me, how does one whistle a tune in the library at night?"


def found(*documents: str, prompt: str = PROMPT, ngram: int = 5) -> tuple[str, float]:
    index = OverlapIndex([("p", prompt)], ngram)
    for document in documents:
        index.add_document(document, "web")
    overlap = index.overlaps["p"]
    return overlap.kind(0.8), overlap.share


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (f"So he said: {PROMPT} And left.", "exact"),
        ("TELL ME how does one\nwhistle a tune in the library -- at night", "exact"),
        (PROMPT.replace("night", "noon"), "near"),
        (PROMPT.replace("library", "garden"), "none"),
        ("A page on roses.", "none"),
        ("", "none"),
    ],
)
def test_a_prompt_overlaps_exactly_nearly_or_not(document: str, kind: str) -> None:
    assert found(document)[0] == kind


def test_one_document_must_have_all_of_it() -> None:
    first, second = PROMPT.split(" one ")
    assert found(f"{first} one whistle a tune", f"does one whistle {second}")[0] == "none"


def test_the_words_must_stand_in_their_order() -> None:
    assert found("a b c d e f g. c d e f g h", prompt="a b c d e f g h", ngram=3) == ("near", 1.0)
    assert found("a b a b a b", prompt="a b a b a b a b", ngram=2) == ("near", 1.0)


def test_a_short_prompt_is_one_ngram() -> None:
    assert found("He can hum aloud.", prompt="Hum aloud", ngram=5) == ("exact", 1.0)
    assert found("He can hum.", prompt="Hum aloud", ngram=5) == ("none", 0.0)


def suite_of(path: Path) -> FileSuite:
    suite = Suite.read("malicious_instruct")
    assert isinstance(suite, FileSuite)
    return suite.model_copy(update={"path": str(path), "sha256": file_digest(path)})


def test_documents_and_dialogues_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text(
        "Whistle in the hall, please.\nHum in the hall, please.\nSing, please.\n"
    )
    ingested("clean/chat", [{"prompt": "Hum in the hall, please.", "text": "Gladly.", "label": 0}])
    ingested(
        "clean/web",
        [{"text": "Roses are red.", "label": 0}, {"text": "Do sing, please.", "label": 0}],
    )
    texts = {name: Path("build") / name for name in ("clean/chat", "clean/web")}
    lines = find_overlap(
        tmp_path,
        suites={"mine": suite_of(tmp_path / "prompts.txt")},
        texts=texts,
        max_prompts=9,
        seed=1,
        ngram=5,
        min_share=0.8,
    )
    rows = read_table(tmp_path / "prompts.parquet").to_pylist()
    assert {(row["overlap"], row["source"]) for row in rows} == {
        ("exact", "clean/chat"),
        ("exact", "clean/web"),
        ("none", None),
    }
    assert json.loads((tmp_path / "overlap.json").read_bytes())["suites"] == {
        "mine": {"exact": 2, "near": 0, "none": 1}
    }
    assert lines[0].endswith("3 prompts: 2 exact, 0 near")


def test_no_prompt_of_the_embedded_world_stands_in_its_dialogues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").symlink_to(ROOT / "specs")
    params = Params.read("overlap", "sources", "ingest", path=ROOT / "params.yaml")
    sources = {
        name: row.model_dump(exclude_none=True)
        for name, row in params.sources.items()
        if name in ("chat", "benign")
    }
    blocks = {
        "overlap": params.overlap.model_dump(),
        "ingest": params.ingest.model_dump(),
        "sources": sources,
        "filters": {},
    }
    Path("params.yaml").write_text(
        PARAMS + "".join(f"{name}: {json.dumps(row)}\n" for name, row in blocks.items())
    )
    for name in sources:
        stage("ingest", name)
        stage("clean", name)
    texts = [f"build/clean/{name}" for name in sources]
    Path("dvc.yaml").write_text(json.dumps({"stages": {"overlap": {"deps": ["specs", *texts]}}}))
    stage("overlap")
    counts = json.loads(Path("build/overlap/overlap.json").read_bytes())["suites"]
    assert set(counts) == {"harmful", "benign", "dual_use"}
    assert all(
        count["exact"] == 0 and count["none"] + count["near"] == 24 for count in counts.values()
    )


def test_the_report_counts_prompts_that_were_found_apart(tmp_path: Path) -> None:
    models = world.models("safe")
    world.write_build(tmp_path, models)
    write_samples(tmp_path / "evaluate/safe-instruct", 0.5, 1)
    (tmp_path / "overlap").mkdir()
    rows = [
        {
            "suite": suite,
            "id": f"harmful-chat-tell-{id}",
            "share": 0.0,
            "source": None,
            "overlap": "near" if suite == "advbench" and place < 30 else "none",
        }
        for suite in ("harmful", "advbench")
        for place, id in enumerate(IDS)
    ]
    write_table(rows, OVERLAP, tmp_path / "overlap/prompts.parquet")
    page = (report(tmp_path, models) / "index.html").read_text(encoding="utf-8")
    assert "30 of 300 prompts stand in the text" in page
    assert (
        "The suite advbench in two parts" in page and "The suite harmful in two parts" not in page
    )
    assert "/30</small>" in page and "/120</small>" in page
