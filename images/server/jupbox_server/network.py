"""`python -m jupbox_server.network`: take over how this box's network is used.

Reads `{"pip.conf": "…", "ca.pem": "…"}` on standard input, where no process list and no log
shows the password of an index. An empty text or null removes a file; what is not named stays.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .overlay import write

FILES = frozenset({"pip.conf", "ca.pem"})


def folder_in(home: Path) -> Path:
    """Where the files are; /etc/pip.conf of the image is a link into it."""
    return home / ".config" / "jupbox"


def take(wanted: dict[str, str | None], folder: Path) -> None:
    """Write or remove each file named, whole, for the user alone.

    Raises:
        OSError: the home directory cannot be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in wanted.items():
        if text:
            write(folder / name, text, 0o600)
        else:
            (folder / name).unlink(missing_ok=True)


def main() -> int:
    """Take what standard input says; the exit code."""
    try:
        wanted = json.load(sys.stdin)
    except ValueError:
        wanted = None
    if not isinstance(wanted, dict) or not wanted.keys() <= FILES:
        print("standard input must name pip.conf and ca.pem, in JSON", file=sys.stderr)
        return 2
    if not all(text is None or isinstance(text, str) for text in wanted.values()):
        print("each file must be a text or null", file=sys.stderr)
        return 2
    try:
        take(wanted, folder_in(Path.home()))
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
