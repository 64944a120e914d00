"""An image's environment with packages in it, and wheels, made by hand."""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from jupbox_server.overlay import Side, ensure, sides

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def metadata(name: str, version: str, requires: Sequence[str] = ()) -> str:
    """A METADATA file, with the traps that real ones have."""
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    lines += ["License: as it is\n        \n        Name: none\n"]
    lines += [f"Requires-Dist: {line}\n" for line in requires]
    return "".join([*lines, "\nRequires-Dist: prose>=9\n"])


def files_of(name: str, version: str, requires: Sequence[str] = ()) -> dict[str, str]:
    """What a wheel of one module holds, but for RECORD."""
    info = f"{name}-{version}.dist-info"
    return {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": metadata(name, version, requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }


def put(site: Path, name: str, version: str, requires: Sequence[str] = ()) -> Path:
    """Install a package of one module; its .dist-info."""
    files = files_of(name, version, requires)
    info = site / f"{name}-{version}.dist-info"
    record = "".join(f"{path},,\n" for path in [*files, f"{info.name}/RECORD"])
    for path, text in {**files, f"{info.name}/RECORD": record}.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    return info


def wheel(folder: Path, name: str, version: str, requires: Sequence[str] = ()) -> Path:
    """A wheel of one module, as pip checks it."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    record = ""
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in files_of(name, version, requires).items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
            record += f"{inside},sha256={digest.decode().rstrip('=')},{len(text)}\n"
            archive.writestr(inside, text)
        record += f"{name}-{version}.dist-info/RECORD,,\n"
        archive.writestr(f"{name}-{version}.dist-info/RECORD", record)
    return path


def environment(folder: Path) -> Path:
    """An environment of an image with nothing in it."""
    (folder / "bin").mkdir(parents=True)
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    (folder / "bin" / "python").symlink_to(base)
    (folder / "lib" / f"python{PYTHON}" / "site-packages").mkdir(parents=True)
    return folder


def made_side(folder: Path) -> Side:
    """The side of an image of one's own, ready to be used."""
    image = environment(folder / "image")
    side = sides(folder / "home", image=image, kernels=folder / "none")[0]
    ensure(side)
    return side
