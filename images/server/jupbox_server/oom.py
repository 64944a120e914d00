"""Out of memory, a kernel goes and not the server.

The system ends the process with the highest score: its share of the memory in thousandths, plus
what it was given on top. A process may give more to its children, never less to itself.
"""

from __future__ import annotations

import os
from pathlib import Path

from . import cgroup
from .heartbeat import PROC

# Half as much again as the server's own share, so that it stays below a child that has little,
# and no more than that: without a limit the scores of the whole machine are compared, and a
# kernel must not go for what another user's process takes.
_ABOVE = 1.5
_STEP = 10
_MOST = 1000
_PAGE = os.sysconf("SC_PAGE_SIZE")


def score_for(own_bytes: int, limit_bytes: int) -> int:
    """What to give to the children of a server that holds `own_bytes` of `limit_bytes`."""
    points = 1000 * _ABOVE * own_bytes / limit_bytes
    # in steps: it is written anew only when it changes
    return min(_MOST, _STEP * (1 + int(points) // _STEP))


def children(pid: int, proc: Path = PROC) -> set[int]:
    """The processes that a process has started itself."""
    found: set[int] = set()
    for path in (proc / str(pid) / "task").glob("*/children"):
        try:
            found.update(map(int, path.read_text().split()))
        except (OSError, ValueError):
            continue
    return found


class OomGuard:
    """Keeps the children's score above the server's.

    Args:
        pid: the server's process.
        proc: where the kernel shows processes.
        groups: where it shows the container's limits.
    """

    def __init__(
        self, pid: int | None = None, *, proc: Path = PROC, groups: Path = cgroup.ROOT
    ) -> None:
        self._pid = pid or os.getpid()
        self._proc = proc
        self._groups = groups
        self._given: dict[int, int] = {}

    def look(self) -> None:
        """Give each child what it must have; called each second."""
        there = children(self._pid, self._proc)
        if not there:
            return
        try:
            score = self._score()
        except (OSError, ValueError, IndexError):
            return
        self._given = {pid: each for pid, each in self._given.items() if pid in there}
        for pid in there:
            if self._given.get(pid) != score and self._give(pid, score):
                self._given[pid] = score

    def _score(self) -> int:
        resident = int((self._proc / str(self._pid) / "statm").read_text().split()[1]) * _PAGE
        whole = cgroup.memory_of_machine(self._proc)
        limit = cgroup.usage(self._groups).memory_limit_bytes or whole
        return score_for(resident, min(limit, whole))

    def _give(self, pid: int, score: int) -> bool:
        try:
            (self._proc / str(pid) / "oom_score_adj").write_text(str(score))
        except OSError:  # it has ended, or is another user's, as with sudo
            return False
        return True
