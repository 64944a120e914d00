"""`up --dry-run`: the steps that `up` would take and why, and the files that it would use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jupbox import labels as label
from jupbox import lock as locks
from jupbox import project as projects
from jupbox import render
from jupbox.console import Console
from jupbox.errors import ConfigError
from jupbox.host.files import write_atomic
from jupbox.lock import ImageLock, Lock, dump_lock
from jupbox.plan import Action, Step
from jupbox.project import ImageDefinition
from jupbox.release import building, deploying, locking, sidecars
from jupbox.render import Stack
from jupbox.workflows.found import Found, place, running_box

_MOST_LINES: Final = 20


def show(found: Found, console: Console, steps: Sequence[Step], *, lock: ImageLock | None) -> None:
    """Print the steps, why each is needed, and what differs from what runs; nothing without any."""
    if not steps:
        console.plain(f"Nothing to do on {place(found.site.box)}.")
        return
    console.line(f"`jupbox up{found.site.command}` would, on {place(found.site.box)}:")
    width = max(len(step.action.value) for step in steps)
    for step in steps:
        console.line(f"  {step.action.value:<{width}}  {step.why}")
        details = _details(found, step, lock)
        for line in details[:_MOST_LINES]:
            console.line(f"      {line}")
        if len(details) > _MOST_LINES:
            console.line(f"      and {len(details) - _MOST_LINES} more")


def _details(found: Found, step: Step, lock: ImageLock | None) -> tuple[str, ...]:
    if step.action in {Action.DEPLOY, Action.UPDATE}:
        return _settings(found)
    running = found.state.container.labels.get(label.LOCK) if found.state.container else None
    if step.action is not Action.SEAL or lock is None or running in {None, lock.digest()}:
        return ()
    old = locking.running_lock(found.site, found.state)
    return locks.differences(old, lock) if old else ()


def _settings(found: Found) -> tuple[str, ...]:
    try:
        running = running_box(found)
    except (ValueError, KeyError, TypeError):  # of a newer jupbox
        return ()
    return projects.differences(running, found.site.box) if running else ()


def write(
    found: Found, stack: Stack, lock: ImageLock, definition: ImageDefinition, out: Path
) -> None:
    """Write what `up` would use: both images' build contexts, the lock, the compose file.

    Raises:
        ConfigError: the folder cannot be written.
    """
    site = found.site
    platform = lock.platforms[site.facts.architecture]
    environment = render.environment_tag(lock)
    files = {
        "jupbox.lock": dump_lock(Lock().with_image(lock)).encode(),
        "compose.yaml": _compose(found, stack, lock, definition).encode(),
    }
    contexts = {
        "environment": render.environment_context(
            lock,
            architecture=site.facts.architecture,
            base=platform.base.reference,
            files=building.files_of(site, definition, lock),
        ),
        "body": render.sealed_context(
            stack=site.stack, environment=environment, account=stack.account
        ),
    }
    files |= {
        f"{folder}/{path}": content
        for folder, context in contexts.items()
        for path, content in context.items()
    }
    for path, content in files.items():
        try:
            (out / path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{error.filename} cannot be made: {error.strerror}.",
                remedy="Name another folder with --out.",
            ) from None
        write_atomic(out / path, content, mode=0o644)


def _compose(found: Found, stack: Stack, lock: ImageLock, definition: ImageDefinition) -> str:
    """The compose file as it runs, or as it would with the next seal."""
    site, state = found.site, found.state
    sealed = state.newest
    if sealed is None or sealed.image.labels.get(label.LOCK) != lock.digest():
        sealed = deploying.planned(site, stack, lock)
    text = deploying.compose_text(site, state, stack, sealed=sealed, definition=definition)
    with sidecars.merging(site, text, lock=lock, definition=definition) as merged:
        return merged.text if merged else text
