"""`rm`: the stack and every trace of it, on the box and here."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jupbox import labels as label
from jupbox import pki
from jupbox.console import Console
from jupbox.errors import (
    BackupError,
    ConfirmationError,
    EngineError,
    NotRunningError,
    TrustError,
)
from jupbox.host import backups
from jupbox.host import stack as stacks
from jupbox.host import trust as trust_stores
from jupbox.host.engine import Engine
from jupbox.host.inspected import Container
from jupbox.host.ssh import SshMachine
from jupbox.host.stack import Belongings
from jupbox.release import backing
from jupbox.site import Site, Surroundings, connect, load_project, lock_path
from jupbox.workflows.backup import path_for, report
from jupbox.workflows.found import Found, files_of, place
from jupbox.workflows.guard import Consent, ensure_idle
from jupbox.workflows.turn import turn
from jupbox.workflows.up import CONTEXT

Rows = list[tuple[str, str]]

_SECRETS: Final = {"seal": "key, certificate, password", "authority": "the box's CA", "tmp": "/tmp"}


@dataclass(frozen=True, kw_only=True)
class Here:
    """What a box has left on this machine.

    Attributes:
        context: a Docker context of ours, None if there is none.
        stores: trust stores that hold the box's CA.
        lock: the lock of a box without a project.
        connection: the kept ssh connection, where no other box of the user needs it.
    """

    context: str | None
    stores: tuple[str, ...]
    lock: Path | None
    connection: SshMachine | None

    @property
    def has_any(self) -> bool:
        """Whether there is anything that would not go by itself."""
        return any((self.context, self.stores, self.lock))


def remove(
    box_name: str | None, *, around: Surroundings, console: Console, data: bool, keep: bool,
    yes: bool, consent: Consent, wait: bool,
) -> None:  # fmt: skip
    """Remove all that there is of a box, after a list and a question; what cannot go is named.

    Args:
        box_name: which.
        around: where a backup goes.
        console: lists and asks.
        data: what is in volumes, too.
        keep: with `data`, back the home volume up first.
        yes: the question is answered; not that for the name, which data asks.

    Raises:
        BackupError: none could be made; nothing was removed.
        ConfirmationError: the question was not answered, or with no.
    """
    project = load_project(around)
    box = project.box(box_name)
    # not adopted, not another name: what is removed is what the command line said
    with console.stage(f"Connecting to {place(box)}", live=False):
        site = connect(project, box, around)
    seen, here = stacks.belongings(site.engine, site.stack), _here(site)
    if not (seen.has_own or here.has_any or (data and seen.data)):
        console.line(_nothing(site, seen))
        return
    state = stacks.observe(site.engine, site.stack)
    ensure_idle(Found(site=site, state=state), verb="rm", consent=consent, console=console)
    console.standing = f"What is gone is gone; `jupbox rm{site.command}` goes on with the rest."
    words = ("--data",) if data else ()
    with turn(site, "rm", console=console, wait=wait, arguments=words):
        # anew under the lock: who held it may have changed everything
        seen = stacks.belongings(site.engine, site.stack)
        state = stacks.observe(site.engine, site.stack)
        found = Found(site=site, state=state)
        keep = keep and data and state.home_volume in seen.data
        path = path_for(found, None) if keep else None
        _show(site, seen, here, console, data=data)
        if path:
            console.line("Backed up first:")
            console.facts([("volume", f"{state.home_volume}, into {path}")])
        _confirm(site, seen, console, data=data, keep=keep, yes=yes)
        if path:
            _back_up(found, path, console)
        stayed = _remove_there(site, seen, console, data=data)
        if data:
            backups.forget(site.machine, site.stack)
        site.machine.forget(site.stack)
    stayed += _remove_here(site, here)
    for name, why in stayed:
        console.note(f"{name} stayed: {why}")
    console.line(f"Removed. `jupbox up{site.command}` makes it anew.")


def _back_up(found: Found, path: Path, console: Console) -> None:
    """Back the home volume up, or stop here."""
    standing = console.standing
    console.standing = "Nothing was removed, and there is no backup."
    try:
        with console.stage(f"Backing up the home volume on {place(found.site.box)}") as stage:
            checked = backing.write_file(found.site, found.state, path, stage=stage)
    except (BackupError, NotRunningError) as error:
        raise BackupError(
            f"There is no backup: {error.message}",
            remedy="Nothing was removed. Mend that, or add --no-backup.",
        ) from None
    report(found, checked, console, path=path)
    console.standing = standing


def _nothing(site: Site, seen: Belongings) -> str:
    where = place(site.box)
    if seen.data:
        left = ", ".join(seen.data)
        return f"Nothing to do: only {left} is left on {where}; --data removes it."
    return f"Nothing to do: nothing of {site.box.name} is left on {where} or here."


def _here(site: Site) -> Here:
    box, engine = site.box, site.engine
    context = f"jupbox-{box.name}"
    ours = not site.machine.is_local and engine.has_context(context, description=CONTEXT)
    stores = trust_stores.holding(nickname=pki.authority_name(box.name), home=site.around.home)
    lock = lock_path(site.project, box)
    machine = site.machine if isinstance(site.machine, SshMachine) else None
    if _other_boxes(site):
        machine = None
    return Here(
        context=context if ours else None,
        stores=tuple(store.location for store in stores),
        lock=lock if site.project.root is None and lock.exists() else None,
        connection=machine,
    )


def _other_boxes(site: Site) -> list[Container]:
    """The user's other servers there: sessions of theirs may use the same connection."""
    mine = site.engine.containers({label.KIND: "server", label.OWNER: site.facts.owner})
    return [c for c in mine if c.labels.get(label.STACK) != site.stack]


# --- saying it ---------------------------------------------------------------------------------


def _show(site: Site, seen: Belongings, here: Here, console: Console, *, data: bool) -> None:
    """Name all that goes and all that stays."""
    there = [
        *(("container", f"{name} ({state})") for name, state in seen.containers.items()),
        *(("network", name) for name in seen.networks),
        *(("image", name) for name in (*seen.images, *seen.environments)),
        *(("volume", f"{name}{_what(site, name)}") for name in seen.secrets),
        *(("volume", f"{name}{_what(site, name)}") for name in seen.data if data),
    ]
    local = [("trust entry", store) for store in here.stores]
    local += [("context", here.context)] if here.context else []
    local += [("lock", str(here.lock))] if here.lock else []
    local += [("connection", f"ssh to {here.connection.name}")] if here.connection else []
    stays = (
        [] if data else [("volume", f"{n}{_what(site, n)}; --data removes it") for n in seen.data]
    )
    stays += [("image", f"{name} ({user} uses it)") for name, user in seen.shared.items()]
    stays += _notebooks(site)
    where = place(site.box)
    for title, rows in (
        (f"To be removed from {where}:", there),
        ("To be removed from this machine:" if there and where != "this machine" else "", local),
        ("Not touched:", stays),
    ):
        if rows:
            if title:
                console.line(title)
            console.facts(rows)


def _what(site: Site, volume: str) -> str:
    """What a volume is for, as a person would say it."""
    kind = volume.removeprefix(f"{site.stack}_").partition("-")[0]
    if kind == "home":
        inside = ", notebooks" if _folder(site) == "volume" else ""
        return f" (settings, packages installed on the side{inside})"
    return f" ({_SECRETS[kind]})" if kind in _SECRETS else ""


def _folder(site: Site) -> str:
    """Where the notebooks are: what runs knows better than the project."""
    found = site.engine.containers({label.STACK: site.stack, label.KIND: "server"})
    folders = [c.labels[label.FILES] for c in found if label.FILES in c.labels]
    return folders[0] if folders else site.box.files


def _notebooks(site: Site) -> Rows:
    folder = _folder(site)
    return [] if folder == "volume" else [("notebooks", files_of(site, folder))]


def _confirm(
    site: Site, seen: Belongings, console: Console, *, data: bool, keep: bool, yes: bool
) -> None:
    """Ask; data goes only when its box was named once more, whatever else was answered.

    Raises:
        ConfirmationError: not answered so.
    """
    name = site.box.name
    if not (data and seen.data):
        console.confirm(f"Remove all of this of {name}?", yes=yes)
        return
    what = f"Data in volumes cannot be brought back{' but from a backup' if keep else ''}."
    console.plain(f"{what} Type {name} to remove it:")
    answer = sys.stdin.readline().strip()
    if answer != name:
        raise ConfirmationError(
            f"{answer!r} is not {name}." if answer else f"Nobody typed {name}.",
            remedy=f"Nothing was changed; type the box's name, or pipe it into "
            f"`jupbox rm{site.command} --data`.",
        )


# --- doing it ----------------------------------------------------------------------------------


def _remove_there(
    site: Site, seen: Belongings, console: Console, *, data: bool
) -> list[tuple[str, str]]:
    """Remove what the engine has; what stayed, and why."""
    engine = site.engine
    if seen.containers:
        with console.stage(f"Stopping what runs on {place(site.box)}"):
            for name, state in seen.containers.items():
                if state == "running":
                    _stop(engine, name)
    kinds = {
        "container": tuple(seen.containers),
        "network": seen.networks,
        "image": (*seen.images, *seen.environments),
        "volume": (*seen.secrets, *(seen.data if data else ())),
    }
    with console.stage(f"Removing it from {place(site.box)}"):
        return [
            (f"{kind} {name}", why)
            for kind, names in kinds.items()
            for name in names
            if (why := engine.remove(kind, name))
        ]


def _stop(engine: Engine, container: str) -> None:
    """In order, for the sake of databases; one that does not stop is ended by its removal."""
    with suppress(EngineError):
        engine.stop(container)


def _remove_here(site: Site, here: Here) -> list[tuple[str, str]]:
    """Remove what this machine has; what stayed, and why."""
    stayed = []
    nickname = pki.authority_name(site.box.name)
    if here.stores:
        try:
            trust_stores.untrust(nickname=nickname, home=site.around.home, system=True)
        except TrustError as error:
            stayed.append((f"trust entry {nickname}", error.message))
    if here.context:
        site.engine.remove_context(here.context)
    if here.lock:
        here.lock.unlink(missing_ok=True)
        with suppress(OSError):  # other boxes' locks are left in it
            here.lock.parent.rmdir()
    if here.connection:
        here.connection.disconnect()
    return stayed
