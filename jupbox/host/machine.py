"""A computer that runs commands for us: this one, or one behind ssh.

Every other room asks a `Machine` and does not know which kind it talks to.
"""

from __future__ import annotations

import fcntl
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import platformdirs

from jupbox.errors import BusyError, HostError


@dataclass(frozen=True, kw_only=True)
class Completed:
    """What a finished command left behind; its input is not kept, it may be secret."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode(errors="replace")

    @property
    def error(self) -> str:
        """Standard error as stripped text."""
        return self.stderr.decode(errors="replace").strip()


class Machine(Protocol):
    """Runs commands, and lets us reach sockets and ports of that computer."""

    @property
    def name(self) -> str:
        """How messages call it: `this machine`, or the ssh destination."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether it is the computer that jupbox itself runs on."""
        ...

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",
        timeout: float = 60.0,
        check: bool = True,
    ) -> Completed:
        """Run `argv` as the user that we are there, to its end.

        Args:
            argv: program and arguments; no shell reads them.
            input: what the program finds on its standard input; the place for secrets.
            timeout: seconds until the command counts as hung.
            check: raise when the exit code is not 0.

        Raises:
            HostError: it did not end in time, or failed while `check` is set.
        """
        ...

    def local_socket(self, remote: str) -> Path:
        """A unix socket on this computer that leads to the socket `remote` there.

        Raises:
            HostError: it cannot be forwarded.
        """
        ...

    def exclusive(self, name: str) -> AbstractContextManager[None]:
        """Let one process at a time change what `name` stands for there.

        The lock goes with the process that holds it, however that ends.

        Raises:
            BusyError: another process holds it.
        """
        ...

    def forget(self, name: str) -> None:
        """Remove what `exclusive` left there for `name`; for whoever holds it, as the last act."""
        ...

    def tunnel(self, port: int, *, local_port: int = 0) -> AbstractContextManager[int]:
        """A port on this computer's 127.0.0.1 that leads to 127.0.0.1:`port` there.

        Args:
            port: the TCP port of the other side's loopback.
            local_port: the port wanted here; 0 for any free one.

        Raises:
            HostError: it cannot be forwarded.
        """
        ...


def failed(done: Completed, machine: str) -> HostError:
    """The error for a command that had to succeed and did not."""
    detail = done.error.splitlines()[-1] if done.error else f"exit code {done.returncode}"
    return HostError(
        f"`{done.argv[0]}` failed on {machine}: {detail}",
        remedy=f"Run it there by hand to see more: {' '.join(done.argv)[:200]}",
    )


def busy(machine: str) -> BusyError:
    """The error for a lock that another process holds."""
    return BusyError(
        f"Another jupbox is changing the same server on {machine} right now.",
        remedy="Wait until it is done, then run this again.",
    )


def free_port(preferred: int = 0) -> int:
    """A TCP port that nothing listens on at 127.0.0.1, `preferred` if that is free."""
    for port in dict.fromkeys((preferred, 0)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise HostError("No TCP port is free on this machine.", remedy="Close some programs.")


@dataclass(frozen=True, kw_only=True)
class LocalMachine:
    """The computer that jupbox runs on."""

    name: str = "this machine"
    is_local: bool = True

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",
        timeout: float = 60.0,
        check: bool = True,
    ) -> Completed:
        """See `Machine.run`."""
        completed = run_here(argv, input=input, timeout=timeout, machine=self.name)
        if check and completed.returncode != 0:
            raise failed(completed, self.name)
        return completed

    def local_socket(self, remote: str) -> Path:
        """See `Machine.local_socket`: the socket itself."""
        return Path(remote)

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """See `Machine.exclusive`."""
        folder = platformdirs.user_state_path("jupbox")
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        with (folder / f"{name}.lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise busy(self.name) from None
            yield

    def forget(self, name: str) -> None:
        """See `Machine.forget`."""
        folder = platformdirs.user_state_path("jupbox")
        (folder / f"{name}.lock").unlink(missing_ok=True)
        with suppress(OSError):  # others are left in it
            folder.rmdir()

    @contextmanager
    def tunnel(self, port: int, *, local_port: int = 0) -> Iterator[int]:
        """See `Machine.tunnel`: the port itself, whatever `local_port` says."""
        yield port


def run_here(argv: Sequence[str], *, input: bytes, timeout: float, machine: str) -> Completed:
    """Run a program of this computer; `machine` is what an error calls the place.

    Raises:
        HostError: it did not end within `timeout` seconds.
    """
    try:
        done = subprocess.run(
            list(argv), input=input, capture_output=True, timeout=timeout, check=False
        )
    except FileNotFoundError:
        return Completed(argv=tuple(argv), returncode=127, stdout=b"", stderr=b"not found")
    except subprocess.TimeoutExpired:
        raise HostError(
            f"`{argv[0]}` did not end within {timeout:.0f} s on {machine}.",
            remedy="Look whether the machine is overloaded or its network hangs, then try again.",
        ) from None
    return Completed(
        argv=tuple(argv), returncode=done.returncode, stdout=done.stdout, stderr=done.stderr
    )
