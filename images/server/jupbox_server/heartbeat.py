"""The server's sign of life: a line in a file that its event loop writes anew each second.

An answer that comes late may mean a machine with all processors taken; a loop that does not move
at all means a server that will never answer. Only this tells the two apart from outside.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

NAME = "heartbeat"
PROC = Path("/proc")

# in /proc/PID/stat, counted from what follows the name in parentheses
_STARTED = 19


@dataclass(frozen=True, kw_only=True)
class Sign:
    """What the server has left in its file.

    Attributes:
        pid: its process.
        ticks: when the kernel started that process; with the pid it is like no other.
        born: when the server was called, in seconds of the monotonic clock, which is the same
            for all processes since the machine's boot and is not set by anybody.
        beat: when its loop last moved; `born` before it first did.
    """

    pid: int
    ticks: int
    born: float
    beat: float


def stat_fields(pid: int, proc: Path = PROC) -> list[str]:
    """`/proc/PID/stat` from the state on.

    Raises:
        OSError: no such process.
    """
    # the name, in parentheses, may hold anything
    text = (proc / str(pid) / "stat").read_text(errors="replace")
    return text.rpartition(")")[2].split()


def started(pid: int) -> int:
    """When the kernel started a process, in its ticks since the boot.

    Raises:
        OSError: no such process.
    """
    return int(stat_fields(pid)[_STARTED])


class Heartbeat:
    """Writes the file.

    Args:
        folder: where only the server's user enters, in memory.
        clock: seconds, monotonic.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._file: int | None = None
        self._start = ""
        # without the file nobody ends a hung server, and that is no reason to have none
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._start = f"{os.getpid()} {started(os.getpid())} {clock():.3f}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._file = os.open(folder / NAME, flags, 0o600)
        self.beat()

    def beat(self) -> None:
        """Say that the loop moves."""
        if self._file is not None:
            with suppress(OSError):
                # in one piece and never shorter than before: a reader sees the old or the new
                os.pwrite(self._file, f"{self._start} {self._clock():.3f}\n".encode(), 0)


def read(folder: Path) -> Sign | None:
    """What the server that now runs has left; None if none runs that has left anything."""
    try:
        pid, ticks, born, beat = (folder / NAME).read_text().split()
        sign = Sign(pid=int(pid), ticks=int(ticks), born=float(born), beat=float(beat))
        return sign if started(sign.pid) == sign.ticks else None
    except (OSError, ValueError, IndexError):
        return None
