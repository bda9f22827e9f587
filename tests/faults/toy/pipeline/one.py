"""The stage ingest as `safelm build` builds it, but with a single try."""

from safelm.builder import dvc_locks, scheduler


def main() -> None:
    dvc_locks.TRIES = 1
    scheduler.build({"ingest": frozenset()}, jobs=1)


if __name__ == "__main__":
    main()
