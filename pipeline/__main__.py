"""`python -m pipeline`: the command `safelm`, with the code of the current folder."""

from pipeline.cli import main

main()
