"""From a box's name to a connected box: project files, ssh, the engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import get_args

import platformdirs

from jupbox.errors import ConfigError, EngineError, EnginePermissionError, LockError
from jupbox.host import facts as host_facts
from jupbox.host import git
from jupbox.host.engine import Engine
from jupbox.host.facts import HostFacts
from jupbox.host.machine import LocalMachine
from jupbox.host.outside import Elsewhere
from jupbox.host.ssh import SshMachine
from jupbox.lock import Architecture, Lock, is_old, load_lock
from jupbox.project import (
    LOCAL,
    Box,
    Outside,
    Project,
    box_name,
    parse_project,
    shipped_definitions,
)
from jupbox.repository import GitSource
from jupbox.requirements import Reader

PROJECT_FILE = "jupbox.toml"
LOCK_FILE = "jupbox.lock"
ARCHITECTURES = get_args(Architecture)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What jupbox takes from the process that it runs in; tests give others.

    Attributes:
        now: the clock, with a time zone.
    """

    cwd: Path = field(default_factory=Path.cwd)
    home: Path = field(default_factory=Path.home)
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def user_file(self) -> Path:
        """The user's own configuration: personal boxes, the network's CA bundle."""
        return platformdirs.user_config_path("jupbox") / "config.toml"


def load_project(around: Surroundings, *, pinned: bool = True) -> Project:
    """The project of the current folder or the nearest one above; none is fine.

    Args:
        around: where to look.
        pinned: other repositories' definitions are those of the lock's commits; else the newest.

    Raises:
        ConfigError: a file is there and cannot be used.
    """
    folders = (around.cwd, *around.cwd.parents)
    path = next((f / PROJECT_FILE for f in folders if (f / PROJECT_FILE).is_file()), None)
    if path:
        _refuse_foreign(path)
    text, root = (_read(path), path.parent) if path else (None, None)
    return project_of(text, root, around, pinned=pinned)


def project_of(
    text: str | None, root: Path | None, around: Surroundings, *, pinned: bool = True,
    outside: Outside | None = None,
) -> Project:  # fmt: skip
    """The project that `text` is as the `jupbox.toml` of a folder, with this user's own boxes.

    Args:
        text: None where there is no project: any ssh destination is a box.
        root: the folder.
        around: where the user's own configuration is.
        pinned: other repositories' definitions are those of the lock's commits; else the newest.
        outside: where definitions' files and repositories are; None is where they name them.

    Raises:
        ConfigError: a key or value that cannot be used.
    """
    project: Project

    def sources(image: str) -> tuple[GitSource, ...]:
        return _locked_sources(project, image) if pinned else ()

    project = parse_project(
        text,
        source=PROJECT_FILE,
        root=root,
        user_text=_read(around.user_file) if around.user_file.is_file() else None,
        user_source=str(around.user_file),
        shipped=shipped_definitions(),
        reader=reader_of,
        outside=outside or Elsewhere(root=root, environ=around.environ, pinned=sources),
    )
    return project


def _locked_sources(project: Project, image: str) -> tuple[GitSource, ...]:
    """The repositories in an image's lock; without a project, in that of a box which uses it."""
    boxes = sorted(box.name for box in project.boxes.values() if box.image == image)
    names = [LOCAL] if project.root else boxes
    for path in (lock_path(project, project.box(name)) for name in names):
        lock = read_lock_at(path, shared=project.root is not None).images.get(image)
        if lock:
            return lock.sources
    return ()


def read_lock_at(path: Path, *, shared: bool) -> Lock:
    """The lock of a file; an empty one if there is none yet.

    Args:
        path: of the file.
        shared: by a team, so that an older format is an error.

    Raises:
        LockError: it cannot be read.
    """
    if not path.is_file():
        return Lock()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LockError(
            f"{path} cannot be read: {getattr(error, 'strerror', 'it is not UTF-8 text')}.",
            remedy="Mend its permissions, or get it anew from the team's repository.",
        ) from None
    if not shared and is_old(text):
        return Lock()
    return load_lock(text, source=path.name)


def reader_of(folder: Path) -> Reader:
    """What reads the text files of a folder; none that only a link leads to from there."""

    def read(name: str) -> str | None:
        path = folder / name
        # whoever wrote a repository must not have us read another file of this laptop
        inside = path.resolve().is_relative_to(folder.resolve())
        return _read(path) if inside and path.is_file() else None

    return read


def _refuse_foreign(path: Path) -> None:
    # as git does: whoever may write /tmp could else decide what runs from a folder below it
    if path.stat().st_uid not in {0, os.geteuid()}:
        raise ConfigError(
            f"{path} belongs to another user, so it is not followed.",
            remedy="Copy the project to a folder of your own, or take the file over (chown).",
        )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}", remedy="Mend its permissions or its encoding."
        ) from None


def lock_path(project: Project, box: Box) -> Path:
    """Where the lock lies: beside jupbox.toml, or without one in the user's data, for each box."""
    if project.root:
        return project.root / LOCK_FILE
    return platformdirs.user_data_path("jupbox") / f"{box.name}.lock"


@dataclass(frozen=True, kw_only=True)
class Site:
    """A box that we are connected to.

    Attributes:
        adopted: no file names the box; its keys were read back from what runs there.
    """

    project: Project
    box: Box
    machine: LocalMachine | SshMachine
    facts: HostFacts
    engine: Engine
    around: Surroundings
    adopted: bool = False

    @property
    def named(self) -> bool:
        """Whether a file names the box; else it is what the command line said."""
        return self.box.name in self.project.boxes

    @property
    def stack(self) -> str:
        """The compose project: one for each owner and box."""
        return stack_name(self.facts.owner, self.box)

    @cached_property
    def revision(self) -> str | None:
        """The git revision of the project's folder, asked once; None without one."""
        root = self.project.root
        return None if root is None else git.revision(root, environ=self.around.environ)

    @property
    def command(self) -> str:
        """How the box is named on the command line, with a space before it."""
        return f" {word_of(self.project, self.box)}"


def stack_name(owner: str, box: Box) -> str:
    """What an owner's box is called where it runs."""
    # an owner has no underscore, so that no two pairs give the same name
    return f"jupbox-{owner}_{box.name}"


def word_of(project: Project, box: Box) -> str:
    """The word that names a box to `Project.box`."""
    named = box.name in project.boxes or box.host == LOCAL
    if named:
        return box.name
    return box.host if box.name == box_name(box.host) else f"{box.host}/{box.name}"


def machine_of(box: Box) -> LocalMachine | SshMachine:
    """The machine of a box; no connection is made yet."""
    return LocalMachine() if box.host == LOCAL else SshMachine(box.host)


def connect(project: Project, box: Box, around: Surroundings) -> Site:
    """Reach a box and its engine, with one login at most.

    Raises:
        HostError: the host cannot be reached.
        EngineError: it has no engine, none that runs, or one that is too old.
        EnginePermissionError: its socket is not ours to use.
    """
    machine = machine_of(box)
    return site_of(project, box, around, machine=machine, facts=host_facts.look(machine))


def site_of(
    project: Project,
    box: Box,
    around: Surroundings,
    *,
    machine: LocalMachine | SshMachine,
    facts: HostFacts,
) -> Site:
    """Reach the engine of a box that is connected already.

    Raises:
        EngineError: it has no engine, none that runs, or one that is too old.
        EnginePermissionError: its socket is not ours to use.
    """
    if facts.architecture not in ARCHITECTURES:
        raise EngineError(
            f"{machine.name} is a {facts.architecture} machine; "
            f"jupbox makes images for {' and '.join(ARCHITECTURES)}.",
            remedy="Use another machine.",
        )
    word = word_of(project, box)
    socket = _socket(word, facts, machine.name)
    reaches = machine.answers if isinstance(machine, SshMachine) else None
    engine = Engine(machine.local_socket(socket), place=machine.name, word=word, reaches=reaches)
    engine.check()
    return Site(
        project=project, box=box, machine=machine, facts=facts, engine=engine, around=around
    )


def _socket(word: str, facts: HostFacts, place: str) -> str:
    setup = f"`jupbox setup {word}`"
    if facts.socket is None:
        what = "does not run" if facts.has_engine else "is not installed"
        verb = "starts" if facts.has_engine else "installs"
        raise EngineError(
            f"The Docker engine {what} on {place}.",
            remedy=f"{setup} {verb} it, or add --setup to `jupbox up`.",
        )
    if not facts.socket_usable:
        raise EnginePermissionError(
            f"{facts.user} may not use the Docker engine on {place} ({facts.socket}).",
            remedy=f"{setup} adds the user to the docker group (equal to root), "
            "or ask the administrator to.",
        )
    return facts.socket
