"""One ssh connection for all that a command does, kept ten minutes for the next one.

A master connection is started when there is none; commands, the engine's socket and
ports go through it (ControlMaster). Everything about how the host is reached (jump
hosts, ports, keys, agents, host key checking) is the user's own ssh configuration.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import select
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from jupbox.audit import Change
from jupbox.errors import AuthError, ClientError, HostError, HostKeyError
from jupbox.host import exclusion
from jupbox.host.exclusion import Hold, Record
from jupbox.host.files import runtime_directory
from jupbox.host.machine import Completed, failed, free_port, run_here

KEEP_SECONDS: Final = 600
"""How long an unused connection waits for the next command."""

_CONNECT_SECONDS: Final = 30
_ANSWER_SECONDS: Final = 10.0
_ECHO_SECONDS: Final = 2.0
_SHORT_SECONDS: Final = 0.5
_PROBE_SECONDS: Final = 2.0
_PORT_TRIES: Final = 5
# ssh exits with 255 for its own failures; a remote command may do so too.
_SSH_FAILED: Final = 255


class SshMachine:
    """A computer behind ssh; connects on first use."""

    is_local = False

    def __init__(self, destination: str) -> None:
        if destination.startswith("-"):
            raise HostError(
                f"{destination!r} is not an ssh destination.", remedy="Give it as in `ssh NAME`."
            )
        self.name = destination
        self.connect_seconds = _CONNECT_SECONDS
        """How long a login may take to begin, where ssh's own configuration does not say it."""
        self._settings: dict[str, str] | None = None
        self._digest = ""

    @property
    def settings(self) -> dict[str, str]:
        """What `ssh -G` says of the destination: lower-case keyword to (last) value.

        Raises:
            ClientError: there is no ssh here.
            HostError: ssh's configuration is refused by ssh itself.
        """
        if self._settings is None:
            done = run_here(["ssh", "-G", self.name], input=b"", timeout=30, machine="this machine")
            if done.returncode == 127:
                raise ClientError(
                    "There is no `ssh` on this machine.", remedy="Install an OpenSSH client."
                )
            if done.returncode != 0:
                raise HostError(
                    f"ssh does not accept its configuration for {self.name}: {done.error}",
                    remedy=f"Mend it until `ssh {self.name}` works.",
                )
            # all of it: another jump host, key or user is another connection
            self._digest = hashlib.sha256(self.name.encode() + done.stdout).hexdigest()[:12]
            lines = (line.partition(" ") for line in done.text.splitlines())
            self._settings = {key: value for key, _, value in lines}
        return self._settings

    @property
    def host_name(self) -> str:
        """The host's name or address as ssh resolves it."""
        return self.settings.get("hostname", self.name)

    @property
    def _is_direct(self) -> bool:
        """Whether ssh goes there by a TCP connection of its own."""
        settings = self.settings
        return settings.get("proxyjump", "none") == "none" and "proxycommand" not in settings

    @property
    def _control(self) -> Path:
        assert self.settings
        return runtime_directory() / f"{self._digest}.ctl"

    def _mux(self, *arguments: str) -> list[str]:
        # No configuration: the master has used it, and a LocalForward in it would be asked for
        # once more by every client. No way of its own: without its master it must not log in.
        closed = ("-F", "none", "-o", "ProxyCommand=false")
        return ["ssh", *closed, "-S", str(self._control), *arguments, "--", self.name]

    def is_connected(self) -> bool:
        """Whether a live master connection stands."""
        if not self._control.exists():
            return False
        check = run_here(self._mux("-O", "check"), input=b"", timeout=10, machine=self.name)
        return check.returncode == 0

    def connect(self) -> None:
        """Make sure that a master connection stands; ssh may ask its questions on the terminal.

        Raises:
            HostError: not reachable; its subclasses say why ssh was refused.
        """
        if self.is_connected():
            return
        with _exclusive(self._control.with_suffix(".lock")):
            if not self.is_connected():
                self._start_master()

    def _start_master(self) -> None:
        timeout = self.settings.get("connecttimeout", "none")
        options = {
            "ControlPersist": str(KEEP_SECONDS),
            "ClearAllForwardings": "yes",
            "RemoteCommand": "none",
            "RequestTTY": "no",
            "PermitLocalCommand": "no",
            "ConnectTimeout": str(self.connect_seconds) if timeout == "none" else timeout,
            "ServerAliveInterval": "10",
            "ServerAliveCountMax": "3",
        }
        flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        argv = ["ssh", "-M", "-S", str(self._control), *flags, "-f", "-N", "-T", "--", self.name]
        # what a killed master left: the new one would run on, and share itself with nobody
        self._control.unlink(missing_ok=True)
        # a file, not a pipe: the master lives on and would hold a pipe open
        with tempfile.TemporaryFile() as log:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, check=False
            )
            log.seek(0)
            said = log.read().decode(errors="replace").replace("\r", "").strip()
        if done.returncode != 0:
            raise self._refusal(said)

    def _refusal(self, said: str) -> HostError:
        """Why there is no connection: what can be looked at comes first, ssh's words last."""
        by_hand = f"Try `ssh {self.name}` until that works, then run this again."
        if self._is_direct:
            port = int(self.settings.get("port", "22"))
            problem = _unreachable(self.host_name, port, seconds=min(10, self.connect_seconds))
            if problem:
                return HostError(f"{self.name} cannot be reached: {problem}.", remedy=by_hand)
        if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said:
            return HostKeyError(
                f"The host key of {self.name} is another one than before.",
                remedy="Ask its administrator whether that is right; if so, run "
                f"`{self._forget_key()}` and `ssh {self.name}` once.",
            )
        if "Host key verification failed" in said:
            return HostKeyError(
                f"The host key of {self.name} is not known yet.",
                remedy=f"Run `ssh {self.name}` once in a terminal and compare the fingerprint.",
            )
        if "Permission denied" in said or "Too many authentication failures" in said:
            user = self.settings.get("user", "")
            return AuthError(
                f"{self.name} refused the login{f' as {user}' if user else ''}.", remedy=by_hand
            )
        last = said.splitlines()[-1] if said else "ssh gave no reason"
        return HostError(f"{self.name} cannot be reached: {last}", remedy=by_hand)

    def _forget_key(self) -> str:
        """The command by which ssh forgets the host's key."""
        name = self.settings.get("hostkeyalias", self.host_name)
        port = self.settings.get("port", "22")
        file = self.settings.get("userknownhostsfile", "").partition(" ")[0]
        usual = not file or file.endswith("/.ssh/known_hosts")
        words = ["ssh-keygen", *([] if usual else ["-f", file])]
        return shlex.join([*words, "-R", name if port == "22" else f"[{name}]:{port}"])

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",
        timeout: float = 60.0,
        check: bool = True,
    ) -> Completed:
        """See `Machine.run`."""
        self.connect()
        command = shlex.join(argv)
        done = run_here(
            [*self._mux("-T"), command],
            input=input,
            timeout=timeout,
            machine=self.name,
        )
        if done.returncode == _SSH_FAILED and not self.is_connected():
            raise HostError(
                f"The connection to {self.name} was lost.", remedy="Run the command again."
            )
        completed = Completed(
            argv=tuple(argv), returncode=done.returncode, stdout=done.stdout, stderr=done.stderr
        )
        if check and completed.returncode != 0:
            raise failed(completed, self.name)
        return completed

    def local_socket(self, remote: str) -> Path:
        """See `Machine.local_socket`."""
        self.connect()
        local = self._control.with_suffix(".sock")
        with _exclusive(self._control.with_suffix(".lock")):
            if _accepts(local) and self._forwarded(local) == remote:
                return local
            # a stale socket file makes the forward fail, and for one that the master believes
            # to have it would make no new file
            self._cancel(f"{local}:{self._forwarded(local)}")
            local.unlink(missing_ok=True)
            self._forward(f"{local}:{remote}")
            local.with_suffix(".to").write_text(remote)
        return local

    def _forwarded(self, local: Path) -> str:
        note = local.with_suffix(".to")
        return note.read_text() if note.exists() else ""

    def _forward(self, specification: str) -> None:
        done = run_here(
            self._mux("-O", "forward", "-L", specification),
            input=b"",
            timeout=30,
            machine=self.name,
        )
        if done.returncode != 0:
            raise HostError(
                f"{self.name} does not forward what jupbox needs: {done.error}",
                remedy="AllowTcpForwarding and AllowStreamLocalForwarding must be on in its sshd.",
            )

    @contextmanager
    def tunnel(self, port: int, *, local_port: int = 0) -> Iterator[int]:
        """See `Machine.tunnel`."""
        self.connect()
        here, specification = self._forward_port(port, local_port)
        try:
            yield here
        finally:
            self._cancel(specification)

    def _forward_port(self, port: int, wanted: int) -> tuple[int, str]:
        """Forward a free port of this computer; the port, and what undoes it."""
        for _ in range(_PORT_TRIES):
            here = free_port(wanted)
            specification = f"127.0.0.1:{here}:127.0.0.1:{port}"
            try:
                self._forward(specification)
            except HostError:
                # two `open`s at once see the same free port, and one of them gets it
                if free_port(here) == here:
                    raise
            else:
                return here, specification
        raise HostError(
            "Each port that was free on this machine was taken a moment later.",
            remedy="Try again.",
        )

    def _cancel(self, specification: str) -> None:
        """End a forwarding, if the master has it."""
        with suppress(HostError):
            run_here(
                self._mux("-O", "cancel", "-L", specification),
                input=b"",
                timeout=10,
                machine=self.name,
            )

    @contextmanager
    def exclusive(self, name: str, change: Change, *, record: bool = True) -> Iterator[Hold]:
        """See `Machine.exclusive`: a script there has it for as long as our session lasts."""
        self.connect()
        script = shlex.join(exclusion.script_arguments(name, change, record=record))
        with exclusion.held_there([*self._mux("-T"), script], self.name) as hold:
            yield hold

    def recorded(self, name: str) -> Record:
        """See `Machine.recorded`."""
        return exclusion.read_record(self.run(["sh", "-c", exclusion.LOOK, "sh", name]).text)

    def forget(self, name: str) -> None:
        """See `Machine.forget`."""
        self.run(["sh", "-c", exclusion.FORGET, "sh", name])

    def hold(self) -> subprocess.Popen[bytes]:
        """A session that ends when the connection does; it keeps an unused master alive.

        The caller ends it (`terminate`), or sees that it ended by itself.
        """
        self.connect()
        return subprocess.Popen(
            [*self._mux("-T"), "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def attend(self, session: subprocess.Popen[bytes]) -> None:
        """Wait until the connection of a session of `hold` has ended, or is of no more use.

        A network that was away leaves a connection that neither side hears through for a while,
        or never (another address, a router that forgot it), though a new one would do. So the
        session is spoken to; where it is silent while the host was out of reach and is in reach
        again, the connection is ended.
        """
        was_away, way = False, self._way_out()
        while session.poll() is None:
            slept = _slept()
            if _echoes(session, within=_SHORT_SECONDS if was_away else _ECHO_SECONDS):
                was_away = False
                with suppress(subprocess.TimeoutExpired):
                    session.wait(_ECHO_SECONDS)
            elif not self.is_there() or (not was_away and self._way_out() != way):
                was_away = True
            elif was_away and not _echoes(session, within=_SHORT_SECONDS):
                self.disconnect()
                session.kill()
            was_away = was_away or _slept() - slept > _ECHO_SECONDS
        session.wait()

    def _way_out(self) -> str:
        """This machine's address in the network by which it reaches the host, if any."""
        port = int(self.settings.get("port", "22"))
        with suppress(OSError, UnicodeError):
            family, kind, _, _, address = socket.getaddrinfo(
                self.host_name, port, type=socket.SOCK_DGRAM
            )[0]
            with socket.socket(family, kind) as probe:
                probe.connect(address)  # nothing is sent
                return str(probe.getsockname()[0])
        return ""

    def is_there(self) -> bool:
        """Whether the host's sshd answers a new connection, within seconds; no login is made.

        Of a host behind another it is not known: yes.
        """
        if not self._is_direct:
            return True
        address = (self.host_name, int(self.settings.get("port", "22")))
        try:
            with socket.create_connection(address, timeout=_PROBE_SECONDS) as probe:
                return probe.recv(4) == b"SSH-"
        except (OSError, UnicodeError):
            return False

    def answers(self) -> bool:
        """Whether anything still comes through the connection."""
        try:
            done = run_here(
                [*self._mux("-T"), "true"], input=b"", timeout=_ANSWER_SECONDS, machine=self.name
            )
        except HostError:
            return False
        return done.returncode == 0

    def disconnect(self) -> None:
        """End the master connection, if there is one: a new login sees new groups."""
        if self.is_connected():
            run_here(self._mux("-O", "exit"), input=b"", timeout=10, machine=self.name)
        for suffix in (".sock", ".to"):
            self._control.with_suffix(suffix).unlink(missing_ok=True)


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Let one process of ours start the master; the others wait and then use it."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _echoes(session: subprocess.Popen[bytes], *, within: float) -> bool:
    """Say something to a session; whether anything comes back, be it its end."""
    assert session.stdin is not None and session.stdout is not None
    with suppress(OSError):
        session.stdin.write(b"\n")
        session.stdin.flush()
    ready, _, _ = select.select([session.stdout], [], [], within)
    if ready:
        os.read(session.stdout.fileno(), 4096)
    return bool(ready)


def _slept() -> float:
    """Seconds that this machine has slept, from any moment on."""
    return time.time() - time.monotonic()


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _unreachable(host: str, port: int, *, seconds: float = 10) -> str | None:
    """Why no TCP connection comes about, or None when one does."""
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        return f"the name {host} is not known"
    try:
        socket.create_connection((host, port), timeout=seconds).close()
    except TimeoutError:
        return f"{host} port {port} does not answer"
    except OSError as error:
        return f"{host} port {port}: {error.strerror or error}"
    return None
