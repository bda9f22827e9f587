"""everything: the four stages in one process, side by side where SAFELM_WORKERS says so, however
small they are.
"""

import importlib
import sys

from safelm.builder.executors import local

local.SMALL = 0


def main() -> None:
    for name, *row in (("ingest", "web"), ("score",), ("tag", "unsafe"), ("tokenizer",)):
        sys.argv = [name, *row]
        importlib.import_module(f"pipeline.{name}").main()


if __name__ == "__main__":
    main()
