"""Room on a disk and addresses that must answer, here as on a box."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from jupbox.doctor.finding import LAPTOP, Finding, Severity, fine, note, size

_GB: Final = 10**9
_DISK_ERROR: Final = 1 * _GB
_DISK_WARNING: Final = 5 * _GB
# a tenth of a big disk is still plenty
_DISK_SHARE: Final = 0.10
_DISK_PLENTY: Final = 50 * _GB
_INODE_ERROR: Final = 0.01
_INODE_WARNING: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Whether an address answers.

    Attributes:
        address: without credentials.
        problem: why not, None where it does.
        looked: False where there was nothing to look with.
    """

    address: str
    problem: str | None = None
    looked: bool = True


@dataclass(frozen=True, kw_only=True)
class Space:
    """The disk that a folder is on.

    Attributes:
        path: the folder.
        mount: where its file system is mounted.
        total: bytes.
        free: bytes, for an ordinary user.
        inodes: how many, 0 where the file system does not count them.
        free_inodes: how many are left.
    """

    path: str
    mount: str
    total: int
    free: int
    inodes: int = 0
    free_inodes: int = 0


def of_reach(area: str, name: str, title: str, reach: Reach) -> Finding:
    """What is to be said of an address."""
    if not reach.looked:
        return note(
            area,
            name,
            f"{title} was not looked for: {reach.problem}.",
            "Nothing to do, unless a build fails.",
        )
    if reach.problem is None:
        return fine(area, name, f"{title} answers.")
    where = "this machine's" if area == LAPTOP else "that machine's"
    return Finding(
        area=area,
        name=name,
        severity=Severity.WARNING,
        message=f"{title} is out of reach ({reach.address or 'no address'}): {reach.problem}.",
        remedy=f"Look at {where} network and proxy; what is locked and built already runs on.",
    )


def of_space(area: str, name: str, disk: Space, *, remedy: str) -> Iterator[Finding]:
    """What is to be said of a disk; of its inodes only what is bad."""
    share = disk.free / disk.total if disk.total else 1.0
    severity = Severity.OK
    if disk.free < _DISK_WARNING or (share < _DISK_SHARE and disk.free < _DISK_PLENTY):
        severity = Severity.WARNING
    if disk.free < _DISK_ERROR:
        severity = Severity.ERROR
    bad = severity is not Severity.OK
    yield Finding(
        area=area,
        name=name,
        severity=severity,
        message=f"{'Only ' if bad else ''}{size(disk.free)} of {size(disk.total)} free at "
        f"{disk.path}.",
        remedy=remedy if bad else "",
    )
    left = disk.free_inodes / disk.inodes if disk.inodes else 1.0
    if left < _INODE_WARNING:
        yield Finding(
            area=area,
            name="inodes",
            severity=Severity.ERROR if left < _INODE_ERROR else Severity.WARNING,
            message=f"Only {disk.free_inodes} more files fit on the disk of {disk.path}.",
            remedy="Remove folders of many small files there.",
        )
