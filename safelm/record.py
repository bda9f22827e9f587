"""What the making of one shard came to: its files and where its rows went."""

from dataclasses import dataclass, field

from safelm.ledger import Ledger
from safelm.names import SHA256, is_digest, is_inside


@dataclass(frozen=True)
class File:
    """One file of a shard. `suffix` follows the shard's name; `md5` is DVC's address, `sha256` what readers check."""

    suffix: str
    rows: int
    bytes: int
    md5: str
    sha256: str

    def __post_init__(self) -> None:
        """Refuse what would lead out of the cache or the folder: records are read from manifests that were pulled."""
        if not (is_inside(self.suffix) and is_digest(self.md5) and is_digest(self.sha256, SHA256)):
            raise ValueError(f"{self.suffix!r}: expected the name of a file and its digests")


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
