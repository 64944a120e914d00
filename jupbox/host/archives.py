"""Backups as files of this machine: packed, whole or not at all, and nobody else's to read."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from jupbox.errors import BackupError
from jupbox.host.files import sync_directory

_LEVEL: Final = 3
_THREADS: Final = 2
# what so much unpacks to is held in memory, and zeros are packed ten thousand to one
_PIECE: Final = 2048
_READ: Final = 1 << 20


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name, and the place of one that had it, when it is whole.

    Raises:
        BackupError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise BackupError(
            f"{path} cannot be written: {error.strerror}.",
            remedy=f"There is no backup. Check that {path.parent} exists, is yours to write, and "
            "has room.",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def packing(out: IO[bytes]) -> Iterator[Callable[[bytes], object]]:
    """What packs all that it is given into a file, with a checksum at its end."""
    import zstandard  # noqa: PLC0415

    compressor = zstandard.ZstdCompressor(
        level=_LEVEL, threads=min(_THREADS, os.cpu_count() or 1), write_checksum=True
    )
    with compressor.stream_writer(out, closefd=False) as writer:
        yield writer.write


def unpacking(packed: IO[bytes], source: str) -> Callable[[int], bytes]:
    """What gives out a packed file, so many bytes at most and none at its end.

    Args:
        packed: from its beginning.
        source: how messages call it.

    Raises:
        BackupError: it is damaged, cut off, or not packed so; said when that place is reached.
    """
    return _Unpacking(packed, source).read


class _Unpacking:
    def __init__(self, packed: IO[bytes], source: str) -> None:
        import zstandard  # noqa: PLC0415

        self._error = zstandard.ZstdError
        self._unpacker = zstandard.ZstdDecompressor().decompressobj()
        self._packed, self._source = packed, source
        self._ready, self._start = b"", 0

    def read(self, size: int) -> bytes:
        while self._start >= len(self._ready):
            more = self._more()
            if more is None:
                return b""
            self._ready, self._start = more, 0
        part = self._ready[self._start : self._start + size]
        self._start += len(part)
        return part

    def _more(self) -> bytes | None:
        piece = self._packed.read(_PIECE)
        try:
            if self._unpacker.eof:
                if piece or self._unpacker.unused_data:
                    raise self._damaged("it has something after its end")
                return None
            if not piece:
                raise self._damaged("it ends too early")
            return bytes(self._unpacker.decompress(piece))
        except self._error:
            raise self._damaged("its checksum or its form is wrong") from None

    def _damaged(self, why: str) -> BackupError:
        return BackupError(
            f"{self._source} is no whole backup: {why}.",
            remedy="Nothing was changed. Take another backup, or copy this one anew.",
        )


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A backup's file.

    Raises:
        BackupError: it cannot be read.
    """
    try:
        # not opened first: a pipe would make us wait for somebody, and is read only once
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise OSError(errno.EINVAL, "it is no file")
        file = path.open("rb", buffering=_READ)
    except OSError as error:
        raise BackupError(
            f"{path} cannot be read: {error.strerror}.",
            remedy="Name the file that `jupbox backup` wrote.",
        ) from None
    with file:
        yield file
