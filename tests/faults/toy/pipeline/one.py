"""one: the stage ingest as `make repro` builds a group, which tries once."""

from pipeline import __main__ as repro


def main() -> None:
    repro.TRIES = 1
    repro.build([repro.Group("one", ("ingest",))], jobs=1)


if __name__ == "__main__":
    main()
