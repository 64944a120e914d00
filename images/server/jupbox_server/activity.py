"""What the kernels and terminals are doing, and since when.

Jupyter knows the state of a kernel and when it last spoke, not when the state began: a kernel
that computes in silence for nine hours looks nine hours inactive. So each change is noted here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

#: What a kernel's state is called; anything else that a kernel says of itself is `unknown`.
STATES = frozenset({"busy", "idle", "starting", "dead"})
#: Seconds for which a kernel must have been idle to be called so: between two queued cells it
#: says `idle` for some milliseconds, and who asks then must not take it for free.
SETTLED = 1.0
#: Seconds after which a kernel that still says that it starts has come up: Jupyter hears of that
#: only when somebody talks to it, and gives up on one that does not answer after a minute.
STARTING = 60.0

PROC = Path("/proc")


def _no_queue(_kernel_id: str) -> int:
    return 0


@dataclass(frozen=True, kw_only=True)
class _Phase:
    """A state, and when it began."""

    state: str
    since: datetime


def _now() -> datetime:
    return datetime.now(UTC)


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment else None


def foreground(terminal: Any) -> int | None:
    """The foreground process group of a terminal where it is not the shell's, else None."""
    process = getattr(terminal, "ptyproc", None)
    try:
        group = os.tcgetpgrp(process.fd) if process is not None else None
    except OSError:
        return None
    return None if process is None or group == process.pid else group


def program(group: int, proc: Path = PROC) -> str:
    """The name of the program that a process group runs; empty if it has just ended.

    The name alone: what stands behind it on a command line may be a secret.
    """
    # the leader of a pipeline may end before the others
    for pid in (group, *_members(group, proc)):
        try:
            first = (proc / str(pid) / "cmdline").read_bytes().split(b"\0")[0]
        except OSError:
            continue
        if first:
            return Path(first.decode(errors="replace")).name
    return ""


def _members(group: int, proc: Path) -> Iterable[int]:
    for stat in proc.glob("[0-9]*/stat"):
        try:
            # the name, in parentheses, may hold anything
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[2]) == group:
                yield int(stat.parent.name)
        except (OSError, ValueError, IndexError):
            continue


class Activity:
    """Watches the kernels and terminals of one server.

    Args:
        kernels: Jupyter's kernel manager.
        sessions: Jupyter's session manager.
        terminals: the terminals by name, at the moment of the call.
        now: the time, with its zone.

    Attributes:
        pending: how many executions the server itself holds back for a kernel; with any, the
            kernel counts as busy.
    """

    def __init__(
        self,
        *,
        kernels: Any,
        sessions: Any,
        terminals: Callable[[], Mapping[str, Any]],
        now: Callable[[], datetime] = _now,
    ) -> None:
        self.pending: Callable[[str], int] = _no_queue
        self._kernels = kernels
        self._sessions = sessions
        self._terminals = terminals
        self._now = now
        self._of_kernel: dict[str, _Phase] = {}
        self._of_terminal: dict[str, _Phase] = {}
        self._came_up: set[str] = set()

    def look(self) -> None:
        """Note what has changed; called each second, and before each answer."""
        there = set(self._kernels.list_kernel_ids())
        for kernel_id in there:
            self._note_kernel(kernel_id)
        for gone in self._of_kernel.keys() - there:
            del self._of_kernel[gone]
        terminals = self._terminals()
        for name, terminal in terminals.items():
            state = "idle" if foreground(terminal) is None else "busy"
            self._of_terminal[name] = self._phase(self._of_terminal.get(name), state)
        for gone in self._of_terminal.keys() - terminals.keys():
            del self._of_terminal[gone]

    def state(self, kernel_id: str) -> str:
        """What a kernel is doing, one of STATES or `unknown`."""
        if self.pending(kernel_id) > 0:
            return "busy"
        state = getattr(self._kernels.get_kernel(kernel_id), "execution_state", None)
        return state if state in STATES else "unknown"

    def shown_state(self, kernel_id: str) -> str:
        """What a kernel is doing as the report has it."""
        self._note_kernel(kernel_id)
        return self._of_kernel[kernel_id].state

    def since(self, kernel_id: str) -> datetime | None:
        """When the state of a kernel began."""
        phase = self._of_kernel.get(kernel_id)
        return phase.since if phase else None

    def _note_kernel(self, kernel_id: str) -> None:
        known = self._of_kernel.get(kernel_id)
        if known is None:
            self._follow(kernel_id)
            self._came_up.discard(kernel_id)
        state = self.state(kernel_id)
        if state != "starting":
            self._came_up.discard(kernel_id)
        elif kernel_id in self._came_up or self._is_long_up(known):
            self._came_up.add(kernel_id)
            state = "idle"
        self._of_kernel[kernel_id] = self._phase(known, state)

    def _is_long_up(self, known: _Phase | None) -> bool:
        if known is None or known.state != "starting":
            return False
        return (self._now() - known.since).total_seconds() > STARTING

    def _follow(self, kernel_id: str) -> None:
        """Have each change of a kernel's state noted at once: a look a second misses short ones."""
        observe = getattr(self._kernels.get_kernel(kernel_id), "observe", None)

        def changed(_change: object) -> None:
            if kernel_id in self._of_kernel and kernel_id in self._kernels:
                self._note_kernel(kernel_id)

        if observe is not None:
            observe(changed, "execution_state")

    def _phase(self, known: _Phase | None, state: str) -> _Phase:
        if known is not None and known.state == state:
            return known
        return _Phase(state=state, since=self._now())

    async def report(self) -> dict[str, Any]:
        """What `GET /jupbox/activity` answers, within a second."""
        self.look()
        if self._just_idle():
            await asyncio.sleep(SETTLED)
            self.look()
        notebooks = await self._notebooks()
        ids = list(self._kernels.list_kernel_ids())
        return {
            "kernels": [self._kernel(kernel_id, notebooks.get(kernel_id)) for kernel_id in ids],
            "terminals": [self._terminal(*named) for named in self._terminals().items()],
        }

    def _just_idle(self) -> bool:
        now = self._now()
        return any(
            phase.state == "idle" and (now - phase.since).total_seconds() < SETTLED
            for phase in self._of_kernel.values()
        )

    async def _notebooks(self) -> dict[str, str]:
        """What each kernel runs for: the notebook's path, or how a console is called."""
        found = {}
        for session in await self._sessions.list_sessions():
            path, name = str(session.get("path") or ""), str(session.get("name") or "")
            shown = path if session.get("type") == "notebook" else name or path
            found[str(session["kernel"]["id"])] = shown
        return found

    def _kernel(self, kernel_id: str, notebook: str | None) -> dict[str, Any]:
        kernel = self._kernels.get_kernel(kernel_id)
        self._note_kernel(kernel_id)  # it may have come while the sessions were read
        phase = self._of_kernel[kernel_id]
        connections = getattr(self._kernels, "_kernel_connections", {})
        return {
            "id": kernel_id,
            "name": str(getattr(kernel, "kernel_name", "")),
            "notebook": notebook or None,
            "state": phase.state,
            "since": _iso(phase.since),
            "last_activity": _iso(getattr(kernel, "last_activity", None) or phase.since),
            "connections": int(connections.get(kernel_id, 0)),
        }

    def _terminal(self, name: str, terminal: Any) -> dict[str, Any]:
        group = foreground(terminal)
        phase = self._phase(self._of_terminal.get(name), "idle" if group is None else "busy")
        self._of_terminal[name] = phase
        return {
            "name": name,
            "busy": group is not None,
            "command": "" if group is None else program(group),
            "since": _iso(phase.since),
            "last_activity": _iso(getattr(terminal, "last_activity", None)),
        }
