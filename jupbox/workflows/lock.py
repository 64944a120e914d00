"""`lock`: what image definitions stand for, exactly."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from jupbox import lock as locks
from jupbox.console import Console
from jupbox.errors import LockError, UnknownNameError
from jupbox.host import git
from jupbox.lock import Change, ImageLock, Lock, load_lock
from jupbox.project import Box, Project
from jupbox.release import locking, workshop
from jupbox.release.locking import Upgrade
from jupbox.site import LOCK_FILE, Surroundings, connect, load_project
from jupbox.workflows.found import place

_KINDS = frozenset({"base", "apt", "python", "uv"})
_MOST_ROWS = 30


def lock(
    names: list[str], *, upgrade: bool, diff: str | None, around: Surroundings, console: Console,
    on: str | None,
) -> None:  # fmt: skip
    """Resolve image definitions into the lock; all that boxes use, or the named.

    Args:
        upgrade: move to the newest versions: all, or those of `names` that are no images.
        diff: only show what changed since that git revision.
    """
    project = load_project(around, pinned=False)
    if diff is not None:
        _show_diff(project, diff, names, around, console)
        return
    box = project.box(on)
    before = locking.read_lock_of(project, box)
    images, moving = _sorted_out(names, project, box, before, upgrade=upgrade)
    due = images
    if not upgrade and on is None:
        due = [name for name in images if _is_due(project, before.images.get(name), name)]
    for name in sorted(set(images) - set(due)):
        console.line(f"{name}: the lock is as its definition wants it.")
    if not due:
        return
    with console.stage(f"Connecting to {place(box)}", live=False):
        site = connect(project, box, around)
    for name in due:
        old = before.images.get(name)
        with console.stage(f"Locking {name}") as stage:
            new = locking.resolve_lock(
                workshop.of(site), project.image(name), stage=stage, old=old, upgrade=moving
            )
        _report(name, old.only(site.facts.architecture) if old else None, new, console)


def _is_due(project: Project, lock: ImageLock | None, name: str) -> bool:
    # a newer recipe makes another image of the same packages
    return lock is None or locks.is_stale(lock, project.image(name)) or lock.recipe != locks.RECIPE


def _sorted_out(
    names: list[str], project: Project, box: Box, lock: Lock, *, upgrade: bool
) -> tuple[list[str], Upgrade]:
    """Which of the names are images, and what the others ask to move.

    Raises:
        UnknownNameError: one is neither.
    """
    images = [name for name in names if not upgrade or name in project.images]
    moving = frozenset(names) - frozenset(images)
    images = images or sorted({b.image for b in project.boxes.values()} or {box.image})
    for name in images:
        project.image(name)
    known = {package for image in images for package in _packages(lock.images.get(image))}
    for name in sorted(moving - known - _KINDS):
        raise UnknownNameError(
            f"{name!r} is neither an image nor a package of the lock.",
            remedy=_meant(name, known),
        )
    return images, Upgrade(everything=upgrade and not moving, names=moving)


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    start = f"Did you mean `{close[0]}`? " if close else ""
    return f"{start}`base`, `apt`, `python` and `uv` stand for all of a kind."


def _packages(lock: ImageLock | None) -> set[str]:
    if lock is None:
        return set()
    python = [*lock.python, *(p for kernel in lock.kernels.values() for p in kernel.python)]
    apt = [p for platform in lock.platforms.values() for p in platform.apt]
    return {p.name for p in python} | {p.name for p in apt}


def _report(name: str, old: ImageLock | None, new: ImageLock, console: Console) -> None:
    packages = len(new.python) + sum(len(p.apt) for p in new.platforms.values())
    found = locks.changes(old, new) if old else ()
    changed = f", {len(found)} of them changed" if found else ", none changed" if old else ""
    console.line(f"{name}: {packages} packages locked{changed}.")
    _table(found, console)


def _show_diff(
    project: Project, revision: str, names: list[str], around: Surroundings, console: Console
) -> None:
    """What changed in the lock since a revision of the project's repository.

    Raises:
        LockError: there is no lock to compare, now or then.
    """
    root = project.root
    if root is None or not (root / LOCK_FILE).is_file():
        raise LockError(
            "There is no jupbox.lock here to compare.", remedy="`jupbox lock` makes one."
        )
    now = load_lock((root / LOCK_FILE).read_text(encoding="utf-8"), source=LOCK_FILE)
    was = git.show(root, revision, LOCK_FILE, environ=around.environ)
    then = load_lock(was, source=f"{LOCK_FILE} of {revision}")
    images = names or sorted(now.images.keys() | then.images.keys())
    for name in images:
        found = locks.changes(then.images.get(name), now.images.get(name))
        console.plain(f"{name}: {len(found)} changed since {revision}." if found
                      else f"{name}: nothing changed since {revision}.")  # fmt: skip
        _table(found, console, most=None)


def _table(found: tuple[Change, ...], console: Console, *, most: int | None = _MOST_ROWS) -> None:
    if not found:
        return
    rows = [(change.package, change.before or "-", change.after or "-") for change in found[:most]]
    console.table(("package", "from", "to"), rows, result=False)
    if most is not None and len(found) > most:
        console.plain(f"  and {len(found) - most} more: `jupbox lock --diff HEAD` shows all")
