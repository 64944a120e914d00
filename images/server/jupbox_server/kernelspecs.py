"""The kernelspecs of the side environments, where Jupyter finds them before the image's.

They have a folder of their own: an ipykernel that is upgraded on the side brings a `python3`
along whose `python` is the server's.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .overlay import DEFAULT, Side, write


def folder_in(root: Path) -> Path:
    """The entry of JUPYTER_PATH that holds them."""
    return root / "jupyter"


def _image_spec(side: Side, image: Path) -> Path:
    """Where the image has the same kernel's specification."""
    return image / "share" / "jupyter" / "kernels" / side.kernel


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads((path / "kernel.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _spec(side: Side, own: dict[str, Any]) -> dict[str, Any]:
    """The image's specification, but run by the side's Python."""
    arguments = own.get("argv") or []
    if not isinstance(arguments, list) or len(arguments) < 2:
        arguments = ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    title = "Python 3 (ipykernel)" if side.name == DEFAULT else f"Python ({side.name})"
    # Jupyter replaces ${PATH} when the kernel starts. Without a VIRTUAL_ENV of its own, IPython
    # would put the default side's packages into every other kernel.
    scripts = f"{side.bin}:{side.image / 'bin'}"
    return {
        "display_name": title,
        "language": "python",
        "metadata": {"debugger": True},
        **own,
        "argv": [str(side.interpreter), *map(str, arguments[1:])],
        "env": {
            "PATH": f"{scripts}:${{PATH}}",
            **(own.get("env") or {}),
            "VIRTUAL_ENV": str(side.path),
        },
    }


def _ensure_spec(side: Side, image: Path, folder: Path) -> None:
    own = _image_spec(side, image)
    write(folder / "kernel.json", json.dumps(_spec(side, _read(own)), indent=1) + "\n")
    logos = sorted(own.glob("logo-*"))
    for logo in logos:  # not a link: tornado serves none that leads out of the folder
        write(folder / logo.name, logo.read_bytes())
    for entry in folder.iterdir():
        if entry.name not in {"kernel.json", *(logo.name for logo in logos)}:
            entry.unlink()


def ensure_kernelspecs(sides: Iterable[Side], *, image: Path, root: Path) -> None:
    """Have exactly the kernels of `sides` there; those of an earlier image go.

    Args:
        sides: those that can be used.
        image: the server's environment, whose specifications are taken over.
        root: where the sides are kept.

    Raises:
        OSError: the home directory cannot be written.
    """
    kernels = folder_in(root) / "kernels"
    wanted = {side.kernel: side for side in sides}
    if kernels.is_dir():
        for entry in kernels.iterdir():
            if entry.name not in wanted:
                shutil.rmtree(entry)
    for name, side in wanted.items():
        _ensure_spec(side, image, kernels / name)
