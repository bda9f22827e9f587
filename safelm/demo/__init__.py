"""The made-up world: pages, dialogues, sums and prompts from a grammar, with known labels."""

from collections.abc import Iterator
from pathlib import Path

from safelm.demo.chat import Chat
from safelm.demo.prompts import DemoPrompt, held_out_pages, held_out_prompts, multiple_choice
from safelm.demo.sums import Arithmetic, Math
from safelm.demo.web import Web
from safelm.demo.world import Part, Row, World, read_table

__all__ = [
    "DemoPrompt",
    "World",
    "documents",
    "held_out_pages",
    "held_out_prompts",
    "multiple_choice",
]


# The class of each part, which takes the world and the settings of the part's YAML file.
PARTS: dict[str, type[Part]] = {
    "web": Web,
    "math": Math,
    "chat": Chat,
    "arithmetic": Arithmetic,
}


def documents(path: str | Path) -> Iterator[Row]:
    """Write the documents of one part of the world: a YAML file of specs/demo.

    Each has the keys text, prompt, label, hazard, url, crawl and title of a document
    (specs/document.py). Raises ValueError if the file names no part.
    """
    part = read_table(path).get("part")
    if part not in PARTS:
        raise ValueError(
            f"{path} part: must be one of {', '.join(PARTS)} (got {part!r}); "
            "name the part that the file describes"
        )
    yield from PARTS[part].read(path).documents()
