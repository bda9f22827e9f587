"""Mutation tests: break one rule at a time, in a copy of the project, and see which test fails.

    python -m tests.faults.mutants [words of names …]     what `make mutants` calls

A mutant that survives needs a test.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXECUTOR, READING = "tests/test_executor.py", "tests/test_reading.py"
CRASHES = "tests/faults/test_crashes.py"
ON_DISK = f"{CRASHES}::test_a_renamed_file_is_synced"
IN_PLACE = f"{CRASHES}::test_no_output_folder_is_emptied_in_place"
CHANGE, EDIT, REMAINS = (
    f"tests/faults/test_resume.py::test_{name}"
    for name in (
        "nothing_stale_is_used_after_a_change",
        "nothing_stale_is_used_after_an_edit",
        "leftovers_change_nothing",
    )
)
SHARDS = "tests/faults/test_same_bytes.py::test_documents_do_not_depend_on_the_number_of_shards"
WORKERS_DIE, STAGES_DIE = (
    f"tests/faults/test_kills.py::test_{name}"
    for name in (
        "workers_die_with_their_stage",
        "stages_die_with_their_dvc",
    )
)
TOLD, FULL = (
    f"tests/faults/test_errors.py::test_{name}_is_reported_and_healed"
    for name in (
        "an_error_at_any_operation",
        "a_full_disk",
    )
)
NOBODY_HOLDS = "tests/faults/test_concurrency.py::test_a_lock_file_without_a_holder_stops_no_build"


@dataclass(frozen=True)
class Mutant:
    """A rule that is broken by a change in one file, and the tests that should fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "the ledger of a shard is not checked",
        "safelm/builder/executors/base.py",
        '.check(f"{self.plan.stage}: shard {task.name}")',
        "",
        (EXECUTOR,),
    ),
    Mutant(
        "rows from nowhere pass the ledger",
        "safelm/builder/manifest.py",
        "if lost:",
        "if lost > 0:",
        (EXECUTOR,),
    ),
    Mutant(
        "a stage may make nothing",
        "safelm/builder/run.py",
        "if wanted and not ledger.rows_out:",
        "if False:",
        (EXECUTOR,),
    ),
    Mutant(
        "artifacts may write no file",
        "safelm/builder/artifact.py",
        "    if not files:",
        "    if False:",
        ("tests/test_artifact.py",),
    ),
    Mutant(
        "reads do not check the digest",
        "safelm/builder/shards.py",
        "if got != self.sha256:",
        "if False:",
        (EXECUTOR,),
    ),
    Mutant(
        "a record is believed without its objects",
        "safelm/builder/store.py",
        "whole = all(self.object(file.md5).stat().st_size == file.bytes for file in record.files)",
        "whole = True",
        (EXECUTOR,),
    ),
    Mutant(
        "an object counts because it exists",
        "safelm/builder/store.py",
        "self.object(file.md5).stat().st_size == file.bytes",
        "self.object(file.md5).exists()",
        (EXECUTOR,),
    ),
    Mutant(
        "a damaged object is kept",
        "safelm/builder/store.py",
        "if target.exists() and file_digest(target) == sha256:",
        "if target.exists():",
        (REMAINS,),
    ),
    Mutant(
        "objects can be written",
        "safelm/builder/store.py",
        "os.fchmod(file.fileno(), 0o444)",
        "pass",
        (CRASHES,),
    ),
    Mutant(
        "objects are not synced",
        "safelm/builder/store.py",
        "without hashing it again\n            os.fsync(file.fileno())",
        "without hashing it again",
        (ON_DISK,),
    ),
    Mutant(
        "records are not synced",
        "safelm/builder/files.py",
        "file.flush()\n            os.fsync(file.fileno())",
        "file.flush()",
        (ON_DISK,),
    ),
    Mutant(
        "names are not synced",
        "safelm/builder/files.py",
        "    sync_folder(target.parent)",
        "",
        (ON_DISK,),
    ),
    Mutant(
        "records are written at their final name",
        "safelm/builder/files.py",
        'temporary = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}")',
        "temporary = path",
        (CRASHES,),
    ),
    Mutant(
        "a folder is filled in place",
        "safelm/builder/stage.py",
        'rename_synced(fresh / "new", folder)',
        '__import__("shutil").copytree(fresh / "new", folder, dirs_exist_ok=True)',
        (CRASHES,),
    ),
    Mutant(
        "what stood there stays half",
        "safelm/builder/stage.py",
        'os.rename(folder, before / "old")',
        '__import__("shutil").rmtree(folder)',
        (IN_PLACE,),
    ),
    Mutant(
        "the key knows no values",
        "safelm/builder/fingerprint.py",
        "[self.stage, self.values, ",
        "[self.stage, ",
        (EXECUTOR,),
    ),
    Mutant(
        "the key knows no code",
        "safelm/builder/fingerprint.py",
        "self.values, self.code,",
        "self.values,",
        (EDIT,),
    ),
    Mutant(
        "the key knows no libraries",
        "safelm/builder/fingerprint.py",
        "self.code, self.libraries,",
        "self.code,",
        (CHANGE,),
    ),
    Mutant(
        "the key knows no inputs",
        "safelm/builder/plan.py",
        "[item.sha256 for item in task.inputs]",
        "[len(task.inputs)]",
        (EXECUTOR,),
    ),
    Mutant(
        "the key knows no values of the task",
        "safelm/builder/fingerprint.py",
        "inputs, plain(values)]",
        "inputs]",
        (CHANGE,),
    ),
    Mutant(
        "the key knows the path",
        "safelm/builder/fingerprint.py",
        "inputs, plain(values)]",
        "inputs, plain(values), str(Path.cwd())]",
        (EXECUTOR,),
    ),
    Mutant(
        "comments are code",
        "safelm/builder/fingerprint.py",
        "            _forget_docstring(node)",
        "            pass",
        (EXECUTOR,),
    ),
    Mutant(
        "code that is imported does not count",
        "safelm/builder/fingerprint.py",
        "waiting += done[module].ours",
        "pass",
        (EXECUTOR,),
    ),
    Mutant(
        "inputs may change during the run",
        "safelm/builder/executors/base.py",
        "if known_digest(item.path) != item.sha256:",
        "if False:",
        (EXECUTOR,),
    ),
    Mutant(
        "code may change during the run",
        "safelm/builder/plan.py",
        "        if differing:",
        "        if False:",
        (EXECUTOR,),
    ),
    Mutant(
        "a pulled build is not known",
        "safelm/builder/run.py",
        "        learn(stage, store)",
        "        pass",
        (EXECUTOR,),
    ),
    Mutant(
        "no lock",
        "safelm/builder/stage.py",
        "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
        (EXECUTOR,),
    ),
    Mutant(
        "a lock is a file with a number",
        "safelm/builder/stage.py",
        "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "if path.stat().st_size:\n                raise BlockingIOError",
        (NOBODY_HOLDS,),
    ),
    Mutant(
        "a dead worker is not noticed",
        "safelm/builder/workers.py",
        'error = f"its worker died ({_cause(process.exitcode)}); finished shards are kept, run the stage again"',
        "error = None",
        (EXECUTOR,),
    ),
    Mutant(
        "an error in a worker is swallowed",
        "safelm/builder/workers.py",
        "connection.send(sentence(error))",
        "connection.send(None)",
        (EXECUTOR,),
    ),
    Mutant(
        "workers outlive the stage",
        "safelm/builder/workers.py",
        "    die_with(parent)\n    signal",
        "    signal",
        (WORKERS_DIE,),
    ),
    Mutant(
        "stages outlive the dvc above their shell",
        "safelm/builder/workers.py",
        "        if dvc != parent:",
        "        if False:",
        (STAGES_DIE,),
    ),
    Mutant("stages outlive dvc", "pipeline/__init__.py", "\ndie_with_dvc()", "", (STAGES_DIE,)),
    Mutant(
        "a full disk does not say how full",
        "safelm/builder/files.py",
        "{shutil.disk_usage(folder).free:,} bytes free in {folder}",
        "no room in {folder}",
        (FULL,),
    ),
    Mutant(
        "an error of a sync does not say where",
        "safelm/builder/files.py",
        "error.filename = error.filename or str(path)",
        "pass",
        (TOLD,),
    ),
    Mutant(
        "a path stands in the manifest",
        "safelm/builder/shards.py",
        '"stage": self.stage,',
        '"stage": self.stage, "at": str(folder.absolute()),',
        (EXECUTOR,),
    ),
    Mutant(
        "a clock stands in the manifest",
        "safelm/builder/shards.py",
        '"stage": self.stage,',
        '"stage": self.stage, "at": __import__("time").time(),',
        (EXECUTOR,),
    ),
    Mutant(
        "a clock stands in the shards",
        "safelm/builder/shards.py",
        "shape, rows = schema(columns), 0",
        'shape, rows = schema(columns).with_metadata({"at": str(__import__("time").time_ns())}), 0',
        (EXECUTOR,),
    ),
    Mutant(
        "files in the order of a set",
        "safelm/ingestion/base.py",
        "chosen = sorted(matches.intersection(files))",
        "chosen = list(matches.intersection(files))",
        (READING, CHANGE, SHARDS),
    ),
    Mutant(
        "chance by shard",
        "safelm/corpora/tagging.py",
        'stream(self.seed, "tag", document.id)',
        'stream(self.seed, "tag", self.task.name)',
        (SHARDS,),
    ),
    Mutant(
        "repeats in other files stay",
        "safelm/ingestion/dedup.py",
        "    if not duplicates:",
        "    if True:",
        ("tests/faults/test_toy.py", SHARDS),
    ),
    Mutant(
        "broken rows vanish",
        "safelm/ingestion/jsonl.py",
        "self.quarantine_row(_fault(content) if has_ended else TRUNCATED, origin)",
        "pass",
        ("tests/faults/test_toy.py",),
    ),
    Mutant(
        "quarantine without offsets",
        "safelm/ingestion/base.py",
        '"offset": offset,',
        '"offset": 0,',
        (READING,),
    ),
    Mutant(
        "no limit on a line",
        "safelm/ingestion/lines.py",
        "        if len(rest) > limit:",
        "        if False:",
        (READING,),
    ),
    Mutant(
        "no limit on what a file unpacks to",
        "safelm/ingestion/decompress.py",
        "if total + size > limit:",
        "if False:",
        (READING,),
    ),
    Mutant(
        "no limit on a document",
        "safelm/ingestion/base.py",
        'return "document_too_long" if size > self.max_document_bytes else None',
        "return None",
        (READING,),
    ),
    Mutant(
        "texts may spell the tag out",
        "safelm/ingestion/base.py",
        'remove_matches(SPECIAL_TOKENS, text, " ")',
        "(text, 0)",
        (READING, "tests/test_ingest.py"),
    ),
    Mutant(
        "rows that mean something else are added",
        "specs/add_rows.py",
        "if present[at].get(name, row) != row",
        "if False",
        ("tests/test_specs.py",),
    ),
    Mutant(
        "replacements keep an order of their own",
        "safelm/corpora/mixing/replacement.py",
        "chain.from_iterable(matched)",
        "sorted(chain.from_iterable(matched))",
        ("tests/test_mix.py",),
    ),
    Mutant(
        "nothing is kept along finetuning",
        "safelm/posttraining/trainer.py",
        "if state.global_step in self.updates:",
        "if False:",
        ("tests/test_finetune.py",),
    ),
)


def copied(target: Path) -> Path:
    """Copy the files that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def failing(tests: str, folder: Path) -> str | None:
    """Return the first test that fails in a copy of the project, or None."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", tests]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=environment, timeout=1200
    )
    if not done.returncode:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return found[1] if found else f"{tests} (exit code {done.returncode})"


def noticed(mutant: Mutant, folder: Path) -> str | None:
    """Return the first test that fails, or None when the mutant survives."""
    path = folder / mutant.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(mutant.old, mutant.new, 1), encoding="utf-8")
    try:
        return next((found for tests in mutant.tests if (found := failing(tests, folder))), None)
    finally:
        path.write_text(text, encoding="utf-8")


def refuse_stale(mutants: Sequence[Mutant], folder: Path) -> None:
    """Refuse rows that prove nothing.

    Their old text must be in its file, and their tests must pass while nothing is broken.
    """
    for mutant in mutants:
        if mutant.old not in (folder / mutant.file).read_text(encoding="utf-8"):
            raise SystemExit(
                f"{mutant.file}: expected the words {mutant.old!r}; mend the row {mutant.name!r}"
            )
    for tests in sorted({tests for mutant in mutants for tests in mutant.tests}):
        if found := failing(tests, folder):
            raise SystemExit(f"{found}: fails while nothing is broken; mend it first")


def main() -> None:
    """Try the mutants; exit with 1 when one survives."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="only mutants whose name has one of these words")
    words = parser.parse_args().words
    chosen = [
        mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)
    ]
    living = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder) / "safelm")
        refuse_stale(chosen, copy)
        for mutant in chosen:
            began = time.monotonic()
            test = noticed(mutant, copy)
            living += test is None
            print(
                f"{mutant.name:<45} {time.monotonic() - began:6.1f} s  {test or 'LIVES'}",
                flush=True,
            )
    print(f"{len(chosen)} mutants, {living} live")
    sys.exit(bool(living))


if __name__ == "__main__":
    main()
