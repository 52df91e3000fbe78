"""A corpus file, opened: its bytes decompressed, its text decoded, and its lines, piece by piece.

Memory stays flat: no more than a piece of the file is held, unless a format has to see all of it (`text`, `data`).
Compression and encoding are found by the content, never by the name.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path
from typing import IO, cast

from metacross.corpora.raw import Oddities
from metacross.errors import UserError

PIECE = 1 << 20  # bytes
_SPOOL = 64 << 20  # bytes of a zip archive on standard input that are kept in memory
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# ValueError: an archive that came over a pipe, and has an impossible offset.
_DAMAGED = (OSError, EOFError, RuntimeError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)


class Source:
    """A file that is read once, from its beginning to its end.

    Attributes:
        path: its name in messages.
        compression: gzip, bz2, xz, zstd, zip, or "".
        encoding: utf-8, utf-8-sig, utf-16, utf-16-le, utf-16-be or latin-1; "" before any text was read.
        oddities: what was unusual in it; whoever reads the file adds to it.
    """

    def __init__(self, path: str, stream: IO[bytes] | None = None) -> None:
        """Opens the file.

        Args:
            path: the file.
            stream: its bytes, if they do not come from there (standard input).

        Raises:
            UserError: there is no such file, it is a directory, or its compression is damaged.
        """
        self.path = path
        self.encoding = ""
        self.oddities = Oddities()
        raw = stream if stream is not None else _open(path)
        # Standard input has peek as well; what has not is wrapped.
        buffered = raw if hasattr(raw, "peek") else io.BufferedReader(raw)  # type: ignore[type-var]
        self.compression, self._bytes = _decompressed(buffered, path)
        self._peeked = b""
        self._opened = [self._bytes] if stream is not None else [self._bytes, raw]

    def __enter__(self) -> Source:
        """Does nothing; see `__exit__`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file, unless it came as a stream."""
        for file in self._opened:
            if file is not sys.stdin.buffer:
                file.close()

    def place(self, number: int) -> str:
        """The place of a line or record, counted from 1, for messages."""
        return f"{self.path}:{number}"

    def peek(self, size: int = PIECE) -> bytes:
        """The first bytes, decompressed; they will still be read. Fewer than `size` only if the file ends there."""
        while len(self._peeked) < size:
            piece = self._read(size - len(self._peeked))
            if not piece:
                break
            self._peeked += piece
        return self._peeked[:size]

    def start(self) -> str:
        """The beginning of the text, to recognise its format by; what cannot be decoded is U+FFFD."""
        first = self.peek()
        return first.decode(_encoding(first), "replace")

    def data(self) -> bytes:
        """All bytes, decompressed."""
        return b"".join(self._pieces())

    def text(self) -> str:
        """All text, decoded.

        Raises:
            UserError: as `lines`.
        """
        return "".join(self._decoded())

    def lines(self) -> Iterator[str]:
        r"""The lines without their ends (\n, \r\n, or \r in a file without any \n), one by one.

        A byte-order mark at the start of a line is left out: it comes from joined files.

        Raises:
            UserError: bytes that are in no encoding, or a binary file.
        """
        rest = ""
        end = ""  # what ends a line; not known before the first one
        number = 0
        for text in self._decoded():
            rest += text
            if not end and ("\n" in rest or "\r" in rest):
                end = "\n" if "\n" in rest else "\r"
            # Most files have neither mark anywhere: then no line has to be looked at.
            marked = "\r" in rest or "\ufeff" in rest
            # Not splitlines(): words may hold characters such as U+0085 or U+2028 that it would break at.
            *lines, rest = rest.split(end) if end else [rest]
            yield from map(self._line, lines, count(number + 1)) if marked else lines
            number += len(lines)
        if rest:
            yield self._line(rest, number + 1)

    def _line(self, line: str, number: int) -> str:
        if line.endswith("\r"):
            line = line[:-1]
        if line.startswith("\ufeff"):
            self.oddities.count("lines with a byte-order mark at the beginning, which was left out", self.place(number))
            line = line.lstrip("\ufeff")
        return line

    def _pieces(self) -> Iterator[bytes]:
        if self._peeked:
            piece, self._peeked = self._peeked, b""
            yield piece
        # A pipe that is written to slowly gives what it has: whoever reads it need not wait for its end.
        while piece := self._read(PIECE, some=not self.compression):
            yield piece

    def _read(self, size: int, *, some: bool = False) -> bytes:
        """The next bytes; with `some` what is there already, but at least a byte unless the file ends."""
        read = self._bytes.read1 if some else self._bytes.read  # type: ignore[attr-defined]  # of BufferedReader
        try:
            return bytes(read(size))
        except _DAMAGED as error:
            kind = f"damaged {self.compression} file" if self.compression else "cannot be read"
            raise UserError(f"{self.path}: {kind} ({error}); copy or download it again.") from error

    def _decoded(self) -> Iterator[str]:
        """The text, piece by piece: UTF-8 or UTF-16 if it is, else latin-1, which takes any bytes."""
        pieces = self._pieces()
        first = next(pieces, b"")
        self.encoding = _encoding(first)
        if self.encoding != "utf-8":
            yield from self._strict(first, pieces)
            return
        pending, line = b"", 1
        sound = False  # whether characters beyond ASCII came before
        for piece in chain([first], pieces, [b""]):
            pending += piece
            try:
                # The bytes of a character may be in two pieces; at the end they have to be complete.
                text, used = codecs.utf_8_decode(pending, "strict", not piece)
            except UnicodeDecodeError as error:
                self._latin_or_refuse(pending, error.start, line, sound=sound)
                yield pending.decode("latin-1")
                yield from (more.decode("latin-1") for more in pieces)
                return
            sound = sound or not text.isascii()
            line += text.count("\n")
            yield text
            pending = pending[used:]

    def _strict(self, first: bytes, pieces: Iterator[bytes]) -> Iterator[str]:
        """Decodes by `self.encoding`, which a byte-order mark or the place of NULs told."""
        decoder = codecs.getincrementaldecoder(self.encoding)()
        line = 1
        piece = first
        try:
            while piece:
                text = decoder.decode(piece)
                line += text.count("\n")
                yield text
                piece = next(pieces, b"")
            yield decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].count(b"\n")
            raise UserError(_mixed(self.path, line, self.encoding)) from None

    def _latin_or_refuse(self, piece: bytes, at: int, line: int, *, sound: bool) -> None:
        """Decides that bytes that are not UTF-8 are latin-1, from here on: before them there was only ASCII.

        A mostly sound UTF-8 file must not be read as latin-1: every accented letter would silently become two wrong
        ones.
        """
        line += piece.count(b"\n", 0, at)
        lenient = piece.decode("utf-8", "replace")
        bad = lenient.count("\ufffd")
        good = sum(character > "\x7f" for character in lenient) - bad
        if sound or good > bad:
            raise UserError(_mixed(self.path, line, "utf-8"))
        if b"\0" in piece:
            raise UserError(f"{self.path}: is a binary file that no reader of corpora knows; expected text.")
        self.encoding = "latin-1"
        self.oddities.note(f"not UTF-8 (first at line {line}): read as latin-1")


def _mixed(path: str, line: int, encoding: str) -> str:
    return (
        f"{path}:{line}: found bytes that are not {encoding}, though the rest of the file is; expected one "
        "encoding in the whole file. Repair this line, or save the file as UTF-8 again."
    )


def _encoding(first: bytes) -> str:
    """utf-8 unless a byte-order mark, or NULs in every second place, say something else."""
    for mark, name in _BOMS.items():
        if first.startswith(mark):
            return name
    even, odd = first[:4096:2], first[1:4096:2]
    if len(first) > 3 and not even.count(0) and 2 * odd.count(0) > len(odd):
        return "utf-16-le"
    if len(first) > 3 and not odd.count(0) and 2 * even.count(0) > len(even):
        return "utf-16-be"
    return "utf-8"


def _open(path: str) -> IO[bytes]:
    file = Path(path)
    try:
        if file.is_dir():
            raise UserError(f"{path}: is a directory; name one corpus file in it.")
        return file.open("rb")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Paths are relative to {Path.cwd()}.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UserError(f"{path!r}: cannot be read: {error}") from error


def _decompressed(stream: IO[bytes], path: str) -> tuple[str, IO[bytes]]:
    """The name of a stream's compression, and the stream of what it holds."""
    start = stream.peek(8)  # type: ignore[attr-defined]  # of BufferedReader
    if start.startswith(b"\x1f\x8b"):
        return "gzip", cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    if start.startswith(b"BZh"):
        return "bz2", bz2.BZ2File(stream)
    if start.startswith(b"\xfd7zXZ\x00"):
        return "xz", lzma.LZMAFile(stream)
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow  # it takes long to import, and few files need it

        return "zstd", pyarrow.CompressedInputStream(stream, "zstd")
    if start.startswith(b"PK\x03\x04"):
        return "zip", _only_member(stream, path)
    return "", stream


def _only_member(stream: IO[bytes], path: str) -> IO[bytes]:
    """The one file in a zip archive."""
    if not stream.seekable():  # the list of a zip archive's members is at its end
        spool = tempfile.SpooledTemporaryFile(_SPOOL)  # noqa: SIM115  # it lives as long as the member
        shutil.copyfileobj(stream, spool)
        spool.seek(0)
        stream = spool
    try:
        archive = zipfile.ZipFile(stream)
        members = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
        if len(members) != 1:
            shown = ", ".join(members[:5]) + (", ..." if len(members) > 5 else "")
            raise UserError(f"{path}: has {len(members)} files ({shown}); unpack it, and name one of them.")
        return archive.open(members[0])
    except _DAMAGED as error:
        raise UserError(f"{path}: damaged zip file ({error}); copy or download it again.") from error
