"""Streams of bytes as blocks of whole lines in UTF-8 with one kind of line end."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rimsim.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rimsim.data.readers.containers import Stream


BLOCK_BYTES: Final = 8 * 2**20
"""Bytes read at a time; what a reader holds in memory is a small multiple of it."""
LONGEST_LINE: Final = 2**20
"""Bytes of a line; more means that this is no log."""

# The longer marks first: the one of UTF-32 (little end) begins with the one of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True)
class Block:
    """Whole lines."""

    text: bytes
    """The lines, each ended by one line feed (the last of a file perhaps not)."""
    first_line: int
    """Number of the first, from 1."""


class LineReader:
    """Cuts a stream into :class:`Block` s; afterwards knows what kinds of line ends and marks it met.

    Args:
        stream: The bytes.
        encoding: What they are written in; None for what a byte-order mark says, or else UTF-8, which
            is not checked here.
    """

    def __init__(self, stream: Stream, encoding: str | None = None) -> None:
        self._stream = stream
        self._encoding = encoding
        self._ends = {"CR LF": 0, "CR": 0, "LF": 0}
        self._mark: str | None = None
        self.lines = 0

    def notes(self) -> tuple[str, ...]:
        """What was noticed, a sentence each."""
        sentences = []
        if self._mark:
            sentences.append(f"{self._stream.name}: begins with a byte-order mark, read as {self._mark}")
        kinds = [kind for kind, count in self._ends.items() if count]
        if len(kinds) > 1:
            counts = ", ".join(f"{self._ends[kind]:,} {kind}" for kind in kinds)
            sentences.append(f"{self._stream.name}: mixed line ends ({counts}), all read as line ends")
        return tuple(sentences)

    def _decoded(self) -> Iterator[bytes]:
        """Chunks in UTF-8, without a byte-order mark."""
        chunk = self._stream.read(BLOCK_BYTES)
        encoding = self._encoding
        for mark, name in _MARKS:
            if chunk.startswith(mark):
                chunk, self._mark = chunk[len(mark) :], name
                encoding = name if encoding is None or name != "utf-8" else encoding
                break
        try:
            "a".encode(encoding or "utf-8")  # refuses codecs that make no text
            codec = codecs.lookup(encoding or "utf-8")
            decoder = codecs.getincrementaldecoder(encoding or "utf-8")()
        except (LookupError, TypeError, ValueError):
            raise ConfigError(
                f"encoding is {encoding!r}; allowed: utf-8, latin-1, cp1252, utf-16, ..."
            ) from None
        if codec.name in ("utf-8", "ascii"):
            while chunk:
                yield chunk
                chunk = self._stream.read(BLOCK_BYTES)
            return
        done = False
        while not done:
            done = not chunk
            try:
                yield decoder.decode(chunk, final=done).encode()
            except (ValueError, LookupError, TypeError) as broken:
                raise DataError(
                    f"{self._stream.name}, after line {self.lines:,}: not {codec.name} ({broken}); "
                    f"allowed: one encoding"
                ) from None
            chunk = self._stream.read(BLOCK_BYTES)

    def __iter__(self) -> Iterator[Block]:
        rest = b""
        held = b""  # a CR at the end of a chunk may be half of a CR LF
        for chunk in self._decoded():
            data = held + chunk
            held = data[-1:] if data.endswith(b"\r") else b""
            rest += self._unified(data[: len(data) - len(held)])
            cut = rest.rfind(b"\n") + 1
            if len(rest) - cut > LONGEST_LINE:
                self._too_long(rest)
            if cut:
                yield self._block(rest[:cut])
                rest = rest[cut:]
        rest += self._unified(held)
        if rest:
            yield self._block(rest)

    def _unified(self, data: bytes) -> bytes:
        feeds = data.count(b"\n")
        if b"\r" not in data:
            self._ends["LF"] += feeds
            return data
        pairs = data.count(b"\r\n")
        self._ends["CR LF"] += pairs
        self._ends["LF"] += feeds - pairs
        self._ends["CR"] += data.count(b"\r") - pairs
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _block(self, text: bytes) -> Block:
        first = self.lines + 1
        self.lines += text.count(b"\n") + (not text.endswith(b"\n"))
        return Block(text, first)

    def _too_long(self, rest: bytes) -> None:
        line = self.lines + rest.count(b"\n") + 1
        raise DataError(
            f"{self._stream.name}, line {line:,}: longer than {LONGEST_LINE:,} bytes; "
            f"allowed: text with a row a line"
        )
