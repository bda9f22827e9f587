"""What a build stands on: DVC's configuration, the disk, Python and its packages, the environment."""

import configparser
import difflib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from safelm.builder.paths import BUILD, cache
from safelm.maintenance.doctor.diagnosis import Diagnosis

CONFIG, LOCAL = Path(".dvc/config"), Path(".dvc/config.local")
VENV, REQUIREMENTS, READY = Path(".venv"), Path("requirements.lock"), Path(".venv/ready")
SECRET = re.compile(
    r"secret|password|token|passphrase|account_key|connection_string|credential(?!path)"
)
FREE, FREE_SHARE = 1 << 30, 0.02  # bytes and share of the disk under which a build may not end
NUMBERS = ("SAFELM_WORKERS", "SAFELM_DP", "SAFELM_TP", "SAFELM_THREADS")


def variables() -> Iterator[Diagnosis]:
    """SAFELM_* variables that nothing reads, or that should be a number and are not."""
    known = {name for path in Path(__file__).parents[2].rglob("*.py") for name in _names(path)}
    for name, value in sorted(os.environ.items()):
        if name.startswith("SAFELM_") and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f"write {close[0]}" if close else f"known are {', '.join(sorted(known))}"
            yield Diagnosis(name, "is no variable that SafeLM reads", f"unset it, or {meant}")
        elif name in NUMBERS and value and not (value.isdigit() and int(value)):
            yield Diagnosis(
                name, f"expected a whole number above 0 (got {value!r})", "unset it for the default"
            )


def _names(path: Path) -> list[str]:
    return re.findall(r"SAFELM_[A-Z][A-Z_]*[A-Z]", path.read_text(encoding="utf-8"))


def readable() -> Iterator[Diagnosis]:
    """DVC's settings, which say where the cache is, must be read before anything else."""
    for file in (CONFIG, LOCAL):
        try:
            _parsed(file)
        except (configparser.Error, UnicodeDecodeError) as error:
            line = " ".join(str(error).split())
            yield Diagnosis(
                str(file),
                f"cannot be read ({line[:200]})",
                "mend the line, or `git checkout` the file",
            )


def configuration() -> Iterator[Diagnosis]:
    """DVC's settings that lose disk, safety or privacy."""
    yield from _settings(_parsed(CONFIG))
    for file in (CONFIG, LOCAL):
        parser = _parsed(file)
        for section in parser.sections():
            yield from _remote(file, section, parser[section])


def _parsed(file: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(file, encoding="utf-8")
    return parser


def _settings(parser: configparser.ConfigParser) -> Iterator[Diagnosis]:
    types = [
        word.strip() for word in parser.get("cache", "type", fallback="").strip('"').split(",")
    ]
    if "symlink" in types or not {"reflink", "hardlink"} <= set(types):
        what = f"cache.type is {','.join(types) or 'not set'}: shards are on disk twice, or can be written through"
        yield Diagnosis(str(CONFIG), what, "`dvc config cache.type reflink,hardlink,copy`")
    if parser.get("core", "analytics", fallback="true").strip('"') != "false":
        yield Diagnosis(
            str(CONFIG), "DVC sends usage statistics", "`dvc config core.analytics false`"
        )


def _remote(file: Path, section: str, values: configparser.SectionProxy) -> Iterator[Diagnosis]:
    if not section.strip("'").startswith("remote "):
        return
    name = section.strip("'").removeprefix("remote ").strip('"')
    if values.get("verify", "false").strip('"') != "true" and "url" in values:
        remedy = f"`dvc remote modify {name} verify true`"
        yield Diagnosis(str(file), f"remote {name}: what is pulled is not hashed", remedy)
    for key in values:
        if file == CONFIG and SECRET.search(key):
            remedy = f"`dvc remote modify --unset {name} {key}`, set it with --local, and change it: git may hold it"
            yield Diagnosis(
                str(file), f"remote {name}: {key} stands in a file that git tracks", remedy
            )


def disk() -> Iterator[Diagnosis]:
    """Room for a build, and the cache where it can be linked from."""
    folders = {"build": _nearest(BUILD), "the cache": _nearest(cache())}
    for what, folder in folders.items():
        usage = shutil.disk_usage(folder)
        if usage.free < FREE or usage.free < FREE_SHARE * usage.total:
            free = f"{usage.free / 1e9:,.2f} GB of {usage.total / 1e9:,.0f} GB are free for {what}"
            yield Diagnosis(str(folder), free, "make room: `make gc` drops what no build needs")
        entries = os.statvfs(folder)
        if entries.f_files and entries.f_favail < 10_000:
            yield Diagnosis(
                str(folder),
                f"{entries.f_favail:,} more files fit for {what}",
                "make room: `make gc`",
            )
        if not os.access(folder, os.W_OK):
            yield Diagnosis(
                str(folder),
                f"cannot be written to, as {what} must be",
                "change its owner or its mode",
            )
    if len({folder.stat().st_dev for folder in folders.values()}) > 1:
        what = f"the cache ({cache()}) is on another file system than build/: every shard is on disk twice"
        yield Diagnosis(".dvc/config", what, "put both on one: `dvc cache dir <folder>`")


def _nearest(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def python() -> Iterator[Diagnosis]:
    """The Python that runs, and the packages that the lock pins."""
    if VENV.is_dir() and Path(sys.prefix).resolve() != VENV.resolve():
        yield Diagnosis(
            "python", f"is {sys.executable}, not that of .venv", "use `make`, or `.venv/bin/python`"
        )
    if (
        READY.exists()
        and REQUIREMENTS.exists()
        and READY.stat().st_mtime < REQUIREMENTS.stat().st_mtime
    ):
        yield Diagnosis(".venv", "is older than requirements.lock", "`make` sets it up again")
    if not REQUIREMENTS.exists():
        return
    pins = re.findall(
        r"^([A-Za-z0-9_.-]+)==([^\s;]+)", REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE
    )
    wrong = [
        f"{name} {found} for {pinned}"
        for name, pinned in pins
        if (found := _version(name)) not in (pinned, None)
    ]
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        yield Diagnosis(
            ".venv",
            f"holds other versions than requirements.lock: {', '.join(wrong[:4])}{more}",
            "`rm .venv/ready`, then `make` sets it up again",
        )


def _version(name: str) -> str | None:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None
