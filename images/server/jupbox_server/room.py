"""Room on the disks of the home directory and of the notebooks' folder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

#: How often the disks are looked at, in milliseconds: a kernel can fill one in minutes.
LOOK_EVERY = 5000

# A share alone would call a disk of 4 TB full with 200 GB to go, and a size alone a small volume
# with nothing in it. The size is what a data frame or a model's checkpoint easily takes at once.
_NEAR_SHARE = 0.05
_NEAR_BYTES = 2 * 10**9
# a file takes a number as well; many small ones use those up first
_NEAR_INODES = 0.01


@dataclass(frozen=True, kw_only=True)
class Disk:
    """The file system that a folder is on.

    Args:
        path: the folder.
        free_bytes: for an ordinary user.
        total_bytes: free or not.
        nearly_full: the next big file may not fit.
    """

    path: str
    free_bytes: int
    total_bytes: int
    nearly_full: bool


def is_nearly_full(look: os.statvfs_result) -> bool:
    """Whether the next big file may not fit, or no more files."""
    free, total = look.f_bavail * look.f_frsize, look.f_blocks * look.f_frsize
    few_files = look.f_files > 0 and look.f_favail < _NEAR_INODES * look.f_files
    return few_files or (free < _NEAR_BYTES and free < _NEAR_SHARE * total)


def measure(folders: Iterable[Path]) -> tuple[Disk, ...]:
    """Look at the disks of folders, each disk once; one that cannot be looked at is left out.

    A network file system whose server is gone makes this wait for as long as that is so.
    """
    found: dict[int, Disk] = {}
    for folder in folders:
        try:
            device, look = folder.stat().st_dev, os.statvfs(folder)
        except OSError:
            continue
        disk = Disk(
            path=str(folder),
            free_bytes=look.f_bavail * look.f_frsize,
            total_bytes=look.f_blocks * look.f_frsize,
            nearly_full=is_nearly_full(look),
        )
        found.setdefault(device, disk)
    return tuple(found.values())


class _Files(Protocol):
    delete_to_trash: bool
    always_delete_dir: bool


class RoomWatch:
    """Knows the disks, and has what is deleted really go while one is nearly full.

    A trash frees nothing and can itself not be written on a full disk, so without this nobody
    could make room in the browser.

    Args:
        folders: what to look at.
        files: Jupyter's contents manager; one that has no trash is left alone.
        page: what JupyterLab's page is told, so that its question says what will happen.
        log: told when it changes.

    Attributes:
        disks: as last seen.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        files: Any,
        page: dict[str, Any],
        log: Callable[[str], None],
    ) -> None:
        self.disks: tuple[Disk, ...] = ()
        self._folders = tuple(folders)
        self._files: _Files | None = files if getattr(files, "delete_to_trash", False) else None
        self._directories = getattr(files, "always_delete_dir", False)
        self._page = page
        self._log = log

    async def look(self) -> None:
        """Look again, off the event loop."""
        self.disks = await asyncio.to_thread(measure, self._folders)
        self._arrange(any(disk.nearly_full for disk in self.disks))

    def _arrange(self, nearly_full: bool) -> None:
        files = self._files
        if files is None or files.delete_to_trash is not nearly_full:
            return
        files.delete_to_trash = not nearly_full
        # the trash takes folders with what is in them, so this must as well
        files.always_delete_dir = nearly_full or self._directories
        self._page["delete_to_trash"] = not nearly_full
        now = "Deleted files go at once" if nearly_full else "Deleted files go to the trash again"
        self._log(f"{now}: the disk is {'nearly' if nearly_full else 'no longer'} full.")
