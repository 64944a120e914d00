"""Boxes on which things go wrong, a terminal with Ctrl-C, and the two lines of an error."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from jupbox import errors
from tests.integration.boxes.boxes import BoxUnderTest, Keyring, running_box, wait_until
from tests.integration.jupbox_command import Answer, Laptop, new_laptop
from tests.triggers import saw

# Longer lines are not read.
LONGEST = 240
TRADEMARKS = ("✗ ", "x ")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True, kw_only=True)
class Said:
    """The two lines of an error."""

    wrong: str
    remedy: str


def two_lines(stderr: str) -> Said:
    """The last two lines, which must be an error's, and the only ones; a log may stand between."""
    lines = [line.rstrip() for line in stderr.splitlines() if line.strip()]
    *before, wrong, remedy = [line for line in lines if not line.startswith("  | ")]
    assert wrong.startswith(TRADEMARKS), stderr
    assert remedy.startswith("  "), stderr
    assert not [line for line in before if line.startswith(TRADEMARKS)], stderr
    assert max(len(wrong), len(remedy)) <= LONGEST, stderr
    return Said(wrong=wrong[2:], remedy=remedy.strip())


def refused(answer: Answer, error: type[errors.JupboxError]) -> Said:
    """The two lines of a command that must have ended with that error."""
    assert answer.code == error.exit_code, f"{answer.code}\n{answer.stdout}\n{answer.stderr}"
    assert "Traceback" not in answer.stdout + answer.stderr
    return two_lines(answer.stderr)


@pytest.fixture
def desk(tmp_path: Path, keyring: Keyring) -> Iterator[Laptop]:
    """A laptop in a folder with a project to be written; its temporary files can be counted."""
    with new_laptop(tmp_path, keyring) as laptop:
        (tmp_path / "project").mkdir()
        (tmp_path / "temporary").mkdir()
        yield laptop.at(tmp_path / "project", TMPDIR=str(tmp_path / "temporary"))


def write(laptop: Laptop, text: str) -> None:
    (laptop.folder / "jupbox.toml").write_text(text)


def files_of(laptop: Laptop) -> list[str]:
    """The files of the project."""
    return sorted(path.name for path in laptop.folder.iterdir())


def leftovers(laptop: Laptop) -> list[str]:
    """Temporary files of the laptop."""
    return sorted(path.name for path in Path(laptop.environ["TMPDIR"]).iterdir())


# --- a terminal -------------------------------------------------------------------------------


class Terminal:
    """A program on a terminal of its own, where Ctrl-C reaches all that it has started."""

    def __init__(self, laptop: Laptop, *argv: str) -> None:
        self._argv = argv
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 240, 0, 0))
        self.process = subprocess.Popen(
            argv,
            cwd=laptop.folder,
            env={**laptop.environ, "TERM": "xterm", "LANG": "C.UTF-8"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        os.close(slave)
        self._raw = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # EIO: the last program on it has ended
            while block := os.read(self._master, 65536):
                self._raw.extend(block)

    @property
    def raw(self) -> str:
        return self._raw.decode(errors="replace")

    @property
    def text(self) -> str:
        """What was shown, without colours and cursor movements."""
        return ESCAPES.sub("", self.raw).replace("\r", "\n")

    def wait_for(self, text: str, *, timeout: float = 300) -> None:
        def shown() -> bool:
            assert text in self.text or self.process.poll() is None, self.text
            return text in self.text

        wait_until(shown, f"{text!r} on the terminal", timeout=timeout)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def ctrl_c(self) -> None:
        self.type("\x03")

    def end(self, *, timeout: float = 60) -> Answer:
        """How it ended."""
        code = self.process.wait(timeout)
        self._reader.join(10)
        saw(self._argv, code)
        return Answer(code=code, stdout="", stderr=self.text)

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._master)


@contextmanager
def on_a_terminal(laptop: Laptop, *arguments: str) -> Iterator[Terminal]:
    """jupbox on a terminal."""
    terminal = Terminal(laptop, sys.executable, "-m", "jupbox", *arguments)
    try:
        yield terminal
    finally:
        terminal.close()


# --- boxes ------------------------------------------------------------------------------------

_OWN: dict[str, BoxUnderTest] = {}


def own_box(name: str, service: str, keyring: Keyring, config: pytest.Config) -> BoxUnderTest:
    """A box for the tests of errors alone, until this process ends; several modules share it."""
    if name not in _OWN:
        keep = ExitStack()
        config.add_cleanup(keep.close)
        _OWN[name] = keep.enter_context(running_box(service, keyring, alias=name))
    return _OWN[name]


@pytest.fixture
def errorbox(keyring: Keyring, pytestconfig: pytest.Config) -> BoxUnderTest:
    """Debian 13 and its engine: stopped, cut off and filled up by these tests."""
    return own_box("errorbox", "workbox", keyring, pytestconfig)


@pytest.fixture
def lonelybox(keyring: Keyring, pytestconfig: pytest.Config) -> BoxUnderTest:
    """Debian 13 with no engine."""
    return own_box("lonelybox", "bare13", keyring, pytestconfig)


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """What a box's engine has, and what runs since when."""

    containers: list[str]
    images: list[str]
    volumes: list[str]


def holdings(box: BoxUnderTest) -> Holdings:
    def listed(*command: str) -> list[str]:
        return sorted(box.exec("docker", *command).splitlines())

    ids = listed("ps", "--all", "--quiet")
    started = "{{.Id}} {{.Name}} {{.State.Status}} {{.State.StartedAt}}"
    return Holdings(
        containers=listed("inspect", "--format", started, *ids) if ids else [],
        images=listed("image", "ls", "--all", "--no-trunc", "--format", "{{.ID}} {{.Tag}}"),
        volumes=listed("volume", "ls", "--format", "{{.Name}}"),
    )


@contextmanager
def unchanged(box: BoxUnderTest, *, but_images: bool = False) -> Iterator[None]:
    """Nothing on the box's engine may be another afterwards.

    Args:
        box: whose engine.
        but_images: a base may have come, which every later lock needs.
    """
    before = holdings(box)
    yield
    after = holdings(box)
    assert (before.containers, before.volumes) == (after.containers, after.volumes)
    assert but_images or before.images == after.images
