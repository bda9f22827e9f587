"""Suites of public benchmarks: every edition of their files, with forms, contexts and halves."""

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from safelm.builder.digest import file_digest
from safelm.evaluation.prompt_files import PromptFileError, read_rows
from safelm.evaluation.prompts import PromptSet, prompt_set
from specs.suite import SUITES, FileSuite, Suite

DATA = Path(__file__).parents[2] / "shared/data"
PUBLIC = sorted(
    path.stem for path in SUITES.glob("*.yaml") if isinstance(Suite.at(path), FileSuite)
)

# The first line of each published edition, with a mild row in place of its own.
EDITIONS: list[tuple[str, str, list[str], str]] = [
    (
        "harmbench",
        "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID",
        ["Whistle,contextual,noise,context,It is late.,w"],
        "It is late.\n\n---\n\nWhistle",
    ),
    ("harmbench", "prompt,category", ["Whistle,standard"], "Whistle"),
    ("advbench", "goal,target", ["Whistle,Sure"], "Whistle"),
    (
        "advbench",
        "Behavior,Category,Tags,ContextString,BehaviorID",
        ["Whistle,,,,advbench_1"],
        "Whistle",
    ),
    (
        "jailbreakbench",
        "Index,Goal,Target,Behavior,Category,Source",
        ["0,Whistle,Sure,Noise,Noise,own"],
        "Whistle",
    ),
    (
        "jailbreakbench_benign",
        "Index,Goal,Target,Behavior,Category,Source",
        ["0,Hum,Sure,Noise,Noise,own"],
        "Hum",
    ),
    ("strongreject", "category,source,forbidden_prompt", ["Noise,custom,Whistle"], "Whistle"),
    ("tdc2023", "Behavior,Category,Tags,ContextString,BehaviorID", ["Whistle,,,,w"], "Whistle"),
    ("malicious_instruct", "prompt", ["Whistle"], "Whistle"),
    ("simple_safety_tests", "id,prompt,harm_area,category", ["1,Whistle,Noise,Request"], "Whistle"),
    (
        "simple_safety_tests",
        "id,harm_area,counter,category,prompts_final",
        ["1,Noise,1,Request,Whistle"],
        "Whistle",
    ),
    (
        "ailuminate",
        "release_prompt_id,prompt_text,hazard,persona,locale,prompt_hash",
        ["a,Whistle,ncr,normal,en,b"],
        "Whistle",
    ),
    ("ailuminate", "id,prompt,category", ["a,Whistle,ncr"], "Whistle"),
    ("xstest", "id,prompt,type,label,focus,note", ["1,Hum,homonyms,safe,x,"], "Hum"),
    ("xstest_contrast", "id,type,prompt,focus,note", ["1,contrast_homonyms,Whistle,x,"], "Whistle"),
    ("alpaca", "instruction,input,output,text", ["Hum,a tune,la,all of it"], "Hum\n\na tune"),
    ("gsm8k", "question,answer", ["Two and two?,#### 4"], "Two and two?"),
    ("gsm8k", "context,chain_of_thought,answer", ["Two and two?,2 + 2 = 4,4"], "Two and two?"),
    (
        "jb_completions",
        "original_behavior,completion_behavior,source_dataset",
        ["Whistle,To whistle one,tdc"],
        "To whistle one",
    ),
    ("jb_completions", "id,prompt,category", ["a,To whistle one,tdc"], "To whistle one"),
    ("coconot_contrast", "id,category,subcategory,prompt,response", ["1,Noise,Low,Hum,"], "Hum"),
    ("or_bench", "prompt,category", ["Hum,noise"], "Hum"),
    ("or_bench_toxic", "prompt,category", ["Whistle,noise"], "Whistle"),
    (
        "phtest",
        "ID,Request,Harmfulness",
        ["1,Hum,harmless", "2,Sing,controversial"],
        "Hum",
    ),
    ("false_reject", "prompt,category,category_text", ["Hum,7,Noise"], "Hum"),
    (
        "do_not_answer",
        "id,risk_area,types_of_harm,specific_harms,question,GPT4_response",
        ["0,Noise,Loud,Shrill,Whistle,No."],
        "Whistle",
    ),
    ("strongreject_small", "category,source,forbidden_prompt", ["Noise,own,Whistle"], "Whistle"),
    ("catqa", "Category,Subcategory,Question", ["Noise,Loud,Whistle"], "Whistle"),
    (
        "harmful_qa",
        "id,topic,subtopic,question,red_conversations",
        ["1,Arts,Music,Whistle,"],
        "Whistle",
    ),
]


def pinned(name: str, path: Path) -> FileSuite:
    """A suite of the project with a file of ours."""
    suite = Suite.read(name)
    assert isinstance(suite, FileSuite)
    return suite.model_copy(update={"path": str(path), "sha256": file_digest(path)})


def prompts_of(suite: FileSuite, name: str, limit: int = 99, stage: str = "instruct") -> PromptSet:
    return prompt_set(name, suite, stage=stage, limit=limit, seed=1)


def texts_of(name: str, path: Path) -> list[str]:
    return [prompt.text for prompt in prompts_of(pinned(name, path), name).prompts]


def written(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """The rows in the format that the name of the file says."""
    match path.suffix:
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(list(rows)), path)
        case ".json":
            path.write_text(json.dumps(list(rows)))
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case suffix:
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(
                    file, list(rows[0]), delimiter="\t" if suffix == ".tsv" else ","
                )
                writer.writeheader()
                writer.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
@pytest.mark.parametrize(("name", "head", "lines", "text"), EDITIONS)
def test_every_edition_is_read_in_every_format(
    name: str, head: str, lines: list[str], text: str, suffix: str, tmp_path: Path
) -> None:
    rows = list(csv.DictReader(io.StringIO("\n".join([head, *lines]))))
    assert texts_of(name, written(tmp_path / f"file{suffix}", rows)) == [text]


def test_an_edition_of_every_suite_is_tried() -> None:
    assert {name for name, *_ in EDITIONS} == set(PUBLIC)


# Suite, file, rows, prompts and categories.
PUBLISHED = [
    ("coconot_contrast", "coconot/coconot_contrast_eval.jsonl", 379, 379, 5),
    ("harmful_qa", "catqa_harmfulqa/harmfulqa.json", 1960, 1938, 10),
    ("xstest", "xstest/xstest_prompts.csv", 450, 250, 10),
]


@pytest.mark.parametrize(("name", "file", "rows", "prompts", "forms"), PUBLISHED)
def test_a_published_file_is_read_as_it_is(
    name: str, file: str, rows: int, prompts: int, forms: int
) -> None:
    path = DATA / file
    if not path.is_file():
        pytest.skip("the shared data are not here")
    found = prompts_of(pinned(name, path), name, limit=9999)
    assert (found.rows, len(found.prompts)) == (rows, prompts)
    assert len({prompt.form for prompt in found.prompts}) == forms
    pin = Suite.read(name).sha256
    assert pin in (None, file_digest(path))


def test_a_list_of_texts_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('["Whistle", "Hum"]')
    (tmp_path / "a.txt").write_text("Whistle\n\nHum\n")
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b'["Whistle", "Hum"]'))
    for name in ("a.json", "a.txt", "a.json.gz"):
        assert set(texts_of("tdc2023", tmp_path / name)) == {"Whistle", "Hum"}


def test_tables_by_column_and_trees_of_topics_are_read(tmp_path: Path) -> None:
    files = {
        "lists.json": {"goal": ["Whistle", "Hum"], "target": ["a", "b"]},
        "pandas.json": {"goal": {"0": "Whistle", "1": "Hum"}, "target": {"0": "a", "1": "b"}},
        "filtered.json": {"goal": {"3": "Whistle", "5": "Hum"}, "target": {"3": "a", "5": "b"}},
        "column.json": {"goal": {"3": "Whistle", "5": "Hum"}},
        "topics.json": {"Loud": ["Whistle"], "Low": ["Hum"]},
        "tree.json": {"Noise": {"Loud": ["Whistle"], "Low": ["Hum"]}, "Light": {}},
    }
    for name, values in files.items():
        (tmp_path / name).write_text(json.dumps(values))
        assert set(texts_of("advbench", tmp_path / name)) == {"Whistle", "Hum"}
    for name, topics in (("tree.json", ["Noise", "Noise"]), ("topics.json", ["Loud", "Low"])):
        assert [row["topic"] for _, row in read_rows(tmp_path / name, ["goal"])] == topics


def test_json_lines_are_read_whatever_they_are_called(tmp_path: Path) -> None:
    lines = b'{"goal": "Whistle"}\n\n{"goal": "Hum"}\n'
    (tmp_path / "a.json").write_bytes(b"\n" + lines)
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(lines))
    for name in ("a.json", "a.json.gz"):
        assert set(texts_of("advbench", tmp_path / name)) == {"Whistle", "Hum"}


def test_the_halves_of_xstest_are_two_suites(tmp_path: Path) -> None:
    kinds = [
        "homonyms",
        "contrast_homonyms",
        "safe_contexts",
        "contrast_safe_contexts",
        "contrast_discr",
    ]
    path = written(tmp_path / "x.csv", [{"prompt": f"Hum {kind}", "type": kind} for kind in kinds])
    safe = prompts_of(pinned("xstest", path), "xstest").prompts
    assert {prompt.form for prompt in safe} == {"homonyms", "safe_contexts"}
    unsafe = prompts_of(pinned("xstest_contrast", path), "xstest_contrast", limit=2)
    assert (unsafe.rows, len(unsafe.prompts)) == (5, 2)
    assert unsafe.left_out == {"other_rows": 2, "not_sampled": 1}


def test_forms_take_turns_and_a_repeated_prompt_is_used_once(tmp_path: Path) -> None:
    rows = [{"goal": f"Hum {index % 9}", "Category": f"c{index % 9 % 3}"} for index in range(10)]
    suite = pinned("jailbreakbench", written(tmp_path / "j.csv", rows))
    found = prompts_of(suite, "jailbreakbench", limit=6, stage="pretrain")
    assert Counter(prompt.form for prompt in found.prompts) == {"c0": 2, "c1": 2, "c2": 2}
    assert found.left_out == {"twice": 1, "not_sampled": 3}


def test_an_empty_row_is_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("goal,target\nHum,x\n,\nWhistle,x\n , \n")
    rows = [
        {"goal": "Hum", "id": 1},
        {"goal": None, "id": 2},
        {"goal": "Whistle", "id": 3},
        {"goal": None, "id": None},
    ]
    for path in (
        tmp_path / "a.csv",
        written(tmp_path / "a.parquet", rows),
        written(tmp_path / "a.jsonl", rows),
    ):
        found = prompts_of(pinned("advbench", path), "advbench")
        assert {prompt.text for prompt in found.prompts} == {"Hum", "Whistle"}
        assert (found.rows, found.left_out) == (4, {"empty": 2})


def test_the_first_of_the_columns_that_is_filled_is_read(tmp_path: Path) -> None:
    rows = [{"Behavior": "Hum", "goal": ""}, {"Behavior": "Whistle", "goal": "Sing"}]
    assert texts_of("advbench", written(tmp_path / "a.csv", rows[:1])) == ["Hum"]
    assert set(texts_of("advbench", written(tmp_path / "b.csv", rows))) == {"Hum", "Sing"}


def test_a_null_in_the_column_that_selects_is_an_error(tmp_path: Path) -> None:
    path = written(
        tmp_path / "x.jsonl",
        [{"prompt": "Hum", "type": "homonyms"}, {"prompt": "Sing", "type": None}],
    )
    with pytest.raises(
        PromptFileError, match=r"x.jsonl:2: expected text in the column type \(it is empty"
    ):
        texts_of("xstest", path)


def test_a_context_that_looks_like_a_slot_stays_what_it_is(tmp_path: Path) -> None:
    rows = [{"Behavior": "Hum {context}", "ContextString": "A {text} of song"}]
    texts = texts_of("harmbench", written(tmp_path / "h.csv", rows))
    assert texts == ["A {text} of song\n\n---\n\nHum {context}"]


@pytest.mark.parametrize("delimiter", ";\t")
def test_a_csv_may_have_semicolons_or_tabs_between_fields(tmp_path: Path, delimiter: str) -> None:
    rows = ["goal|target", "Hum, please|x", '"A| ""b""\ntwice"|x']
    (tmp_path / "a.csv").write_text("\n".join(rows).replace("|", delimiter))
    expected = {"Hum, please", f'A{delimiter} "b"\ntwice'}
    assert set(texts_of("advbench", tmp_path / "a.csv")) == expected


@pytest.mark.parametrize(
    ("lines", "texts"),
    [
        # No cell is quoted whole.
        (['"Hum\tx', '"Hum" it\tx', 'A "hum"\tx'], ['"Hum', '"Hum" it', 'A "hum"']),
        (['"Hum"\tx', '"A ""hum"""\tx'], ["Hum", 'A "hum"']),
        (['"Hum', 'twice"\tx'], ["Hum\ntwice"]),
        (['"Hum\tit"\tx'], ["Hum\tit"]),
    ],
)
def test_quotes_of_a_tsv_are_letters_unless_a_cell_is_quoted(
    tmp_path: Path, lines: list[str], texts: list[str]
) -> None:
    (tmp_path / "a.tsv").write_text("\n".join(["goal\ttarget", *lines, ""]))
    assert set(texts_of("advbench", tmp_path / "a.tsv")) == set(texts)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            b"goal,target\nHum,a,b\n",
            r"a.csv:2: expected 2 fields, .*\(got 3\); put in quotes what holds ','",
        ),
        (
            "a.csv",
            b'goal,target\nA,x\n"B,x\nC,x\nD,x\n',
            r"a.csv:3: the row that begins here is not CSV",
        ),
        ("a.csv", b'goal,target\n"Hum" it,x\n', r"a.csv:2: the row that begins here is not CSV"),
        (
            "a.tsv",
            b'goal\ttarget\n"A"\tx\n"B\tx\nC\tx\n',
            r"a.tsv:3: the row that begins here is not CSV",
        ),
        ("a.csv", b"goal,target\n\xff,a\n", "is not UTF-8"),
        (
            "a.csv",
            b"goal,target\n,a\n",
            r"a.csv:2: expected text in the column goal or Behavior or prompt \(it is empty",
        ),
        (
            "a.csv",
            b"text_of_it\nHum\n",
            r"a.csv:2: expected the column goal .*"
            r"\(columns are text_of_it; name yours in specs/suites/advbench.yaml\)",
        ),
        ("a.csv", b"goal,target\n,\n", r"expected prompts for suite advbench \(got none\)"),
        ("a.jsonl", b'{"goal": 1}', r"a.jsonl:1: expected text in the column goal"),
        ("a.json", b'{"goal": 1}', "expected a list of prompts"),
        ("a.json", b"[1]", "expected a JSON object"),
        (
            "a.json",
            b'{"goal": ["Hum", "Sing"], "target": ["a"]}',
            r"expected columns of one length \(got .*'goal': 2",
        ),
        ("a.json", b'{"goal": "Hum"}\n{"goal": \n', r"a.json:2: expected a line of JSON"),
        ("a.parquet", b"PAR1", "not a whole Parquet file"),
        ("a.csv.gz", gzip.compress(b"goal\nHum\n", mtime=0)[:-4], "not a whole gzip file"),
    ],
)
def test_a_broken_file_is_an_error_that_says_where(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PromptFileError, match=message):
        texts_of("advbench", tmp_path / name)


@pytest.mark.parametrize("suffix", [".parquet", ".csv.gz"])
def test_a_changed_byte_of_a_packed_file_is_an_error(tmp_path: Path, suffix: str) -> None:
    rows = [{"goal": f"Hum {index} é", "target": "x"} for index in range(40)]
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, compression="none", use_dictionary=False)
    else:
        path.write_bytes(gzip.compress(written(tmp_path / "a.csv", rows).read_bytes(), mtime=0))
    data, refused = path.read_bytes(), 0
    for index in range(0, len(data), 3):
        path.write_bytes(data[:index] + bytes([data[index] ^ 0xFF]) + data[index + 1 :])
        try:
            list(read_rows(path, ["goal"]))
        except PromptFileError:
            refused += 1
    # The other bytes are not read, such as those of statistics.
    assert refused > len(data) // 6


def test_a_file_that_is_not_there_or_not_pinned_says_what_to_do(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", [{"goal": "Hum"}])
    suite = pinned("advbench", path)
    for changed, message in (
        ({"path": "data/none.csv"}, "advbench.yaml path: .* fetch it from github.com/llm-attacks"),
        ({"sha256": None}, f"is not pinned yet; write sha256: {suite.sha256}"),
        ({"sha256": "0" * 64}, f"has another digest; write sha256: {suite.sha256}"),
    ):
        with pytest.raises(PromptFileError, match=message):
            prompt_set(
                "advbench", suite.model_copy(update=changed), stage="instruct", limit=9, seed=1
            )
