"""The base of every reader: the files of a source, and documents made from rows.

Every row becomes a document, is dropped by a named filter, or is quarantined with a reason and
its origin.
"""

import re
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from datatrove.data import Document

from safelm.builder.blocks import Documents, Input, Reader, Task, unkeyed
from safelm.builder.digest import file_digest
from safelm.documents.shards import text_digest
from safelm.ingestion.dialogue import DIALOGUE_COLUMNS, MESSAGES, exchanges
from safelm.ingestion.errors import SourceError, UnreadableFile
from safelm.ingestion.lines import SkippedBytes
from safelm.ingestion.metadata import METADATA_COLUMNS, Row, row_metadata
from safelm.text.sanitize import remove_matches
from specs.source import FOLDER
from specs.tokens import SPECIAL

# Every special token begins with < and has no space. Written this way, the search starts at a <.
TOKEN_NAMES = "|".join(re.escape(token[1:]) for token in SPECIAL)
SPECIAL_TOKENS = re.compile(f"<(?:{TOKEN_NAMES})")
# The folder of a released score, such as score_4/ or score_4_rephrased/.
SCORE_FOLDER = re.compile(r"(?:^|/)score_([0-5])[^/]*/")
# The most files that an error names.
LISTED = 8


class Origin(NamedTuple):
    """The origin of a row: its file, its offset there, and the bytes that the quarantine hashes.

    `content` is None for a row without bytes of its own, as in Parquet.
    """

    file: str
    offset: int
    content: bytes | SkippedBytes | None = None


class ReadSource(Reader):
    """Make documents of rows; the base of every reader of a source.

    A document's id is the digest of its text and prompt. Literal special tokens are removed from
    both.
    """

    # Not in the key, because the files are inputs of the tasks.
    path: Path = unkeyed()
    source: str
    license: str
    text: str = "text"
    prompt: str | None = None
    label: str | None = None
    max_line_bytes: int
    max_document_bytes: int
    max_expansion_ratio: int

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns of the text and the prompt, or those of every form of dialogue."""
        if self.prompt == MESSAGES:
            return DIALOGUE_COLUMNS
        return (self.text, self.prompt) if self.prompt else (self.text,)

    @property
    def required_columns(self) -> dict[str, str]:
        """The columns that every table must have, by the key that names each.

        There is none for dialogues, which have many forms.
        """
        if self.prompt == MESSAGES:
            return {}
        return dict(zip(("text", "prompt"), self.text_columns, strict=False))

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every file by its name in the quarantine; none if there are none."""
        return {}

    def quarantine_row(self, reason: str, origin: Origin) -> None:
        """Quarantine a row by the digest of its bytes."""
        name, offset, content = origin
        if isinstance(content, SkippedBytes):
            self._quarantine(reason, name, offset, content.digest.hexdigest(), content.size)
        else:
            self.quarantine(reason, file=name, offset=offset, content=content or b"")

    def _quarantine(self, reason: str, name: str, offset: int, digest: str, size: int) -> None:
        self.quarantined.append(
            {"file": name, "offset": offset, "reason": reason, "sha256": digest, "bytes": size}
        )
        self.stat_update(f"quarantined {reason}")

    def choose_columns(self, where: object, names: list[str]) -> list[str]:
        """Return the columns of a table that a document can use.

        A table of dialogues may have the columns of any form. Raises SourceError if another table
        lacks that of the text or the prompt, or has two of that name.
        """
        for key, column in self.required_columns.items():
            if column not in names:
                raise SourceError(
                    f"{where}: no column {column!r}; there are {', '.join(names)}; "
                    f"name one of them as `{key}`"
                )
            if names.count(column) > 1:
                raise SourceError(
                    f"{where}: expected one column {column!r} (got {names.count(column)}); "
                    "rename all but one"
                )
        # Of several columns with one name, it is unknown which is meant.
        usable = {*self.text_columns, *METADATA_COLUMNS}
        return [name for name in names if name in usable and names.count(name) == 1]

    def make_document(self, row: Row, origin: Origin) -> Documents:
        """Yield the document of a row, or nothing once the row is dropped or quarantined.

        Of a dialogue, each exchange is a document, whose `parent` is the one before it. It ends
        with the first exchange that cannot be used.
        """
        if self.prompt != MESSAGES:
            prompt = row.get(self.prompt) if self.prompt else None
            yield from self._document_of(row, row.get(self.text), prompt, origin)
            return
        parent = None
        for exchange in exchanges(row):
            columns = {**row, **exchange}
            made = self._document_of(columns, columns["text"], columns["prompt"], origin, parent)
            document = next(made, None)
            if document is None:
                return
            parent = document.id
            yield document

    def _document_of(
        self, row: Row, text: Any, prompt: Any, origin: Origin, parent: str | None = None
    ) -> Documents:
        reason = self._unusable(text, prompt)
        if reason is not None:
            if origin.content is None:
                # A row without bytes of its own is identified by its values.
                origin = origin._replace(content=repr(row).encode("utf-8", "replace"))
            self.quarantine_row(reason, origin)
            self._name_fields(row)
            return
        # Text of the web must not pass for the harmfulness tag or for the end of a turn.
        text = self._remove_tokens(text)
        if prompt is not None:
            prompt = self._remove_tokens(prompt)
        if not text.strip() or (prompt is not None and not prompt.strip()):
            self.drop("only_special_tokens")
            return
        metadata = self._metadata(row, prompt, origin)
        whole = prompt
        if parent:
            # The same words may follow other exchanges.
            whole, metadata["parent"] = f"{parent}\x00{prompt}", parent
        yield Document(text=text, id=text_digest(whole, text), metadata=metadata)

    def _name_fields(self, row: Row) -> None:
        """Add to the last row of the quarantine the field that it lacks, and those that it has."""
        missing = [name for name in self.required_columns.values() if name not in row]
        if missing:
            # Names come from the source, so they are cut and escaped.
            names = ", ".join(repr(name[:40]) for name in sorted(row)[:LISTED]) or "none"
            detail = f"no field {missing[0]!r}; its fields: {names}"
            self.quarantined[-1]["detail"] = detail

    def _unusable(self, text: Any, prompt: Any) -> str | None:
        """Return the reason why a row cannot be used, or None."""
        if not _is_text(text):
            return "no_text"
        if self.prompt and not _is_text(prompt):
            return "no_prompt"
        try:
            size = _utf8_size(text) + _utf8_size(prompt or "")
        except UnicodeEncodeError:
            # Half of a surrogate pair.
            return "not_utf8"
        return "document_too_long" if size > self.max_document_bytes else None

    def _remove_tokens(self, text: str) -> str:
        """Remove literal special tokens, also those that form when others are removed."""
        text, count = remove_matches(SPECIAL_TOKENS, text, " ")
        if count:
            self.stat_update("special tokens removed", value=count)
        return text

    def _metadata(self, row: Row, prompt: str | None, origin: Origin) -> dict[str, Any]:
        """Return the metadata of a document."""
        values = row_metadata(row)
        if self.label == FOLDER:
            found = SCORE_FOLDER.search(origin.file)
            values["label"] = int(found[1]) if found else None
        if values["title"]:
            values["title"] = self._remove_tokens(values["title"])
        for name, value in values.items():
            if value is None and row.get(name) not in (None, ""):
                self.stat_update(f"unusable {name}")
        # A document's own license comes before the source's.
        values["license"] = values["license"] or self.license
        values = {"prompt": prompt, "source": self.source, **values}
        return {name: value for name, value in values.items() if value is not None}


class ReadFiles(ReadSource):
    """Read the files of a source, one task each; the base of one reader per file format.

    The quarantine names a file relative to `path`; a task's values are those names.
    """

    files: str = unkeyed(default="*")

    def tasks(self) -> list[Task]:
        """List one task per file, by name."""
        files = files_of(self.path, self.files)
        return [file_task(number, [file], self.name_of(file)) for number, file in enumerate(files)]

    def name_of(self, file: Path) -> str:
        """Return a file's name for messages and the quarantine, relative to the source."""
        return file.name if file == self.path else file.relative_to(self.path).as_posix()

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every file by its name."""
        files = files_of(self.path, self.files)
        return {self.name_of(file): file.stat().st_size for file in files}

    def read(self, task: Task) -> Documents:
        """Yield the documents of every file of a task.

        Raises SourceError when a file is not the one that the task's key names.
        """
        for item, name in zip(task.inputs, task.values, strict=True):
            try:
                yield from self.documents(item.path, name)
            except UnreadableFile as error:
                # The file is one row of the quarantine.
                size = item.path.stat().st_size
                self._quarantine(error.reason, name, 0, item.sha256, size)
            # The key of the shard names these bytes; others must not be stored under it.
            if file_digest(item.path) != item.sha256:
                raise SourceError(f"{name}: was changed while it was read; run the stage again")

    @abstractmethod
    def documents(self, path: Path, name: str) -> Documents:
        """Yield the documents of one file; raise UnreadableFile if nothing of it can be used."""


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and not value.isspace()


def _utf8_size(text: str) -> int:
    # Most text is ASCII, of which no copy is needed.
    return len(text) if text.isascii() else len(text.encode())


def file_task(number: int, files: Iterable[Path], *values: Any) -> Task:
    """Return a task that reads some files, named by its number."""
    inputs = tuple(Input(file, file_digest(file)) for file in files)
    return Task(f"{number:05d}", inputs, values)


def files_of(path: Path, pattern: str) -> list[Path]:
    """Return a file, or the files in a folder and its subfolders whose names match, sorted.

    Hidden files do not count. Raises SourceError if there is no such file, for a link to a folder,
    and for a name that is not UTF-8.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise SourceError(
            f"{path}: expected a file or a folder, and nothing is there; "
            "correct `path` of the source"
        )
    try:
        matches = set(path.rglob(pattern))
    except (ValueError, NotImplementedError, OSError) as error:
        raise SourceError(
            f"{path}: {pattern!r} is no pattern for names inside a folder ({error}); "
            "correct `files` of the source"
        ) from None
    files = _visible_files(path)
    chosen = sorted(matches.intersection(files))
    if not chosen:
        raise SourceError(
            f"{path}: no file matches {pattern!r}; there is {_listed(files, path)}; "
            "correct `files` of the source"
        )
    return chosen


def _listed(files: list[Path], folder: Path) -> str:
    names = sorted(file.relative_to(folder).as_posix() for file in files)
    if not names:
        return "nothing"
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _visible_files(folder: Path) -> list[Path]:
    """Return the files in a folder and its subfolders, but those that are hidden."""
    files = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") for part in parts):
            continue
        # DVC does not enter a linked folder, so a change behind it would go unnoticed.
        if path.is_symlink() and path.is_dir():
            raise SourceError(
                f"{path}: is a link to a folder, which is not read; copy its files here, or make "
                "that folder the `path` of another source"
            )
        if not path.is_file():
            continue
        # Python keeps other bytes of a name as halves of surrogate pairs.
        if any("\ud800" <= letter <= "\udfff" for letter in str(path)):
            raise SourceError(f"{str(path)!a}: this name is not UTF-8; rename the file")
        files.append(path)
    return files
