"""The Docker engine of a box; the only room that knows python_on_whales.

All calls go to one unix socket: the engine's own, or one that ssh forwards. Secrets
go to the engine on standard input alone, never in argv or environment.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import socket as sockets
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

from jupbox import build_log
from jupbox.errors import (
    BuildError,
    ClientError,
    ConfigError,
    DiskFullError,
    EngineError,
    HostError,
    JupboxError,
    PortTakenError,
)
from jupbox.host import passing
from jupbox.host.inspected import Container, Image, container_of, image_of, published_by
from jupbox.host.machine import LocalMachine
from jupbox.host.signals import uninterrupted
from jupbox.secret import Secret, without_credentials

if TYPE_CHECKING:
    from python_on_whales import DockerClient

MINIMUM: Final = {"engine": (26, 1), "compose": (2, 26), "buildx": (0, 13)}
"""The oldest versions that the tests can get: those of Debian 13."""

_CLIENT_REMEDY: Final = (
    "Install docker-cli, docker-compose and docker-buildx here (`jupbox setup local` does it "
    "on Debian and Ubuntu)."
)


# What the user set for docker in general and would lead our calls astray; the last one prints
# the whole environment.
_OTHERS: Final = (
    "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH",
    "DOCKER_DEFAULT_PLATFORM", "BUILDX_BUILDER", "PYTHON_ON_WHALES_DEBUG",
)  # fmt: skip

COMPOSE_PROJECT: Final = "com.docker.compose.project"
"""Compose's own label on all that it made; its value is the stack, and sidecars have no other."""

_PIPE_BUFFER: Final = 1 << 20

# Docker waits for what follows the first of them, and its own, Ctrl-P, is a shell's last command.
_DETACH_KEYS: Final = "ctrl-^,ctrl-@,ctrl-^,ctrl-@"


class Engine:
    """A Docker engine behind a unix socket.

    Args:
        socket: path on this computer.
        place: how messages call the machine that it runs on.
        word: how a command line names its box.
        reaches: whether the way to that machine still stands; None where there is none.
    """

    def __init__(
        self, socket: Path, *, place: str, word: str = "",
        reaches: Callable[[], bool] | None = None,
    ) -> None:  # fmt: skip
        self._socket = socket
        self._reaches = reaches
        self._word = word or place
        self.place = place
        self.heir: int | None = None
        """A descriptor that docker's processes inherit: it stays open until the last has ended."""
        self._client: DockerClient | None = None

    @property
    def client(self) -> DockerClient:
        """The client; imported late, as the library takes 0.2 s to load."""
        if self._client is None:
            self._client = self._new_client()
        return self._client

    def _new_client(self, **options: Any) -> DockerClient:
        from python_on_whales import DockerClient  # noqa: PLC0415

        # looked for first: where there is none, the library would download one
        docker = shutil.which("docker")
        if docker is None:
            raise ClientError(
                "There is no Docker command line on this machine.", remedy=_CLIENT_REMEDY
            )
        # our own calls name their engine; a context or builder of the user's would win over it
        for variable in _OTHERS:
            os.environ.pop(variable, None)
        return DockerClient(host=f"unix://{self._socket}", client_call=[docker], **options)

    # -- plumbing

    @property
    def _command(self) -> list[str]:
        """How docker's own command line is called for this engine."""
        return [str(word) for word in self.client.client_config.docker_cmd]

    def _docker(
        self, *arguments: str, input: bytes = b"", timeout: float | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:  # fmt: skip
        """What python_on_whales cannot say: standard input for `cp`, a deadline.

        A group of its own, so that the terminal's Ctrl-C reaches us alone and we decide what ends.
        """
        try:
            return subprocess.run(
                [*self._command, *arguments],
                input=input,
                capture_output=True,
                timeout=timeout,
                check=False,
                process_group=0,
                pass_fds=() if self.heir is None else (self.heir,),
                env={**os.environ, **variables} if variables else None,
            )
        except subprocess.TimeoutExpired:
            if self._reaches is not None and not self._reaches():
                raise self._lost() from None
            raise EngineError(
                f"The Docker engine on {self.place} did not answer within {timeout:.0f} s.",
                remedy="Look whether that machine is overloaded, or restart its engine.",
            ) from None

    def _must(self, what: str, *arguments: str, input: bytes = b"") -> bytes:
        """Change something, to its end: a Ctrl-C counts only afterwards."""
        with uninterrupted():
            done = self._docker(*arguments, input=input)
        if done.returncode != 0:
            raise self.error(what, done.stderr.decode(errors="replace"))
        return done.stdout

    def error(self, what: str, said: str) -> JupboxError:
        """The error for something that the engine refused; `said` holds its words."""
        if lost := self.unreachable():
            return lost
        if is_disk_full(said):
            return self.disk_full()
        lines = [line for line in said.strip().splitlines() if line.strip()]
        last = (
            lines[-1].removeprefix("Error response from daemon: ") if lines else "no reason given"
        )
        if "address already in use" in said or "port is already allocated" in said:
            return PortTakenError(
                f"The port is taken on {self.place}.",
                remedy='Set another `port`, or "auto", in jupbox.toml.',
            )
        return EngineError(
            f"The Docker engine on {self.place} failed at {what}: {last[:300]}",
            remedy="Mend that, then run the same command again: it goes on from here.",
        )

    def disk_full(self) -> DiskFullError:
        """The error for an engine whose disk has no room left."""
        return DiskFullError(
            f"The disk of the Docker engine on {self.place} is full.",
            remedy="Free some: `docker system df` there says what Docker holds, "
            "`docker builder prune` drops caches only.",
        )

    def unreachable(self) -> JupboxError | None:
        """The error for an engine that is out of reach by now; None while it answers."""
        with sockets.socket(sockets.AF_UNIX) as probe:
            probe.settimeout(10)
            try:
                probe.connect(str(self._socket))
            except OSError:
                return self._silent() if self.place == LocalMachine.name else self._lost()
            try:
                probe.sendall(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
                if probe.recv(1):
                    return None
            except OSError:
                pass
        # a network that swallows all looks like an engine that does not answer
        return self._silent() if self._reaches is None or self._reaches() else self._lost()

    def _lost(self) -> HostError:
        return HostError(
            f"The connection to {self.place} was lost.",
            remedy="Run the same command again: it goes on from here.",
        )

    def _silent(self) -> EngineError:
        return EngineError(
            f"The Docker engine on {self.place} does not answer.",
            remedy=f"`jupbox setup {self._word}` starts it; then run the same command again.",
        )

    @contextmanager
    def _guard(self, what: str) -> Iterator[None]:
        from python_on_whales.exceptions import DockerException  # noqa: PLC0415

        try:
            yield
        except DockerException as error:
            raise self.error(what, error.stderr or "") from None

    def _inspected(self, kind: str, listed: Iterable[Any]) -> list[Any]:
        """What the engine says of each that the library listed; what vanished since is left out.

        Asked for all at once: the library would ask for one after the other, each time with a
        process of its own and a round trip to the box.
        """
        found = list(listed)
        if not found:
            return []
        done = self._docker(kind, "inspect", *map(str, found))
        if done.returncode != 0:
            # one is gone, or the engine is: the library's own questions tell which
            return _present(found)
        model = _models()[kind]
        return [model.model_validate(each) for each in json.loads(done.stdout)]

    # -- what it is

    def check(self) -> str:
        """Look whether the engine answers and everything is new enough; the engine's version.

        Raises:
            EngineError: it does not answer, or is too old.
            ClientError: Compose or Buildx is missing here, or too old.
        """
        done = self._docker("version", "--format", "{{.Server.Version}}", timeout=60)
        if done.returncode != 0:
            raise self.unreachable() or self._silent()
        version = done.stdout.decode().strip()
        if _numbers(version) < MINIMUM["engine"]:
            raise EngineError(
                f"The Docker engine on {self.place} is {version}; jupbox needs "
                f"{_dotted(MINIMUM['engine'])} or newer.",
                remedy=f"Upgrade it; `jupbox setup {self._word}` says how.",
            )
        return version

    def info(self) -> dict[str, Any]:
        """What `docker info` says, in the words of the engine's own API.

        Raises:
            EngineError: it does not answer.
        """
        done = self._docker("info", "--format", "{{json .}}", timeout=20)
        if done.returncode != 0:
            raise self.error("saying what it is", done.stderr.decode(errors="replace"))
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def check_clients(self) -> None:
        """Look whether this machine's Compose and Buildx are there and new enough.

        Raises:
            ClientError: one is not.
        """
        for plugin in ("compose", "buildx"):
            done = self._docker(plugin, "version", timeout=60)
            if done.returncode != 0:
                raise ClientError(
                    f"Docker's command line on this machine has no `{plugin}`.",
                    remedy=_CLIENT_REMEDY,
                )
            found = next((w for w in done.stdout.decode().split() if _numbers(w)), "0")
            if _numbers(found) < MINIMUM[plugin]:
                raise ClientError(
                    f"`docker {plugin}` on this machine is {found}; jupbox needs "
                    f"{_dotted(MINIMUM[plugin])} or newer.",
                    remedy=_CLIENT_REMEDY,
                )

    # -- images

    def image(self, reference: str) -> Image | None:
        """The image of that tag, digest or ID, None when the engine has none."""
        from python_on_whales.exceptions import NoSuchImage  # noqa: PLC0415

        with self._guard("inspecting an image"):
            try:
                found = self.client.image.inspect(reference)
            except NoSuchImage:
                return None
            return image_of(found)

    def images(self, labels: Mapping[str, str]) -> list[Image]:
        """All images that carry the labels."""
        with self._guard("listing images"):
            found = self.client.image.list(
                filters=[("label", f"{key}={value}") for key, value in labels.items()]
            )
            return self._images(found)

    def _images(self, listed: Iterable[Any]) -> list[Image]:
        """What was listed, once each: an image is listed with each of its tags."""
        unique = {image.id: image for image in listed}
        return [image_of(each) for each in self._inspected("image", unique.values())]

    def pull(self, reference: str, *, timeout: float) -> bool:
        """Try to pull an image; whether it came within `timeout` seconds."""
        try:
            return self._docker("pull", "--quiet", reference, timeout=timeout).returncode == 0
        except EngineError:
            return False

    @contextmanager
    def saving(self, reference: str) -> Iterator[IO[bytes]]:
        """The archive of an image (`docker save`) as it comes.

        Raises:
            EngineError: the engine refuses; said at the end.
        """
        with tempfile.TemporaryFile() as said:
            client = subprocess.Popen(
                [*self._command, "save", reference],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, process_group=0,
            )  # fmt: skip
            assert client.stdout is not None
            try:
                yield client.stdout
                client.stdout.read()  # what pads its end
            except BaseException:
                client.kill()
                raise
            finally:
                client.stdout.close()
                code = client.wait()
            if code != 0:
                said.seek(0)
                raise self.error("reading an image", said.read().decode(errors="replace"))

    def load(self, archive: Path) -> None:
        """Take in an archive of an image, compressed or not; a Ctrl-C ends it at once.

        Raises:
            EngineError: the engine refuses it.
        """
        with archive.open("rb") as file:
            done = subprocess.run(
                [*self._command, "load", "--quiet"],
                stdin=file, capture_output=True, check=False, process_group=0,
            )  # fmt: skip
        if done.returncode != 0:
            raise self.error("taking in an image", done.stderr.decode(errors="replace"))

    def keeps_content(self) -> bool:
        """Whether it has the containerd image store, which keeps layers as they came."""
        kinds = dict(self.info().get("DriverStatus") or [])
        return str(kinds.get("driver-type", "")).startswith("io.containerd.")

    def push(self, reference: str) -> str:
        """Push an image with the credentials of this machine's docker; why not, empty if it did."""
        done = self._docker("push", "--quiet", reference)
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        return "" if done.returncode == 0 else without_credentials(lines[-1])

    def request(self, path: str, headers: Mapping[str, Secret], *, timeout: float) -> int:
        """The status of a GET of the engine's own API.

        Args:
            path: without a version, which is the engine's newest then.
            headers: what they hold is secret.
            timeout: seconds.

        Raises:
            EngineError: it does not answer, or not in time.
            HostError: the connection was lost.
        """
        connection = http.client.HTTPConnection("docker", timeout=timeout)
        connection.sock = sockets.socket(sockets.AF_UNIX)
        connection.sock.settimeout(timeout)
        try:
            connection.sock.connect(str(self._socket))
            connection.request("GET", path, headers={k: v.reveal() for k, v in headers.items()})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            raise self.unreachable() or self._silent() from None
        finally:
            connection.close()

    def tag(self, image: str, tag: str) -> None:
        """Give an image one more tag."""
        self._must("tagging an image", "image", "tag", image, tag)

    def remove_image(self, reference: str) -> None:
        """Remove a tag, and the image when nothing else holds it."""
        self._docker("image", "rm", reference)

    def build(
        self,
        context: Path,
        *,
        tag: str,
        labels: Mapping[str, str],
        secrets: Mapping[str, Path],
        on_line: Callable[[str], None],
        epoch: int | None = None,
        fresh: bool = False,
    ) -> Image:
        """Build `context`/Dockerfile on the engine.

        Args:
            context: folder that is sent.
            tag: name of the result.
            labels: labels of the result.
            secrets: BuildKit secret id to file; none of them stays in an image.
            on_line: called with each line of BuildKit's plain progress.
            epoch: the time that the image is of, seconds since 1970; None is now.
            fresh: use no step that is in the engine's cache.

        Raises:
            BuildError: a step failed; the last lines of its log are in the message.
            DiskFullError: the engine's disk is full.
        """
        from python_on_whales.exceptions import DockerException  # noqa: PLC0415

        lines: list[str] = []
        try:
            stream = self.client.buildx.build(
                str(context),
                tags=tag,
                labels=dict(labels),
                secrets=[f"id={key},src={path}" for key, path in secrets.items()],
                builder="default",
                progress="plain",
                # an attestation names a build's time, and gives the same image a new ID
                provenance=False,
                # not declared in any Dockerfile: that would give another history, by version
                build_args={} if epoch is None else {"SOURCE_DATE_EPOCH": str(epoch)},
                cache=not fresh,
                stream_logs=True,
            )
            for line in cast("Iterator[str]", stream):
                text = without_credentials(line.rstrip())
                lines.append(text)
                on_line(text)
        except DockerException:
            raise self._build_error(lines) from None
        built = self.image(tag)
        if built is None:
            raise BuildError(
                f"The build on {self.place} left no image.", remedy="Run it again with --verbose."
            )
        return built

    def build_files(self, context: Path, *, target: str, out: Path) -> None:
        """Build a stage of `context`/Dockerfile anew, and get its files.

        Args:
            context: folder that is sent.
            target: the stage.
            out: folder that the files come into.

        Raises:
            BuildError: a step failed.
        """
        done = self._docker(
            "buildx", "build", "--builder", "default", "--progress", "plain", "--no-cache",
            "--provenance=false", "--target", target, "--output", f"type=local,dest={out}",
            str(context),
        )  # fmt: skip
        if done.returncode != 0:
            said = without_credentials(done.stderr.decode(errors="replace"))
            raise self._build_error(said.splitlines())

    def _build_error(self, lines: Sequence[str]) -> JupboxError:
        said = "\n".join(lines)
        if is_disk_full(said) or self.unreachable():
            return self.error("building", said)
        found = build_log.reason(lines)
        return BuildError(
            f"The image did not build on {self.place}: {found.words}", remedy=found.remedy
        )

    # -- containers

    def containers(self, labels: Mapping[str, str]) -> list[Container]:
        """All containers, running or not, that carry the labels."""
        with self._guard("listing containers"):
            found = self.client.container.list(
                all=True, filters=[("label", f"{key}={value}") for key, value in labels.items()]
            )
            return [container_of(each) for each in self._inspected("container", found)]

    def published_ports(self) -> frozenset[int]:
        """Host ports of all containers, stopped ones too: they want theirs back at their start."""
        with self._guard("listing containers"):
            found = self.client.container.list(all=True)
            there = self._inspected("container", found)
        return frozenset(port for each in there for _, port in published_by(each))

    def bindings(self, container: str) -> list[tuple[str, int]]:
        """Every (address, port) that a container publishes; empty when it is gone."""
        with self._guard("inspecting a container"):
            found = self.client.container.list(all=True, filters=[("id", container)])
            there = self._inspected("container", found)
            return [published for each in there for published in published_by(each)]

    def port_owner(self, port: int, *, except_stack: str) -> str | None:
        """The running container that publishes a port, if it is not the stack's own."""
        with self._guard("listing containers"):
            there = self._inspected("container", self.client.container.list())
            published = [(container_of(each), published_by(each)) for each in there]
        return next(
            (
                container.name
                for container, bindings in published
                if port in {one for _, one in bindings}
                and container.labels.get(COMPOSE_PROJECT) != except_stack
            ),
            None,
        )

    @contextmanager
    def scratch(
        self,
        image: str,
        *,
        volumes: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Iterator[str]:
        """A container that is never started and goes at the end: a place to copy from and to.

        Args:
            image: what it is made of.
            volumes: volume name to path in it.
            labels: its labels, which an image made of it keeps.
        """
        # named by us: it can be removed whenever an interruption comes
        name = passing.new_name()
        options = [f"--volume={volume}:{path}" for volume, path in (volumes or {}).items()]
        options += [f"--label={key}={value}" for key, value in (labels or {}).items()]
        try:
            options += ["--pull", "never", "--name", name]
            # the user's own client configuration may name proxies, which docker would write into
            # the container's environment, and `commit` into the image
            with tempfile.TemporaryDirectory(prefix="jupbox-docker-") as empty:
                self._must("creating a container", "--config", empty, "create", *options, image)
            yield name
        finally:
            self._remove_container(name)

    def sweep(self, now: datetime) -> None:
        """Remove passing containers that commands left behind which were killed."""
        form = "{{.Names}}\t{{.State}}\t{{.CreatedAt}}"
        listed = self._must("listing containers", "ps", "--all", "--format", form,
                            "--filter", f"name=^{passing.PREFIX}")  # fmt: skip
        for line in listed.decode().splitlines():
            name, state, made = line.split("\t")
            if state == "running" and not passing.is_of_this_machine(name):
                continue  # a backup takes hours, and ends with the connection that it is for
            # Go's own form: `2026-01-02 03:04:05 +0000 UTC`
            then = datetime.strptime(made.rpartition(" ")[0], "%Y-%m-%d %H:%M:%S %z")
            if passing.left_behind(name, age_seconds=(now - then).total_seconds()):
                self._remove_container(name)

    def _remove_container(self, name: str) -> None:
        with uninterrupted():
            self._docker("rm", "--force", "--volumes", name)

    def put(self, container: str, folder: str, files: bytes) -> None:
        """Unpack a tar into a folder of a container; owners and modes are the tar's."""
        self._must("copying the seal", "cp", "-", f"{container}:{folder}", input=files)

    def get(self, container: str, path: str) -> dict[str, bytes]:
        """The regular files below a path of a container, by name relative to it; {} if none."""
        done = self._docker("cp", f"{container}:{path}", "-")
        if done.returncode != 0:
            # not there is an answer; no engine, or no container any more, is none
            self._must("looking into a container", "container", "inspect", container)
            return {}
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
            return {
                member.name.partition("/")[2] or member.name: opened.read()
                for member in tar
                if member.isfile() and (opened := tar.extractfile(member))
            }

    def commit(self, container: str, tag: str) -> Image:
        """Make an image of a container as it stands."""
        self._must("committing the sealed image", "commit", container, tag)
        image = self.image(tag)
        assert image is not None
        return image

    def try_run(
        self, image: str, command: Sequence[str], *, input: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a container to its end, whatever its exit code; it leaves nothing."""
        name = passing.new_name()
        options = ["--rm", "--interactive", "--pull", "never", "--name", name]
        options += ["--user", "0", "--entrypoint", command[0]]
        try:
            # not `run`: cut short, it may leave a container that comes only after its removal
            self._must("creating a container", "create", *options, image, *command[1:])
            attach = ("start", "--attach", "--interactive", name)
            return self._docker(*attach, input=input, timeout=600)
        finally:
            self._remove_container(name)

    @contextmanager
    def piped(
        self, image: str, command: Sequence[str], *, volumes: Mapping[str, str],
        capabilities: Sequence[str],
    ) -> Iterator[Piped]:  # fmt: skip
        """A container of root's, without a network, whose input and output are ours; it goes.

        Args:
            image: what it is made of.
            command: program and arguments; it is to end with its input, by which it sees that
                nobody is there any more.
            volumes: volume name to path in it, with `:ro` to look only.
            capabilities: all that root may.

        Raises:
            EngineError: the engine refuses it. How the command ended is the caller's to look at.
        """
        name = passing.new_name()
        options = ["--interactive", "--rm", "--pull", "never", "--name", name, "--user", "0"]
        options += ["--network", "none", "--no-healthcheck", "--security-opt", "no-new-privileges"]
        # what it writes is no log: the engine would keep all of it on its disk
        options += ["--log-driver", "none", "--cap-drop", "ALL"]
        options += [f"--cap-add={each}" for each in capabilities]
        options += [f"--volume={volume}:{path}" for volume, path in volumes.items()]
        options += ["--entrypoint", command[0]]
        try:
            # not `run`: cut short, it may leave a container that comes only after its removal
            self._must("creating a container", "create", *options, image, *command[1:])
            with tempfile.TemporaryFile() as said:
                client = subprocess.Popen(
                    [*self._command, "start", "--attach", "--interactive", name],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, process_group=0,
                    bufsize=_PIPE_BUFFER,
                )  # fmt: skip
                try:
                    yield Piped(client, said)
                finally:
                    client.kill()
                    client.wait()
                    for pipe in (client.stdin, client.stdout):
                        with suppress(OSError):
                            if pipe:
                                pipe.close()
        finally:
            self._remove_container(name)

    def execute(
        self, container: str, command: Sequence[str], *, user: str = "", input: bytes = b"",
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[bytes]:  # fmt: skip
        """Run a command in a running container, to its end within `timeout` seconds."""
        who = ["--user", user] if user else []
        return self._docker("exec", "-i", *who, container, *command, input=input, timeout=timeout)

    def send(
        self, container: str, command: Sequence[str], *, user: str,
        write: Callable[[IO[bytes]], None],
    ) -> subprocess.CompletedProcess[bytes]:  # fmt: skip
        """Run a command in a running container that reads what `write` writes, however much.

        Args:
            container: its id.
            command: program and arguments.
            user: as `docker exec --user` takes it.
            write: called with the command's standard input; a command that ends early is no error.
        """
        argv = [*self._command, "exec", "-i", "--user", user, container, *command]
        with (
            # to a file: a pipe that nobody reads would stop the command
            tempfile.TemporaryFile() as said,
            subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, process_group=0
            ) as client,
        ):
            assert client.stdin is not None
            try:
                with suppress(BrokenPipeError), client.stdin:
                    write(client.stdin)
                code = client.wait()
            except BaseException:
                # the command's input ends in its middle, by which it knows that it is not whole
                client.kill()
                raise
            said.seek(0)
            return subprocess.CompletedProcess(argv, code, b"", said.read())

    def attach(
        self, container: str, command: Sequence[str], *, user: str, terminal: bool
    ) -> subprocess.Popen[bytes]:
        """Run a command in a container on this process's own input and output.

        Args:
            container: its id.
            command: program and arguments.
            user: as `docker exec --user` takes it.
            terminal: give it one. Docker's client then is in the foreground, sets raw mode and
                hands keys and window sizes on; else the caller gets the signals alone.
        """
        options = ["--interactive", "--user", user]
        if terminal:
            options += ["--tty", "--env", "TERM", "--detach-keys", _DETACH_KEYS]
        # a group that is not in the foreground must not read from the terminal
        typed = not terminal and os.isatty(0)
        client = subprocess.Popen(
            [*self._command, "exec", *options, container, *command],
            stdin=subprocess.PIPE if typed else None,
            process_group=None if terminal else 0,
            env={**os.environ, "DOCKER_CLI_HINTS": "false"},
        )
        if client.stdin:
            threading.Thread(target=_hand_on, args=(client.stdin,), daemon=True).start()
        return client

    def logs(
        self, container: str, *, tail: str = "all", since: str | None = None, follow: bool = False
    ) -> int:
        """Show a container's log on this process's own output; docker's exit code."""
        options = ["--tail", tail, *(["--since", since] if since else [])]
        options += ["--follow"] if follow else []
        # Jupyter logs to its standard error; here the log is the result
        argv = [*self._command, "logs", *options, container]
        return subprocess.run(argv, stderr=subprocess.STDOUT, check=False).returncode

    def last_log_lines(self, container: str, count: int) -> list[str]:
        """The last lines that a container wrote, both streams."""
        done = self._docker("logs", "--tail", str(count), container, timeout=30)
        return (done.stdout + done.stderr).decode(errors="replace").splitlines()[-count:]

    def stop(self, container: str, *, for_good: bool = False) -> None:
        """Stop a container and leave it.

        Args:
            container: its id.
            for_good: also over a boot, whatever its restart policy was.
        """
        if for_good:
            self._must("stopping", "update", "--restart=no", container)
        self._must("stopping", "stop", container)

    def start(self, container: str, *, for_good: bool = False) -> None:
        """Start a stopped container as it is.

        Args:
            container: its id.
            for_good: have the engine start it again whenever it ends.
        """
        if for_good:
            self._must("starting", "update", "--restart=always", container)
        self._must("starting", "start", container)

    def update(self, container: str, *, memory: int | None, cpus: float | None) -> None:
        """Change a container's limits while it runs.

        Args:
            container: its id.
            memory: limit in bytes; None leaves it. As with compose, as much again may be swap.
            cpus: limit in processors; None leaves it.
        """
        options = [f"--memory={memory}", f"--memory-swap={2 * memory}"] if memory else []
        options += [f"--cpus={cpus:g}"] if cpus else []
        self._must("changing the limits", "update", *options, container)

    def runtimes(self) -> frozenset[str]:
        """Names of the container runtimes that the engine knows."""
        with self._guard("asking about the engine"):
            return frozenset(self.client.system.info().runtimes or {})

    # -- removal

    def tagged(self, repository: str) -> list[Image]:
        """All images of a repository, whatever their labels."""
        with self._guard("listing images"):
            found = self.client.image.list(repository)
            return self._images(found)

    def networks(self, labels: Mapping[str, str]) -> list[str]:
        """Names of the networks that carry the labels."""
        filters = [word for key, value in labels.items() for word in ("-f", f"label={key}={value}")]
        listed = self._must("listing networks", "network", "ls", *filters, "--format", "{{.Name}}")
        return listed.decode().split()

    def remove(self, kind: str, name: str) -> str:
        """Remove something; why it stayed, empty when it is gone.

        Args:
            kind: `container`, `network`, `image` or `volume`.
            name: of an image a tag or its ID.

        Raises:
            HostError: the connection was lost.
            EngineError: the engine does not answer any more.
        """
        force = ["--force"] if kind == "container" else []
        with uninterrupted():
            done = self._docker(kind, "rm", *force, name)
        if done.returncode == 0 or self._docker(kind, "inspect", name).returncode != 0:
            if lost := self.unreachable():
                raise lost
            return ""
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        return (
            lines[-1].removeprefix("Error response from daemon: ") if lines else "no reason given"
        )

    # -- volumes

    def volumes(self, labels: Mapping[str, str]) -> dict[str, Mapping[str, str]]:
        """Names and labels of the volumes that carry the labels."""
        with self._guard("listing volumes"):
            found = self.client.volume.list(
                filters=[("label", f"{key}={value}") for key, value in labels.items()]
            )
            there = self._inspected("volume", found)
            return {volume.name: volume.labels or {} for volume in there}

    def create_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """Make sure that a volume of that name is there."""
        with self._guard("creating a volume"):
            self.client.volume.create(name, labels=dict(labels))

    def remove_volume(self, name: str) -> None:
        """Remove a volume that nothing uses; one in use stays."""
        self._docker("volume", "rm", name)

    # -- compose

    def compose_config(
        self, files: Sequence[Path], *, root: Path, variables: Mapping[str, str]
    ) -> dict[str, Any]:
        """Compose files merged and normalised by Compose itself.

        Args:
            files: the first one first.
            root: where relative paths and `.env` are.
            variables: for `${…}` in them, beside those of the environment.

        Raises:
            ConfigError: Compose cannot read them.
        """
        named = [word for file in files for word in ("--file", str(file))]
        arguments = ["compose", *named, "--project-directory", str(root), "config"]
        done = self._docker(*arguments, "--format", "json", timeout=60, variables=variables)
        if done.returncode != 0:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise ConfigError(
                f"{files[-1].name} is not usable: {lines[-1][:300]}",
                remedy="`docker compose config` beside it says more.",
            )
        read: dict[str, Any] = json.loads(done.stdout)
        return read

    def composed(self, text: str) -> dict[str, Any]:
        """A compose file of ours as Compose normalises it; a second time changes nothing."""
        with tempfile.TemporaryDirectory(prefix="jupbox-compose-") as folder:
            file = Path(folder) / "compose.yaml"
            file.write_text(text)
            return self.compose_config([file], root=Path(folder), variables={})

    def compose_build(self, text: str, *, project: str, services: Sequence[str]) -> None:
        """Build the images of some services of a compose file.

        Raises:
            BuildError: one does not build.
        """
        done = self._compose(text, project, "--progress", "plain", "build", *services)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace")
            raise self._build_error(without_credentials(said).splitlines())

    def compose_up(self, text: str, *, project: str, services: Sequence[str] = ()) -> None:
        """Make the stack as a compose file says; returns when its containers are started.

        Args:
            text: the file.
            project: the stack's name.
            services: these alone, and nothing that they depend on.

        Raises:
            PortTakenError: a port is somebody else's.
            EngineError: anything else that compose refuses.
        """
        only = ("--no-deps", *services) if services else ()
        # to its end: half way through it the old server is stopped and the new one not there
        with uninterrupted():
            done = self._compose(text, project, "up", "--detach", "--no-build", *only)
        if done.returncode != 0:
            raise self.error("starting", done.stderr.decode(errors="replace"))

    def _compose(
        self, text: str, project: str, *arguments: str
    ) -> subprocess.CompletedProcess[bytes]:
        with tempfile.TemporaryDirectory(prefix="jupbox-compose-") as folder:
            file = Path(folder) / "compose.yaml"
            file.write_text(text)
            where = ("compose", "--file", str(file), "--project-name", project)
            return self._docker(*where, *arguments)

    def remove_container(self, container: str, *, anonymous_volumes: bool = False) -> None:
        """Stop a container and remove it; its named volumes stay."""
        options = ["--volumes"] if anonymous_volumes else []
        self._must("removing a container", "rm", "--force", *options, container)

    def container_exists(self, name: str) -> bool:
        """Whether there is a container of that name or ID, running or not."""
        return self._docker("container", "inspect", name).returncode == 0

    def create_kept(self, name: str, image: str, labels: Mapping[str, str]) -> None:
        """Make a container that is never started: it carries labels, and keeps its image.

        Args:
            name: nobody else has it.
            image: what it is made of.
            labels: one line each; they go by a file, as they may be long.
        """
        # the user's own client configuration may name proxies, with passwords
        with tempfile.TemporaryDirectory(prefix="jupbox-docker-") as folder:
            file = Path(folder) / "labels"
            file.write_text("".join(f"{key}={value}\n" for key, value in labels.items()))
            options = ["--pull", "never", "--name", name, "--label-file", str(file)]
            self._must(
                "keeping a release", "--config", folder, "create", *options, "--network", "none",
                image,
            )  # fmt: skip

    # -- the user's own docker command

    def ensure_context(self, name: str, *, host: str, description: str) -> None:
        """Have a Docker context lead to a host, for the user's own docker command.

        It is never made current, and one that is not ours (another description) is left alone.
        """
        plain = [str(self.client.client_config.docker_cmd[0])]
        there, verb = self._context(name), "create"
        if there:
            ours = there["Metadata"].get("Description") == description
            if not ours or there["Endpoints"]["docker"]["Host"] == host:
                return
            verb = "update"
        subprocess.run(
            [*plain, "context", verb, name, "--description", description,
             "--docker", f"host={host}"],
            capture_output=True, check=False,
        )  # fmt: skip

    def has_context(self, name: str, *, description: str) -> bool:
        """Whether there is a Docker context of that name and it is ours."""
        there = self._context(name)
        return there is not None and there["Metadata"].get("Description") == description

    def remove_context(self, name: str) -> None:
        """Remove a Docker context, even the current one: the user's command has no host then."""
        plain = str(self.client.client_config.docker_cmd[0])
        subprocess.run([plain, "context", "rm", "--force", name], capture_output=True, check=False)

    def _context(self, name: str) -> dict[str, Any] | None:
        # not by --format: there a template cannot reach the description
        shown = subprocess.run(
            [str(self.client.client_config.docker_cmd[0]), "context", "inspect", name],
            capture_output=True, check=False,
        )  # fmt: skip
        return dict(json.loads(shown.stdout)[0]) if shown.returncode == 0 else None


class Piped:
    """A container that runs, on two pipes."""

    def __init__(self, client: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        assert client.stdin is not None and client.stdout is not None
        self._client, self._said = client, said
        self.input: IO[bytes] = client.stdin
        self.output: IO[bytes] = client.stdout

    def end(self) -> subprocess.CompletedProcess[bytes]:
        """Close its input, and see how it ended; what it still had to write is thrown away."""
        with suppress(OSError):
            self.input.close()
        while self.output.read(_PIPE_BUFFER):
            pass
        code = self._client.wait()
        self._said.seek(0)
        return subprocess.CompletedProcess((), code, b"", self._said.read())


def _hand_on(pipe: IO[bytes]) -> None:
    """Write what is typed into a pipe, until one of the two ends."""
    with suppress(OSError), pipe:
        while typed := os.read(0, 1 << 16):
            pipe.write(typed)
            pipe.flush()


def is_disk_full(said: str) -> bool:
    """Whether a program's words say that the disk is full; there is no other sign of it."""
    # the kernel's own words, and apt's, which looks before it begins
    return any(words in said.lower() for words in ("no space left on device", "enough free space"))


def tar(files: Mapping[str, tuple[bytes, int]], *, uid: int, gid: int) -> bytes:
    """A tar of files, name to (content, mode), all of one owner."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (content, mode) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uid, member.gid = len(content), mode, uid, gid
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _models() -> dict[str, Any]:
    """The library's types for what `docker … inspect` says."""
    from python_on_whales.components.container.models import ContainerInspectResult  # noqa: PLC0415
    from python_on_whales.components.image.models import ImageInspectResult  # noqa: PLC0415
    from python_on_whales.components.volume.models import VolumeInspectResult  # noqa: PLC0415

    return {
        "container": ContainerInspectResult,
        "image": ImageInspectResult,
        "volume": VolumeInspectResult,
    }


def _present(found: Iterable[Any]) -> list[Any]:
    """Those that are still there, asked for one by one."""
    from python_on_whales.exceptions import (  # noqa: PLC0415
        NoSuchContainer,
        NoSuchImage,
        NoSuchVolume,
    )

    there = []
    for one in found:
        with suppress(NoSuchContainer, NoSuchImage, NoSuchVolume):
            one.reload()
            there.append(one)
    return there


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.removeprefix("v").split(".")[:2]
    digits = ["".join(c for c in part if c.isdigit()) for part in parts]
    return tuple(int(d) for d in digits) if len(parts) == 2 and all(digits) else ()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
