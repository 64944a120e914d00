"""`add`: packages into the running server, the definition and the lock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from jupbox import editing
from jupbox.console import Console
from jupbox.errors import ConfigError, JupboxError
from jupbox.host.files import write_atomic
from jupbox.lock import ImageLock, PythonPackage
from jupbox.project import Project, package_name
from jupbox.release import inside, locking, workshop
from jupbox.site import PROJECT_FILE, Site, Surroundings, load_project, project_of
from jupbox.workflows.found import Found, find, place
from jupbox.workflows.turn import turn

_DEFAULT: Final = "default"


def add(
    packages: list[str], *, apt: list[str], kernel: str | None, on: str | None,
    around: Surroundings, console: Console, wait: bool,
) -> None:  # fmt: skip
    """Add packages: live where that can be, and for good in definition and lock."""
    project = load_project(around)
    path = _project_file(project)
    box = project.box(on)
    before = path.read_text(encoding="utf-8")
    text, image = before, box.image
    if project.image(image).shipped:
        text, image = editing.own_image(before, box=box.name, extends=image)
    after = editing.add_packages(text, image=image, python=packages, apt=apt, kernel=kernel)
    with console.stage(f"Connecting to {place(box)}", live=False):
        found = find(on, around=around, console=console)
    site = found.site
    words = (*packages, *(word for name in apt for word in ("--apt", name)))
    with turn(site, "add", console=console, wait=wait, arguments=words):
        wanted = _with(site, after, around)
        with console.stage("Asking the Python index" + (" and apt" if apt else "")) as stage:
            old = locking.usable_lock(site, project.image(box.image))
            definition = wanted.project.image(image)
            lock = locking.resolve_lock(
                workshop.of(wanted), definition, stage=stage, old=old, record=False
            )
        live = _install(found, lock, kernel=kernel, console=console) if packages else None
        # last, so that what failed before has changed no file
        _write(wanted, path, before, after, lock)
    if image != box.image:
        console.line(f"The box has an image of its own now: {image}, on top of {box.image}.")
    _report(packages, apt, lock, live, found=found, kernel=kernel, console=console)


def _project_file(project: Project) -> Path:
    if project.root is None:
        raise ConfigError(
            "There is no jupbox.toml to add to.",
            remedy="`jupbox init` writes one; with `--from BOX` it says what runs there.",
        )
    return project.root / PROJECT_FILE


def _with(site: Site, text: str, around: Surroundings) -> Site:
    """The site with the project as that text of its file has it.

    Raises:
        ConfigError: a package's name cannot be one.
    """
    return replace(site, project=project_of(text, site.project.root, around))


@dataclass(frozen=True, kw_only=True)
class _Live:
    """What was installed beside the image.

    Attributes:
        replaced: packages of the image that another version now hides.
    """

    installed: tuple[PythonPackage, ...]
    replaced: tuple[PythonPackage, ...]


def _install(
    found: Found, lock: ImageLock, *, kernel: str | None, console: Console
) -> _Live | None:
    """Install what the image of the running server lacks; None when no server runs."""
    container, account = found.state.container, found.state.account
    if container is None or not container.running or account is None:
        return None
    running = locking.running_lock(found.site, found.state)
    there = {p.name: p.version for p in _python(running, kernel)} if running else {}
    missing = tuple(p for p in _python(lock, kernel) if there.get(p.name) != p.version)
    if missing:
        count = "1 package" if len(missing) == 1 else f"{len(missing)} packages"
        with console.stage(f"Installing {count} in the running server"):
            definition = found.site.project.image(found.site.box.image)
            inside.hand_over_network(found.site, container, account, definition)
            inside.install_beside(
                found.site, container, account, missing, environment=kernel or _DEFAULT
            )
    return _Live(installed=missing, replaced=tuple(p for p in missing if p.name in there))


def _python(lock: ImageLock, kernel: str | None) -> tuple[PythonPackage, ...]:
    if kernel is None:
        return lock.python
    return lock.kernels[kernel].python if kernel in lock.kernels else ()


def _write(wanted: Site, path: Path, before: str, after: str, lock: ImageLock) -> None:
    mode = path.stat().st_mode & 0o777
    write_atomic(path, after.encode(), mode=mode)
    try:
        locking.write_lock(wanted, lock)
    except JupboxError:
        write_atomic(path, before.encode(), mode=mode)
        raise


def _report(
    packages: list[str], apt: list[str], lock: ImageLock, live: _Live | None, *, found: Found,
    kernel: str | None, console: Console,
) -> None:  # fmt: skip
    versions = {p.name: p.version for p in _python(lock, kernel)}
    for item in packages:
        name = package_name(item)
        console.line(
            f"{name} {versions.get(name, '')}".rstrip() + " is in jupbox.toml and its lock."
        )
    for item in apt:
        console.line(f"{item} (apt) is in jupbox.toml and its lock.")
    up = f"`jupbox up{found.site.command}`"
    if live is None and packages:
        console.line(f"No server runs on {place(found.site.box)}; {up} makes one that has it.")
    elif packages:
        console.line(f"A notebook can import it now; {up} builds it into the image.")
    if live and live.replaced:
        names = ", ".join(f"{p.name} {p.version}" for p in live.replaced)
        console.note(f"Restart kernels that use the older versions of: {names}.")
    if apt:
        console.note(f"Debian packages come with the next {up}, which restarts the server.")
