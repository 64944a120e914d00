"""The engine's room, as far as it goes without one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace as Thing
from typing import Any

import pytest
from python_on_whales.components.container.models import ContainerInspectResult
from python_on_whales.exceptions import NoSuchContainer

from jupbox.errors import (
    BuildError,
    ClientError,
    DiskFullError,
    EngineError,
    HostError,
    JupboxError,
    PortTakenError,
)
from jupbox.host import engine as room
from jupbox.host.engine import Engine, tar
from tests.unit.fakes import members, unpacked

Answer = Callable[[tuple[str, ...]], tuple[int, str]]


class Told(Engine):
    """An engine whose command line answers as it is told."""

    def __init__(self, answer: Answer = lambda words: (0, ""), *, place: str = "workbox") -> None:
        super().__init__(Path("/nowhere/docker.sock"), place=place)
        self.answer = answer
        self.calls: list[tuple[str, ...]] = []
        self.lost: JupboxError | None = None

    def _docker(
        self, *arguments: str, input: bytes = b"", timeout: float | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        self.calls.append(arguments)
        code, said = self.answer(arguments)
        text = said.encode()
        return subprocess.CompletedProcess(arguments, code, stdout=text, stderr=text)

    def unreachable(self) -> JupboxError | None:
        return self.lost


# --- versions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("26.1.5", (26, 1)),
        ("v2.26.1", (2, 26)),
        ("26.1.5+dfsg1", (26, 1)),
        ("2.26.1-4", (2, 26)),
        ("0.13.1+ds1-3", (0, 13)),
        ("29.0.0-rc.2", (29, 0)),
        ("30.2", (30, 2)),
        ("github.com/docker/buildx", ()),
        ("Docker", ()),
        ("dev", ()),
        ("", ()),
    ],
)
def test_a_version_is_its_first_two_numbers(version: str, expected: tuple[int, ...]) -> None:
    assert room._numbers(version) == expected


@pytest.mark.parametrize("version", ["26.1.0", "26.1.5+dfsg1", "26.10", "27.0.1", "30.1.2"])
def test_an_engine_that_is_new_enough_is_fine(version: str) -> None:
    assert Told(lambda words: (0, f"{version}\n")).check() == version


@pytest.mark.parametrize("version", ["26.0.9", "24.0.7", "5.4.2", "1.13.1", "dev"])
def test_an_older_engine_is_an_error_with_both_versions(version: str) -> None:
    with pytest.raises(EngineError, match=r"26\.1 or newer") as caught:
        Told(lambda words: (0, version)).check()
    assert version in caught.value.message


@pytest.mark.parametrize(
    ("compose", "buildx"),
    [
        ("Docker Compose version v2.26.1", "github.com/docker/buildx v0.13.1 788433953af1"),
        ("Docker Compose version 2.26.1-4", "github.com/docker/buildx 0.13.1+ds1-3+b1"),
        ("Docker Compose version v5.0.1", "github.com/docker/buildx v0.30.1-desktop.1 abc"),
    ],
)
def test_clients_that_are_new_enough_are_fine(compose: str, buildx: str) -> None:
    said = {"compose": compose, "buildx": buildx}
    Told(lambda words: (0, said[words[0]])).check_clients()


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        ("compose", "Docker Compose version v2.25.0"),
        ("compose", "Docker Compose version dev"),
        ("buildx", "github.com/docker/buildx v0.12.9 abc"),
    ],
)
def test_an_older_client_is_an_error(plugin: str, said: str) -> None:
    fine = {"compose": "v9.9", "buildx": "v9.9"}
    with pytest.raises(ClientError, match=f"`docker {plugin}` on this machine is"):
        Told(lambda words: (0, (fine | {plugin: said})[words[0]])).check_clients()


def test_a_missing_client_is_an_error_that_says_how_to_get_it() -> None:
    with pytest.raises(ClientError, match="no `compose`") as caught:
        Told(lambda words: (1, "unknown command")).check_clients()
    assert "docker-compose" in caught.value.remedy


def test_no_docker_command_is_an_error_and_nothing_is_downloaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ClientError, match="no Docker command line"):
        _ = Engine(Path("/nowhere"), place="workbox").client


def test_the_users_own_context_and_builder_do_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "docker").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    others = (
        "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH",
        "DOCKER_DEFAULT_PLATFORM", "BUILDX_BUILDER", "PYTHON_ON_WHALES_DEBUG",
    )  # fmt: skip
    for name in others:
        monkeypatch.setenv(name, "1")
    config = Engine(tmp_path / "docker.sock", place="workbox").client.client_config
    assert config.docker_cmd[-2:] == ["--host", f"unix://{tmp_path / 'docker.sock'}"]
    assert not set(others) & set(os.environ)


# --- why a build failed -----------------------------------------------------------------------

APT_FAILS = """\
#1 [internal] load build definition from Dockerfile
#8 [system 1/1] RUN --mount=type=bind sh /build/apt.sh /build/apt.txt
#8 1.204 NOTE: nothing of interest
#8 2.345 E: Version '1:9.9' for 'git' was not found
#8 ERROR: process "/bin/sh -c sh /build/apt.sh" did not complete successfully: exit code: 100
------
 > [system 1/1] RUN --mount=type=bind sh /build/apt.sh /build/apt.txt:
2.345 E: Version '1:9.9' for 'git' was not found
------
Dockerfile:7
ERROR: failed to solve: process "/bin/sh -c sh" did not complete successfully: exit code: 100
"""
UV_FAILS = """\
#9 4.1 error: Failed to download `numpy==2.3.4`
#9 4.1   Caused by: operation timed out
#9 ERROR: process "/bin/sh -c sh /build/python.sh" did not complete successfully: exit code: 2
ERROR: failed to solve: process "/bin/sh -c sh" did not complete successfully: exit code: 2
"""
PIP_FAILS = """\
#9 4.1 ERROR: Could not find a version that satisfies the requirement uv==0.9.1
#9 4.2 ERROR: No matching distribution found for uv==0.9.1
#9 ERROR: process "/bin/sh -c sh /build/tools.sh" did not complete successfully: exit code: 1
"""
COPY_FAILS = '#7 ERROR: failed to calculate checksum of ref x: "/build": not found\n'
WHEEL_FAILS = """\
#9 4.1 error: Failed to download `numpy==2.3.4`
#9 4.1   Caused by: Hash mismatch for `numpy==2.3.4`
#9 4.1 Expected:
#9 ERROR: process "/bin/sh -c sh /build/python.sh" did not complete successfully: exit code: 2
"""
COPYING_FAILS = """\
#11 0.1 nothing of interest
#10 0.4 cp: cannot create regular file '/opt/env/image.lock': Input/output error
#10 ERROR: process "/bin/sh -c sh /build/finish.sh 1" did not complete successfully: exit code: 1
ERROR: failed to solve: process "/bin/sh -c sh" did not complete successfully: exit code: 1
"""
SILENT = '#8 ERROR: process "/bin/sh -c false" did not complete successfully: exit code: 1\n'


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (APT_FAILS, "E: Version '1:9.9' for 'git' was not found"),
        (UV_FAILS, "error: Failed to download `numpy==2.3.4`"),
        (PIP_FAILS, "ERROR: No matching distribution found for uv==0.9.1"),
        (WHEEL_FAILS, "Hash mismatch for `numpy==2.3.4`"),
        (
            COPYING_FAILS,
            "cp: cannot create regular file '/opt/env/image.lock': Input/output error",
        ),
        (COPY_FAILS, 'ERROR: failed to calculate checksum of ref x: "/build": not found'),
        (SILENT, 'ERROR: process "/bin/sh -c false" did not complete successfully: exit code: 1'),
        ("\n \n", "no reason given"),
        ("", "no reason given"),
    ],
)
def test_a_build_error_says_the_reason_and_not_that_there_was_one(log: str, reason: str) -> None:
    error = Told()._build_error(log.splitlines())
    assert isinstance(error, BuildError)
    assert error.message == f"The image did not build on workbox: {reason}"


RUN_FAILS = """\
#12 [stage-2 7/8] RUN --mount=type=bind,source=build/run,target=/build     sh /build/run.sh 1
#12 0.201 + echo fine
#12 0.202 fine
#12 0.203 + make -C /opt/x all
#12 0.300 error: a word of the compiler's
#12 0.301 make: *** No rule to make target 'all'.  Stop.
#12 0.302 E: exit code 2 of run: make -C /opt/x all
#12 ERROR: process "/bin/sh -c sh /build/run.sh 1" did not complete successfully: exit code: 46
------
 > [stage-2 7/8] RUN --mount=type=bind,source=build/run,target=/build     sh /build/run.sh 1:
0.302 E: exit code 2 of run: make -C /opt/x all
------
ERROR: failed to solve: process "/bin/sh -c sh" did not complete successfully: exit code: 46
"""


def command_error(log: str) -> str:
    error = Told()._build_error(log.splitlines())
    assert isinstance(error, BuildError)
    assert "that line of `run`" in error.remedy
    return error.message


def test_a_command_of_the_definition_that_fails_is_named_with_its_last_words() -> None:
    assert command_error(RUN_FAILS) == (
        "The image did not build on workbox: `make -C /opt/x all` of `run` failed with exit code "
        "2: make: *** No rule to make target 'all'.  Stop."
    )


def test_the_last_words_are_those_of_the_commands_own_step() -> None:
    other = RUN_FAILS.replace("#12 0.302", "#9 0.9 another step\n#12 0.302")
    assert command_error(other) == command_error(RUN_FAILS)
    # nor is a wrong hash that a command complains of one of the lock's
    hashed = RUN_FAILS.replace("No rule to make", "Hash mismatch for")
    assert "jupbox.lock" not in command_error(hashed)


def test_a_command_that_fails_without_a_word_is_named_all_the_same() -> None:
    silent = "#12 0.2 before\n#12 0.3 + false\n#12 0.4 E: exit code 1 of run: false\n"
    assert command_error(silent).endswith(": `false` of `run` failed with exit code 1.")


def test_a_long_command_and_long_words_are_cut() -> None:
    command = "x" * 5000
    log = f"#1 0.1 + {command}\n#1 0.1 {'y' * 5000}\n#1 0.2 E: exit code 1 of run: {command}"
    message = command_error(log)
    assert len(message) < 520
    assert ("xx…" in message, "yy…" in message) == (True, True)


def test_files_come_out_of_a_stage_that_is_built_anew() -> None:
    engine = Told()
    engine.build_files(Path("/context"), target="digest", out=Path("/out"))
    (words,) = engine.calls
    assert words[:2] == ("buildx", "build")
    assert {"--no-cache", "--target", "digest", "type=local,dest=/out"} <= set(words)
    assert words[-1] == "/context"


def test_a_stage_that_does_not_build_is_a_build_error_without_credentials() -> None:
    engine = Told(lambda words: (1, "#1 0.1 E: no http://ada:hunter2@proxy.example here"))
    with pytest.raises(BuildError) as caught:
        engine.build_files(Path("/context"), target="digest", out=Path("/out"))
    assert "hunter2" not in caught.value.message


def test_a_very_long_reason_is_cut() -> None:
    error = Told()._build_error(["#8 1.0 E: " + "x" * 5000])
    assert len(error.message) < 400


@pytest.mark.parametrize("said", ["No space left on device", "write x: no space left on device"])
def test_a_full_disk_in_a_build_is_a_full_disk(said: str) -> None:
    error = Told()._build_error([f"#8 9.1 E: {said}", "ERROR: failed to solve"])
    assert isinstance(error, DiskFullError)
    assert "builder prune" in error.remedy


def test_an_engine_that_went_away_in_a_build_is_no_fault_of_the_build() -> None:
    engine = Told()
    engine.lost = HostError("The connection was lost.", remedy="Again.")
    assert engine._build_error(["ERROR: failed to receive status"]) is engine.lost


# --- what the engine refuses ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Error response from daemon: Bind for 0.0.0.0:8888 failed: port is already allocated",
         PortTakenError),
        ("listen tcp4 127.0.0.1:8888: bind: address already in use", PortTakenError),
        ("mkdir /var/lib/docker/x: no space left on device", DiskFullError),
        ("Error response from daemon: conflict", EngineError),
        ("", EngineError),
    ],
)  # fmt: skip
def test_a_refusal_is_an_error_of_its_kind(said: str, kind: type[JupboxError]) -> None:
    assert type(Told().error("starting", said)) is kind


def test_a_refusal_says_what_was_done_and_the_engines_last_words() -> None:
    error = Told().error("starting", "warning: x\nError response from daemon: conflict\n\n")
    assert error.message == "The Docker engine on workbox failed at starting: conflict"


# --- whether it is there ----------------------------------------------------------------------


@contextmanager
def listening(path: Path, answer: bytes) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        server.settimeout(10)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def test_an_engine_that_answers_is_there(tmp_path: Path) -> None:
    with listening(tmp_path / "s", b"HTTP/1.1 200 OK\r\n\r\n"):
        assert Engine(tmp_path / "s", place="workbox").unreachable() is None


def test_an_engine_that_says_nothing_is_not(tmp_path: Path) -> None:
    with listening(tmp_path / "s", b""):
        error = Engine(tmp_path / "s", place="workbox", word="work").unreachable()
    assert isinstance(error, EngineError)
    assert "jupbox setup work" in error.remedy


@pytest.mark.parametrize(("place", "kind"), [("workbox", HostError), ("this machine", EngineError)])
def test_no_socket_is_a_lost_connection_or_no_engine(
    tmp_path: Path, place: str, kind: type[JupboxError]
) -> None:
    assert isinstance(Engine(tmp_path / "s", place=place).unreachable(), kind)


# --- images and containers --------------------------------------------------------------------


def listing(*inspected: dict[str, Any], gone: tuple[str, ...] = ()) -> Told:
    """An engine of which the library lists containers, some of which are gone by now."""

    class Listed:
        def __init__(self, raw: dict[str, Any]) -> None:
            self.raw = raw

        def __str__(self) -> str:
            return str(self.raw["Id"])

        def __getattr__(self, name: str) -> Any:
            return getattr(ContainerInspectResult.model_validate(self.raw), name)

        def reload(self) -> None:
            if str(self) in gone:
                raise NoSuchContainer(["docker"], 1, b"", b"no such container")

    def look(words: tuple[str, ...]) -> tuple[int, str]:
        assert words[:2] == ("container", "inspect")
        there = [raw for raw in inspected if raw["Id"] in words and raw["Id"] not in gone]
        return int(len(there) < len(words) - 2), json.dumps(there)

    engine = Told(look)
    engine._client = Thing(container=Thing(list=lambda **_: [Listed(raw) for raw in inspected]))  # type: ignore[assignment]
    return engine


def with_port(name: str, port: str, project: str = "") -> dict[str, Any]:
    """What `docker container inspect` says of one, as far as it is read."""
    ports = {"80/tcp": [{"HostIp": "", "HostPort": "1"}]}
    ports |= {"81/tcp": [{"HostIp": "", "HostPort": port}]}
    return {
        "Id": f"id-of-{name}",
        "Name": f"/{name}",
        "Image": "sha256:1",
        "State": {"Status": "running"},
        "Config": {"Labels": {"com.docker.compose.project": project}},
        "HostConfig": {"PortBindings": ports, "RestartPolicy": {"Name": "always"}},
        "Mounts": [],
    }


def test_all_that_is_listed_is_asked_for_at_once() -> None:
    engine = listing(with_port("a", "8888"), with_port("b", "9"))
    assert [each.name for each in engine.containers({})] == ["a", "b"]
    assert engine.calls == [("container", "inspect", "id-of-a", "id-of-b")]


def test_nothing_is_asked_of_an_empty_list() -> None:
    engine = listing()
    assert engine.containers({}) == []
    assert engine.calls == []


def test_what_vanished_since_it_was_listed_is_left_out() -> None:
    engine = listing(with_port("a", "1"), with_port("b", "2"), gone=("id-of-a",))
    assert [each.name for each in engine.containers({})] == ["b"]


def test_every_port_of_every_container_is_taken() -> None:
    assert listing(with_port("a", "8888"), with_port("b", "9")).published_ports() == {1, 9, 8888}


def test_the_owner_of_a_port_is_found_by_any_of_its_ports() -> None:
    engine = listing(with_port("mine", "8888", "stack"), with_port("theirs", "8888"))
    assert engine.port_owner(8888, except_stack="stack") == "theirs"
    assert engine.port_owner(7, except_stack="stack") is None


# --- copying ----------------------------------------------------------------------------------


def test_a_tar_carries_owners_and_modes_and_no_time() -> None:
    made = tar({"key.pem": (b"key", 0o400), "cert.pem": (b"", 0o444)}, uid=70000, gid=3)
    assert unpacked(made) == {"key.pem": b"key", "cert.pem": b""}
    found = {m.name: (m.mode, m.uid, m.gid, m.mtime) for m in members(made)}
    assert found == {"key.pem": (0o400, 70000, 3, 0), "cert.pem": (0o444, 70000, 3, 0)}


def test_a_seal_goes_to_the_engine_on_standard_input() -> None:
    engine = Told()
    engine.put("c", "/etc/jupbox/seal", tar({"key.pem": (b"hunter2", 0o400)}, uid=1, gid=1))
    assert engine.calls == [("cp", "-", "c:/etc/jupbox/seal")]


def test_what_is_not_there_is_no_file() -> None:
    engine = Told(lambda words: (1, "no such file") if words[0] == "cp" else (0, "{}"))
    assert engine.get("c", "/nothing") == {}


def test_an_engine_that_fails_is_not_taken_for_an_empty_folder() -> None:
    with pytest.raises(EngineError):
        Told(lambda words: (1, "no such container")).get("c", "/etc")


def test_a_passing_container_goes_at_the_end_whatever_happens() -> None:
    engine = Told()
    with pytest.raises(KeyboardInterrupt), engine.scratch("image", volumes={"v": "/v"}) as name:
        raise KeyboardInterrupt
    assert engine.calls[0][0] == "--config"
    assert engine.calls[0][2] == "create"
    assert engine.calls[-1][0] == "rm"
    assert engine.calls[-1][-1] == name


def test_a_passing_container_takes_nothing_from_the_users_docker_configuration() -> None:
    there: list[bool] = []

    def look(words: tuple[str, ...]) -> tuple[int, str]:
        if words[0] == "--config":
            there.append(Path(words[1]).is_dir() and not list(Path(words[1]).iterdir()))
        return 0, ""

    with Told(look).scratch("image"):
        pass
    assert there == [True]


def test_a_program_of_an_image_replaces_what_the_image_would_run() -> None:
    engine = Told()
    engine.try_run("image", ["sh", "-c", "x"], input=b"y")
    create, start, remove = engine.calls
    assert create[0] == "create"
    assert create[create.index("--entrypoint") + 1] == "sh"
    assert create[-3:] == ("image", "-c", "x")
    assert (start[0], remove[0]) == ("start", "rm")
    assert start[-1] == remove[-1] == create[create.index("--name") + 1]


def test_a_change_is_finished_before_ctrl_c_counts() -> None:
    def interrupt(words: tuple[str, ...]) -> tuple[int, str]:
        signal.raise_signal(signal.SIGINT)
        return 0, ""

    engine = Told(interrupt)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        engine.stop("c")
    assert engine.calls == [("stop", "c")]
    assert signal.getsignal(signal.SIGINT) is before
