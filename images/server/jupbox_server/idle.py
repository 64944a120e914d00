"""Shuts down kernels and terminals that nobody has used for long, where the box asks for it.

Jupyter has the like, and three things are missing there: its terminals go whatever runs in them
in silence, what the server itself has still to execute is not asked, and a clock that is set
forward ends everything. Jupyter's own settings stay what they are: off.

A kernel whose notebook is open somewhere stays: its user sees it as theirs, and would find the
variables gone under their eyes. A laptop that sleeps is no longer connected within a minute.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .activity import Activity, foreground
from .heartbeat import PROC, stat_fields
from .oom import children

#: Where compose says after how many seconds; nothing there is never.
VARIABLE = "JUPBOX_CULL_IDLE"

#: The most seconds between two looks.
LOOK_EVERY = 60.0
# An idle kernel takes some thousandths of a processor; one that a thread or a process of its own
# computes in takes far more, whatever it says of itself.
_COMPUTES = 0.02

_USER, _SYSTEM = 11, 12
_TICKS = os.sysconf("SC_CLK_TCK")


def wanted(environ: Mapping[str, str]) -> float | None:
    """After how many seconds, None for never."""
    try:
        seconds = float(environ.get(VARIABLE, ""))
    except ValueError:
        return None
    return seconds if seconds > 0 else None


def processor_time(pid: int, proc: Path = PROC) -> float:
    """Seconds of processor time of a process and of all that it has started and that runs."""
    seen, left, ticks = set[int](), {pid}, 0
    while left:
        one = left.pop()
        if one in seen:
            continue
        seen.add(one)
        try:
            fields = stat_fields(one, proc)
            ticks += int(fields[_USER]) + int(fields[_SYSTEM])
        except (OSError, ValueError, IndexError):
            continue
        left |= children(one, proc)
    return ticks / _TICKS


@dataclass(frozen=True, kw_only=True)
class _Rest:
    """Since when something has been at rest.

    Attributes:
        mark: what changes with any use.
        since: seconds, monotonic.
        cpu: processor time at the last look.
        looked: when that was.
    """

    mark: object
    since: float
    cpu: float
    looked: float


class IdleWatch:
    """Shuts down what has been at rest for too long.

    Args:
        after: seconds.
        activity: what the kernels do.
        kernels: Jupyter's kernel manager.
        terminals: the terminals by name, at the moment of the call.
        end_terminal: ends the one of a name.
        log: told of each.
        clock: seconds, monotonic: a clock that somebody sets ends nothing.
    """

    def __init__(
        self,
        after: float,
        *,
        activity: Activity,
        kernels: Any,
        terminals: Callable[[], Mapping[str, Any]],
        end_terminal: Callable[[str], Awaitable[None]],
        log: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._after = after
        self._activity = activity
        self._kernels = kernels
        self._terminals = terminals
        self._end_terminal = end_terminal
        self._log = log
        self._clock = clock
        self._rests: dict[tuple[str, str], _Rest] = {}

    @property
    def every(self) -> float:
        """Seconds between two looks."""
        return min(LOOK_EVERY, self._after / 5)

    async def look(self) -> None:
        """Look, and end what has rested long enough."""
        self._activity.look()
        rests = {}
        for kernel_id in list(self._kernels.list_kernel_ids()):
            if (mark := self._kernel_mark(kernel_id)) is not None:
                pid = _pid_of(self._kernels.get_kernel(kernel_id))
                rests["kernel", kernel_id] = self._rest(("kernel", kernel_id), mark, pid)
        for name, terminal in self._terminals().items():
            if (mark := _terminal_mark(terminal)) is not None:
                rests["terminal", name] = self._rest(("terminal", name), mark, None)
        self._rests = rests
        for (kind, name), rest in list(rests.items()):
            if rest.looked - rest.since >= self._after:
                await self._end(kind, name)

    def _kernel_mark(self, kernel_id: str) -> object | None:
        """What changes with any use of a kernel; None for one that must stay."""
        connections = getattr(self._kernels, "_kernel_connections", {}).get(kernel_id, 0)
        if self._activity.shown_state(kernel_id) != "idle" or connections:
            return None
        last = getattr(self._kernels.get_kernel(kernel_id), "last_activity", None)
        return self._activity.since(kernel_id), last

    def _rest(self, key: tuple[str, str], mark: object, pid: int | None) -> _Rest:
        now, cpu = self._clock(), processor_time(pid) if pid else 0.0
        known = self._rests.get(key)
        computes = known and cpu - known.cpu > _COMPUTES * (now - known.looked)
        if known is None or known.mark != mark or computes:
            return _Rest(mark=mark, since=now, cpu=cpu, looked=now)
        return _Rest(mark=mark, since=known.since, cpu=cpu, looked=now)

    async def _end(self, kind: str, name: str) -> None:
        self._rests.pop((kind, name), None)
        hours = f"{self._after / 3600:.3g}"
        # what was ended before this one took its time; it may be in use again
        if kind == "terminal":
            terminal = self._terminals().get(name)
            if terminal is not None and _terminal_mark(terminal) is not None:
                self._log(f"Nobody has used terminal {name} for {hours} h: it is shut down.")
                await self._end_terminal(name)
        elif name in self._kernels and self._kernel_mark(name) is not None:
            self._log(f"Nobody has used kernel {name} for {hours} h: it is shut down.")
            await self._kernels.shutdown_kernel(name)


def _pid_of(kernel: Any) -> int | None:
    pid = getattr(getattr(kernel, "provisioner", None), "pid", None)
    return pid if isinstance(pid, int) else None


def _terminal_mark(terminal: Any) -> object | None:
    """What changes with any use of a terminal; None for one that must stay.

    One with a program in it stays, in the foreground or not, and one that is open somewhere.
    """
    process = getattr(terminal, "ptyproc", None)
    if process is None or getattr(terminal, "clients", None):
        return None
    if foreground(terminal) is not None or children(process.pid):
        return None
    return (getattr(terminal, "last_activity", None),)
