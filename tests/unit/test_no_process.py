"""The fixture that keeps processes out of unit tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.run([sys.executable, "-V"], check=False),
        lambda: subprocess.Popen(["true"]),
        lambda: os.system("true"),
        lambda: os.execv("/bin/true", ["true"]),
        lambda: os.spawnv(os.P_WAIT, "/bin/true", ["true"]),
        lambda: os.posix_spawn("/bin/true", ["true"], {}),
    ],
)
def test_a_process_in_a_unit_test_fails_it(start: Callable[[], object]) -> None:
    with pytest.raises(pytest.fail.Exception, match="real process"):
        start()


@pytest.mark.real_process
def test_the_mark_means_nothing_outside_of_the_rooms_with_effects() -> None:
    with pytest.raises(pytest.fail.Exception, match="real process"):
        subprocess.run(["true"], check=False)
