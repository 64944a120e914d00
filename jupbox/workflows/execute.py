"""`exec`: a command, or a shell, where the notebooks are."""

from __future__ import annotations

import os
import secrets
import select
import signal
import subprocess
import termios
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from jupbox.console import Console
from jupbox.errors import HostError
from jupbox.host.engine import Engine
from jupbox.host.inspected import Container
from jupbox.release import inside
from jupbox.site import Surroundings, load_project
from jupbox.workflows.found import container_of, look, place, user_of

_SIGNALLED: Final = 128
# stands among signals' numbers
_END: Final = 0
_ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# a command may save its work when it is told to end
_GRACE_SECONDS: Final = 10.0
_LAST_SECONDS: Final = 5.0


def execute(
    box_name: str | None, *, around: Surroundings, console: Console, command: Sequence[str]
) -> int:
    """Run a command beside the server, on this process's own input and output.

    Returns:
        The command's exit code; 128+N when signal N ended it, or this process.

    Raises:
        NotRunningError: there is no running server.
        HostError: the connection was lost on the way.
    """
    project = load_project(around)
    # no renewal as with other verbs: what it says would stand among the command's own words
    found = look(project, project.box(box_name), around)
    running = _Running(
        engine=found.site.engine,
        container=container_of(found, running=True),
        user=user_of(found),
        token=secrets.token_hex(8),
        terminal=os.isatty(0) and os.isatty(1),
    )
    with _events() as events, _terminal_restored(running.terminal):
        code = _attend(running, running.start(command), events)
    if code and found.site.engine.unreachable():
        raise HostError(
            f"The connection to {place(found.site.box)} was lost; the command may run on there.",
            remedy=f"`jupbox exec{found.site.command} -- ps x` shows what does.",
        )
    return code


@dataclass(frozen=True, kw_only=True)
class _Running:
    """A command in a container.

    Attributes:
        token: by which the server's side knows it.
        terminal: it has one.
    """

    engine: Engine
    container: Container
    user: str
    token: str
    terminal: bool

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Docker's client, which ends with the command."""
        words = inside.room("run", "--id", self.token, "--", *command)
        return self.engine.attach(self.container.id, words, user=self.user, terminal=self.terminal)

    def signal(self, name: str) -> None:
        """Send the command a signal; one that has ended gets none."""
        words = inside.room("run", "--id", self.token, "--signal", name)
        self.engine.execute(self.container.id, words, user=self.user)


def _attend(running: _Running, client: subprocess.Popen[bytes], events: _Events) -> int:
    """Wait for the end, and hand on what would end this process; the exit code."""

    def wait() -> None:
        client.wait()
        events.note_end()

    threading.Thread(target=wait, daemon=True).start()
    number = events.next()
    if not number:
        code = client.returncode
        if code < 0:
            # nobody reads on (`| head`), or somebody killed docker's client: the command knows not
            running.signal("HUP")
        return _SIGNALLED - code if code < 0 else code
    # on a terminal keys go another way, so this is its end; and a shell ignores a SIGTERM
    first = "HUP" if running.terminal else signal.Signals(number).name
    for name, seconds in ((first, _GRACE_SECONDS), ("KILL", _LAST_SECONDS)):
        running.signal(name)
        # a second signal means at once
        if events.next(within=seconds) == _END:
            break
    else:
        client.kill()
    return _SIGNALLED + number


@dataclass(frozen=True, kw_only=True)
class _Events:
    """What happens to this process, in its order: signals, and the end of docker's client.

    Signals come through a pipe, not through their Python handlers: those run when the main thread
    gets to it, which is never while it waits and another thread took the signal
    (https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd).
    """

    reading: int
    writing: int

    def note_end(self) -> None:
        with suppress(OSError):  # nobody waits any more
            os.write(self.writing, bytes([_END]))

    def next(self, *, within: float | None = None) -> int | None:
        """A signal's number, or _END; None after `within` seconds without either."""
        if not select.select([self.reading], [], [], within)[0]:
            return None
        return os.read(self.reading, 1)[0]


@contextmanager
def _events() -> Iterator[_Events]:
    """Have signals noted that would end this process, but for those that it ignores."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    ours = [number for number in _ENDS if signal.getsignal(number) is not signal.SIG_IGN]
    woken = signal.set_wakeup_fd(writing)
    before = {number: signal.signal(number, lambda *_: None) for number in ours}
    try:
        yield _Events(reading=reading, writing=writing)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken)
        os.close(reading)  # and not the other end: the client's end may still be noted


@contextmanager
def _terminal_restored(terminal: bool) -> Iterator[None]:
    """Leave the terminal as it was, also when docker's client was killed in raw mode."""
    if not terminal:
        yield
        return
    before = termios.tcgetattr(0)
    try:
        yield
    finally:
        with suppress(termios.error):  # it hung up
            termios.tcsetattr(0, termios.TCSADRAIN, before)
