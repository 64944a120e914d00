"""The user's own git."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from jupbox.errors import ClientError, LockError

_SECONDS: Final = 60.0


def show(folder: Path, revision: str, path: str) -> str:
    """A file of a folder's repository as it was at a revision.

    Args:
        folder: in the work tree of a repository.
        revision: as `git rev-parse` takes it.
        path: relative to the folder.

    Raises:
        LockError: there is no such revision, or no such file in it.
        ClientError: there is no git on this machine.
    """
    # a revision that begins with a minus would be an option
    named = f"{revision}:./{path}"
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "show", "--end-of-options", named],
            capture_output=True, check=False, timeout=_SECONDS,
        )  # fmt: skip
    except FileNotFoundError:
        raise ClientError(
            "There is no git on this machine.", remedy="Install git, then run it again."
        ) from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise LockError(
            f"git has no {path} at {revision!r}: {said[-1].removeprefix('fatal: ')}",
            remedy="Name a revision that holds it, such as HEAD or main.",
        )
    return done.stdout.decode("utf-8", "replace")
