"""annotate: a judge grades a sample that depends on ids and seed alone."""

from pathlib import Path

import pytest
from datatrove.data import Document

from safelm.builder.manifest import Manifest
from safelm.builder.paths import build
from safelm.scoring.lexicon import LEXICON, GradeByLexicon
from safelm.seeding import sample
from tests.ingested import WEB, ingested, rows_of, stage

PARAMS = """\
engines: {{template: {{kind: template}}}}
annotate: {{judge: lexicon, pool: {{web: {{source: web, documents: {}}}}}, seed: 1}}
scorers: {{lexicon: {{kind: lexicon}}}}
"""
IDS = [f"{number:032x}" for number in range(200)]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS.format(30))


def test_a_sample_does_not_depend_on_the_order() -> None:
    assert sample("annotate", 1, IDS, 20) == sample("annotate", 1, reversed(IDS), 20)


def test_another_seed_or_purpose_draws_another_sample() -> None:
    first = sample("annotate", 1, IDS, 20)
    other_seed = sample("annotate", 2, IDS, 20)
    other_purpose = sample("tokenizer", 1, IDS, 20)
    assert len(set(map(tuple, (first, other_seed, other_purpose)))) == 3


def test_a_larger_sample_holds_the_smaller_one() -> None:
    assert set(sample("annotate", 1, IDS, 20)) < set(sample("annotate", 1, IDS, 50))


def test_a_sample_takes_all_where_there_are_fewer() -> None:
    assert sorted(sample("annotate", 1, IDS, 1000)) == IDS


def test_the_judge_gives_score_reason_and_hazard() -> None:
    document = Document(text="How to steal the wallet.", id="a", metadata={"label": 4})
    (graded,) = GradeByLexicon(lexicon=LEXICON).run([document])
    assert graded.metadata == {
        "label": 4,
        "score": 4,
        "reason": "teaches: steal the wallet",
        "hazard": "nonviolent_crimes",
        "unsafe": None,
        "by": None,
    }


def test_the_stage_grades_a_sample_of_the_given_size() -> None:
    ingested("ingest/web", WEB, 25)
    stage("annotate")
    rows = rows_of(build("annotate"))
    assert len(rows) == 30
    assert {row["score"] for row in rows} == {0, 4, 5}
    assert all(row["score"] == row["label"] for row in rows)
    assert Manifest.read(build("annotate")).ledger.dropped == {"not_selected": 50}


def test_the_sample_does_not_depend_on_shards() -> None:
    ingested("ingest/web", WEB, 7)
    stage("annotate")
    many = rows_of(build("annotate"))
    ingested("ingest/web", WEB[::-1], 100)
    stage("annotate")
    assert sorted(many, key=str) == sorted(rows_of(build("annotate")), key=str)


def test_a_shard_with_the_same_part_of_the_sample_is_cached(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("params.yaml").write_text(PARAMS.format(1000))
    ingested("ingest/web", WEB, 20)
    stage("annotate")
    ingested("ingest/web", [*WEB, {"text": "One more page."}], 20)
    stage("annotate")
    assert "annotate           5 shards (1 made)" in capsys.readouterr().out


def test_a_single_page_is_graded() -> None:
    ingested("ingest/web", [{"text": "A page."}])
    stage("annotate")
    assert [row["score"] for row in rows_of(build("annotate"))] == [0]
