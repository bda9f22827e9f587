"""The library of Safety Pretraining: pure functions, and the DataTrove blocks that wrap them."""

from importlib.metadata import version

# The number itself stands in pyproject.toml: here it would enter the key of every shard.
__version__ = version("safelm")
