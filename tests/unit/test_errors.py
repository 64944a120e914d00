"""Every error is one that a test has the real program end with."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest

from jupbox import errors
from tests.readme import subclasses
from tests.triggers import pytest_pyfunc_call, saw, triggers

TESTS = Path(__file__).resolve().parents[1]
SUITES = ("integration", "e2e")
NOT_TRIGGERED: Mapping[type[errors.JupboxError], str] = {}
"""What no test triggers, and why none can."""

ERRORS = sorted(
    {errors.JupboxError, *subclasses(errors.JupboxError)}, key=lambda kind: kind.exit_code
)


def marked(source: str) -> Iterator[str]:
    """The errors that the tests of a module are marked to trigger.

    Read from the text: collecting those suites would bring up what they need.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "triggers":
                    yield from (ast.unparse(argument) for argument in decorator.args)


@pytest.fixture(scope="module")
def triggered() -> set[str]:
    modules = [path for suite in SUITES for path in (TESTS / suite).glob("test_*.py")]
    return {name for path in modules for name in marked(path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_triggered_for_real(
    error: type[errors.JupboxError], triggered: set[str]
) -> None:
    """By a test marked `@triggers(errors.XError)`, which must see that exit code."""
    assert (f"errors.{error.__name__}" in triggered) != (error in NOT_TRIGGERED)


def test_marks_name_errors_that_exist(triggered: set[str]) -> None:
    assert triggered <= {f"errors.{error.__name__}" for error in ERRORS}


def test_every_error_has_a_code_a_meaning_and_a_remedy_of_its_own() -> None:
    for values in (
        [error.exit_code for error in ERRORS],
        [error.meaning for error in ERRORS],
        [error.remedy_hint for error in ERRORS],
    ):
        assert len(set(values)) == len(ERRORS)


def test_only_marks_on_tests_count() -> None:
    source = (
        "@triggers(errors.A, errors.B)\n@pytest.mark.slow\ndef test_it(): ...\n"
        "@triggers(errors.C)\ndef helper(): ...\n"
    )
    assert list(marked(source)) == ["errors.A", "errors.B"]


class Marked:
    """A test with a mark, as the hook sees it."""

    def iter_markers(self, name: str) -> Iterator[pytest.Mark]:
        assert name == "triggers"
        yield triggers(errors.HostError).mark


@pytest.mark.parametrize(
    ("argv", "code", "fails"),
    [
        (("python", "-m", "jupbox", "up"), errors.HostError.exit_code, False),
        (("python", "-m", "jupbox", "up"), errors.ConfigError.exit_code, True),
        (("ssh", "workbox"), errors.HostError.exit_code, True),
    ],
)
def test_a_marked_test_must_have_seen_the_program_end_so(
    argv: tuple[str, ...], code: int, fails: bool
) -> None:
    hook = pytest_pyfunc_call(cast(pytest.Function, Marked()))
    next(hook)
    saw(argv, code)
    with pytest.raises(AssertionError if fails else StopIteration):
        hook.send(None)
