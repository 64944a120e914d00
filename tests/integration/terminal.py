"""jupbox on a terminal of its own, as a person sits before it, and `exec` without one."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.integration.jupbox_command import Laptop

_PATIENCE_SECONDS = 60.0


@dataclass(kw_only=True)
class Terminal:
    """The person's side.

    Attributes:
        process: what runs on it.
        shown: all that it has shown so far.
    """

    descriptor: int
    process: subprocess.Popen[bytes]
    shown: str = ""
    _seen: int = field(default=0, repr=False)

    def type(self, text: str) -> None:
        """Press keys; `\\r` is Enter."""
        os.write(self.descriptor, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size; the kernel tells what runs in the foreground."""
        _set_size(self.descriptor, rows, columns)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until something new is shown that matches."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not (match := re.search(pattern, self.shown[self._seen :])):
            assert time.monotonic() < deadline, f"{pattern!r} was not shown: {self.shown!r}"
            self._read()
        self._seen += match.end()
        return match

    def wait(self) -> int:
        """Wait for the end; the exit code."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end: {self.shown!r}"
            self._read()
        return self.process.wait()

    def hang_up(self) -> None:
        """Close the window."""
        os.close(self.descriptor)
        self.descriptor = -1

    def local_flags(self) -> int:
        """How the terminal treats keys: raw, or as lines with an echo."""
        return int(termios.tcgetattr(self.descriptor)[3])

    def _read(self) -> None:
        if select.select([self.descriptor], [], [], 0.2)[0]:
            try:
                self.shown += os.read(self.descriptor, 1 << 16).decode(errors="replace")
            except OSError:  # nothing holds the other side any more
                self.process.wait(timeout=_PATIENCE_SECONDS)


@contextmanager
def on_a_terminal(
    laptop: Laptop, *arguments: str, rows: int = 24, columns: int = 80, stdout: int | None = None
) -> Iterator[Terminal]:
    """Run jupbox on a terminal until the end of the block.

    Args:
        laptop: whose jupbox.
        arguments: its arguments.
        rows: of the window at the start.
        columns: of the window at the start.
        stdout: where its standard output goes instead.
    """
    ours, theirs = pty.openpty()
    _set_size(ours, rows, columns)
    process = subprocess.Popen(
        ["setsid", "--ctty", "env", "--default-signal", sys.executable, "-m", "jupbox", *arguments],
        env={**laptop.environ, "TERM": "xterm-256color"},
        cwd=laptop.folder,
        stdin=theirs,
        stdout=theirs if stdout is None else stdout,
        stderr=theirs,
    )
    os.close(theirs)
    terminal = Terminal(descriptor=ours, process=process)
    try:
        yield terminal
    finally:
        if process.poll() is None:
            process.terminate()
        if terminal.descriptor >= 0:
            os.close(ours)
        try:
            process.wait(timeout=_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


@contextmanager
def executing(laptop: Laptop, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """An exec without a terminal that runs until the end of the block."""
    process = subprocess.Popen(
        # a shell's background job, as a test run may be one, ignores Ctrl-C
        ["env", "--default-signal", sys.executable, "-m", "jupbox", "exec", *words],
        env=dict(laptop.environ), cwd=laptop.folder, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                pipe.close()


def _set_size(descriptor: int, rows: int, columns: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
