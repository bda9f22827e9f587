"""Exceptions of readers; only SourceError ends the stage."""


class SourceError(RuntimeError):
    """A source cannot be read; the message says what was expected, what came and what to do."""


class Unusable(Exception):
    """A file or a row cannot be used; `reason` is recorded in the quarantine."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnreadableFile(Unusable):
    """Nothing of a file can be used."""


class BadResponse(Unusable):
    """The body of a WARC record is no usable HTTP response."""


class ExtractionError(Unusable):
    """The text of a page could not be extracted."""


class CorruptMember(Exception):
    """The bytes of a gzip member or zstd frame are damaged."""


class TruncatedMember(Exception):
    """The file ends inside a gzip member or zstd frame."""
