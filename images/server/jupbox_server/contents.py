"""Jupyter's files, each written whole or not at all.

Jupyter copies the old file aside, writes the new one in its place, and takes the copy back if
that fails. On a full disk it does not: what fails is then the flush, which comes after the part
that is mended, so a notebook is left cut off, and the next save copies that over the only whole
one. Here the new file is written aside, and takes the old one's place when it is on the disk.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from anyio.to_thread import run_sync
from jupyter_server.services.contents.filecheckpoints import AsyncFileCheckpoints
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from traitlets import default


@contextmanager
def whole_writing(
    path: str, text: bool = True, encoding: str = "utf-8", **options: Any
) -> Iterator[IO[Any]]:
    """A file to write to that becomes `path` at the end of the block, unless something fails.

    Args:
        path: what is written; a symbolic link leads to it.
        text: whether text is written, with `\\n` for a line's end.
        encoding: of the text.
        **options: as `open` takes them.

    Raises:
        OSError: no room, no permission; what was at `path` still is.
    """
    target = Path(path).resolve()
    aside = target.with_name(f".~{target.name}")  # as Jupyter calls it
    if text:
        options = {"newline": "\n", "encoding": encoding, **options}
    mode = "w" if text else "wb"
    old = _old(target)
    if old is not None and not os.access(target.parent, os.W_OK):
        with target.open(mode, **options) as file:  # there is no room beside it
            yield file
    elif old is None or _is_replaceable(old):
        with _aside(target, aside, old), aside.open(mode, **options) as file:
            yield file
            _settle(file)
    else:
        with _in_place(target, aside), target.open(mode, **options) as file:
            yield file
            _settle(file)


def _old(path: Path) -> os.stat_result | None:
    """What is at `path`.

    Raises:
        PermissionError: something that is not to be written.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, f"File is not writable: {path}")
    return found


def _is_replaceable(old: os.stat_result) -> bool:
    """Whether another file in its place would be the same to everybody else.

    It would not be with a second name, or with an owner that only root can give.
    """
    ours = old.st_uid == os.geteuid() and old.st_gid in {os.getegid(), *os.getgroups()}
    return stat.S_ISREG(old.st_mode) and old.st_nlink == 1 and ours


def _settle(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _aside(path: Path, aside: Path, old: os.stat_result | None) -> Iterator[None]:
    """A new file beside the old one, whose place it takes at the end of the block."""
    try:
        # what a crash left there may be another's, or be linked to from elsewhere
        aside.unlink(missing_ok=True)
        aside.touch()
        if old is not None:
            if aside.stat().st_gid != old.st_gid:
                os.chown(aside, -1, old.st_gid)
            _dress(path, aside)
        yield
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise


def _dress(path: Path, other: Path) -> None:
    """Give a file the mode and attributes of another; a file system may have none."""
    with suppress(OSError):
        shutil.copystat(path, other)


@contextmanager
def _in_place(path: Path, aside: Path) -> Iterator[None]:
    """Keep a copy while a file is written in place, and put it back if that fails."""
    try:
        shutil.copyfile(path, aside)
        _dress(path, aside)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise
    try:
        yield
    except BaseException:
        aside.replace(path)
        raise
    aside.unlink()


def copy_whole(source: str, target: str) -> None:
    """Copy a file with its mode and times; `target` is the old or the new one, never a part.

    Raises:
        OSError: no room, no permission.
    """
    with Path(source).open("rb") as old, whole_writing(target, text=False) as new:
        shutil.copyfileobj(old, new)
    _dress(Path(source), Path(target))


class WholeCheckpoints(AsyncFileCheckpoints):
    """Jupyter's checkpoints, copied whole to where they are kept and back."""

    async def _copy(self, src: str, dest: str) -> None:
        await run_sync(copy_whole, src, dest)


class WholeFileManager(AsyncLargeFileManager):
    """Jupyter's files, written whole."""

    @default("checkpoints_class")
    def _default_checkpoints_class(self) -> type:
        return WholeCheckpoints

    @contextmanager
    def atomic_writing(self, os_path: str, *args: Any, **kwargs: Any) -> Iterator[IO[Any]]:
        """As Jupyter's, which turns what is not permitted into a 403."""
        if not self.use_atomic_writing:
            with super().atomic_writing(os_path, *args, **kwargs) as file:
                yield file
            return
        with self.perm_to_403(os_path), whole_writing(os_path, *args, **kwargs) as file:
            yield file
