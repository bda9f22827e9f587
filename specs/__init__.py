"""Grammars of params.yaml, and the prompts, shapes, suites and experiments that its rows name.

Nothing here imports torch, datatrove or pyarrow, so `safelm check` answers in under a second.
"""

from pathlib import Path

SPECS = Path(__file__).parent
