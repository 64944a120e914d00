"""`exec`: a command, or a shell, where the notebooks are."""

from __future__ import annotations

import os
import queue
import secrets
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
from jupbox.host.engine import Container, Engine
from jupbox.release import inside
from jupbox.site import Surroundings, load_project
from jupbox.workflows.found import container_of, look, place, user_of

_SIGNALLED: Final = 128
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
    events: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    with _signals_to(events), _terminal_restored(running.terminal):
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


def _attend(
    running: _Running, client: subprocess.Popen[bytes], events: queue.SimpleQueue[int | None]
) -> int:
    """Wait for the end, and hand on what would end this process; the exit code."""

    def wait() -> None:
        client.wait()
        events.put(None)

    threading.Thread(target=wait, daemon=True).start()
    number = events.get()
    if number is None:
        code = client.returncode
        if code < 0:
            # nobody reads on (`| head`), or somebody killed docker's client: the command knows not
            running.signal("HUP")
        return _SIGNALLED - code if code < 0 else code
    # on a terminal keys go another way, so this is its end; and a shell ignores a SIGTERM
    first = "HUP" if running.terminal else signal.Signals(number).name
    for name, seconds in ((first, _GRACE_SECONDS), ("KILL", _LAST_SECONDS)):
        running.signal(name)
        if _ended(events, within=seconds):
            break
    else:
        client.kill()
    return _SIGNALLED + number


def _ended(events: queue.SimpleQueue[int | None], *, within: float) -> bool:
    """Whether the client ended in time; a second signal means at once."""
    with suppress(queue.Empty):
        return events.get(timeout=within) is None
    return False


@contextmanager
def _signals_to(events: queue.SimpleQueue[int | None]) -> Iterator[None]:
    """Have signals counted that would end this process, but for those that it ignores."""

    def note(number: int, _frame: object) -> None:
        events.put(number)

    ours = [number for number in _ENDS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
