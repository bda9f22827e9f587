"""The five stages in one process, with workers if SAFELM_WORKERS says so, whatever their size."""

import importlib
import sys

from safelm.builder.executors import local

local.SMALL = 0


STAGES = (("ingest", "web"), ("clean", "web"), ("score", "web"), ("tag", "unsafe"), ("tokenizer",))


def main() -> None:
    for name, *row in STAGES:
        sys.argv = [name, *row]
        importlib.import_module(f"pipeline.{name}").main()


if __name__ == "__main__":
    main()
