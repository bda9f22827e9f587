"""Same params, same bytes, on any machine (D1 to D3).

An edit that alters no byte costs nothing behind it.
"""

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from safelm.builder.shards import tables
from tests.faults import forked
from tests.faults.toy import STAGES, State, Toy, good_texts, small

ANOTHER_USER = ("unshare", "--user", "--map-user=65534", "--map-group=65534")
ANOTHER_HOST = ("unshare", "--uts", "sh", "-c", 'hostname other; exec "$@"', "sh")
FOLDERS = ("toy", "a b", "ünï – 数", "x" * 120, "deep/er/and/deeper")
ZONES = ("UTC", "Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati")
LANGUAGES = ("C", "C.UTF-8", "POSIX", "de_DE.UTF-8", "tr_TR.UTF-8")


def is_allowed(*prefix: str) -> bool:
    return subprocess.run([*prefix, "true"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> State:
    toy = Toy.make(tmp_path_factory.mktemp("plain") / "toy", code=False)
    assert forked.build(toy).code == 0
    return toy.state()


@pytest.mark.cases(quick=2, full=24)
def test_bytes_do_not_depend_on_where_and_by_whom(case: int, plain: State, tmp_path: Path) -> None:
    draw = random.Random(case)
    toy = Toy.make(tmp_path / FOLDERS[case % len(FOLDERS)])
    toy.environment = {
        "SAFELM_WORKERS": ("2", "1", "4", "8")[case % 4],
        "PYTHONHASHSEED": str(draw.randrange(1000)),
        "TZ": draw.choice(ZONES),
        "LC_ALL": draw.choice(LANGUAGES),
        "LANG": draw.choice(LANGUAGES),
        "HOME": str(toy.root),
        "USER": "nobody",
    }
    prefix = ("sh", "-c", f'umask {draw.choice(["000", "022", "027", "077"])}; exec "$@"', "sh")
    if case % 2 and is_allowed(*ANOTHER_HOST):
        prefix += ANOTHER_HOST
    if case % 3 == 1 and is_allowed(*ANOTHER_USER):
        prefix += ANOTHER_USER
    running = toy.start("pipeline.everything", prefix=prefix)
    assert running.wait() == 0, (running.process.args, running.text)
    assert toy.state() == plain


@pytest.mark.cases(quick=2, full=16)
def test_documents_do_not_depend_on_the_number_of_shards(case: int, tmp_path: Path) -> None:
    """The first of two equal documents is kept, so only the url may differ."""
    found = []
    for number in (1, (2, 7, *range(3, 17))[case]):
        toy = small(tmp_path / str(number))
        lines = toy.source_lines()
        shutil.rmtree(toy.root / "web")
        (toy.root / "web").mkdir()
        for index in range(number):
            (toy.root / f"web/{index:02d}.jsonl").write_bytes(
                b"\n".join(lines[index::number]) + b"\n"
            )
        assert forked.build(toy).code == 0
        rows = []
        for stage in STAGES:
            for table in tables(toy.root / "build" / stage):
                rows += table.to_pylist()
        found.append(sorted(str({**row, "url": None}) for row in rows))
        assert len(found[-1]) >= 2 * len(good_texts(lines))
    assert found[0] == found[1]


# Edits that alter no byte: (file, old, new, the stages that DVC runs for it, whether their shards
# are made again).
NO_OPS = (
    ("safelm/text/tags.py", "SPACE = re", "# Between words.\nSPACE = re", {"tag"}, False),
    ("safelm/text/tags.py", '"""Return the rounded', '"""Draw the rounded', {"tag"}, False),
    (
        "safelm/text/tags.py",
        "count = round(rate * len(gaps))",
        "count  =  round( rate*len(gaps) )",
        {"tag"},
        False,
    ),
    (
        "safelm/text/tags.py",
        "chosen: list[int] = []",
        "chosen: list[int] = list()",
        {"tag"},
        True,
    ),
    ("safelm/text/grammar.py", "import", "# Nothing.\nimport", {"tag"}, False),
    ("safelm/ingestion/jsonl.py", "BOM = ", "\n\nBOM = ", {"ingest"}, False),
    (
        "safelm/ingestion/jsonl.py",
        '"""Yield the document of every line."""',
        '"""Yield the documents of all lines."""',
        {"ingest"},
        False,
    ),
    (
        "safelm/ingestion/lines.py",
        'offset = 0\n    rest = b""',
        'rest = b""\n    offset = 0',
        {"ingest"},
        True,
    ),
    ("safelm/scoring/ensemble.py", '"""', '"""So: ', {"score"}, False),
    ("safelm/scoring/registry.py", "GRADERS:", "# By name.\nGRADERS:", {"score"}, False),
    (
        "pipeline/tag.py",
        "from safelm.builder.run",
        "# Where.\nfrom safelm.builder.run",
        {"tag"},
        False,
    ),
    ("pipeline/score.py", '"""score: ', '"""score, ', {"score"}, False),
    (
        "safelm/corpora/tokenization.py",
        "MIN_PAIR_COUNT = 2",
        "# Here.\nMIN_PAIR_COUNT = 2",
        {"tokenizer"},
        False,
    ),
    ("params.yaml", "sources:", "# What one turns.\nsources:", set(), False),
    ("dvc.yaml", "stages:", "# The stages.\nstages:", set(), False),
)


@pytest.mark.cases(quick=2, full=len(NO_OPS))
def test_an_edit_that_alters_no_byte_stops_there(case: int, oracle: Toy, tmp_path: Path) -> None:
    file, old, new, stages, is_made = NO_OPS[(case * 4 + 3) % len(NO_OPS)]
    toy = oracle.copy(tmp_path / "toy")
    toy.edit(file, old, new)
    printed = toy.build()
    ran = {line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")}
    assert ran == stages if not is_made else ran >= stages, (
        printed
    )  # DVC asks those behind it; they make nothing
    made = {name.partition("/")[0]: number for name, number in toy.made(printed).items()}
    assert {name for name, number in made.items() if number} == (stages if is_made else set()), (
        printed
    )
    before, after = oracle.state().files, toy.state().files
    assert {name for name in before | after if before.get(name) != after.get(name)} <= (
        {name for name in before if name.endswith("manifest.json")} if is_made else set()
    )
