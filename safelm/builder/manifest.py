"""What the making of one shard came to: its files and where its rows went."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safelm.builder.digest import MANIFEST
from safelm.builder.files import SHA256, is_digest, is_safe_name, write_synced


class LedgerError(RuntimeError):
    """Some rows are unaccounted for."""


@dataclass(frozen=True)
class Ledger:
    """Where the rows of a shard, or of a stage, went."""

    rows_in: int = 0
    rows_out: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)

    def check(self, where: str) -> "Ledger":
        """Itself, if the law holds; else LedgerError with the sums."""
        lost = (
            self.rows_in
            - self.rows_out
            - sum(self.dropped.values())
            - sum(self.quarantined.values())
        )
        if lost:
            raise LedgerError(
                f"{where}: expected rows in = out + dropped + quarantined, got {self.summary()} "
                f"({lost:+,} unaccounted for); a block drops or adds documents without saying so"
            )
        return self

    def summary(self) -> str:
        """`1,000 in = 990 out + 7 dropped (duplicate 7) + 3 quarantined (not_json 3)`."""
        parts = [f"{self.rows_in:,} in = {self.rows_out:,} out"]
        for word, reasons in (("dropped", self.dropped), ("quarantined", self.quarantined)):
            if reasons:
                names = ", ".join(f"{name} {count:,}" for name, count in sorted(reasons.items()))
                parts.append(f"{sum(reasons.values()):,} {word} ({names})")
        return " + ".join(parts)

    @classmethod
    def total(cls, ledgers: Iterable["Ledger"]) -> "Ledger":
        """The sum of the shards' ledgers."""
        rows_in = rows_out = 0
        dropped: Counter[str] = Counter()
        quarantined: Counter[str] = Counter()
        for ledger in ledgers:
            rows_in, rows_out = rows_in + ledger.rows_in, rows_out + ledger.rows_out
            dropped.update(ledger.dropped)
            quarantined.update(ledger.quarantined)
        return cls(
            rows_in, rows_out, dict(sorted(dropped.items())), dict(sorted(quarantined.items()))
        )


@dataclass(frozen=True)
class File:
    """One file of a shard. `suffix` follows the shard's name; `md5` is DVC's address, `sha256` what
    readers check.
    """

    suffix: str
    rows: int
    bytes: int
    md5: str
    sha256: str

    def __post_init__(self) -> None:
        """Refuse what would lead out of the cache or the folder: records are read from manifests
        that were pulled.
        """
        if not (
            is_safe_name(self.suffix) and is_digest(self.md5) and is_digest(self.sha256, SHA256)
        ):
            raise ValueError(f"{self.suffix!r}: expected the name of a file and its digests")


@dataclass(frozen=True)
class ManifestEntry:
    """What one key gave: its files and its ledger."""

    key: str
    files: tuple[File, ...]
    ledger: Ledger = field(default_factory=Ledger)

    @classmethod
    def load(cls, values: dict) -> "ManifestEntry":
        """A record as it stands in a JSON file."""
        files = tuple(File(**file) for file in values["files"])
        return cls(key=values["key"], files=files, ledger=Ledger(**values["ledger"]))


FORMAT = 1


class DamagedShard(RuntimeError):
    """A file does not hold the bytes that its manifest promises."""


@dataclass(frozen=True)
class Manifest:
    """What a stage made: the records of its tasks in order, by task name; `made` of them by the run
    that gives it.
    """

    stage: str
    tasks: tuple[tuple[str, ManifestEntry], ...]
    made: int = field(default=0, compare=False)

    @property
    def ledger(self) -> Ledger:
        """The ledger of the whole stage."""
        return Ledger.total(record.ledger for _, record in self.tasks)

    def files(self) -> Iterator[tuple[str, File]]:
        """Every file with its name in the folder."""
        for name, record in self.tasks:
            for file in record.files:
                yield name + file.suffix, file

    def write(self, folder: Path) -> None:
        """manifest.json: same inputs, same bytes."""
        tasks = [{"name": name, **asdict(record)} for name, record in self.tasks]
        values = {
            "format": FORMAT,
            "stage": self.stage,
            "ledger": asdict(self.ledger),
            "tasks": tasks,
        }
        write_synced(
            folder / MANIFEST, json.dumps(values, indent=1, sort_keys=True).encode() + b"\n"
        )

    @classmethod
    def parse(cls, data: bytes) -> "Manifest":
        """A manifest from its bytes."""
        values = json.loads(data)
        if values["format"] != FORMAT:
            raise DamagedShard(
                f"manifest of stage {values['stage']}: expected format {FORMAT} (got {values['format']})"
            )
        tasks = tuple((task.pop("name"), ManifestEntry.load(task)) for task in values["tasks"])
        manifest = cls(values["stage"], tasks)
        for name, _ in manifest.files():
            if not is_safe_name(name):
                raise DamagedShard(
                    f"manifest of stage {manifest.stage}: {name!r} is not a file of its folder"
                )
        return manifest

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest of a folder."""
        try:
            return cls.parse((folder / MANIFEST).read_bytes())
        except FileNotFoundError as error:
            raise DamagedShard(
                f"{folder}: has no {MANIFEST}; run `dvc repro` to build it"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedShard(
                f"{folder / MANIFEST}: is damaged; `make verify REPAIR=1` makes it again"
            ) from error
