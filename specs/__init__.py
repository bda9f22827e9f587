"""What is built: the grammar of params.yaml, and the words, shapes and suites that its rows name.

Nothing here imports torch, datatrove or pyarrow, so that `safelm check` answers in under a
second."""

from pathlib import Path

SPECS = Path(__file__).parent
