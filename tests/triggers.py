"""A test marked `@triggers(errors.XError)` must have seen the real program end with that error.

Whatever runs the program in a test tells `saw` how it ended; the hook compares afterwards.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from jupbox.errors import JupboxError

_SEEN: set[int] = set()


def triggers(*kinds: type[JupboxError]) -> pytest.MarkDecorator:
    """Mark a test: it has the program end with those errors.

    A mark that is given one class and nothing else would take that for what it decorates.
    """
    return pytest.mark.triggers.with_args(*kinds)


def saw(argv: tuple[str, ...], code: int) -> None:
    """A program of a test has ended; only jupbox itself counts."""
    if "jupbox" in argv:
        _SEEN.add(code)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Compare the marks of a test with the exit codes that it saw."""
    _SEEN.clear()
    result = yield
    for mark in pyfuncitem.iter_markers("triggers"):
        for error in mark.args:
            assert error.exit_code in _SEEN, (
                f"marked to trigger {error.__name__} ({error.exit_code}), but jupbox ended "
                f"with {sorted(_SEEN) or 'nothing'}"
            )
    return result
