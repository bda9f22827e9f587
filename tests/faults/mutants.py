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
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXECUTOR, READING = "tests/test_executor.py", "tests/test_reading.py"
CLIENTS = "tests/test_serve_clients.py"
ATTACKS = "tests/test_attack_kinds.py"
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
REPORTED, FULL = (
    f"tests/faults/test_errors.py::test_{name}_is_reported_and_healed"
    for name in (
        "an_error_at_any_operation",
        "a_full_disk",
    )
)
CLIENT, RETRY = "tests/test_client.py", "tests/test_retry.py"
OUTAGES = "tests/faults/test_outages.py"
NO_ROOM, LIMITED = (
    f"tests/faults/test_dvc_crashes.py::test_{name}"
    for name in (
        "a_build_that_would_fill_the_disk_is_refused_before_it_starts",
        "a_limit_of_file_sizes_is_named_and_no_database_is_blamed",
    )
)
DIGESTS, SORTED, SIZES, TORN_RWLOCK = (
    "tests/faults/test_histories.py::test_digests_do_not_say_what_happened",
    "tests/faults/test_histories.py::test_the_stages_of_a_lock_file_are_sorted",
    "tests/faults/test_histories.py::test_a_lock_file_has_the_true_size_of_what_was_read_damaged",
    "tests/test_doctor.py::test_a_build_empties_a_torn_rwlock",
)
REMOTE = "tests/faults/test_remote.py"
VERIFY = "tests/test_verify.py"
NO_HOLDER = "tests/faults/test_concurrency.py::test_a_lock_file_without_a_holder_stops_no_build"


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
        "a stage without output is no failure",
        "safelm/builder/run.py",
        "if selected and not ledger.rows_out:",
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
        "if digest != self.sha256:",
        "if False:",
        (EXECUTOR,),
    ),
    Mutant(
        "an index entry counts without its objects",
        "safelm/builder/store.py",
        "stamps = {file.md5: self._check(file, known.get(file.md5)) for file in entry.files}",
        "stamps = known",
        (EXECUTOR,),
    ),
    Mutant(
        "an object counts because it exists",
        "safelm/builder/store.py",
        "if stamp != known and file_digest(path) != file.sha256:",
        "if False:",
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
        "os.fchmod(file.fileno(), READ_ONLY)",
        "pass",
        (CRASHES,),
    ),
    Mutant(
        "objects are not synced",
        "safelm/builder/store.py",
        "READ_ONLY)\n            os.fsync(file.fileno())",
        "READ_ONLY)",
        (ON_DISK,),
    ),
    Mutant(
        "index entries are not synced",
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
        "index entries are written at their final name",
        "safelm/builder/files.py",
        'temporary = path.with_name(f".{path.name}.{_process_name()}")',
        "temporary = path",
        (CRASHES,),
    ),
    Mutant(
        "an output folder is filled in place",
        "safelm/builder/stage.py",
        'rename_synced(fresh / "new", folder)',
        '__import__("shutil").copytree(fresh / "new", folder, dirs_exist_ok=True)',
        (CRASHES,),
    ),
    Mutant(
        "the former output is removed in place",
        "safelm/builder/stage.py",
        'os.rename(folder, before / "old")',
        '__import__("shutil").rmtree(folder)',
        (IN_PLACE,),
    ),
    Mutant(
        "keys do not depend on values",
        "safelm/builder/fingerprint.py",
        "[self.stage, self.values, ",
        "[self.stage, ",
        (EXECUTOR,),
    ),
    Mutant(
        "keys do not depend on code",
        "safelm/builder/fingerprint.py",
        "self.values, self.code,",
        "self.values,",
        (EDIT,),
    ),
    Mutant(
        "keys do not depend on libraries",
        "safelm/builder/fingerprint.py",
        "self.code, self.libraries]",
        "self.code]",
        (CHANGE,),
    ),
    Mutant(
        "keys do not depend on inputs",
        "safelm/builder/plan.py",
        "[item.sha256 for item in task.inputs]",
        "[len(task.inputs)]",
        (EXECUTOR,),
    ),
    Mutant(
        "keys do not depend on the values of a task",
        "safelm/builder/fingerprint.py",
        "inputs, jsonable(values)]",
        "inputs]",
        (CHANGE,),
    ),
    Mutant(
        "keys depend on the path",
        "safelm/builder/fingerprint.py",
        "inputs, jsonable(values)]",
        "inputs, jsonable(values), str(Path.cwd())]",
        (EXECUTOR,),
    ),
    Mutant(
        "docstrings count as code",
        "safelm/builder/fingerprint.py",
        "            node.body = node.body[1:] or [ast.Pass()]",
        "            pass",
        (EXECUTOR,),
    ),
    Mutant(
        "code that is imported does not count",
        "safelm/builder/fingerprint.py",
        "waiting += closure[name].imports",
        "pass",
        (EXECUTOR,),
    ),
    Mutant(
        "inputs may change during the run",
        "safelm/builder/executors/base.py",
        "if cached_digest(item.path) != item.sha256:",
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
        "a pulled build is not cached",
        "safelm/builder/run.py",
        "        import_records(stage, store)",
        "        pass",
        (EXECUTOR,),
    ),
    Mutant(
        "a manifest is read without a look at dvc.lock",
        "safelm/builder/provenance.py",
        "    elif not _is_made_here(path, data):\n        _compare_locked(path, data)",
        "",
        (REMOTE,),
    ),
    Mutant(
        "a listing is not hashed",
        "safelm/builder/provenance.py",
        "if got != md5.removesuffix(DIR):",
        "if False:",
        (REMOTE,),
    ),
    Mutant(
        "a plain file is not compared with dvc.lock",
        "safelm/builder/provenance.py",
        "            _compare_locked(file, file.read_bytes())",
        "            pass",
        (REMOTE,),
    ),
    Mutant(
        "a build does not hash what was fetched",
        "safelm/maintenance/doctor/examine.py",
        "return found or list(objects())",
        "return found",
        (REMOTE,),
    ),
    Mutant(
        "a listing is followed before it is hashed",
        "safelm/maintenance/pull.py",
        "if problem := _problem(data, md5):",
        'if problem := "":',
        (REMOTE,),
    ),
    Mutant(
        "an index entry may be that of another key",
        "safelm/builder/store.py",
        "if entry.key != key or digest",
        "if digest",
        (VERIFY,),
    ),
    Mutant(
        "an index entry may be edited",
        "safelm/builder/store.py",
        "or digest != json_digest(asdict(entry))",
        "",
        (VERIFY,),
    ),
    Mutant(
        "rows in are not compared with the input",
        "safelm/builder/plan.py",
        "if rows not in (None, entry.ledger.rows_in):",
        "if False:",
        (VERIFY,),
    ),
    Mutant(
        "intermediates are not verified",
        "safelm/maintenance/verify/check.py",
        "    needs += _intermediate_needs({need.md5 for need in needs}, store)",
        "",
        (VERIFY,),
    ),
    Mutant(
        "a file that a reader found damaged keeps its time",
        "safelm/builder/shards.py",
        "os.utime(self.path)",
        "pass",
        (VERIFY,),
    ),
    Mutant(
        "a stage that found damage is not built again",
        "safelm/builder/scheduler.py",
        "is_damaged = CHANGED in text and not self.has_found_damage",
        "is_damaged = False",
        ("tests/test_scheduler.py",),
    ),
    Mutant(
        "a repair blames what did not change",
        "safelm/maintenance/verify/repair.py",
        "    if changed:",
        "    if True:",
        (VERIFY,),
    ),
    Mutant(
        "a count of the run enters a key",
        "safelm/builder/manifest.py",
        "made: int = field(default=0, compare=False)",
        "made: int = 0",
        (VERIFY,),
    ),
    Mutant(
        "stages are not locked",
        "safelm/builder/locks.py",
        "fcntl.flock(descriptor, mode | fcntl.LOCK_NB)",
        "pass",
        (EXECUTOR,),
    ),
    Mutant(
        "a lock is a file with a number",
        "safelm/builder/locks.py",
        "fcntl.flock(descriptor, mode | fcntl.LOCK_NB)",
        "if path.stat().st_size:\n                raise BlockingIOError",
        (NO_HOLDER,),
    ),
    Mutant(
        "builds do not keep gc from the cache they share",
        "safelm/builder/locks.py",
        "stack.enter_context(_shared(_cache_lock()))",
        "pass",
        ("tests/faults/test_gc.py",),
    ),
    Mutant(
        "gc keeps nothing of other projects on the cache",
        "safelm/maintenance/gc.py",
        "projects = map(str, [kept, *neighbours])",
        "projects = [str(kept)]",
        ("tests/faults/test_gc.py",),
    ),
    Mutant(
        "gc keeps no unfinished work of other projects",
        "safelm/maintenance/gc.py",
        "    for folder in neighbours:",
        "    for folder in neighbours[:0]:",
        ("tests/faults/test_gc.py",),
    ),
    Mutant(
        "gc needs room that a full disk does not have",
        "safelm/maintenance/gc.py",
        "        reserve().unlink(missing_ok=True)",
        "        pass",
        ("tests/faults/test_gc.py",),
    ),
    Mutant(
        "a zombie holds the lock of DVC",
        "safelm/builder/dvc_locks.py",
        "    if not is_alive(pid):",
        "    if False:",
        ("tests/test_doctor.py",),
    ),
    Mutant(
        "a dead process takes the living out of DVC's lock with it",
        "safelm/builder/dvc_locks.py",
        "            if reason := ended_reason(holder):",
        "            if reason := ended_reason(holder) or 'all':",
        ("tests/test_doctor.py",),
    ),
    Mutant(
        "a torn dvc.lock is not restored",
        "safelm/maintenance/doctor/lock_copy.py",
        "    if not can_restore():",
        "    if True:",
        ("tests/test_doctor.py",),
    ),
    Mutant(
        "a merge in dvc.lock is thrown away",
        "safelm/maintenance/doctor/lock_copy.py",
        "is_torn = CONFLICT not in LOCK_FILE.read_bytes()",
        "is_torn = True",
        ("tests/test_doctor.py",),
    ),
    Mutant(
        "a build begins on a disk without room",
        "pipeline/build.py",
        "    if free < needed:",
        "    if False:",
        (NO_ROOM,),
    ),
    Mutant(
        "a limit of file sizes is told as a damaged database",
        "safelm/maintenance/doctor/dvc.py",
        "outside = outside_cause() if",
        "outside = None if",
        (LIMITED,),
    ),
    Mutant(
        "inputs are compared by size and modification time alone",
        "safelm/builder/inputs.py",
        "times = [state.st_mtime_ns, state.st_ctime_ns]",
        "times = [state.st_mtime_ns]",
        ("tests/faults/test_same_stamps.py",),
    ),
    Mutant(
        "old byte code of a changed module runs",
        "safelm/builder/inputs.py",
        "Path(cache_from_source(path)).unlink(missing_ok=True)",
        "pass",
        ("tests/faults/test_same_stamps.py",),
    ),
    Mutant(
        "folders of an ended container are taken for those of a dead process here",
        "safelm/builder/files.py",
        "is_counted_here = rest.endswith",
        "is_counted_here = True or rest.endswith",
        ("tests/faults/test_gc.py",),
    ),
    Mutant(
        "a dead worker is not noticed",
        "safelm/builder/workers.py",
        'error = f"its worker died ({cause}); finished shards are kept, run the stage again"',
        "error = None",
        (EXECUTOR,),
    ),
    Mutant(
        "an error in a worker is swallowed",
        "safelm/builder/workers.py",
        "connection.send(describe_error(error))",
        "connection.send(None)",
        (EXECUTOR,),
    ),
    Mutant(
        "workers outlive the stage",
        "safelm/builder/workers.py",
        "    die_with_parent(parent)\n",
        "",
        (WORKERS_DIE,),
    ),
    Mutant(
        "stages outlive the dvc above their shell",
        "safelm/builder/supervision.py",
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
        (REPORTED,),
    ),
    Mutant(
        "the manifest holds a path",
        "safelm/builder/manifest.py",
        '"stage": self.stage,',
        '"stage": self.stage, "at": str(folder.absolute()),',
        (EXECUTOR,),
    ),
    Mutant(
        "the manifest holds a time",
        "safelm/builder/manifest.py",
        '"stage": self.stage,',
        '"stage": self.stage, "at": __import__("time").time(),',
        (EXECUTOR,),
    ),
    Mutant(
        "shards hold a time",
        "safelm/builder/shards.py",
        "schema = arrow_schema(columns)",
        'schema = arrow_schema(columns).with_metadata({"at": str(__import__("time").time_ns())})',
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
        "keys depend on the shards that a run made",
        "safelm/builder/manifest.py",
        "made: int = field(default=0, compare=False)",
        "made: int = 0",
        (DIGESTS,),
    ),
    Mutant(
        "stages of dvc.lock keep the order of their first build",
        "pipeline/build.py",
        "sorted(stages)",
        "stages",
        (SORTED,),
    ),
    Mutant(
        "dvc.lock keeps the size of a folder that was damaged when it was read",
        "pipeline/build.py",
        "if len(found) > 1",
        "if not found",
        (SIZES,),
    ),
    Mutant(
        "another CPU rounds otherwise",
        "safelm/builder/environment.py",
        "os.environ.setdefault(variable, value)",
        "pass",
        ("tests/test_package.py::test_a_stage_rounds_alike_on_every_x86_machine",),
    ),
    Mutant(
        "a torn rwlock stops a build",
        "safelm/builder/dvc_locks.py",
        "values = {}\n            removed = {",
        "raise\n            removed = {",
        (TORN_RWLOCK,),
    ),
    Mutant(
        "draws depend on the shard",
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
        "elif present[name] != row",
        "elif False",
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
        "a dialogue goes on after another one",
        "safelm/ingestion/base.py",
        'whole, metadata["parent"] = f"{parent}\\x00{prompt}", parent',
        'metadata["parent"] = parent',
        ("tests/test_dialogue.py",),
    ),
    Mutant(
        "later requests have loss",
        "safelm/posttraining/rows.py",
        "labels += [IGNORED] * len(later_request) + later_answer",
        "labels += later_request + later_answer",
        ("tests/test_instruct.py",),
    ),
    Mutant(
        "the batch of a recipe is ignored",
        "specs/shape.py",
        "if len(sizes) != 1:",
        "if not sizes:",
        ("tests/test_setups.py",),
    ),
    Mutant(
        "a setup overwrites edits",
        "specs/setup.py",
        "return path.read_bytes() in [*saved, commit.stdout]",
        "return True",
        ("tests/test_setups.py",),
    ),
    Mutant(
        "a folder's score is not read",
        "safelm/ingestion/base.py",
        'values["label"] = int(found[1]) if found else None',
        "pass",
        ("tests/test_reading_tables.py",),
    ),
    Mutant(
        "nothing is kept along finetuning",
        "safelm/posttraining/trainer.py",
        "if state.global_step in self.updates:",
        "if False:",
        ("tests/test_finetune.py",),
    ),
    Mutant(
        "a package with another hash is installed",
        ".ci/install.py",
        "if wrong := [",
        "if [] and [",
        ("tests/test_supply_chain.py",),
    ),
    Mutant(
        "the hashes of packages are not compared",
        ".ci/install.py",
        "_sha256(item) not in allowed and not local",
        "False",
        ("tests/test_supply_chain.py",),
    ),
    Mutant(
        "an audit that nobody answered passes",
        ".ci/audit.py",
        "    sys.exit(2)",
        "    return 0",
        ("tests/test_supply_chain.py",),
    ),
    Mutant(
        "an outage is taken for an answer",
        "safelm/llm/model.py",
        "if unanswered := sum(answer is None for answer in found.values()):",
        "if False:",
        (OUTAGES,),
    ),
    Mutant(
        "an outage is taken for a refusal",
        "safelm/llm/engine.py",
        "return self.problem in REFUSALS",
        "return self.problem is not None",
        (OUTAGES,),
    ),
    Mutant(
        "answers before an outage are not stored",
        "safelm/llm/model.py",
        "                    store.put(key, answer)",
        "                    refused[key] = answer",
        (OUTAGES,),
    ),
    Mutant(
        "a request that failed once is given up",
        "safelm/llm/client.py",
        "            if left <= 0:",
        "            if True:",
        (CLIENT,),
    ),
    Mutant(
        "a server that is down is tried by every request",
        "safelm/llm/client.py",
        "self.is_down = self.traffic.answered_at < began",
        "self.is_down = False",
        (CLIENT,),
    ),
    Mutant(
        "a server of this machine that has ended is waited for",
        "safelm/llm/client.py",
        "if self.endpoint.supervisor and not is_alive(self.endpoint.supervisor):",
        "if False:",
        (f"{CLIENT}::test_a_server_of_this_machine_that_has_ended_is_not_waited_for",),
    ),
    Mutant(
        "one request that fails stops the others",
        "safelm/llm/client.py",
        "self.is_down = self.traffic.answered_at < began",
        "self.is_down = True",
        (CLIENT,),
    ),
    Mutant(
        "Retry-After is ignored",
        "safelm/llm/client.py",
        "min(max(backoff, pause), left)",
        "min(backoff, left)",
        (CLIENT,),
    ),
    Mutant(
        "Retry-After may be longer than the patience",
        "safelm/llm/client.py",
        "min(max(backoff, pause), left)",
        "min(max(backoff, pause), 10 * left)",
        (f"{CLIENT}::test_a_long_pause_is_cut_to_the_patience_and_followed_by_one_more_attempt",),
    ),
    Mutant(
        "Retry-After may be no number",
        "safelm/llm/client.py",
        "if isfinite(seconds) else 0.0",
        "",
        (CLIENT,),
    ),
    Mutant(
        "a silent server is not told",
        "safelm/llm/client.py",
        "        print(line, flush=True)",
        "        pass",
        (CLIENT,),
    ),
    Mutant(
        "a server that refuses everything makes data",
        "safelm/llm/client.py",
        "            if self.traffic.answered_at < refused_at:\n                probe",
        "            if not self.traffic.answered_at:\n                probe",
        (CLIENT,),
    ),
    Mutant(
        "a page that quotes a policy is refused by it",
        "safelm/llm/client.py",
        """flagged_input|blockReason)"'""",
        """flagged_input|blockReason)'""",
        (CLIENT,),
    ),
    Mutant(
        "limits of engines enter the keys",
        "specs/engine.py",
        "Field(gt=0, exclude=True)",
        "Field(gt=0)",
        (CLIENT,),
    ),
    Mutant(
        "an empty stage is remembered by its keys",
        "safelm/builder/run.py",
        "        plan.store.forget(plan.keys)",
        "",
        (RETRY,),
    ),
    Mutant(
        "answers that were all rejected are given out",
        "safelm/llm/answers.py",
        "if self.rejected.issuperset(self.answers):",
        "if False:",
        (RETRY,),
    ),
    Mutant(
        "a retry takes what dvc.lock names",
        "safelm/builder/stage.py",
        "if os.environ.get(RETRY):",
        "if False:",
        (RETRY,),
    ),
    Mutant(
        "a retry does not look at verdicts",
        "safelm/maintenance/retry.py",
        'row["metric"] == "unjudged"',
        "False",
        (f"{RETRY}::test_a_verdict_of_an_evaluation_is_asked_for_again",),
    ),
    Mutant(
        "a retry gives out rejected answers",
        "safelm/maintenance/retry.py",
        "                answers.forget_rejected()",
        "                pass",
        (RETRY,),
    ),
    Mutant(
        "a page of another origin is answered",
        "safelm/serve/server.py",
        'if origin is not None and origin.partition("://")[2] != host:',
        "if False:",
        (f"{CLIENTS}::test_pages_of_other_origins_are_refused",),
    ),
    Mutant(
        "a server is reached by any name",
        "safelm/serve/server.py",
        "if self.key is None and not is_local(host):",
        "if False:",
        (f"{CLIENTS}::test_other_names_of_the_server_are_refused",),
    ),
    Mutant(
        "any key is right",
        "safelm/serve/server.py",
        'if secrets.compare_digest(sent.encode("latin-1"), expected.encode()):',
        "if sent:",
        (f"{CLIENTS}::test_with_a_key_only_who_has_it_is_answered",),
    ),
    Mutant(
        "a text is written for a client that left",
        "safelm/serve/server.py",
        "sum(job.text.cancel() for job in answer.jobs)",
        "0",
        (f"{CLIENTS}::test_a_client_that_leaves_the_queue_is_never_decoded",),
    ),
    Mutant(
        "a long body is read",
        "safelm/serve/server.py",
        'refuse_long(int(request.headers.get("content-length", 0)))',
        "pass",
        (f"{CLIENTS}::test_100_mb_are_refused_before_they_are_sent",),
    ),
    Mutant(
        "bodies take any memory",
        "safelm/serve/server.py",
        "if self.held > MAX_HELD_BYTES:",
        "if False:",
        (f"{CLIENTS}::test_bodies_together_take_no_more_than_their_share",),
    ),
    Mutant(
        "a silent connection is kept",
        "safelm/serve/server.py",
        "if self.cycle is served:",
        "if False:",
        (f"{CLIENTS}::test_a_connection_without_a_request_is_closed",),
    ),
    Mutant(
        "a queue grows without end",
        "safelm/serve/batches.py",
        "if len(self.waiting) + len(jobs) > MAX_WAITING:",
        "if False:",
        (f"{CLIENTS}::test_a_full_queue_asks_the_client_to_come_again",),
    ),
    Mutant(
        "prompts of two clients share no batch",
        "safelm/serve/batches.py",
        "self.taken = min(self.batch, len(self.waiting))",
        "self.taken = min(1, len(self.waiting))",
        (f"{CLIENTS}::test_requests_together_are_answered_as_each_alone",),
    ),
    Mutant(
        "half a character is streamed",
        "safelm/serve/answers.py",
        ".rstrip(UNFINISHED)",
        "",
        (f"{CLIENTS}::test_half_a_character_waits_for_its_other_half",),
    ),
    Mutant(
        "half a stop word is streamed",
        "safelm/serve/request.py",
        "return whole if is_cut or held < 1 else whole[:-held]",
        "return whole",
        (f"{CLIENTS}::test_nothing_is_sent_that_a_stop_word_may_cut",),
    ),
    Mutant(
        "a text grows past its bound",
        "safelm/decoding/search.py",
        "if is_worth_a_copy or at_bound.any():",
        "if is_worth_a_copy:",
        ("tests/test_decoding.py",),
    ),
    Mutant(
        "a source for evaluation is published",
        "safelm/publishing/publish.py",
        'row.usage == "training" and ',
        "",
        ("tests/test_publish.py",),
    ),
    Mutant(
        "texts under any license are published",
        "safelm/publishing/publish.py",
        ' and row.license in RELEASE["licenses"]',
        "",
        ("tests/test_publish.py",),
    ),
    Mutant(
        "a changed model is published",
        "safelm/publishing/publish.py",
        "check_folder(output)",
        "pass",
        ("tests/test_publish.py",),
    ),
    Mutant(
        "uploads are public",
        "safelm/publishing/cards.py",
        "private=True",
        "private=False",
        ("tests/test_publish.py",),
    ),
    Mutant(
        "prompts without room for an answer are attacked",
        "safelm/evaluation/generation.py",
        "kept = [*compress(found.candidates, fits)]",
        "kept = found.candidates",
        ("tests/test_attack.py",),
    ),
    Mutant(
        "relearning does not count what it leaves out",
        "safelm/evaluation/attacks/relearning.py",
        "yield from prompt_sets[name].facts(len(completions), len(tried), **of_suite)",
        "pass",
        ("tests/test_relearn.py",),
    ),
    Mutant(
        "the first choice of TruthfulQA may be wrong",
        "safelm/evaluation/utility/layouts.py",
        'row["mc1_targets"]["labels"][0] == 1',
        'row["mc1_targets"]["labels"]',
        ("tests/test_harness.py",),
    ),
    Mutant(
        "a token is drawn twice",
        "safelm/decoding/search.py",
        "weights = weights.scatter(-1, index, 0)",
        "weights = weights.scatter(-1, index, 1)",
        ("tests/test_decoding.py",),
    ),
    Mutant(
        "attacked requests find the direction of refusal",
        "safelm/evaluation/attacks/abliteration.py",
        "if pair.request not in attacked",
        "if pair.request",
        (f"{ATTACKS}::test_requests_that_are_attacked_find_no_direction",),
    ),
    Mutant(
        "abliteration leaves what the layers write",
        "safelm/evaluation/attacks/abliteration.py",
        "for writer in (model.get_input_embeddings(), *writers):",
        "for writer in (model.get_input_embeddings(),):",
        (f"{ATTACKS}::test_projecting_out_equals_editing_the_weights",),
    ),
    Mutant(
        "the last of several tries counts, not the worst",
        "safelm/evaluation/metrics.py",
        "worst[judge] = min(tries, key=lambda one: one.verdicts[judge].rank)",
        "worst[judge] = tries[-1]",
        (f"{ATTACKS}::test_of_several_tries_each_judge_counts_its_worst",),
    ),
    Mutant(
        "the conditions of a prefill have other prompts",
        "specs/attacks.py",
        "return max(self.tokens)",
        "return min(self.tokens)",
        (f"{ATTACKS}::test_prompts_without_room_for_the_most_tokens_are_in_no_condition",),
    ),
    Mutant(
        "the slots of a prompt are given to its branches",
        "safelm/decoding/tree.py",
        "(self.visible | self.kept).any(dim=1)",
        "self.visible.any(dim=1)",
        ("tests/test_decoding.py",),
    ),
    Mutant(
        "branches are written that nothing asks for",
        "safelm/decoding/branch.py",
        "score <= share * bound",
        "score < 0",
        ("tests/test_decoding.py",),
    ),
    Mutant(
        "a branch is given up that may stay below the bound",
        "safelm/decoding/branch.py",
        "total > bound * self.new_tokens",
        "total > bound",
        ("tests/test_decoding.py",),
    ),
    Mutant(
        "the score of a prompt is that of branches that are not written",
        "safelm/decoding/branch.py",
        "min(score, reach)",
        "score",
        ("tests/test_decoding.py",),
    ),
    Mutant(
        "one prompt more than promised is above the bound",
        "safelm/evaluation/bounds.py",
        "value=sorted(scores)[-above]",
        "value=sorted(scores)[-above - 1]",
        ("tests/test_bounds.py",),
    ),
    Mutant(
        "a bound of other weights is served",
        "safelm/serve/command.py",
        "bound.condition == bound_key(model, decoder)",
        "bound.condition",
        ("tests/test_bounds.py",),
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
                f"{mutant.file}: expected the text {mutant.old!r}; correct the row {mutant.name!r}"
            )
    for tests in sorted(set(chain.from_iterable(mutant.tests for mutant in mutants))):
        if found := failing(tests, folder):
            raise SystemExit(f"{found}: fails while nothing is broken; fix it first")


def main() -> None:
    """Try the mutants; exit with 1 when one survives."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="only mutants whose name has one of these words")
    words = parser.parse_args().words
    pattern = re.compile("|".join(map(re.escape, words)))
    chosen = [mutant for mutant in MUTANTS if pattern.search(mutant.name)]
    living = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder) / "safelm")
        refuse_stale(chosen, copy)
        for mutant in chosen:
            began = time.monotonic()
            test = noticed(mutant, copy)
            living += test is None
            print(
                f"{mutant.name:<45} {time.monotonic() - began:6.1f} s  {test or 'SURVIVES'}",
                flush=True,
            )
    print(f"{len(chosen)} mutants, {living} survive")
    sys.exit(bool(living))


if __name__ == "__main__":
    main()
