"""What was installed on the side: how far a box has moved from its image, and what that breaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .overlay import Side, root_in, sides
from .packages import Metadata, installed, metadata

if TYPE_CHECKING:
    from packaging.requirements import Requirement


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """A package as a kernel would import it.

    Args:
        aside: whether it is the side's.
        hidden: the version in the image that the side's hides.
    """

    said: Metadata
    aside: bool
    hidden: str | None = None

    def __str__(self) -> str:
        where = "on the side" if self.aside else "in the image"
        return f"{self.said.name} {self.said.version} {where}"


def _seen(side: Side) -> dict[str, _Seen]:
    """All that a kernel of `side` can import, by normalised name."""
    image = {key: metadata(package) for key, package in installed(side.image_site).items()}
    seen = {key: _Seen(said=said, aside=False) for key, said in image.items()}
    for key, package in installed(side.site).items():
        hidden = image[key].version if key in image else None
        seen[key] = _Seen(said=metadata(package), aside=True, hidden=hidden)
    return seen


def _requirements(package: _Seen, python: str) -> Iterator[Requirement]:
    """What a package needs here, without extras; a line that nobody understands is none."""
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415

    # the marker may be asked for another Python than the one that asks
    where = {"python_version": python, "extra": ""}
    for line in package.said.requires:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate(where):
            yield requirement


def _satisfies(version: str, requirement: Requirement) -> bool:
    from packaging.version import InvalidVersion, Version  # noqa: PLC0415

    try:
        return requirement.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return True  # nothing can be said of it


def _clash(package: _Seen, requirement: Requirement, found: _Seen | None) -> str | None:
    """The sentence for a requirement that the side leaves unsatisfied, None for none."""
    needs = f"{package} needs {requirement.name}{requirement.specifier}"
    if found is None:
        return f"{needs}, which is not installed" if package.aside else None
    if not (package.aside or found.aside) or _satisfies(found.said.version, requirement):
        return None
    hidden = ""
    if found.hidden and found.hidden != found.said.version:
        hidden = f", which hides the image's {found.hidden}"
    return f"{needs}, but finds {found}{hidden}"


def clashes(side: Side) -> tuple[str, ...]:
    """What the packages on the side break, one sentence each."""
    from packaging.utils import canonicalize_name  # noqa: PLC0415

    seen = _seen(side)
    said = (
        _clash(package, requirement, seen.get(canonicalize_name(requirement.name)))
        for package in seen.values()
        for requirement in _requirements(package, side.python)
    )
    return tuple(sorted({sentence for sentence in said if sentence}))


def _report(side: Side) -> dict[str, Any]:
    own = installed(side.site)
    image = installed(side.image_site) if own else {}
    packages = [
        {
            "name": metadata(package).name,
            "version": metadata(package).version,
            "image": metadata(image[key]).version if key in image else None,
        }
        for key, package in own.items()
    ]
    return {
        "env": side.name,
        "python": side.python,
        "path": str(side.path),
        "packages": packages,
        "clashes": list(clashes(side)) if own else [],
    }


def leftover(root: Path, current: tuple[Side, ...]) -> list[dict[str, Any]]:
    """Sides of an earlier image, of another Python or of a kernel that went, with packages."""
    paths = {side.path for side in current}
    found = []
    for path in sorted(root.glob("*/pyvenv.cfg")):
        sites = path.parent.glob("lib/python*/site-packages")
        count = sum(len(installed(site)) for site in sites)
        if path.parent not in paths and count:
            found.append({"path": str(path.parent), "packages": count})
    return found


class Drift:
    """The report, kept while no package came or went.

    Args:
        home: the user's home directory.
        image: the server's environment, found if not given.
        kernels: the folder with further environments, the image's if not given.
    """

    def __init__(self, home: Path, *, image: Path | None = None, kernels: Path | None = None):
        places: Mapping[str, Path] = {"kernels": kernels} if kernels else {}
        self._sides = sides(home, image=image, **places)
        self._root = root_in(home)
        self._kept: dict[str, tuple[object, dict[str, Any]]] = {}

    def _of(self, side: Side) -> dict[str, Any]:
        # pip adds, removes or renames a folder here, whatever it does
        state = tuple(
            site.stat().st_mtime_ns if site.is_dir() else None
            for site in (side.site, side.image_site)
        )
        kept = self._kept.get(side.name)
        if kept is None or kept[0] != state:
            kept = self._kept[side.name] = (state, _report(side))
        return kept[1]

    def report(self) -> dict[str, Any]:
        """`{"envs": [{"env", "python", "path", "packages", "clashes"}], "leftover": […]}`.

        Raises:
            OSError: a package cannot be read, as when it is just being installed.
        """
        return {
            "envs": [self._of(side) for side in self._sides],
            "leftover": leftover(self._root, self._sides),
        }
