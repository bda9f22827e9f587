"""Surroundings of a build: DVC's configuration, the disk, Python, environment variables."""

import configparser
import os
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from safelm.builder.environment import VariableError, environment_number
from safelm.builder.files import nearest_folder
from safelm.builder.paths import BUILD, cache
from safelm.maintenance.doctor.diagnosis import Diagnoses, Diagnosis
from specs.messages import did_you_mean

CONFIG = Path(".dvc/config")
LOCAL = Path(".dvc/config.local")
VENV = Path(".venv")
REQUIREMENTS = Path("requirements.lock")
READY = Path(".venv/ready")
# `credentialpath` names a file, which is no secret.
SECRET = re.compile(
    r"secret|password|token|passphrase|account_key|connection_string|credential(?!path)"
)
# Bytes, share and files of the disk under which a build may not finish.
FREE = 1 << 30
FREE_SHARE = 0.02
FREE_FILES = 10_000
VARIABLE = re.compile(r"SAFELM_[A-Z][A-Z_]*[A-Z]")
NUMBERS = ("SAFELM_WORKERS", "SAFELM_DP", "SAFELM_TP", "SAFELM_THREADS", "SAFELM_FREE_GB")
NAMED = 4  # packages that a diagnosis names


def variables() -> Diagnoses:
    """Check SAFELM_* variables: the code must read them, and some must be numbers."""
    known = set[str]()
    for path in Path(__file__).parents[2].rglob("*.py"):
        known.update(VARIABLE.findall(path.read_text(encoding="utf-8")))
    for name in sorted(name for name in os.environ if name.startswith("SAFELM_")):
        # Those of engines are named after rows of params.yaml.
        if name not in known and not name.endswith(("_URL", "_KEY")):
            hint = did_you_mean(name, known) or f"; known: {', '.join(sorted(known))}"
            yield Diagnosis(name, "is no variable that SafeLM reads", f"unset it{hint}")
        elif name in NUMBERS:
            try:
                environment_number(name)
            except VariableError as error:
                where, _, rest = str(error).partition(": ")
                what, _, remedy = rest.partition("; ")
                yield Diagnosis(where, what, remedy)


def readable() -> Diagnoses:
    """Check that DVC's settings can be read: every other check needs to know where the cache is."""
    for file in (CONFIG, LOCAL):
        try:
            _read(file)
        except (configparser.Error, UnicodeDecodeError) as error:
            line = " ".join(str(error).split())[:200]
            yield Diagnosis(
                file, f"cannot be read ({line})", "correct the line, or `git checkout` the file"
            )


def configuration() -> Diagnoses:
    """Check DVC's settings for losses of disk space, safety or privacy."""
    yield from _core_settings(_read(CONFIG))
    for file in (CONFIG, LOCAL):
        parser = _read(file)
        for section in parser.sections():
            yield from _remote_settings(file, section, parser[section])


def _read(file: Path) -> configparser.ConfigParser:
    # A % in an address or a password refers to no other setting.
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(file, encoding="utf-8")
    return parser


def _core_settings(parser: configparser.ConfigParser) -> Diagnoses:
    # DVC's own parser removes quotes, Python's keeps them.
    setting = parser.get("cache", "type", fallback="").strip('"')
    types = {word.strip() for word in setting.split(",")}
    if "symlink" in types or not types >= {"reflink", "hardlink"}:
        cause = "shards are on disk twice, or can be written through"
        yield Diagnosis(
            CONFIG,
            f"cache.type is {setting or 'not set'}: {cause}",
            "`dvc config cache.type reflink,hardlink,copy`",
        )
    if parser.get("core", "analytics", fallback="true").strip('"') != "false":
        yield Diagnosis(CONFIG, "DVC sends usage statistics", "`dvc config core.analytics false`")


def _remote_settings(
    file: Path,
    section: str,
    values: configparser.SectionProxy,
) -> Diagnoses:
    section = section.strip("'")
    if not section.startswith("remote "):
        return
    name = section.removeprefix("remote ").strip('"')
    if "url" in values and values.get("verify", "false").strip('"') != "true":
        remedy = f"`dvc remote modify {name} verify true`"
        yield Diagnosis(file, f"remote {name}: pulled files are not hashed", remedy)
    for key in values:
        if file == CONFIG and SECRET.search(key):
            unset = f"`dvc remote modify --unset {name} {key}`"
            remedy = f"{unset}, set it with --local, and change it: git may hold it"
            yield Diagnosis(file, f"remote {name}: {key} is in a file that git tracks", remedy)


def disk() -> Diagnoses:
    """Check that there is room for a build, and that the cache can be linked from."""
    folders = {"build": nearest_folder(BUILD), "the cache": nearest_folder(cache())}
    for name, folder in folders.items():
        usage = shutil.disk_usage(folder)
        if usage.free < FREE or usage.free < FREE_SHARE * usage.total:
            free = f"{usage.free / 1e9:,.2f} GB of {usage.total / 1e9:,.0f} GB are free for {name}"
            remedy = "make room: `make gc` removes what no build needs"
            yield Diagnosis(folder, free, remedy)
        files = os.statvfs(folder)
        # Some file systems, such as btrfs, have no limit and report 0 files.
        if files.f_files and files.f_favail < FREE_FILES:
            what = f"there is room for {files.f_favail:,} more files of {name}"
            yield Diagnosis(folder, what, "make room: `make gc`")
        if not os.access(folder, os.W_OK):
            what = f"cannot be written to, as {name} must be"
            yield Diagnosis(folder, what, "change its owner or its mode")
    if len({folder.stat().st_dev for folder in folders.values()}) > 1:
        where = f"the cache ({cache()}) is on another file system than build/"
        remedy = "put both on one: `dvc cache dir <folder>`"
        yield Diagnosis(".dvc/config", f"{where}: every shard is on disk twice", remedy)


def python() -> Diagnoses:
    """Check the Python that runs, and its packages against the versions in requirements.lock."""
    if VENV.is_dir() and Path(sys.prefix).resolve() != VENV.resolve():
        yield Diagnosis(
            "python", f"is {sys.executable}, not that of .venv", "use `make`, or `.venv/bin/python`"
        )
    if not REQUIREMENTS.exists():
        return
    if READY.exists() and READY.stat().st_mtime < REQUIREMENTS.stat().st_mtime:
        yield Diagnosis(".venv", "is older than requirements.lock", "`make` sets it up again")
    pin = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", re.MULTILINE)
    wrong = []
    for name, pinned in pin.findall(REQUIREMENTS.read_text(encoding="utf-8")):
        installed = _version(name)
        if installed not in (pinned, None):
            wrong.append(f"{name} {installed} for {pinned}")
    if wrong:
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        names = f"{', '.join(wrong[:NAMED])}{more}"
        yield Diagnosis(
            ".venv",
            f"has other versions than requirements.lock: {names}",
            "`rm .venv/ready`, then `make` sets it up again",
        )


def _version(name: str) -> str | None:
    try:
        # requirements.lock pins torch without the suffix of its builds, such as +cpu.
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None
