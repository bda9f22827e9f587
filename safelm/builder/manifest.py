"""Manifests: the files that a stage made, by task, and a ledger of where its rows went."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safelm.builder.digest import MANIFEST
from safelm.builder.files import SHA256, Json, is_digest, is_safe_name, write_synced

FORMAT = 1
Counts = dict[str, int]  # of rows, by reason or by file
CHANGED = "was changed after it was built"


class LedgerError(RuntimeError):
    """Some rows are unaccounted for."""


class DamagedShard(RuntimeError):
    """A file does not hold the bytes that its manifest promises."""


@dataclass(frozen=True)
class Ledger:
    """Counts of the rows of a shard, or of a stage: rows in = out + dropped + quarantined."""

    rows_in: int = 0
    rows_out: int = 0
    dropped: Counts = field(default_factory=dict)
    quarantined: Counts = field(default_factory=dict)

    def check(self, where: str) -> "Ledger":
        """Return the ledger itself if its counts add up.

        Raises:
            LedgerError: some rows are unaccounted for; the message begins with `where`.
        """
        dropped = sum(self.dropped.values())
        quarantined = sum(self.quarantined.values())
        lost = self.rows_in - self.rows_out - dropped - quarantined
        # Below 0, too: rows from nowhere are as wrong as lost ones.
        if lost:
            raise LedgerError(
                f"{where}: expected rows in = out + dropped + quarantined, got {self.summary()} "
                f"({lost:+,} unaccounted for); a block drops or adds rows without counting them"
            )
        return self

    def summary(self) -> str:
        """Write `1,000 in = 990 out + 7 dropped (duplicate 7) + 3 quarantined (not_json 3)`."""
        terms = [f"{self.rows_in:,} in = {self.rows_out:,} out"]
        for word, reasons in {"dropped": self.dropped, "quarantined": self.quarantined}.items():
            if reasons:
                counts = [f"{name} {count:,}" for name, count in sorted(reasons.items())]
                total = sum(reasons.values())
                terms.append(f"{total:,} {word} ({', '.join(counts)})")
        return " + ".join(terms)

    @classmethod
    def total(cls, ledgers: Iterable["Ledger"]) -> "Ledger":
        """Add up ledgers."""
        rows_in = rows_out = 0
        dropped: Counter[str] = Counter()
        quarantined: Counter[str] = Counter()
        for ledger in ledgers:
            rows_in += ledger.rows_in
            rows_out += ledger.rows_out
            dropped.update(ledger.dropped)
            quarantined.update(ledger.quarantined)
        return cls(rows_in, rows_out, sorted_counts(dropped), sorted_counts(quarantined))


def sorted_counts(counts: Counter[str]) -> Counts:
    """Return counts ordered by name: same content, same bytes."""
    return dict(sorted(counts.items()))


@dataclass(frozen=True)
class File:
    """A file of a shard.

    `suffix` follows the shard's name. `md5` is the file's address in DVC's cache, `sha256` the
    digest that readers check.
    """

    suffix: str
    rows: int
    bytes: int
    md5: str
    sha256: str

    def __post_init__(self) -> None:
        """Refuse names that lead out of the folder: entries are read from pulled manifests."""
        has_digests = is_digest(self.md5) and is_digest(self.sha256, SHA256)
        if not (is_safe_name(self.suffix) and has_digests):
            raise ValueError(f"{self.suffix!r}: expected a file name, an md5 and a sha256")

    @property
    def is_table(self) -> bool:
        """Whether it is a table of documents or of other rows, in Parquet."""
        return self.suffix.endswith(".parquet")


@dataclass(frozen=True)
class ManifestEntry:
    """The result of making one shard: its key, files and ledger."""

    key: str
    files: tuple[File, ...]
    ledger: Ledger = field(default_factory=Ledger)

    @classmethod
    def load(cls, values: Json) -> "ManifestEntry":
        """Read an entry from the values of a JSON file."""
        files = tuple(File(**file) for file in values["files"])
        return cls(key=values["key"], files=files, ledger=Ledger(**values["ledger"]))


@dataclass(frozen=True)
class Manifest:
    """The result of a stage: the entries of its tasks, in order, by task name.

    `made` counts the entries that this run made; it is neither compared nor written.
    """

    stage: str
    tasks: tuple[tuple[str, ManifestEntry], ...]
    # Written out, it would make the bytes of a resumed build differ from those of a first one.
    made: int = field(default=0, compare=False)

    @property
    def ledger(self) -> Ledger:
        """The sum of the tasks' ledgers."""
        return Ledger.total(entry.ledger for entry in self.entries())

    def entries(self) -> Iterator[ManifestEntry]:
        """Yield the entry of each task."""
        for _, entry in self.tasks:
            yield entry

    def files(self) -> Iterator[tuple[str, File]]:
        """Yield every file with its name in the folder."""
        for name, entry in self.tasks:
            for file in entry.files:
                yield name + file.suffix, file

    def write(self, folder: Path) -> None:
        """Write manifest.json: same content, same bytes."""
        write_synced(folder / MANIFEST, self.dump())

    def dump(self) -> bytes:
        """Return the bytes of manifest.json."""
        values = {
            "format": FORMAT,
            "stage": self.stage,
            "ledger": asdict(self.ledger),
            "tasks": [{"name": name, **asdict(entry)} for name, entry in self.tasks],
        }
        text = json.dumps(values, indent=1, sort_keys=True)
        return f"{text}\n".encode()

    @classmethod
    def parse(cls, data: bytes) -> "Manifest":
        """Read a manifest from its bytes.

        Raises:
            DamagedShard: the format is another one, or a file lies outside of the folder.
        """
        values = json.loads(data)
        where = f"manifest of stage {values['stage']}"
        if values["format"] != FORMAT:
            raise DamagedShard(f"{where}: expected format {FORMAT} (got {values['format']})")
        tasks = [(task.pop("name"), ManifestEntry.load(task)) for task in values["tasks"]]
        manifest = cls(values["stage"], tuple(tasks))
        # A suffix is checked with its file; here, together with the name of its task.
        for name, _ in manifest.files():
            if not is_safe_name(name):
                raise DamagedShard(f"{where}: {name!r} is not a file of its folder")
        return manifest

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest of a folder.

        Raises:
            DamagedShard: it is missing or damaged.
        """
        path = folder / MANIFEST
        try:
            return cls.parse(path.read_bytes())
        except FileNotFoundError as error:
            raise DamagedShard(
                f"{folder}: has no {MANIFEST}; run `dvc repro` to build it"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedShard(
                f"{path}: is damaged; `make verify REPAIR=1` makes it again"
            ) from error
