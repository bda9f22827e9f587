"""What the making of one shard came to: its files and where its rows went."""

from dataclasses import dataclass, field

from safelm.ledger import Ledger


@dataclass(frozen=True)
class File:
    """One file of a shard. `suffix` follows the shard's name; `md5` is DVC's address, `sha256` what readers check."""

    suffix: str
    rows: int
    bytes: int
    md5: str
    sha256: str


@dataclass(frozen=True)
class Record:
    """What one key gave: its files and its ledger."""

    key: str
    files: tuple[File, ...]
    ledger: Ledger = field(default_factory=Ledger)

    @classmethod
    def load(cls, values: dict) -> "Record":
        """A record as it stands in a JSON file."""
        files = tuple(File(**file) for file in values["files"])
        return cls(key=values["key"], files=files, ledger=Ledger(**values["ledger"]))
