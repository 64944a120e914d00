"""Side environments: what is installed beside the read-only image, in the home volume.

Each of the image's environments has one, `~/.local/share/jupbox/side/<name>-<python>`: a virtual
environment that lists the image's packages after its own. What pip installs there comes first, an
upgrade lies on top of the image's, an uninstall brings the image's back. It is written by hand:
the venv module starts a process and takes a second, and cannot list another environment.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

#: The name of the side of the environment that the server itself runs in.
DEFAULT = "default"
#: Where an image has the environments of its further kernels.
KERNELS = Path("/opt/kernels")

#: Names that the default side and its kernel have.
_TAKEN = frozenset({DEFAULT, "python3"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_IMAGE_KEY = "jupbox-image"
_MADE_BY = "# made by jupbox"


@dataclass(frozen=True, kw_only=True)
class Side:
    """The side of one environment of the image.

    Args:
        name: `default`, or the kernel's.
        image: the environment in the image.
        python: its Python, `3.13`.
        root: where sides are kept.
    """

    name: str
    image: Path
    python: str
    root: Path

    @property
    def path(self) -> Path:
        """The virtual environment; another Python version has another."""
        return self.root / f"{self.name}-{self.python}"

    @property
    def bin(self) -> Path:
        """Its scripts."""
        return self.path / "bin"

    @property
    def interpreter(self) -> Path:
        """Its Python."""
        return self.bin / "python"

    @property
    def site(self) -> Path:
        """Where pip installs to."""
        return self.path / "lib" / f"python{self.python}" / "site-packages"

    @property
    def image_site(self) -> Path:
        """The image's packages."""
        return self.image / "lib" / f"python{self.python}" / "site-packages"

    @property
    def kernel(self) -> str:
        """The name of its kernelspec."""
        return "python3" if self.name == DEFAULT else self.name


def root_in(home: Path) -> Path:
    """Where a home directory keeps its sides."""
    return home / ".local" / "share" / "jupbox" / "side"


def image_root() -> Path:
    """The image's environment, also for a Python that was started from its side."""
    prefix = Path(sys.prefix)
    try:
        lines = (prefix / "pyvenv.cfg").read_text().splitlines()
    except OSError:
        return prefix
    pairs = (line.partition(" = ") for line in lines)
    return next((Path(value) for key, _, value in pairs if key == _IMAGE_KEY), prefix)


def _side(name: str, image: Path, root: Path) -> Side | None:
    """The side of the environment at `image`; None if no Python is there."""
    found = sorted(image.glob("lib/python*/site-packages"))
    if not found or not (image / "bin" / "python").exists():
        return None
    return Side(
        name=name, image=image, python=found[-1].parent.name.removeprefix("python"), root=root
    )


def sides(home: Path, *, image: Path | None = None, kernels: Path = KERNELS) -> tuple[Side, ...]:
    """The sides of all environments of the image, the default one first; nothing is made.

    Args:
        home: the user's home directory.
        image: the server's environment, found if not given.
        kernels: the folder with those of further kernels; it need not be there.
    """
    root = root_in(home)
    try:
        names = sorted(entry.name for entry in kernels.iterdir())
    except OSError:
        names = []
    named = [(name, kernels / name) for name in names if _NAME.fullmatch(name)]
    found = [_side(DEFAULT, image or image_root(), root)]
    found += [_side(name, path, root) for name, path in named if name not in _TAKEN]
    return tuple(side for side in found if side)


def write(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Have `path` hold `content`; it is replaced whole, and only if it differs.

    Raises:
        OSError: it cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        if path.read_bytes() == data and path.stat().st_mode & 0o777 == mode:
            return
    except OSError:
        pass  # not there, or not ours to read: made anew
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
        fresh.chmod(mode)  # whatever the umask left of it
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def link(path: Path, target: str) -> None:
    """Have `path` be a symbolic link to `target`.

    Raises:
        OSError: it cannot be made.
    """
    if path.is_symlink() and str(path.readlink()) == target:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    try:
        fresh.symlink_to(target)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _base(side: Side) -> Path:
    """The interpreter that the image's environment was made with."""
    return (side.image / "bin" / "python").resolve()


def _texts(side: Side) -> dict[Path, str]:
    """The files that make the folder a side."""
    settings = {
        "home": str(_base(side).parent),
        "include-system-site-packages": "false",
        "version": side.python,
        _IMAGE_KEY: str(side.image),
    }
    image = f"import site; site.addsitedir({str(side.image_site)!r})\n"
    return {
        side.path / "pyvenv.cfg": "".join(f"{key} = {text}\n" for key, text in settings.items()),
        side.site / "jupbox-image.pth": image,
    }


def _ensure_pip(side: Side, name: str) -> None:
    """A `pip` for terminals. One that the user installed brought its own script along."""
    path = side.bin / name
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError):
        text = ""
    if text and _MADE_BY not in text:
        return
    python = shlex.quote(str(side.interpreter))
    write(path, f'#!/bin/sh\n{_MADE_BY}\nexec {python} -P -m pip "$@"\n', 0o755)


def ensure(side: Side) -> None:
    """Make the side environment, or mend it; what is right is not touched.

    Raises:
        OSError: the home directory cannot be written.
    """
    for path, text in _texts(side).items():
        write(path, text)
    link(side.interpreter, str(_base(side)))
    for name in ("python3", f"python{side.python}"):
        link(side.bin / name, "python")
    for name in ("pip", "pip3"):
        _ensure_pip(side, name)


def usable(side: Side) -> bool:
    """Whether the side is there and whole."""
    try:
        whole = all(path.read_text() == text for path, text in _texts(side).items())
        return whole and side.interpreter.resolve() == _base(side)
    except (OSError, UnicodeDecodeError):
        return False
