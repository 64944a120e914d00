"""`jupbox exec`: a command or a shell beside the server, as over ssh."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import termios

import pytest

from tests.integration.boxes.boxes import wait_until
from tests.integration.jupbox_command import Laptop, MainJob
from tests.integration.terminal import executing, on_a_terminal

pytestmark = pytest.mark.slow

_RAW = termios.ECHO | termios.ICANON


def pipe_through(laptop: Laptop, content: bytes, *words: str) -> tuple[int, bytes, bytes]:
    """Exit code, output and errors of an exec that reads bytes."""
    done = subprocess.run(
        [sys.executable, "-m", "jupbox", "exec", *words], check=False, input=content,
        env=dict(laptop.environ), cwd=laptop.folder, capture_output=True, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def runs(job: MainJob, marker: str) -> bool:
    """Whether a command with this argument runs in the container."""
    command = ["docker", "exec", str(job.stack.inspect()["Id"]), "pgrep", "-f", f"sleep {marker}"]
    return job.box.succeeds(*command)


@pytest.fixture
def marker() -> str:
    """A time to sleep that no other test sleeps."""
    return str(random.randrange(100_000, 999_999))


# --- without a terminal -----------------------------------------------------------------------


def test_streams_stay_apart_and_the_exit_code_is_the_commands(ada: MainJob) -> None:
    script = "echo out; echo err >&2; exit 7"
    done = ada.laptop.jupbox("exec", "workbox", "--", "sh", "-c", script)
    assert (done.code, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_it_runs_in_the_notebooks_folder_as_the_notebooks_user(ada: MainJob) -> None:
    done = ada.jupbox("exec", "sh", "-c", "pwd; id -un; id -g; python -c 'import ipykernel'")
    assert done.stdout.split() == ["/home/ada/notebooks", "ada", "1500"]


def test_options_of_the_command_are_its_own(ada: MainJob) -> None:
    assert ada.jupbox("exec", "printf", "%s ", "--debug", "--", "-v").stdout == "--debug -- -v "


@pytest.mark.parametrize(
    ("command", "expected"),
    [(["no-such-program"], 127), (["/etc/passwd"], 126), (["sh", "-c", "kill -KILL $$"], 137)],
)
def test_what_does_not_end_by_itself_has_a_shells_exit_codes(
    ada: MainJob, command: list[str], expected: int
) -> None:
    done = ada.laptop.jupbox("exec", "workbox", "--", *command)
    assert (done.code, done.stdout) == (expected, "")


def test_any_bytes_pass_both_ways_and_their_end_too(ada: MainJob) -> None:
    content = random.Random(1).randbytes(1 << 20)
    assert pipe_through(ada.laptop, content, "workbox", "--", "cat") == (0, content, b"")
    code, said, _ = pipe_through(ada.laptop, content, "workbox", "sha256sum")
    assert (code, said.split()[0].decode()) == (0, hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_too(ada: MainJob, marker: str, number: signal.Signals) -> None:
    script = f"trap 'echo saved; exit 3' {number.name[3:]}; sleep {marker}"
    with executing(ada.laptop, "workbox", "--", "bash", "-c", script) as process:
        wait_until(lambda: runs(ada, marker), "the command", timeout=60)
        process.send_signal(number)
        assert process.wait(timeout=60) == 128 + number
        assert process.stdout is not None
        # what it did at the end is not lost
        assert process.stdout.read() == b"saved\n"
    wait_until(lambda: not runs(ada, marker), "its end", timeout=30)


def test_a_command_that_ignores_a_signal_is_killed_at_the_second(ada: MainJob) -> None:
    script = "trap '' INT; echo up; while :; do sleep 0.1; done"
    with executing(ada.laptop, "workbox", "--", "bash", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.read(3) == b"up\n"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) in {128 + signal.SIGINT, 128 + signal.SIGTERM}


def test_a_reader_that_goes_ends_the_command(ada: MainJob, marker: str) -> None:
    script = f"sleep {marker} & yes"
    with executing(ada.laptop, "workbox", "--", "bash", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.read(2) == b"y\n"
        process.stdout.close()
        assert process.wait(timeout=60) == 128 + signal.SIGPIPE
    wait_until(lambda: not runs(ada, marker), "its end", timeout=30)


def test_what_is_typed_reaches_a_command_whose_output_is_piped(ada: MainJob) -> None:
    reading, writing = os.pipe()
    with (
        os.fdopen(reading, "rb") as output,
        on_a_terminal(ada.laptop, "exec", "workbox", "--", "sh", "-c",
                      "test -t 0 && echo terminal; cat", stdout=writing) as terminal,
    ):  # fmt: skip
        os.close(writing)
        terminal.type("one\r\x04")
        assert (output.read(), terminal.wait()) == (b"one\n", 0)


# --- on a terminal ----------------------------------------------------------------------------


def test_a_shell_on_a_terminal_is_as_over_ssh(ada: MainJob) -> None:
    with on_a_terminal(ada.laptop, "exec", "workbox", rows=33, columns=99) as terminal:
        cooked = terminal.local_flags() & _RAW
        terminal.type("stty size; echo $TERM $-\r")
        terminal.wait_for(r"33 99\r\n")
        # i: interactive, m: it has job control
        terminal.wait_for(r"xterm-256color \w*i\w*m")
        terminal.resize(44, 111)
        terminal.type("until stty size | grep 44; do sleep 0.1; done\r")
        terminal.wait_for(r"44 111\r\n")
        terminal.type("sleep 600\r")
        wait_until(lambda: runs(ada, "600"), "sleep", timeout=30)
        terminal.type("\x03")
        terminal.type("echo code $?\r")
        terminal.wait_for(r"code 130\r\n")
        terminal.type("exit 5\r")
        assert terminal.wait() == 5
        assert terminal.local_flags() & _RAW == cooked


def test_the_shells_key_for_the_last_command_is_not_dockers(ada: MainJob) -> None:
    with on_a_terminal(ada.laptop, "exec", "workbox") as terminal:
        terminal.type("echo a$((1 + 1))b\r")
        terminal.wait_for(r"a2b\r\n")
        terminal.type("\x10")  # Ctrl-P, seen before another key follows
        terminal.wait_for(r"echo a\$")
        terminal.type("\rexit\r")
        assert terminal.wait() == 0


def test_a_command_on_a_terminal_has_one_and_its_exit_code(ada: MainJob) -> None:
    script = "test -t 0 && test -t 1 && test -t 2 && exit 9"
    with on_a_terminal(ada.laptop, "exec", "workbox", "--", "sh", "-c", script) as terminal:
        assert terminal.wait() == 9


@pytest.mark.parametrize("gone", ["terminal", "jupbox"])
def test_a_terminal_that_goes_ends_the_shell_and_what_runs_in_it(
    ada: MainJob, marker: str, gone: str
) -> None:
    with on_a_terminal(ada.laptop, "exec", "workbox") as terminal:
        terminal.type(f"sleep {marker}\r")
        wait_until(lambda: runs(ada, marker), "the command", timeout=60)
        if gone == "terminal":
            terminal.hang_up()
        else:
            terminal.process.terminate()
        terminal.process.wait(timeout=60)
        assert terminal.process.returncode in {128 + signal.SIGHUP, 128 + signal.SIGTERM}
    wait_until(lambda: not runs(ada, marker), "its end", timeout=30)


# --- where nothing runs -----------------------------------------------------------------------


def test_a_box_where_nothing_runs_is_an_error_on_stderr(ada: MainJob) -> None:
    done = ada.laptop.jupbox("exec", "workbox/none", "--", "true")
    assert (done.code, done.stdout) == (35, "")
    assert "jupbox up workbox/none" in done.stderr
