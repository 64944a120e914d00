"""One change at a time: a lock on the box, which says whose it is, and the audit beside it.

The truth is flock(2) on a file in the folder of the user that we are there, so that a lock ends
with the process that holds it. The holder's description stands in that file; one without a holder
was left behind.

On a box behind ssh a small script holds it, on the far end of a session. It ends with the session,
and also when its laptop has been silent for too long: sshd alone would keep the session of a
laptop that vanished from the network for hours.
"""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from jupbox.audit import KEPT, Change, Ended, holding, read_change
from jupbox.errors import BusyError, HostError
from jupbox.host.files import write_atomic

BEAT_SECONDS: Final = 10.0
"""How often a laptop says that it is still there."""

PATIENCE_SECONDS: Final = 90
"""For how long a silent laptop keeps its lock; far longer than ssh takes to see a dead connection
(40 s), so that who lost the lock changes nothing any more when another gets it."""

_LEASE_SECONDS: Final = 60.0
_ANSWER_SECONDS: Final = 60.0
_END_SECONDS: Final = 15.0
# what looks whether somebody has the lock holds it for a moment
_GRACE_SECONDS: Final = 1.0

# Not $XDG_STATE_HOME: a login by ssh often has not what a terminal on the box has, and both must
# find the same lock.
_FOLDER: Final = "folder=$HOME/.local/state/jupbox"

# Where there is no flock, or no room for its file, the lock is left out: better two at once than
# none at all. Descriptor 9 is closed for all children: they must not hold it longer than we do.
HOLD: Final = f"""
{_FOLDER}
lock=$folder/$1.lock audit=$folder/$1.audit change=$2 kept=$3 patience=$4
umask 077
# a command that was killed reads no answer; what it had started may still be at its work
trap '' PIPE
mkdir -p "$folder" 2>/dev/null
stamped() {{ printf '{{"at": %s, %s\\n' "$(date +%s)" "${{1#?}}"; }}
keep() {{
  [ -z "$(tail -c 1 "$audit" 2>/dev/null)" ] || echo >>"$audit"
  stamped "$1" >>"$audit"
}}
taken() {{ flock -n 9 2>/dev/null; [ $? -eq 1 ]; }}
locked=
for try in 1 2 3; do
  command -v flock >/dev/null && (: 9<>"$lock") 2>/dev/null || break
  exec 9<>"$lock"
  if taken && sleep {_GRACE_SECONDS:g} && taken; then
    read -r holder <"$lock"
    printf 'busy %s %s\\n' "$(date +%s)" "$holder"
    exit 1
  fi
  locked=yes
  # the file that we waited for may have been removed with the server
  [ ! -e /dev/fd/9 ] || [ "$lock" -ef /dev/fd/9 ] && break
done
left=
if [ "$locked" ]; then
  read -r left <"$lock"
  stamped "$change" >"$lock"
fi 2>/dev/null
if [ "$kept" -gt 0 ]; then
  if [ "$(wc -l <"$audit")" -ge "$kept" ]; then
    tail -n "$((kept - 2))" "$audit" >"$audit.new" && mv "$audit.new" "$audit"
  fi
  keep "$change"
fi 2>/dev/null
guard=
timeout 5 true 2>/dev/null && guard="timeout $patience"
printf 'held %s %s\\n' "$(date +%s)" "$left"
while line=$($guard sh -c 'IFS= read -r line && printf "%s\\n" "$line"' 9>&-); do
  case $line in
  beat) echo beat ;;
  end*)
    # what was removed with the server stays away
    [ "$line" = end ] || [ ! -e "$audit" ] || keep "${{line#end }}"
    [ ! "$locked" ] || [ ! -e "$lock" ] || : >"$lock"
    exit 0 ;;
  esac
done 2>/dev/null
"""

FORGET: Final = f"""
{_FOLDER}
rm -f "$folder/$1.lock" "$folder/$1.audit" "$folder/$1.audit.new"
rmdir "$folder" 2>/dev/null || true
"""

# The lock's first line only while somebody holds it; then what was kept.
LOOK: Final = f"""
{_FOLDER}
holder=
if command -v flock >/dev/null && [ -s "$folder/$1.lock" ]; then
  flock -n "$folder/$1.lock" true || read -r holder <"$folder/$1.lock"
fi
printf '%s\\n' "$holder"
cat "$folder/$1.audit" 2>/dev/null || true
"""


class Hold(Protocol):
    """The lock of a box, ours until it is closed.

    Attributes:
        left: the change whose holder was gone when we came, None if it ended in order.
        ended: what the audit is told at the end; None for nothing.
    """

    left: Change | None
    ended: Ended | None

    @property
    def descriptor(self) -> int:
        """What a process that inherits it keeps the lock by, even when ours is killed."""
        ...

    def check(self) -> None:
        """Make sure that the lock is still ours; costs nothing while the other side is heard.

        Raises:
            HostError: it is lost, and another may be changing the same by now.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a box keeps about the changes of one stack.

    Attributes:
        holder: what has the lock now.
        text: the audit.
    """

    holder: Change | None
    text: str


def busy(machine: str, holder: Change | None, now: datetime | None = None) -> BusyError:
    """The error for a lock that another process holds.

    Args:
        machine: how messages call the box's machine.
        holder: who has it; None where that does not say.
        now: the clock that the holder's time is of; None is this machine's.
    """
    here = datetime.now().astimezone()
    if holder and holder.began and now:
        # their age is right, whatever the box's clock says
        holder = replace(holder, began=here - (now - holder.began))
    error = BusyError(
        holding(holder, now=here)
        if holder
        else f"Another jupbox is changing the same server on {machine} right now.",
        remedy="Run this again when that is done; --wait waits for it.",
    )
    error.holder = holder
    return error


def lost(machine: str) -> HostError:
    """The error for a lock that went with its connection."""
    return HostError(
        f"The connection to {machine} was lost, and with it the lock.",
        remedy="Run the same command again: it goes on from here.",
    )


# --- on this machine ---------------------------------------------------------------------------


def folder() -> Path:
    """Where locks and audits of this machine are; see the script for why not $XDG_STATE_HOME."""
    return Path.home() / ".local" / "state" / "jupbox"


@dataclass
class _LocalHold:
    """A lock of this machine; it is lost with this process alone."""

    descriptor: int
    left: Change | None = None
    ended: Ended | None = None

    def check(self) -> None:
        """See `Hold.check`."""


@contextmanager
def held_here(name: str, change: Change, *, record: bool, machine: str) -> Iterator[Hold]:
    """Hold a lock of this machine, as the script does on another.

    Raises:
        BusyError: another process holds it.
    """
    place = folder()
    place.mkdir(parents=True, mode=0o700, exist_ok=True)
    lock, audit = place / f"{name}.lock", place / f"{name}.audit"
    descriptor = _locked(lock, machine)
    try:
        hold = _LocalHold(descriptor=descriptor, left=_first_change(lock))
        lock.write_text(_stamped(change.line()))
        if record:
            _shorten(audit)
            _keep(audit, change.line())
        try:
            yield hold
        finally:
            # what was removed with the server stays away
            if hold.ended and audit.exists():
                _keep(audit, hold.ended.line())
            if lock.exists():
                os.truncate(lock, 0)
    finally:
        os.close(descriptor)


def _locked(lock: Path, machine: str) -> int:
    """A descriptor that has the lock."""
    deadline = time.monotonic() + _GRACE_SECONDS
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # the file that we waited for may have been removed with the server
            if _same(lock, descriptor):
                return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise busy(machine, _first_change(lock)) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(_GRACE_SECONDS / 10)


def _same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _first_change(lock: Path) -> Change | None:
    lines = lock.read_text(errors="replace").splitlines() if lock.exists() else []
    return read_change(lines[0]) if lines else None


def _stamped(line: str) -> str:
    return f'{{"at": {int(time.time())}, {line[1:]}\n'


def _keep(audit: Path, line: str) -> None:
    descriptor = os.open(audit, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        file.write(b"\n" * cut + _stamped(line).encode())


def _shorten(audit: Path) -> None:
    lines = audit.read_bytes().splitlines(keepends=True) if audit.exists() else []
    if len(lines) >= KEPT:
        write_atomic(audit, b"".join(lines[-(KEPT - 2) :]), mode=0o600)


def recorded_here(name: str) -> Record:
    """What this machine keeps of a stack."""
    lock, audit = folder() / f"{name}.lock", folder() / f"{name}.audit"
    holder = None
    if lock.exists():
        with lock.open() as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _first_change(lock)
    text = audit.read_text(errors="replace") if audit.exists() else ""
    return Record(holder=holder, text=text)


def forget_here(name: str) -> None:
    """Remove lock and audit of a stack from this machine."""
    for suffix in ("lock", "audit"):
        (folder() / f"{name}.{suffix}").unlink(missing_ok=True)
    with suppress(OSError):  # others are left in it
        folder().rmdir()


# --- on the far end of a session ---------------------------------------------------------------


class _RemoteHold:
    """The lock that a session's far end holds for us; a thread keeps it told that we live."""

    def __init__(self, session: subprocess.Popen[bytes], machine: str) -> None:
        assert session.stdin is not None and session.stdout is not None
        self.left: Change | None = None
        self.ended: Ended | None = None
        self._session, self._machine = session, machine
        self._in, self._out = session.stdin, session.stdout
        self._heard = _now()
        self._news = threading.Condition()
        self._gone = self._ending = False
        self._thread = threading.Thread(target=self._beat, daemon=True)

    @property
    def descriptor(self) -> int:
        """See `Hold.descriptor`: the session's input, which ends with the last that has it."""
        return self._in.fileno()

    def take(self) -> None:
        """Wait for the far end's word.

        Raises:
            BusyError: another has the lock.
            HostError: there is no answer.
        """
        ready, _, _ = select.select([self._out], [], [], _ANSWER_SECONDS)
        word, _, rest = (self._out.readline() if ready else b"").decode().strip().partition(" ")
        seconds, _, line = rest.partition(" ")
        if word == "busy":
            raise busy(self._machine, read_change(line), datetime.fromtimestamp(int(seconds), UTC))
        if word != "held":
            raise lost(self._machine)
        self.left = read_change(line)
        self._thread.start()

    def check(self) -> None:
        """See `Hold.check`."""
        # a laptop that slept is told in a moment whether its lock is still there
        deadline = time.monotonic() + _END_SECONDS
        with self._news:
            while not self._gone and _now() - self._heard > _LEASE_SECONDS:
                if not self._news.wait(deadline - time.monotonic()):
                    raise lost(self._machine)
            if self._gone:
                raise lost(self._machine)

    def _beat(self) -> None:
        """Say that we are there, and listen, until the far end is gone."""
        due = 0.0
        while True:
            if time.monotonic() >= due:
                due = time.monotonic() + BEAT_SECONDS
                self._say(b"beat")
            ready, _, _ = select.select([self._out], [], [], max(0, due - time.monotonic()))
            if ready and not os.read(self._out.fileno(), 4096):
                break
            if ready:
                with self._news:
                    self._heard = _now()
                    self._news.notify_all()
        with self._news:
            self._gone = True
            self._news.notify_all()

    def _say(self, line: bytes) -> None:
        with self._news:
            if not self._ending:
                with suppress(OSError):
                    self._in.write(line + b"\n")
                    self._in.flush()

    def close(self) -> None:
        """Give the lock back; whatever happens, the session ends."""
        line = f"end {self.ended.line()}" if self.ended else "end"
        if self._thread.is_alive():
            self._say(line.encode())
        with self._news:
            self._ending = True
            with suppress(OSError):
                self._in.close()
        try:
            self._session.wait(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._session.kill()
            self._session.wait()
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)
        self._out.close()


def _now() -> float:
    """Seconds that go on while the machine sleeps."""
    return time.time()


@contextmanager
def held_there(argv: Sequence[str], machine: str) -> Iterator[Hold]:
    """Hold the lock of another machine.

    Args:
        argv: starts the script there.
        machine: how messages call it.

    Raises:
        BusyError: another process holds it.
        HostError: there is no answer.
    """
    session = subprocess.Popen(
        list(argv),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        # the terminal's Ctrl-C is for us, who end it when all is in order
        process_group=0,
    )  # fmt: skip
    hold = _RemoteHold(session, machine)
    try:
        hold.take()
        yield hold
    finally:
        hold.close()


def script_arguments(name: str, change: Change, *, record: bool) -> list[str]:
    """How the script is called."""
    kept, patience = KEPT if record else 0, PATIENCE_SECONDS
    return ["sh", "-c", HOLD, "sh", name, change.line(), str(kept), str(patience)]


def read_record(said: str) -> Record:
    """What the looking script said."""
    first, _, text = said.partition("\n")
    return Record(holder=read_change(first), text=text)
