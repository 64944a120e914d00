"""A unit test starts no process.

Only a test below `host/` or `release/` that says so with `@pytest.mark.real_process` may: what is
tested there exists for its effects.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

_ROOMS = tuple(Path(__file__).parent / name for name in ("host", "release"))
_STARTERS = ("system", "popen", "posix_spawn", "posix_spawnp", "fork", "forkpty")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "real_process: a unit test of an effect that starts a process"
    )


@pytest.fixture(autouse=True)
def no_real_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make any attempt to start a process fail the test."""
    marked = request.node.get_closest_marker("real_process") is not None
    if marked and any(request.path.is_relative_to(room) for room in _ROOMS):
        return

    def refuse(*_arguments: object, **_options: object) -> NoReturn:
        pytest.fail("a unit test tried to start a real process")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    # an unfinished Popen complains in __del__ about what __init__ did not set
    monkeypatch.setattr(subprocess.Popen, "__del__", lambda _self: None)
    execs = [name for name in dir(os) if name.startswith(("exec", "spawn"))]
    for name in (*_STARTERS, *execs):
        if hasattr(os, name):
            monkeypatch.setattr(os, name, refuse)
