"""argv to one workflow call to an exit code."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import click
import pytest
import typer
from typer.testing import CliRunner, Result

from jupbox import cli, errors
from jupbox.errors import EngineError, JupboxError
from jupbox.secret import Secret

VERBS = {
    "up": "up",
    "open": "open_box",
    "status": "status",
    "logs": "logs",
    "exec": "execute",
    "down": "down",
    "rollback": "rollback",
    "rm": "remove",
    "backup": "backup",
    "restore": "restore",
    "init": "init",
    "password": "password",
    "trust": "trust",
    "setup": "setup",
    "doctor": "doctor",
    "lock": "lock",
    "verify": "verify",
    "add": "add",
}
Invoke = Callable[..., Result]


def subclasses(kind: type[JupboxError]) -> Iterator[type[JupboxError]]:
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


ERRORS = sorted(set(subclasses(JupboxError)), key=lambda kind: kind.exit_code)


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """What a verb does to signals ends with the test."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def invoke() -> Invoke:
    def run(*argv: str, **given: Any) -> Result:
        # wide and plain: a help text is looked at without line breaks in its examples
        env = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", **given.pop("env", {})}
        return CliRunner().invoke(cli.app, list(argv), prog_name="jupbox", env=env, **given)

    return run


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every workflow does nothing but say what it was given."""
    calls: list[dict[str, Any]] = []

    def stub(verb: str) -> Callable[..., None]:
        return lambda *_, **given: calls.append({"verb": verb, **given})

    for verb, name in VERBS.items():
        monkeypatch.setattr(f"jupbox.workflows.{name}.{name}", stub(verb))
    return calls


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("jupbox.workflows.status.status", fail)


def commands() -> dict[str, click.Command]:
    group = typer.main.get_command(cli.app)
    return dict(getattr(group, "commands"))  # noqa: B009 - typer brings its own click


# --- help -------------------------------------------------------------------------------------


def test_every_verb_is_looked_at_here() -> None:
    assert set(commands()) == set(VERBS)


def test_the_version_is_the_packages(invoke: Invoke) -> None:
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"jupbox {version('jupbox')}\n")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_verb_and_shows_an_example(invoke: Invoke, flag: str) -> None:
    result = invoke(flag)
    assert result.exit_code == 0
    for verb in VERBS:
        assert re.search(rf"^\W*{verb}\b", result.stdout, re.MULTILINE), verb
    assert "jupbox up workbox" in result.stdout


def test_help_groups_the_verbs(invoke: Invoke) -> None:
    text = invoke("--help").stdout
    assert text.index("Every day") < text.index("Once in a while")


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_shows_an_example(invoke: Invoke, verb: str) -> None:
    result = invoke(verb, "--help")
    assert result.exit_code == 0
    assert re.search(rf"jupbox {verb} \w+", result.stdout.partition("Usage:")[2])


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_a_verb_is_explained(verb: str) -> None:
    for parameter in commands()[verb].params:
        assert getattr(parameter, "help", None), f"{verb} {parameter.name}"


def test_no_verb_shows_help_and_counts_as_wrong_use(invoke: Invoke) -> None:
    result = invoke()
    assert result.exit_code == 2
    assert "jupbox up workbox" in result.output


@pytest.mark.parametrize(
    "argv",
    [
        ["ups"],
        ["up", "--no-such"],
        ["up", "a", "b"],
        ["logs", "--tail"],
        ["up", "--partial"],
        ["init", "--partial"],
    ],
)
def test_wrong_use_is_exit_code_2_and_no_traceback(
    invoke: Invoke, called: list[dict[str, Any]], argv: list[str]
) -> None:
    result = invoke(*argv)
    assert (result.exit_code, called) == (2, [])
    assert "Traceback" not in result.output


def test_help_can_be_shown_where_only_ascii_can(invoke: Invoke) -> None:
    result = CliRunner(charset="ascii").invoke(cli.app, ["--help"], prog_name="jupbox")
    assert result.exit_code == 0, result.exception


# --- completion -------------------------------------------------------------------------------


def test_a_shell_completes_verbs(invoke: Invoke) -> None:
    env = {"_JUPBOX_COMPLETE": "complete_bash", "COMP_WORDS": "jupbox st", "COMP_CWORD": "1"}
    assert invoke(env=env).stdout.split() == ["status"]


def test_a_shell_completes_options(invoke: Invoke) -> None:
    env = {"_JUPBOX_COMPLETE": "complete_bash", "COMP_WORDS": "jupbox up --u", "COMP_CWORD": "2"}
    assert invoke(env=env).stdout.split() == ["--upgrade"]


# bash is asked for its version first, and a unit test starts no process
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_shell_gets_its_completion_script(invoke: Invoke, shell: str) -> None:
    result = invoke(env={"_JUPBOX_COMPLETE": f"source_{shell}"})
    assert result.exit_code == 0
    assert "_JUPBOX_COMPLETE" in result.stdout


# --- calls ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["up"], {"verb": "up", "box_name": None, "setup": False, "upgrade": False, "yes": False}),
        (["up", "w", "--setup", "-y"], {"box_name": "w", "setup": True, "yes": True}),
        (["up", "--upgrade"], {"upgrade": True}),
        (["up", "w", "--from", "."], {"box_name": "w", "source": ".", "partial": False}),
        (
            ["up", "--from", "https://h/r@v1", "--partial"],
            {"source": "https://h/r@v1", "partial": True},
        ),
        (["init", "w", "--from", ".", "--partial"], {"word": "w", "source": ".", "partial": True}),
        (["open", "w"], {"verb": "open", "box_name": "w", "browser": True, "print_url": False}),
        (["open", "--no-browser"], {"browser": False}),
        (["open", "--url"], {"print_url": True}),
        (["status", "--json"], {"verb": "status", "box_name": None, "as_json": True}),
        (["logs", "w"], {"box_name": "w", "follow": False, "since": None, "tail": "all"}),
        (
            ["logs", "-f", "--since", "10m", "--tail", "5"],
            {"follow": True, "since": "10m", "tail": "5"},
        ),
        (["exec"], {"verb": "exec", "box_name": None, "command": []}),
        (["exec", "w"], {"box_name": "w", "command": []}),
        (["exec", "w", "ls", "-l"], {"box_name": "w", "command": ["ls", "-l"]}),
        (["exec", "w", "--", "ls", "-l"], {"box_name": "w", "command": ["ls", "-l"]}),
        (["exec", "--", "ls", "-l"], {"box_name": None, "command": ["ls", "-l"]}),
        (["exec", "--debug", "--", "ls"], {"box_name": None, "command": ["ls"]}),
        (["exec", "w", "git", "diff", "--", "f"], {"command": ["git", "diff", "--", "f"]}),
        (["exec", "w", "--", "x", "--", "-h"], {"box_name": "w", "command": ["x", "--", "-h"]}),
        (["exec", "--", "--", "x"], {"box_name": None, "command": ["--", "x"]}),
        (["exec", "--"], {"box_name": None, "command": []}),
        (["down", "w"], {"verb": "down", "box_name": "w"}),
        (["rm", "w"], {"verb": "rm", "box_name": "w", "data": False, "yes": False}),
        (["rm", "--data", "-y"], {"box_name": None, "data": True, "yes": True}),
        (["password", "--generate"], {"verb": "password", "generate": True}),
        (["trust", "--print"], {"verb": "trust", "print_only": True}),
        (["setup", "w", "--yes"], {"verb": "setup", "box_name": "w", "gpu": False, "yes": True}),
        (["setup", "--gpu"], {"box_name": None, "gpu": True, "yes": False}),
        (["lock", "a", "b", "--on", "w"], {"verb": "lock", "names": ["a", "b"], "on": "w"}),
        (["lock"], {"names": [], "on": None, "upgrade": False, "diff": None}),
        (["lock", "a", "--upgrade", "numpy"], {"names": ["a", "numpy"], "upgrade": True}),
        (["lock", "--diff", "HEAD"], {"names": [], "diff": "HEAD", "upgrade": False}),
        (["verify"], {"verb": "verify", "target": None, "rebuild": False, "on": None}),
        (["verify", "a", "--rebuild", "--on", "w"], {"target": "a", "rebuild": True, "on": "w"}),
        (["up", "--locked"], {"locked": True, "allow_drift": False}),
        (["up", "--allow-drift"], {"locked": False, "allow_drift": True}),
    ],
)
def test_argv_becomes_one_call(
    invoke: Invoke, called: list[dict[str, Any]], argv: list[str], expected: dict[str, Any]
) -> None:
    result = invoke(*argv)
    assert result.exit_code == 0, result.output
    (call,) = called
    assert expected.items() <= call.items()


def test_verbose_reaches_the_console(invoke: Invoke, called: list[dict[str, Any]]) -> None:
    invoke("up", "--verbose")
    assert called[0]["console"].verbose


def test_a_password_is_no_argument(invoke: Invoke, called: list[dict[str, Any]]) -> None:
    assert "--password" not in invoke("password", "--help").stdout
    assert invoke("password", "box", "hunter2hunter2").exit_code == 2
    assert called == []


def test_a_workflows_own_exit_code_is_the_commands(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupbox.workflows.status.status", lambda *_, **__: 12)
    assert invoke("status").exit_code == 12


# --- errors -----------------------------------------------------------------------------------


def test_each_kind_of_error_has_an_exit_code_of_its_own() -> None:
    codes = [kind.exit_code for kind in ERRORS]
    assert len(set(codes)) == len(codes)
    assert not {0, 1, 2, 126, 127, cli.INTERRUPTED} & set(codes)
    assert all(2 < code < 126 for code in codes)
    assert len({kind.meaning for kind in ERRORS}) == len(ERRORS)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_is_two_lines_and_its_exit_code(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, kind: type[JupboxError]
) -> None:
    failing(monkeypatch, kind("It is wrong.", remedy="Mend it."))
    result = invoke("status")
    assert result.exit_code == kind.exit_code
    assert result.stdout == ""
    first, second = result.stderr.splitlines()
    assert first.endswith("It is wrong.")
    assert second == "  Mend it."


def test_an_error_shows_no_traceback_unless_asked_for(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, EngineError("It is wrong.", remedy="Mend it."))
    assert "Traceback" not in invoke("status").output
    shown = invoke("status", "--debug")
    assert shown.exit_code != 0
    assert "Traceback" in shown.output or isinstance(shown.exception, EngineError)


def test_what_nobody_foresaw_shows_neither_a_traceback_nor_its_words(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, ValueError("hunter2hunter2"))
    result = invoke("status")
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert "hunter2" not in result.output
    assert "ValueError" in result.stderr


def test_a_secret_in_an_error_is_not_shown(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, EngineError(f"Refused: {Secret('hunter2hunter2')}", remedy="Mend it."))
    assert "hunter2" not in invoke("status").output


def test_ctrl_c_is_130_and_says_what_stands(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    result = invoke("status")
    assert result.exit_code == 130
    assert "Interrupted" in result.stderr
    assert "the same command goes on" in result.stderr
    assert "Traceback" not in result.output


def test_a_meaning_and_a_docstring_for_each_error() -> None:
    for kind in ERRORS:
        assert kind.__doc__
        assert kind.meaning != JupboxError.meaning, kind
        assert kind.__name__ in vars(errors)
