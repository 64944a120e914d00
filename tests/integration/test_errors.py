"""What goes wrong, for real: two lines, an exit code of its own kind, and nothing changed."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from jupbox import errors
from jupbox.cli import INTERRUPTED
from tests.integration.boxes.boxes import BoxUnderTest, Keyring, wait_until
from tests.integration.errorbox import (
    Terminal,
    files_of,
    leftovers,
    on_a_terminal,
    refused,
    two_lines,
    unchanged,
    write,
)
from tests.integration.jupbox_command import Answer, Laptop
from tests.triggers import triggers

# A box of its own: its engine is stopped, its port taken, its connection cut.
pytestmark = [pytest.mark.box, pytest.mark.xdist_group("box-errorbox")]


def add_host(laptop: Laptop, name: str, **settings: object) -> None:
    """One more Host of the laptop's ssh configuration."""
    lines = "".join(f"  {key} {value}\n" for key, value in settings.items())
    with (Path(laptop.environ["HOME"]) / ".ssh" / "config").open("a") as config:
        config.write(f"\nHost {name}\n{lines}")


def without_terminal(laptop: Laptop, *arguments: str) -> Answer:
    """jupbox in a session that has no terminal, even when the tests run on one."""
    return laptop.run("setsid", "--wait", sys.executable, "-m", "jupbox", *arguments)


# --- jupbox.toml ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error", "wrong", "remedy"),
    [
        (
            '[boxes.workbox]\n\nhots = "workbox"\n',
            errors.ConfigError,
            "jupbox.toml:3: boxes.workbox.hots is not a key",
            "Did you mean `host`?",
        ),
        (
            '[images.mine]\nextends = "minimal"\npyhton = ["numpy"]\n',
            errors.ConfigError,
            "jupbox.toml:3: images.mine.pyhton is not a key",
            "Did you mean `python`?",
        ),
        (
            '[boxes.workbox]\nport = "8888"\n',
            errors.ConfigError,
            "jupbox.toml:2: boxes.workbox.port must be a number",
            "port = 8888",
        ),
        (
            '[boxes.workbox]\nnames = "a.example.org"\n',
            errors.ConfigError,
            "jupbox.toml:2: boxes.workbox.names must be a list",
            "names = [",
        ),
        (
            "[boxes.workbox\n",
            errors.ConfigError,
            "jupbox.toml:1: this is not valid TOML",
            "that line",
        ),
        (
            '[boxes.workbox]\nimage = "minmal"\n',
            errors.UnknownNameError,
            "jupbox.toml:2: boxes.workbox.image names 'minmal'",
            "Did you mean `minimal`?",
        ),
    ],
)
def test_a_mistake_in_the_project_is_named_with_its_line(
    desk: Laptop, text: str, error: type[errors.JupboxError], wrong: str, remedy: str
) -> None:
    write(desk, text)
    said = refused(desk.jupbox("up"), error)
    assert said.wrong.startswith(wrong)
    assert remedy in said.remedy
    assert files_of(desk) == ["jupbox.toml"]


@triggers(errors.UnknownNameError)
def test_an_unknown_box_is_named_with_the_nearest_one(desk: Laptop) -> None:
    write(desk, "[boxes.workbox]\n[boxes.bigbox]\n")
    for verb in ("up", "status", "password"):
        options = ["--generate"] if verb == "password" else []
        said = refused(desk.jupbox(verb, "wrokbox", *options), errors.UnknownNameError)
        assert "No box is called 'wrokbox'." in said.wrong
        assert "Did you mean `workbox`?" in said.remedy


def test_no_name_where_there_are_several_boxes_lists_them(desk: Laptop) -> None:
    write(desk, "[boxes.workbox]\n[boxes.bigbox]\n")
    said = refused(desk.jupbox("up"), errors.UnknownNameError)
    assert "bigbox, workbox" in said.remedy


@triggers(errors.ConfigError)
def test_a_folder_of_the_laptop_that_cannot_be_read_shows_no_traceback(desk: Laptop) -> None:
    (desk.folder / "jupbox.toml").write_bytes(b"\xff\xfe")
    said = refused(desk.jupbox("up"), errors.ConfigError)
    assert "jupbox.toml cannot be read" in said.wrong


@triggers(errors.JupboxError)
def test_what_nobody_foresaw_is_two_lines_as_well(desk: Laptop) -> None:
    vanish = 'rmdir "$PWD" && exec "$0" -m jupbox status local'
    # a relative path there would stop Python before jupbox begins
    laptop = desk.at(desk.folder, PYTHONPATH="")
    answer = laptop.run("sh", "-c", vanish, sys.executable, "jupbox")
    said = refused(answer, errors.JupboxError)
    assert said.wrong.startswith("jupbox stumbled over something that it does not know: ")
    assert "--debug" in said.remedy


@pytest.mark.parametrize("words", [("nosuchverb",), ("up", "--nosuchoption"), ("logs", "a", "b")])
def test_wrong_use_is_the_command_lines_own_error(desk: Laptop, words: tuple[str, ...]) -> None:
    answer = desk.jupbox(*words)
    assert answer.code == 2
    assert "Usage: jupbox" in answer.stderr
    assert "Traceback" not in answer.stderr


# --- the way to the host ----------------------------------------------------------------------


@pytest.fixture
def silence() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(20)
        yield int(listener.getsockname()[1])


@triggers(errors.HostError)
def test_an_unknown_host_is_said_so(desk: Laptop) -> None:
    said = refused(desk.jupbox("up", "nosuchhost.invalid"), errors.HostError)
    assert said.wrong == (
        "nosuchhost.invalid cannot be reached: the name nosuchhost.invalid is not known."
    )
    assert "`ssh nosuchhost.invalid`" in said.remedy


def test_a_closed_port_is_said_so(desk: Laptop) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        add_host(desk, "closed", HostName="127.0.0.1", Port=bound.getsockname()[1])
        said = refused(desk.jupbox("up", "closed"), errors.HostError)
    assert "closed cannot be reached: 127.0.0.1 port" in said.wrong
    assert "refused" in said.wrong


def test_a_host_that_never_answers_is_given_up(desk: Laptop, silence: int) -> None:
    add_host(desk, "mute", HostName="127.0.0.1", Port=silence, ConnectTimeout=2)
    said = refused(desk.jupbox("up", "mute", timeout=30), errors.HostError)
    assert "mute cannot be reached" in said.wrong


@triggers(errors.ClientError)
@pytest.mark.parametrize("verb", ["up", "status", "setup"])
def test_every_verb_needs_an_ssh_client(desk: Laptop, tmp_path: Path, verb: str) -> None:
    (tmp_path / "empty").mkdir()
    laptop = desk.at(desk.folder, PATH=str(tmp_path / "empty"))
    said = refused(laptop.jupbox(verb, "workbox"), errors.ClientError)
    assert "no `ssh` on this machine" in said.wrong
    assert "OpenSSH" in said.remedy


def test_ctrl_c_while_connecting_ends_ssh_too(desk: Laptop, silence: int) -> None:
    add_host(desk, "mute", HostName="127.0.0.1", Port=silence)
    with on_a_terminal(desk, "up", "mute") as terminal:
        terminal.wait_for("Connecting to mute")
        wait_until(lambda: connects(terminal), "ssh")
        terminal.ctrl_c()
        answer = terminal.end(timeout=25)
        assert not connects(terminal)
    assert answer.code == INTERRUPTED
    said = two_lines(answer.stderr)
    assert said.wrong == 'Interrupted during "Connecting to mute".'
    assert "goes on" in said.remedy


def connects(terminal: Terminal) -> bool:
    """Whether an ssh master is about to connect, among the processes of the terminal."""
    command = ["ps", "-ww", "-s", str(terminal.process.pid), "-o", "args="]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return " -M " in done.stdout


# --- passwords --------------------------------------------------------------------------------


@triggers(errors.PasswordError)
@pytest.mark.parametrize("password", ["", "   ", "hunter2", "tab\tulator"])
def test_a_poor_password_is_refused_before_anything_is_looked_at(
    desk: Laptop, password: str
) -> None:
    answer = desk.jupbox("password", "nosuchhost.invalid", "--stdin", input=f"{password}\n")
    said = refused(answer, errors.PasswordError)
    assert not password.strip() or password not in answer.stdout + answer.stderr
    assert "password" in said.wrong


def test_a_differing_repetition_changes_nothing(desk: Laptop) -> None:
    with on_a_terminal(desk, "password", "nosuchhost.invalid") as terminal:
        terminal.wait_for("New password: ")
        terminal.type("correct horse battery\n")
        terminal.wait_for("Once more: ")
        terminal.type("correct horse buttery\n")
        answer = terminal.end()
    assert "differ" in refused(answer, errors.PasswordError).wrong
    assert "horse" not in terminal.raw


def test_a_short_password_is_not_asked_for_twice(desk: Laptop) -> None:
    with on_a_terminal(desk, "password", "nosuchhost.invalid") as terminal:
        terminal.wait_for("New password: ")
        terminal.type("hunter2\n")
        answer = terminal.end()
    assert "shorter than 8" in refused(answer, errors.PasswordError).wrong
    assert "hunter2" not in terminal.raw


def test_an_unanswered_question_for_a_password_is_an_error(desk: Laptop) -> None:
    with on_a_terminal(desk, "password", "nosuchhost.invalid") as terminal:
        terminal.wait_for("New password: ")
        terminal.type("\x04")
        answer = terminal.end()
    assert "--stdin" in refused(answer, errors.PasswordError).remedy


def test_ctrl_c_at_the_question_for_a_password(desk: Laptop) -> None:
    with on_a_terminal(desk, "password", "nosuchhost.invalid") as terminal:
        terminal.wait_for("New password: ")
        terminal.ctrl_c()
        answer = terminal.end()
    assert answer.code == INTERRUPTED
    assert "Traceback" not in answer.stderr
    assert two_lines(answer.stderr).wrong == "Interrupted."


def test_no_terminal_to_ask_for_a_password_on(desk: Laptop) -> None:
    answer = without_terminal(desk, "password", "nosuchhost.invalid")
    said = refused(answer, errors.PasswordError)
    assert "no terminal" in said.wrong
    assert "--stdin" in said.remedy


# --- engines ----------------------------------------------------------------------------------


@contextmanager
def engine_that_says(version: str, folder: Path) -> Iterator[Path]:
    """A socket that answers `docker version` as an engine of that version would."""
    path = folder / "engine.sock"
    body = (
        f'{{"Version":"{version}","ApiVersion":"1.41","MinAPIVersion":"1.12",'
        '"Os":"linux","Arch":"amd64"}'
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(20)
        threading.Thread(target=_answer, args=(listener, body), daemon=True).start()
        yield path
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # ends the thread's accept


def _answer(listener: socket.socket, body: str) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\n"
                    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s"
                    % (len(body), body.encode())
                )


@triggers(errors.EngineError)
@pytest.mark.parametrize("verb", ["up", "status", "down"])
def test_an_engine_that_is_too_old_is_named_with_its_version(
    desk: Laptop, tmp_path: Path, verb: str
) -> None:
    with engine_that_says("20.10.24", tmp_path) as path:
        laptop = desk.at(desk.folder, DOCKER_HOST=f"unix://{path}")
        said = refused(laptop.jupbox(verb, "local"), errors.EngineError)
    assert "20.10.24" in said.wrong
    assert "26.1" in said.wrong
    assert "`jupbox setup local`" in said.remedy


@pytest.mark.parametrize("verb", ["up", "open", "status"])
def test_a_host_with_no_engine_leads_to_setup(
    lonelybox: BoxUnderTest, desk: Laptop, verb: str
) -> None:
    said = refused(desk.jupbox(verb, "lonelybox"), errors.EngineError)
    assert said.wrong == "The Docker engine is not installed on lonelybox."
    assert "`jupbox setup lonelybox`" in said.remedy


@triggers(errors.ConfirmationError)
def test_setup_asks_and_changes_nothing_without_an_answer(
    lonelybox: BoxUnderTest, desk: Laptop
) -> None:
    said = refused(without_terminal(desk, "setup", "lonelybox"), errors.ConfirmationError)
    assert "--yes" in said.remedy
    with on_a_terminal(desk, "up", "lonelybox", "--setup") as terminal:
        terminal.wait_for("[y/N]")
        terminal.type("no\n")
        said = refused(terminal.end(), errors.ConfirmationError)
    assert said.wrong == "Not confirmed: Do this on lonelybox?"
    assert not lonelybox.succeeds("sh", "-c", "command -v dockerd")


@triggers(errors.SetupError)
def test_setup_by_a_user_who_may_not_is_refused(
    lonelybox: BoxUnderTest, desk: Laptop, keyring: Keyring
) -> None:
    lonelybox.exec("useradd", "--create-home", "carl")
    lonelybox.exec("cp", "-r", "/home/ada/.ssh", "/home/carl/.ssh")
    lonelybox.exec("chown", "-R", "carl:carl", "/home/carl/.ssh")
    add_host(desk, "carls", **reaching(lonelybox) | {"User": "carl", "IdentityFile": keyring.key})
    said = refused(desk.jupbox("setup", "carls", "--yes"), errors.SetupError)
    assert said.wrong == "carl may not change the system: install docker."
    assert not lonelybox.succeeds("sh", "-c", "command -v dockerd")


# --- a box that can do everything -------------------------------------------------------------


PROJECT = '[boxes.errors]\nhost = "errorbox"\n'


@pytest.fixture
def project(errorbox: BoxUnderTest, desk: Laptop) -> Laptop:
    """A laptop with a project whose only box is on errorbox."""
    write(desk, PROJECT)
    return desk


@triggers(errors.AuthError)
def test_a_refused_key_is_said_so(errorbox: BoxUnderTest, desk: Laptop, tmp_path: Path) -> None:
    desk.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other"))
    add_host(desk, "stranger", **reaching(errorbox), IdentityFile=tmp_path / "other")
    with unchanged(errorbox):
        said = refused(desk.jupbox("up", "stranger"), errors.AuthError)
    assert said.wrong == "stranger refused the login as ada."
    assert "`ssh stranger`" in said.remedy


def reaching(box: BoxUnderTest) -> dict[str, object]:
    known = box.ssh_config.with_name(f"{box.name}.known_hosts")
    return {
        "HostName": "127.0.0.1",
        "Port": box.port,
        "User": "ada",
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": known,
    }


@triggers(errors.HostKeyError)
def test_a_changed_host_key_is_said_so_with_the_command_that_forgets_it(
    errorbox: BoxUnderTest, desk: Laptop, tmp_path: Path, keyring: Keyring
) -> None:
    desk.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other"))
    kind, key, *_ = (tmp_path / "other.pub").read_text().split()
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{errorbox.port} {kind} {key}\n")
    settings = reaching(errorbox) | {"UserKnownHostsFile": known, "IdentityFile": keyring.key}
    add_host(desk, "moved", **settings)
    said = refused(desk.jupbox("up", "moved"), errors.HostKeyError)
    assert said.wrong == "The host key of moved is another one than before."

    command = said.remedy.split("`")[1]
    desk.run("sh", "-c", command)
    assert known.read_text() == ""


def test_an_unknown_host_key_is_not_accepted_without_a_terminal(
    errorbox: BoxUnderTest, desk: Laptop, tmp_path: Path, keyring: Keyring
) -> None:
    known = tmp_path / "known_hosts"
    settings = reaching(errorbox) | {"UserKnownHostsFile": known, "IdentityFile": keyring.key}
    add_host(desk, "newcomer", **settings)
    said = refused(without_terminal(desk, "up", "newcomer"), errors.HostKeyError)
    assert said.wrong == "The host key of newcomer is not known yet."
    assert "`ssh newcomer`" in said.remedy
    assert not known.exists()


@triggers(errors.EnginePermissionError)
def test_a_user_without_the_engines_group_is_said_so(
    errorbox: BoxUnderTest, desk: Laptop, keyring: Keyring
) -> None:
    errorbox.exec("useradd", "--create-home", "bob")
    errorbox.exec("cp", "-r", "/home/ada/.ssh", "/home/bob/.ssh")
    errorbox.exec("chown", "-R", "bob:bob", "/home/bob/.ssh")
    add_host(desk, "bobs", **reaching(errorbox) | {"User": "bob", "IdentityFile": keyring.key})
    with unchanged(errorbox):
        said = refused(desk.jupbox("up", "bobs"), errors.EnginePermissionError)
    assert said.wrong.startswith("bob may not use the Docker engine on bobs")
    assert "`jupbox setup bobs`" in said.remedy
    assert "equal to root" in said.remedy


@pytest.mark.parametrize("verb", ["up", "open", "status"])
def test_every_verb_needs_a_docker_client(
    errorbox: BoxUnderTest, desk: Laptop, tmp_path: Path, verb: str
) -> None:
    laptop = desk.at(desk.folder, PATH=str(Path(desk.environ["HOME"]) / "bin"))
    said = refused(laptop.jupbox(verb, "errorbox"), errors.ClientError)
    assert "no Docker command line on this machine" in said.wrong
    assert "docker-cli" in said.remedy


# --- refused before minutes of building -------------------------------------------------------


@contextmanager
def listening(box: BoxUnderTest, port: int, *, user: str) -> Iterator[None]:
    """A program of a user of the box that holds a port."""
    script = (
        f"$s = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1:{port}') or die $!;"
        "print qq($$\\n); $| = 1; print qq(listens\\n); sleep 600"
    )
    command = ["docker", "exec", "--user", user, box.container, "perl", "-MIO::Socket::INET"]
    holder = subprocess.Popen([*command, "-e", script], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    pid = holder.stdout.readline().strip()
    assert holder.stdout.readline() == "listens\n"
    try:
        yield
    finally:
        box.exec("kill", pid)
        holder.wait(30)
        holder.stdout.close()


def nothing_but_the_project(laptop: Laptop) -> bool:
    return files_of(laptop) == ["jupbox.toml"] and leftovers(laptop) == []


@triggers(errors.PortTakenError)
def test_a_port_held_by_ones_own_program_is_named_with_it(
    errorbox: BoxUnderTest, project: Laptop
) -> None:
    write(project, PROJECT + "port = 9321\n")
    with unchanged(errorbox), listening(errorbox, 9321, user="ada"):
        said = refused(project.jupbox("up"), errors.PortTakenError)
    assert re.search(r"Port 9321 on errorbox is taken by process perl \(pid \d+\)", said.wrong)
    assert "another `port`" in said.remedy
    assert nothing_but_the_project(project)


def test_a_port_held_by_somebody_else_is_said_so(errorbox: BoxUnderTest, project: Laptop) -> None:
    write(project, PROJECT + "port = 9322\n")
    with unchanged(errorbox), listening(errorbox, 9322, user="root"):
        said = refused(project.jupbox("up"), errors.PortTakenError)
    assert said.wrong == "Port 9322 on errorbox is taken by another user's program."


def test_a_port_held_by_a_container_is_named_with_it(
    errorbox: BoxUnderTest, project: Laptop
) -> None:
    write(project, PROJECT + "port = 9323\n")
    errorbox.exec("sh", "-c", "tar -C / -ch bin/sleep $(ldd /bin/sleep | grep -o '/[^ ]*')"
                  " | docker import - squatter:latest")  # fmt: skip
    publish = ("--publish", "9324:80", "--publish", "127.0.0.1:9323:81")
    errorbox.exec("docker", "run", "--detach", "--name", "squatter", *publish, "squatter",
                  "/bin/sleep", "600")  # fmt: skip
    try:
        with unchanged(errorbox):
            said = refused(project.jupbox("up"), errors.PortTakenError)
    finally:
        errorbox.exec("docker", "rm", "--force", "squatter")
        errorbox.exec("docker", "image", "rm", "squatter:latest")
    assert said.wrong == "Port 9323 on errorbox is taken by container squatter."
    assert nothing_but_the_project(project)


@triggers(errors.FilesError)
@pytest.mark.parametrize(
    ("folder", "wrong"),
    [
        ("/srv/notebooks", "cannot be made by ada"),
        ("/etc", "cannot be written by ada"),
        ("/etc/passwd", "cannot be written by ada"),
    ],
)
def test_a_folder_that_the_user_may_not_write_is_refused(
    errorbox: BoxUnderTest, project: Laptop, folder: str, wrong: str
) -> None:
    write(project, PROJECT + f'files = "{folder}"\n')
    with unchanged(errorbox):
        said = refused(project.jupbox("up"), errors.FilesError)
    assert said.wrong == f"The folder {folder} on errorbox {wrong}."
    assert "another `files`" in said.remedy
    assert nothing_but_the_project(project)


def a_pair(*, days: int = 90) -> tuple[bytes, bytes]:
    """A certificate for localhost that ends in `days`, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    until = datetime.now(UTC) + timedelta(days=days)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - timedelta(days=365))
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


@triggers(errors.CertificateError)
@pytest.mark.parametrize(
    ("days", "key", "wrong"),
    [
        (90, "another", "The private key does not belong to the certificate."),
        (-1, "its own", "The certificate expired on "),
        (90, "none", "cannot be read: No such file or directory"),
        (90, "rubbish", "The private key cannot be read as PEM."),
    ],
)
def test_a_certificate_of_ones_own_that_does_not_fit_is_refused(
    errorbox: BoxUnderTest, project: Laptop, days: int, key: str, wrong: str
) -> None:
    certificate, own = a_pair(days=days)
    keys = {"another": a_pair()[1], "its own": own, "rubbish": b"rubbish"}
    (project.folder / "box.pem").write_bytes(certificate)
    if key in keys:
        (project.folder / "box.key").write_bytes(keys[key])
    write(project, PROJECT + 'tls = { cert = "box.pem", key = "box.key" }\n')
    with unchanged(errorbox):
        answer = project.jupbox("up")
    assert wrong in refused(answer, errors.CertificateError).wrong
    assert own.splitlines()[1].decode() not in answer.stdout + answer.stderr
    assert not (project.folder / "jupbox.lock").exists()


@triggers(errors.NotRunningError)
def test_what_is_not_there_has_no_log(errorbox: BoxUnderTest, project: Laptop) -> None:
    write(project, '[boxes.nothing]\nhost = "errorbox"\n')
    with unchanged(errorbox):
        said = refused(project.jupbox("logs"), errors.NotRunningError)
    assert said.wrong == "There is no notebook server on errorbox."
    assert "`jupbox up nothing` makes one" in said.remedy


@triggers(errors.BusyError)
def test_two_do_not_change_the_same_server_at_a_time(
    errorbox: BoxUnderTest, project: Laptop
) -> None:
    held = "mkdir -p .local/state/jupbox; exec flock .local/state/jupbox/jupbox-ada_errors.lock"
    command = ["docker", "exec", "-i", "--user", "ada", "--workdir", "/home/ada"]
    other = subprocess.Popen(
        [*command, errorbox.container, "sh", "-c", f"{held} sh -c 'echo held; exec cat'"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdout
    assert other.stdout.readline() == "held\n"
    try:
        with unchanged(errorbox):
            said = refused(project.jupbox("up"), errors.BusyError)
    finally:
        other.communicate(timeout=30)  # ends its input, and `cat` with it
    assert said.wrong == "Another jupbox is changing the same server on errorbox right now."
    assert nothing_but_the_project(project)


# --- refused while locking --------------------------------------------------------------------


@triggers(errors.BaseImageError)
def test_a_registry_that_is_needed_and_out_of_reach_is_said_so(
    errorbox: BoxUnderTest, project: Laptop
) -> None:
    write(project, PROJECT + 'image = "mine"\n[images.mine]\nextends = "minimal"\n'
          'base = "registry.invalid/python:3.13"\n')  # fmt: skip
    with unchanged(errorbox):
        said = refused(project.jupbox("up"), errors.BaseImageError)
    assert said.wrong.startswith("registry.invalid/python:3.13 is not on errorbox")
    assert "docker load" in said.remedy
    assert nothing_but_the_project(project)


@triggers(errors.LockError)
def test_a_lock_with_a_merge_conflict_is_named_with_its_line(
    errorbox: BoxUnderTest, project: Laptop
) -> None:
    (project.folder / "jupbox.lock").write_text("schema = 1\n<<<<<<< HEAD\n")
    with unchanged(errorbox):
        said = refused(project.jupbox("up"), errors.LockError)
    assert said.wrong == "jupbox.lock:2: this file holds a merge conflict."
    assert files_of(project) == ["jupbox.lock", "jupbox.toml"]


@triggers(errors.RepositoryError)
def test_a_repository_out_of_reach_is_named_with_gits_own_reason(
    errorbox: BoxUnderTest, project: Laptop
) -> None:
    extends = "git+file:///nothing/here@main#images.core"
    write(project, f'{PROJECT}image = "mine"\n[images.mine]\nextends = "{extends}"\n')
    with unchanged(errorbox):
        said = refused(project.jupbox("up"), errors.RepositoryError)
    assert said.wrong.startswith("file:///nothing/here cannot be fetched: ")
    assert said.remedy == "Make this work first: `git ls-remote file:///nothing/here`."
    assert nothing_but_the_project(project)


@triggers(errors.ResolveError)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("addition", "wrong"),
    [
        ('python = ["nosuchpackage-of-jupbox"]', "nosuchpackage-of-jupbox was not found"),
        ('apt = ["nosuch-package"]', "No apt package is called nosuch-package in debian:trixie"),
    ],
)
def test_what_does_not_resolve_is_named(
    errorbox: BoxUnderTest, project: Laptop, addition: str, wrong: str
) -> None:
    write(project, f'{PROJECT}image = "mine"\n[images.mine]\nextends = "minimal"\n{addition}\n')
    with unchanged(errorbox, but_images=True):
        said = refused(project.jupbox("up"), errors.ResolveError)
    assert wrong in said.wrong
    assert nothing_but_the_project(project)


@pytest.mark.slow
def test_credentials_of_an_index_out_of_reach_are_not_even_in_a_traceback(
    errorbox: BoxUnderTest, project: Laptop
) -> None:
    laptop = project.at(project.folder, UV_DEFAULT_INDEX="https://ada:s3cr3t@127.0.0.1:1/simple")
    with unchanged(errorbox, but_images=True):
        answer = laptop.jupbox("up", "--debug")
    assert answer.code == errors.ResolveError.exit_code
    assert "s3cr3t" not in answer.stdout + answer.stderr
    assert "Traceback" in answer.stderr
    assert "index was not reached" in two_lines(answer.stderr).wrong


# --- the engine goes --------------------------------------------------------------------------


def test_an_engine_that_is_stopped_leads_to_setup(errorbox: BoxUnderTest, desk: Laptop) -> None:
    errorbox.exec("touch", "/run/box-stops")  # or the box would start it again
    errorbox.exec("pkill", "--exact", "dockerd")
    try:
        wait_until(lambda: not errorbox.succeeds("pgrep", "--exact", "dockerd"), "engine's end")
        for verb in ("up", "status"):
            said = refused(desk.jupbox(verb, "errorbox"), errors.EngineError)
            assert said.wrong in {
                "The Docker engine does not run on errorbox.",
                "The Docker engine on errorbox does not answer.",
            }
            assert "`jupbox setup errorbox` starts it" in said.remedy
    finally:
        errorbox.restart()


def test_an_engine_that_was_killed_leads_to_setup(errorbox: BoxUnderTest, desk: Laptop) -> None:
    desk.jupbox("status", "errorbox")  # the connection stands, and the way to the socket
    errorbox.exec("touch", "/run/box-stops")
    errorbox.exec("pkill", "-KILL", "--exact", "dockerd")
    try:
        said = refused(desk.jupbox("status", "errorbox"), errors.EngineError)
        assert said.wrong == "The Docker engine on errorbox does not answer."
    finally:
        errorbox.restart()
