"""What `jupbox exec` starts, and how the network's files are handed over."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jupbox_server.overlay import ensure, sides

from tests.images.box import Answer, until
from tests.images.conftest import SERVER

Run = Callable[..., Answer]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A user with notebooks and a side environment."""
    home = tmp_path / "home"
    (home / "notebooks" / "deep").mkdir(parents=True)
    ensure(sides(home, kernels=tmp_path / "none")[0])
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(SERVER),
        "SHELL": "/bin/sh",
    }


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", f"jupbox_server.{module}", *arguments]


@pytest.fixture
def run(environ: dict[str, str]) -> Run:
    """Run it to its end, with no terminal."""

    def run(*arguments: str, given: str = "", module: str = "run") -> Answer:
        done = subprocess.run(
            command(module, *arguments),
            env=environ,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Answer(status=done.returncode, text=done.stdout, errors=done.stderr)

    return run


@pytest.fixture(params=["alone", "with an id"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    return [] if request.param == "alone" else ["--id", "t-1", "--running", str(tmp_path)]


def test_a_command_starts_among_the_notebooks_with_the_side(
    run: Run, environ: dict[str, str], options: list[str]
) -> None:
    notebooks = f"{environ['HOME']}/notebooks"
    assert run(*options, "--", "pwd").text == f"{notebooks}\n"
    assert run(*options, "-C", "deep", "--", "pwd").text == f"{notebooks}/deep\n"
    assert run(*options, "-C", "/", "--", "pwd").text == "/\n"
    side = run(*options, "--", "python", "-c", "import sys; print(sys.prefix)").text.strip()
    assert side.startswith(f"{environ['HOME']}/.local/share/jupbox/side/default-")


def test_arguments_and_standard_input_reach_the_command(run: Run, options: list[str]) -> None:
    answer = run(
        *options, "--", "sh", "-c", 'cat; printf "<%s>" "$@"', "-", "--id", "a b", given="x"
    )
    assert (answer.status, answer.text) == (0, "x<--id><a b>")


def test_the_exit_code_is_the_commands(run: Run, options: list[str], tmp_path: Path) -> None:
    assert run(*options, "--", "sh", "-c", "exit 7").status == 7
    missing = run(*options, "--", "no-such-command", "x")
    assert (missing.status, missing.errors) == (127, "jupbox: no-such-command: command not found\n")
    forbidden = run(*options, "--", str(tmp_path))
    assert (forbidden.status, forbidden.errors) == (126, f"jupbox: {tmp_path}: Permission denied\n")
    lost = run(*options, "-C", "nowhere", "--", "pwd")
    assert (lost.status, len(lost.errors.splitlines())) == (125, 1)


def test_a_command_that_a_signal_ended_says_which(run: Run, options: list[str]) -> None:
    status = run(*options, "--", "sh", "-c", "kill -9 $$").status
    # alone it is the command itself that the engine sees, and gives the same number to
    assert status == (137 if options else -9)


def test_a_closed_pipe_ends_a_command_as_in_a_shell(run: Run, options: list[str]) -> None:
    # a shell's own children have no signal ignored; Python's have SIGPIPE
    answer = run(*options, "--", "grep", "SigIgn", "/proc/self/status")
    assert int(answer.text.split()[1], 16) & 1 << (signal.SIGPIPE - 1) == 0


def test_without_a_command_a_shell_reads_standard_input(run: Run) -> None:
    answer = run(given="pwd\necho $0\nexit 3\n")
    assert answer.status == 3
    assert answer.text.splitlines()[0].endswith("/notebooks")


@pytest.fixture
def started(
    environ: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start it and leave it running; what still runs at the end is ended."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        words = command("run", "--id", "t-1", "--running", str(tmp_path), "--", *arguments)
        process = subprocess.Popen(
            words,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=20)


TRAP = "trap 'echo got it; exit 5' INT; echo ready; while :; do sleep 0.05; done"


def test_a_signal_reaches_the_whole_command_by_its_id(
    run: Run, started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = started("sh", "-c", TRAP)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    note = tmp_path / "exec-t-1"
    # the command may be up before it is noted; who sends a signal waits for that
    until(lambda: note.exists() and note.read_text() != "")
    group = int(note.read_text())
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    assert os.getpgid(group) == group != os.getpgid(process.pid)
    sent = run("--signal", "INT", "--id", "t-1", "--running", str(tmp_path))
    assert (sent.status, sent.errors) == (0, "")
    assert process.wait(20) == 5
    assert process.stdout.read() == "got it\n"
    assert not note.exists()


def test_a_signal_sent_at_the_same_moment_waits_for_the_command(
    environ: dict[str, str], started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    words = ["--signal", "term", "--id", "t-1", "--running", str(tmp_path)]
    sender = subprocess.Popen(command("run", *words), env=environ)
    process = started("sleep", "60")
    assert process.wait(20) == 128 + signal.SIGTERM
    assert sender.wait(20) == 0


def test_no_signal_goes_to_what_has_ended(run: Run, tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"], process_group=0)
    try:
        # what a wrapper leaves behind that was killed: nobody holds it
        (tmp_path / "exec-t-1").write_text(f"{bystander.pid}\n")
        sent = run("--signal", "KILL", "--id", "t-1", "--running", str(tmp_path))
        assert (sent.status, sent.errors) == (1, "jupbox: no command runs under that id\n")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_an_id_is_no_path(run: Run) -> None:
    assert run("--id", "../x", "--", "true").status == 2


def test_at_a_terminal_the_command_has_it(environ: dict[str, str]) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        words = command("run", "--id", "t-1", "--", "sh", "-c", "echo ready; exec sleep 60")
        os.execvpe(words[0], words, environ)
    status: list[int] = []

    def ended() -> bool:
        found, code = os.waitpid(pid, os.WNOHANG)
        status.extend([os.waitstatus_to_exitcode(code)] if found else [])
        return bool(found)

    try:
        seen = ""

        def ready() -> bool:
            nonlocal seen
            if select.select([terminal], [], [], 0.05)[0]:
                seen += os.read(terminal, 1000).decode()
            return "ready" in seen

        until(ready)
        os.write(terminal, b"\x03")
        until(ended)
        assert status == [-signal.SIGINT]
    finally:
        if not status:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(terminal)


def test_the_networks_files_are_the_users_alone_and_replaced_whole(
    run: Run, environ: dict[str, str]
) -> None:
    folder = Path(environ["HOME"]) / ".config" / "jupbox"
    given = {"pip.conf": "[global]\nindex-url = https://u:p@index/\n", "ca.pem": "CA"}
    done = run(module="network", given=json.dumps(given))
    assert (done.status, done.text, done.errors) == (0, "", "")
    assert {path.name: path.read_text() for path in folder.iterdir()} == given
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600, 0o600]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert run(module="network", given='{"pip.conf": "", "ca.pem": null}').status == 0
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("given", ["", "[]", '{"../x": "y"}', '{"ca.pem": 1}'])
def test_what_is_no_file_of_the_network_is_refused(
    run: Run, environ: dict[str, str], given: str
) -> None:
    refused = run(module="network", given=given)
    assert (refused.status, len(refused.errors.splitlines())) == (2, 1)
    assert not (Path(environ["HOME"]) / ".config").exists()
