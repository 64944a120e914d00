"""`jupbox open` in the background."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.boxes.boxes import wait_until
from tests.integration.jupbox_command import Laptop

_PATIENCE_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A running `jupbox open`.

    Attributes:
        said: all that it has written.
    """

    process: subprocess.Popen[bytes]
    said: Path

    @property
    def text(self) -> str:
        """What it has written so far."""
        return self.said.read_text()

    @property
    def url(self) -> str:
        """Where it says that the server is."""
        match = re.search(r"https://localhost:\d+/lab(?= leads to)", self.text)
        assert match, self.text
        return match[0]

    @property
    def port(self) -> int:
        """The port here."""
        return int(self.url.removesuffix("/lab").rpartition(":")[2])

    @property
    def link(self) -> str:
        """The link that --url prints."""
        match = re.search(r"https://localhost:\d+/jupbox/login\?code=\S+", self.text)
        assert match, self.text
        return match[0]

    def listens(self) -> bool:
        """Whether anything accepts connections at its port."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def children(self) -> list[int]:
        """The processes that it has started and that run."""
        pid = self.process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Wait until it has said something as often as that."""
        wait_until(
            lambda: self.text.count(text) >= times or self.process.poll() is not None,
            f"{text!r} from `jupbox open`",
            timeout=_PATIENCE_SECONDS,
        )
        assert self.text.count(text) == times, self.text

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send it a signal; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=_PATIENCE_SECONDS)


@contextmanager
def opening(laptop: Laptop, *arguments: str, **environ: str) -> Iterator[Opened]:
    """Run `jupbox open` on a laptop until the end of the block."""
    descriptor, name = tempfile.mkstemp(prefix="jupbox-open-")
    with os.fdopen(descriptor, "wb") as output:
        process = subprocess.Popen(
            # a shell's background job, as a test run may be one, ignores Ctrl-C
            ["env", "--default-signal", sys.executable, "-m", "jupbox", "open", *arguments],
            env={**laptop.environ, **environ},
            cwd=laptop.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    opened = Opened(process=process, said=Path(name))
    try:
        opened.wait_for("until Ctrl-C")
        yield opened
        assert "Traceback" not in opened.text
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            opened.said.unlink()
