"""Errors of reading: a source that stops the stage, and files or rows that are quarantined."""


class SourceError(RuntimeError):
    """A source cannot be read; the message says what was expected, what came and what to do."""


class Unusable(Exception):
    """A file or a row cannot be used; `reason` is its name in the quarantine."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnreadableFile(Unusable):
    """Nothing of a file can be used."""


class BadResponse(Unusable):
    """The body of a WARC record is no usable HTTP response."""


class ExtractionError(Unusable):
    """A page gives no text, for another reason than having none."""


class CorruptMember(Exception):
    """The bytes of a gzip member or zstd frame are not what was written."""


class TruncatedMember(Exception):
    """The file ends inside a gzip member or zstd frame."""
