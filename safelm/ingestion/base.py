"""What every reader shares: the files of a source, and the way from a row to a document or to a
reason why not.
"""

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datatrove.data import Document

from safelm.builder.blocks import Input, Reader, Task
from safelm.builder.digest import file_digest
from safelm.documents.shards import text_digest
from safelm.ingestion.compression import UnreadableFile
from safelm.ingestion.dialogue import COLUMNS, MESSAGES, first_exchange
from safelm.ingestion.lines import SkippedBytes
from safelm.text.sanitize import remove_matches
from specs.tokens import SPECIAL

CRAWL = (
    "crawl",
    "dump",
    "date",
    "timestamp",
)  # the first that a row has; FineWeb's is dump, C4's is timestamp
NESTED = ("metadata", "meta")  # where Dolma and RedPajama keep what is not text
URL, TITLE, LICENSE = ("url",), ("title",), ("license",)
KNOWN = (*URL, *TITLE, *LICENSE, *CRAWL, *NESTED, "label", "hazard")
TOKENS = re.compile(
    "<(?:" + "|".join(re.escape(token[1:]) for token in SPECIAL) + ")"
)  # all begin with <
HAZARD = re.compile(r"[a-z][a-z0-9_]*")
SCORES = range(6)
LISTED = 8  # files that an error names


class SourceError(RuntimeError):
    """A source cannot be read; the message says what was expected, what is there and what to do."""


@dataclass(kw_only=True, eq=False, repr=False)
class ReadSource(Reader):
    """Make documents of rows. The base of every reader of a source.

    A document's id is the digest of its text and prompt. Special tokens that a text spells out are
    taken from it: web text must never smuggle the tag."""

    path: Path = field(metadata={"key": False})  # its files are inputs of the tasks
    files: str = field(default="*", metadata={"key": False})
    source: str
    text: str = "text"
    prompt: str | None = None
    license: str
    max_line_bytes: int
    max_document_bytes: int
    max_expansion_ratio: int

    @property
    def wanted(self) -> tuple[str, ...]:
        """The columns that documents are made of: those named, or those of any form of dialogue."""
        return (
            COLUMNS
            if self.prompt == MESSAGES
            else (self.text, self.prompt)
            if self.prompt
            else (self.text,)
        )

    def refuse(self, reason: str, name: str, offset: int, content: bytes | SkippedBytes) -> None:
        """Quarantine a row; of one that was too long to keep, size and digest are known."""
        if isinstance(content, bytes):
            self.quarantine(reason, file=name, offset=offset, content=content)
        else:
            self._record(reason, name, offset, content.digest.hexdigest(), content.size)

    def _record(self, reason: str, name: str, offset: int, digest: str, size: int) -> None:
        self.quarantined.append(
            {"file": name, "offset": offset, "reason": reason, "sha256": digest, "bytes": size}
        )
        self.stat_update(f"quarantined {reason}")

    def keep(
        self, row: Mapping[str, Any], name: str, offset: int, content: bytes | SkippedBytes | None = None
    ) -> Iterator[Document]:
        """The document of a row, or nothing once it is dropped or quarantined. `content`: its bytes
        in the file.
        """
        given = {**row, **first_exchange(row)} if self.prompt == MESSAGES else None
        text: Any = given["text"] if given else row.get(self.text)
        prompt: Any = given["prompt"] if given else row.get(self.prompt) if self.prompt else None
        reason = self._reason(text, prompt)
        if reason is not None:
            self.refuse(
                reason,
                name,
                offset,
                repr(row).encode("utf-8", "replace") if content is None else content,
            )
            return
        text, prompt = (
            self._without_tokens(text),
            None if prompt is None else self._without_tokens(prompt),
        )
        if not text.strip() or (prompt is not None and not prompt.strip()):
            self.drop("only_special_tokens")
            return
        yield Document(
            text=text, id=text_digest(prompt, text), metadata=self._metadata(given or row, prompt)
        )

    def _reason(self, text: Any, prompt: Any) -> str | None:
        """Why a row cannot be used."""
        if not isinstance(text, str) or not text or text.isspace():
            return "no_text"
        if self.prompt and (not isinstance(prompt, str) or not prompt or prompt.isspace()):
            return "no_prompt"
        try:
            size = _size(text) + (_size(prompt) if self.prompt else 0)
        except UnicodeEncodeError:
            return "not_utf8"  # half of a surrogate pair
        return "document_too_long" if size > self.max_document_bytes else None

    def _without_tokens(self, text: str) -> str:
        """The text without the special tokens of specs/tokens.py, also where taking one out forms
        another.
        """
        text, count = remove_matches(TOKENS, text, " ")  # none of them holds a space
        if count:
            self.stat_update("special tokens removed", value=count)
        return text

    def _metadata(self, row: Mapping[str, Any], prompt: str | None) -> dict[str, Any]:
        """The columns of specs/document.py that the row has; its own licence goes before the
        source's.
        """
        rows = [row]
        for name in NESTED:
            inner = row.get(name)
            if inner is not None and isinstance(inner, Mapping):
                rows.append(inner)
        title = _first(rows, TITLE)
        values = {
            "url": _first(rows, URL),
            "crawl": _first(rows, CRAWL),
            "title": self._without_tokens(title) if title else None,
            "license": _first(rows, LICENSE),
            "label": _label(row.get("label")),
            "hazard": _hazard(row.get("hazard")),
        }
        for name, value in values.items():
            if value is None and row.get(name) not in (None, ""):
                self.stat_update(f"unusable {name}")
        values = {
            "prompt": prompt,
            "source": self.source,
            **values,
            "license": values["license"] or self.license,
        }
        return {name: value for name, value in values.items() if value is not None}


@dataclass(kw_only=True, eq=False, repr=False)
class ReadFiles(ReadSource):
    """Read the files of a source, one task each. The base of one reader per file format.

    The quarantine names a file relative to `path`; a task's values are those names.
    """

    def tasks(self) -> list[Task]:
        """One per file, by name."""
        return [
            Task(f"{number:05d}", (Input(file, file_digest(file)),), (self.name_of(file),))
            for number, file in enumerate(files_of(self.path, self.files))
        ]

    def name_of(self, file: Path) -> str:
        """The name of a file in messages and in the quarantine: no folder of this machine is in it."""
        return file.name if file == self.path else file.relative_to(self.path).as_posix()

    def read(self, task: Task) -> Iterator[Document]:
        """The documents of every file of a task. Raises SourceError when a file is not the one that
        the key names.
        """
        for item, name in zip(task.inputs, task.values, strict=True):
            try:
                yield from self.documents(item.path, name)
            except UnreadableFile as error:
                self.refuse_file(error.reason, item, name)
            if file_digest(item.path) != item.sha256:
                raise SourceError(f"{name}: was changed while it was read; run the stage again")

    @abstractmethod
    def documents(self, path: Path, name: str) -> Iterator[Document]:
        """The documents of one file; Unreadable when nothing of it can be used."""

    def refuse_file(self, reason: str, item: Input, name: str) -> None:
        """Quarantine a whole file as one row."""
        self._record(reason, name, 0, item.sha256, item.path.stat().st_size)


def _first(rows: list[Mapping[str, Any]], names: tuple[str, ...]) -> str | None:
    """The first that is a line of text; white space of other kinds, which titles of the web are
    full of, is a space.
    """
    for row in rows:
        for name in names:
            value = row.get(name)
            if isinstance(value, str) and value:
                line = value if value.isprintable() else " ".join(value.split())
                if line.isprintable() and line:
                    return line
    return None


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _label(value: Any) -> int | None:
    """A known safety score; anything but a whole number from 0 to 5 is no score. A table with gaps
    has 3.0 for 3.
    """
    return int(value) if type(value) in (int, float) and value in SCORES else None


def _hazard(value: Any) -> str | None:
    return value if isinstance(value, str) and HAZARD.fullmatch(value) else None


def files_of(path: Path, pattern: str) -> list[Path]:
    """The file, or the files of a folder and its folders whose names match, sorted; hidden ones do
    not count.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise SourceError(
            f"{path}: expected a file or a folder, and nothing is there; mend `path` of the source"
        )
    there = {
        file
        for file in path.rglob("*")
        if file.is_file() and not _is_hidden(file.relative_to(path))
    }
    try:
        found = sorted(there & set(path.rglob(pattern)))
    except (ValueError, NotImplementedError, OSError) as error:
        raise SourceError(
            f"{path}: {pattern!r} is no pattern for names inside a folder ({error}); mend `files`"
        ) from None
    if found:
        return found
    names = sorted(file.relative_to(path).as_posix() for file in there)
    listed = ", ".join(names[:LISTED]) + (
        f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    )
    raise SourceError(
        f"{path}: no file matches {pattern!r}; there is {listed or 'nothing'}; mend `files` of the source"
    )


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)
