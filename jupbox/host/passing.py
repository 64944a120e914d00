"""Names of passing containers, by which one that a killed command left behind is known."""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
from typing import Final

PREFIX: Final = "jupbox-passing-"
# longer than anything that is done in one
_LONGEST_SECONDS: Final = 3600


def new_name() -> str:
    """A container's name that nobody has, and that says which process made it."""
    return f"{PREFIX}{_this_machine()}-{os.getpid()}-{secrets.token_hex(6)}"


def is_of_this_machine(name: str) -> bool:
    """Whether a passing container was made by a process of this machine."""
    return name.startswith(f"{PREFIX}{_this_machine()}-")


def _this_machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def left_behind(name: str, *, age_seconds: float) -> bool:
    """Whether the process that made a passing container is gone, as far as can be known.

    Args:
        name: the container's.
        age_seconds: how long ago it was made; one of another machine is given a while.
    """
    machine, _, rest = name.removeprefix(PREFIX).partition("-")
    pid = rest.partition("-")[0]
    if machine == _this_machine() and pid.isdigit():
        return not _lives(int(pid))
    return age_seconds > _LONGEST_SECONDS


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def is_passing(container: str) -> bool:
    """Whether a container's name is that of one that an interrupted command left behind."""
    return container.startswith(PREFIX)
