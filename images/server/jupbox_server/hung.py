"""When the health probe ends a server that will never answer again.

An engine restarts what exits, and leaves what is merely unhealthy. To end the server is to end
every kernel with it, so this takes more than failed probes: the event loop must have stood still
all the while, though it could have run. A machine with every processor taken, one that swaps,
a container that was paused and a certificate that expired are all no reason.
"""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from .heartbeat import PROC, Sign, started, stat_fields

NAME = "health"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds, and the reasons for them.

    Attributes:
        still: how long probes must have failed and the loop stood still. Nothing that a server
            does on its loop waits for so long; a person has reloaded the page twice by then.
        computing: the same where the loop takes processor time: it may be at something huge, and
            will then go on; one that spins for ever has to wait, and costs no kernel meanwhile.
        start: how long a server may take to answer for the first time. On a slow disk the
            imports alone can take a minute; no kernel is there to lose, but to end it too early
            would never let it come up.
        gap: between two probes, beyond which they do not make one row. The engine probes each
            20 s; where it could not, the container was paused or the machine was asleep or far
            too busy, and what was seen before says nothing.
        dump: for the server to write where each of its threads stands, before it is killed.
    """

    still: float = 60.0
    computing: float = 300.0
    start: float = 300.0
    gap: float = 60.0
    dump: float = 2.0


#: Pages read from the disk between two probes that show a process which swaps, not one that hangs.
SWAPPING = 10
#: The part of the time that a loop must have had a processor to be called computing.
COMPUTING = 0.2

# in /proc/PID/stat, counted from what follows the name in parentheses
_STATE, _MAJOR_FAULTS, _USER, _SYSTEM = 0, 9, 11, 12
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Process:
    """What the kernel says of the server's main thread, in which its loop runs.

    Attributes:
        state: one letter, as in `ps`.
        faults: pages that it had to wait for a disk for.
        cpu: seconds of processor time.
        waited: seconds in which it could have run and no processor was free, None where the
            kernel does not count them.
    """

    state: str
    faults: int
    cpu: float
    waited: float | None


def look(pid: int, proc: Path = PROC) -> Process:
    """Look at a process.

    Raises:
        OSError: it is not there.
        IndexError, ValueError: the kernel says nothing that is known here.
    """
    fields = stat_fields(pid, proc / str(pid) / "task")
    try:
        waited = (
            int((proc / str(pid) / "task" / str(pid) / "schedstat").read_text().split()[1]) / 1e9
        )
    except (OSError, ValueError, IndexError):
        waited = None
    return Process(
        state=fields[_STATE],
        faults=int(fields[_MAJOR_FAULTS]),
        cpu=(int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS,
        waited=waited,
    )


@dataclass(frozen=True, kw_only=True)
class Row:
    """An unbroken row of failed probes of one server, as the probes hand it on.

    Attributes:
        pid: the server's process, with `ticks`.
        answered: whether it ever answered.
        failing: when the first of the row failed, None while the last one did not.
        last: when the last probe was.
        beat: the loop's last move as the last probe saw it.
        still: when a probe first saw that beat.
        cpu: processor time at `still`.
        waited: time waited for a processor at `still`.
        faults: pages waited for at the last probe.
    """

    pid: int
    ticks: int
    answered: bool = False
    failing: float | None = None
    last: float = 0.0
    beat: float = -1.0
    still: float = 0.0
    cpu: float = 0.0
    waited: float = 0.0
    faults: int = 0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is to be done with the server.

    Attributes:
        act: `wait`, `continue` a process that a signal has stopped, or `end`.
        why: for the log.
    """

    act: str = "wait"
    why: str = ""


def judge(
    row: Row | None,
    sign: Sign,
    process: Process,
    *,
    problem: str | None,
    refused: bool,
    now: float,
    limits: Limits,
) -> tuple[Row, Verdict]:
    """Add a probe to the row.

    Args:
        row: what the last probe left, None for the first.
        sign: the server's sign of life.
        process: its main thread.
        problem: why the probe failed, None if it did not.
        refused: whether nobody listens at the port.
        now: seconds, monotonic.
        limits: how long is too long.

    Returns:
        What the next probe gets, and what to do.
    """
    if row is None or (row.pid, row.ticks) != (sign.pid, sign.ticks):
        row = Row(pid=sign.pid, ticks=sign.ticks, last=now, faults=process.faults)
    broken = (
        now - row.last > limits.gap
        or process.faults - row.faults >= SWAPPING
        or process.state in "Dt"  # it waits for a disk, or somebody debugs it
    )
    row = replace(row, last=now, faults=process.faults)
    if problem is None:
        return replace(row, answered=True, failing=None, beat=sign.beat, still=now), Verdict()
    if row.failing is None or broken:
        row = replace(row, failing=now)
    if row.beat != sign.beat or broken or row.failing == now:
        waited = process.waited or 0.0
        row = replace(row, beat=sign.beat, still=now, cpu=process.cpu, waited=waited)
    return row, _verdict(row, sign, process, problem=problem, refused=refused, limits=limits)


def _verdict(
    row: Row, sign: Sign, process: Process, *, problem: str, refused: bool, limits: Limits
) -> Verdict:
    assert row.failing is not None
    failing = row.last - row.failing
    if not row.answered and row.last - sign.born < limits.start:
        return Verdict()
    why = f"{problem}, for {failing:.0f} s"
    if refused and failing >= limits.still:
        return Verdict(act="end", why=f"nobody listens at its port: {why}")
    quiet = row.last - row.still
    if failing < limits.still or quiet < limits.still:
        return Verdict()
    if process.state == "T":
        return Verdict(act="continue", why=f"a signal has stopped it: {why}")
    if _could_have_run(row, process, quiet) < _patience(row, process, quiet, limits):
        return Verdict()
    return Verdict(act="end", why=f"its event loop stands still: {why}")


def _could_have_run(row: Row, process: Process, quiet: float) -> float:
    return quiet - max(0.0, (process.waited or 0.0) - row.waited)


def _patience(row: Row, process: Process, quiet: float, limits: Limits) -> float:
    computes = process.cpu - row.cpu >= COMPUTING * quiet
    # without the kernel's word nobody knows that it could have run
    return limits.computing if computes or process.waited is None else limits.still


def remembered(folder: Path) -> Row | None:
    """What the last probe left in `folder`; None if it is not there or not to be read."""
    try:
        return Row(**json.loads((folder / NAME).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def remember(folder: Path, row: Row) -> None:
    """Leave a row for the next probe.

    Raises:
        OSError: it cannot be written; no server is ever ended then.
    """
    new = folder / f"{NAME}.new"
    new.write_text(json.dumps(asdict(row)))
    new.replace(folder / NAME)


def carry_out(verdict: Verdict, sign: Sign, *, log: Path, limits: Limits) -> None:
    """Do what was judged, and say so in the container's log first.

    Args:
        verdict: what to do.
        sign: the server's.
        log: where the container's log is written; what cannot be written is not said.
        limits: for how long the server may write.
    """
    if verdict.act == "continue":
        _say(log, f"{verdict.why}. It is told to go on; its kernels live.")
        _send(sign, signal.SIGCONT)
    elif verdict.act == "end":
        _say(
            log,
            f"{verdict.why}. It is ended, and its kernels with it, and started anew. "
            "This is where its threads stood:",
        )
        _send(sign, signal.SIGQUIT)
        deadline = time.monotonic() + limits.dump
        while _runs(sign) and time.monotonic() < deadline:
            time.sleep(0.05)
        _send(sign, signal.SIGKILL)


def _say(log: Path, text: str) -> None:
    with suppress(OSError):
        # no more than that: it is a pipe, and another process's
        file = os.open(log, os.O_WRONLY | os.O_APPEND)
        with suppress(OSError):
            os.write(file, f"jupbox: the server does not answer: {text}\n".encode())
        os.close(file)


def _runs(sign: Sign) -> bool:
    try:
        return started(sign.pid) == sign.ticks
    except (OSError, ValueError, IndexError):
        return False


def _send(sign: Sign, number: signal.Signals) -> None:
    if _runs(sign):  # and not somebody else's process with its number
        with suppress(OSError):
            os.kill(sign.pid, number)
