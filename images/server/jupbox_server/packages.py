"""Installed packages as they lie in a folder, and how to take one away."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .overlay import Side

_SUFFIX = ".dist-info"


@dataclass(frozen=True, kw_only=True)
class Package:
    """One installed package, known by the name of its `.dist-info` folder.

    Args:
        key: its name, normalised as in PEP 503.
        version: as it says itself.
        info: the folder.
    """

    key: str
    version: str
    info: Path


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a package says of itself.

    Args:
        name: as its author spells it.
        requires: its requirements, one line each.
    """

    name: str
    version: str
    requires: tuple[str, ...]


def normalised(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(site: Path) -> dict[str, Package]:
    """The packages in `site`, by normalised name; what pip left half-done is none."""
    try:
        names = sorted(entry.name for entry in os.scandir(site) if entry.name.endswith(_SUFFIX))
    except OSError:
        return {}
    packages = {}
    for name in names:
        stem, _, version = name.removesuffix(_SUFFIX).rpartition("-")
        # `~` is how pip renames what it is about to remove
        if stem and not name.startswith("~") and (site / name / "METADATA").is_file():
            key = normalised(stem)
            packages[key] = Package(key=key, version=version, info=site / name)
    return packages


def metadata(package: Package) -> Metadata:
    """Read a package's headers; its long description is left alone."""
    fields: dict[str, list[str]] = {}
    with (package.info / "METADATA").open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if not line.rstrip("\r\n"):
                break
            name, colon, value = line.partition(":")
            if colon and not line[0].isspace():  # a licence's text goes on in indented lines
                fields.setdefault(name.lower(), []).append(value.strip())
    return Metadata(
        name=fields.get("name", [package.key])[0],
        version=fields.get("version", [package.version])[0],
        requires=tuple(fields.get("requires-dist", ())),
    )


def _is_users_own_build(package: Package) -> bool:
    """Whether it came from a folder or a repository: the same version need not be the same."""
    try:
        origin = json.loads((package.info / "direct_url.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(origin, dict) and ("dir_info" in origin or "vcs_info" in origin)


def redundant(side: Side) -> tuple[Package, ...]:
    """The packages on the side that the image has in the same version."""
    own = installed(side.site)
    if not own:
        return ()
    image = installed(side.image_site)
    return tuple(
        package
        for key, package in own.items()
        if key in image
        and image[key].version == package.version
        and not _is_users_own_build(package)
    )


def _record(package: Package) -> Iterator[Path]:
    """The files of a package, as its RECORD names them."""
    try:
        text = (package.info / "RECORD").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for row in csv.reader(text.splitlines()):
        if row:
            yield Path(os.path.normpath(package.info.parent / row[0]))


def _compiled(path: Path) -> Iterator[Path]:
    """What Python made of a module when it was imported."""
    if path.suffix == ".py":
        yield from (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc")


def _clear(path: Path, top: Path) -> None:
    """Remove `path`'s folder and those above it while they are empty, never `top` itself."""
    with suppress(OSError):
        (path.parent / "__pycache__").rmdir()
    for folder in path.parents:
        if folder == top or top not in folder.parents:
            return
        try:
            folder.rmdir()
        except OSError:
            return


def remove(package: Package, side: Side) -> None:
    """Take a package off the side: its own files, and nothing outside of the side.

    Its `.dist-info` goes last and at once, so that a removal which is cut off is done again.

    Raises:
        OSError: a file cannot be removed.
    """
    top = side.path
    inside = top.resolve()
    others = {
        path
        for other in installed(side.site).values()
        if other.key != package.key
        for path in _record(other)
    }
    for path in _record(package):
        if package.info in path.parents or path in others:
            continue
        # neither by `..` in RECORD nor by a folder that is a link out of the side
        if inside not in (path.parent.resolve() / path.name).parents:
            continue
        for file in (path, *_compiled(path)):
            if file.is_file() or file.is_symlink():
                file.unlink()
        _clear(path, top)
    going = top / f".going-{package.info.name}"
    shutil.rmtree(going, ignore_errors=True)
    package.info.rename(going)
    shutil.rmtree(going)
