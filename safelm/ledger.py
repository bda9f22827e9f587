"""The ledger: rows in = rows out + dropped (by named filter) + quarantined (by reason). Nothing is lost silently."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


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
        lost = self.rows_in - self.rows_out - sum(self.dropped.values()) - sum(self.quarantined.values())
        if lost:
            raise LedgerError(
                f"{where}: expected rows in = out + dropped + quarantined, got {self.sentence()} "
                f"({lost:+,} unaccounted for); a block drops or adds documents without saying so"
            )
        return self

    def sentence(self) -> str:
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
        return cls(rows_in, rows_out, dict(sorted(dropped.items())), dict(sorted(quarantined.items())))
