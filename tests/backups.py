"""The script that reads and writes volumes, as a module; and small archives made by it."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

from jupbox import assets
from jupbox.backup import About, Checked, check

SCRIPT = assets.folder("images") / "backup" / "volume.py"


def _load() -> Any:
    found = importlib.util.spec_from_file_location("jupbox_volume", SCRIPT)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


volume = _load()


def about(**changes: Any) -> About:
    """Of what a test's backup is."""
    given: dict[str, Any] = {
        "box": "workbox",
        "stack": "jupbox-ada_workbox",
        "owner": "ada",
        "account": "",
        "made": "2026-03-01T18:00:00+00:00",
        "who": "ada@laptop",
        "version": "0.1.0",
        "lock": "",
        "notebooks": "volume",
    }
    return About(**(given | changes))


class Pipe(io.BytesIO):
    """Keeps what was written when it is closed."""

    def close(self) -> None:
        pass


def archive_of(folder: Path, **changes: Any) -> bytes:
    """The archive of a folder, not packed."""
    out = Pipe()
    volume.Reader(volume._Plain(out)).run(str(folder), about(**changes).text())
    return out.getvalue()


def checked(archive: bytes) -> tuple[Checked, list[bytes]]:
    """What a whole archive holds, and its manifest's lines of entries."""
    lines = io.BytesIO()
    found = check(io.BytesIO(archive).read, lines=lines, source="The file")
    return found, lines.getvalue().splitlines(keepends=True)
