"""A computer that runs commands for us: this one, or one behind ssh.

Every other room asks a `Machine` and does not know which kind it talks to.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jupbox.audit import Change
from jupbox.errors import HostError
from jupbox.host import exclusion
from jupbox.host.exclusion import Hold, Record


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

    def exclusive(
        self, name: str, change: Change, *, record: bool = True
    ) -> AbstractContextManager[Hold]:
        """Let one process at a time change what `name` stands for there.

        The lock goes with the process that holds it, however that ends.

        Args:
            name: of the stack.
            change: who takes it, and what for.
            record: keep that in the audit, with the end that the hold is told.

        Raises:
            BusyError: another process holds it; it says who.
            HostError: the machine does not answer.
        """
        ...

    def recorded(self, name: str) -> Record:
        """Who changes `name` there now, and who did before."""
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

    def exclusive(
        self, name: str, change: Change, *, record: bool = True
    ) -> AbstractContextManager[Hold]:
        """See `Machine.exclusive`."""
        return exclusion.held_here(name, change, record=record, machine=self.name)

    def recorded(self, name: str) -> Record:
        """See `Machine.recorded`."""
        return exclusion.recorded_here(name)

    def forget(self, name: str) -> None:
        """See `Machine.forget`."""
        exclusion.forget_here(name)

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
