"""`python -m jupbox_server.run [--id TOKEN] [-C DIR] -- COMMAND…`: what `jupbox exec` starts.

Without a command it is a login shell. The exit code is the command's: 127 if it is not found, 126
if it cannot be run, 128+N if signal N ended it, 125 if it was not this far. Without a terminal
no key reaches the command; `--signal NAME --id TOKEN` then sends it what would have been typed, and
with one that it hung up.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from . import environment
from .paths import CONTROL_SOCKET

#: Where the process groups of running commands stand; only the user enters it.
RUNNING = CONTROL_SOCKET.parent

NOT_STARTED, NOT_EXECUTABLE, NOT_FOUND, SIGNALLED = 125, 126, 127, 128
#: Seconds for a command to come up that is to get a signal: both start at the same moment.
COMING = 2.0
#: Seconds after which a file that nobody has locked belongs to a command that has ended.
SWEPT = 60.0

# What a terminal or a dying connection would send; the group is not that of this process.
_HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class RunError(Exception):
    """The command does not run; the message says why, the status is the exit code."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


def _token(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise argparse.ArgumentTypeError("letters, digits, - and _ only")
    return text


def _signal(name: str) -> signal.Signals:
    try:
        return signal.Signals[f"SIG{name.upper().removeprefix('SIG')}"]
    except KeyError:
        raise argparse.ArgumentTypeError(f"no signal is called {name}") from None


def _enter(folder: str | None) -> None:
    """Go where the command starts: the notebooks, or below them unless the path is absolute."""
    home = Path.home()
    notebooks = home / "notebooks"
    start = notebooks if notebooks.is_dir() else home
    try:
        os.chdir(start / Path(folder or "").expanduser())
    except OSError as error:
        raise RunError(f"{error.filename}: {error.strerror}", NOT_STARTED) from None


@contextmanager
def _explained(program: str) -> Iterator[None]:
    """Tell apart what a shell tells apart when a program does not start.

    Raises:
        RunError: in place of the OSError.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{program}: command not found", NOT_FOUND) from None
    except OSError as error:
        raise RunError(f"{program}: {error.strerror}", NOT_EXECUTABLE) from None


def _become(command: Sequence[str]) -> NoReturn:
    """Be the command: the terminal's signals, job control and exit code are then its own."""
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, not by who started it
        signal.signal(ignored, signal.SIG_DFL)
    os.execvpe(command[0], list(command), os.environ)


@contextmanager
def _noted(path: Path, group: int) -> Iterator[None]:
    """Keep the process group in a file, locked: what a killed wrapper leaves behind is unlocked."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{group}\n")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _stand(path: Path) -> None:
    """Keep this process's group in a file, locked for as long as the command has it open.

    Should its terminal go away, nothing but a signal from outside tells the command.
    """
    for old in path.parent.glob("exec-*"):
        _sweep(old)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, f"{os.getpgrp()}\n".encode())
    os.set_inheritable(descriptor, True)


def _sweep(path: Path) -> None:
    """Remove what a command on a terminal left; not while another is just coming up."""
    with suppress(OSError), path.open() as file:
        if time.time() - os.fstat(file.fileno()).st_mtime > SWEPT:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _attend(command: Sequence[str], path: Path) -> int:
    """Run the command in a process group of its own, known by a file; its exit code."""
    with _explained(command[0]):
        child = subprocess.Popen(command, process_group=0)

    def hand_on(number: int, _frame: object) -> None:
        os.killpg(child.pid, number)

    for number in _HANDED_ON:
        signal.signal(number, hand_on)
    try:
        with _noted(path, child.pid):
            # it stays a zombie, and its number its own, until the file is gone
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    except OSError as error:
        child.kill()
        child.wait()
        raise RunError(f"{error.filename}: {error.strerror}", NOT_STARTED) from None
    status = child.wait()
    return SIGNALLED - status if status < 0 else status


def _group(path: Path) -> int | None:
    """The process group of a running command; None if there is none (yet)."""
    try:
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
    except (OSError, ValueError):
        pass
    return None


def send(number: signal.Signals, path: Path) -> None:
    """Send a signal to the command that stands in `path`.

    Raises:
        RunError: no such command runs, nor comes up within two seconds.
    """
    deadline = time.monotonic() + COMING
    while not (group := _group(path)):
        if time.monotonic() > deadline:
            raise RunError("no command runs under that id", 1)
        time.sleep(0.02)
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        raise RunError("the command has ended", 1) from None


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="jupbox_server.run", description=__doc__)
    parser.add_argument("--id", type=_token, metavar="TOKEN")
    parser.add_argument("--signal", type=_signal, metavar="NAME")
    parser.add_argument("-C", dest="folder", metavar="DIR")
    parser.add_argument("--running", type=Path, default=RUNNING, help=argparse.SUPPRESS)
    parser.add_argument("command", nargs="*", metavar="COMMAND")
    arguments = parser.parse_args(argv)
    if arguments.signal and (not arguments.id or arguments.command):
        parser.error("--signal goes with --id, and with no command")
    return arguments


def _run(arguments: argparse.Namespace) -> int:
    path = arguments.running / f"exec-{arguments.id}"
    if arguments.signal:
        send(arguments.signal, path)
        return 0
    environment.apply(os.environ)
    _enter(arguments.folder)
    command = arguments.command or [os.environ.get("SHELL") or "/bin/bash", "-l"]
    if arguments.id and not os.isatty(0):
        return _attend(command, path)
    if arguments.id:
        with suppress(OSError):  # it runs all the same
            _stand(path)
    with _explained(command[0]):
        _become(command)
    return NOT_STARTED  # not reached


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, or send it a signal; the exit code."""
    try:
        return _run(_arguments(sys.argv[1:] if argv is None else argv))
    except RunError as error:
        print(f"jupbox: {error}", file=sys.stderr)
        return error.status


if __name__ == "__main__":
    sys.exit(main())
