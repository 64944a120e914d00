"""Where jupbox's own templates and shipped definitions lie.

In an installed package they are beside the modules (`jupbox/images`, `jupbox/compose`);
in a checkout they are the repository's top-level folders, which the wheel maps there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

_PACKAGE: Final = Path(__file__).resolve().parent

Folder = Literal["images", "compose"]


def folder(name: Folder) -> Path:
    """The folder of jupbox's own files called `name`.

    Raises:
        FileNotFoundError: the installation is incomplete.
    """
    for root in (_PACKAGE, _PACKAGE.parent):
        candidate = root / name
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"jupbox is installed without its folder {name!r}")
