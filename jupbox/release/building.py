"""From a lock to an environment image on the box's engine."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jupbox import labels as label
from jupbox import render
from jupbox.console import Stage
from jupbox.errors import (
    BuildError,
    LockError,
)
from jupbox.host import base as bases
from jupbox.host import network as networks
from jupbox.host.base import Base
from jupbox.host.engine import COMPOSE_PROJECT
from jupbox.host.inspected import Image
from jupbox.host.interpreters import build_secret
from jupbox.host.network import Network
from jupbox.host.outside import read_file
from jupbox.lock import (
    RECIPE,
    FileLock,
    ImageLock,
)
from jupbox.project import CopiedFile, ImageDefinition
from jupbox.release import verifying
from jupbox.release.locking import Upgrade, network_of, resolve_lock, uv_of
from jupbox.site import Site


def environment_image(site: Site, lock: ImageLock, *, newest_recipe: bool = False) -> Image | None:
    """The environment image of a lock, if the engine has it; of any recipe unless told."""
    wanted = {label.KIND: "environment", label.LOCK: lock.digest()}
    if newest_recipe:
        wanted[label.RECIPE] = str(RECIPE)
    # what a sidecar is built of inherits the labels; compose adds one of its own
    found = [i for i in site.engine.images(wanted) if COMPOSE_PROJECT not in i.labels]
    return found[0] if found else None


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a build may do.

    Attributes:
        locked: build what the lock says or nothing (`--locked`).
        allow_drift: an image that is not the recorded one will do.
    """

    locked: bool = False
    allow_drift: bool = False


def build(
    site: Site, definition: ImageDefinition, lock: ImageLock, *, fresh: bool, rules: Rules,
    stage: Stage, note: Callable[[str], None],
) -> tuple[ImageLock, Image]:  # fmt: skip
    """Build the environment image of a lock on the box, and measure what came out.

    The lock comes back as well: with the image's digest; and where its base cannot be had any more,
    or its apt versions are gone from the mirror and it is of a definition that ships, with that
    part resolved anew.

    Args:
        fresh: the lock was resolved in this very run.
        note: told of what the user should know.

    Raises:
        LockError: what is locked cannot be had any more.
        DriftError: the image is not the one that the lock records.
    """
    base = base_of(site, lock, stage)
    if base is None:
        if site.project.root is not None or rules.locked:
            raise out_of_reach(site, lock)
        note(f"The locked base {definition.base} is out of reach; it was resolved anew.")
        upgrade = Upgrade(names=frozenset({"base", "apt"}))
        renewed = resolve_lock(site, definition, stage=stage, old=lock, upgrade=upgrade)
        return build(site, definition, renewed, fresh=True, rules=rules, stage=stage, note=note)
    try:
        image = build_image(site, definition, lock, base, stage)
    except BuildError as error:
        gone = _gone(error)
        if gone is None:
            raise
        if fresh or rules.locked or not definition.shipped:
            raise LockError(
                f"{gone} is gone from the Debian mirror.",
                remedy="`jupbox lock --upgrade apt` takes what the mirror has; or name an archive "
                "of old packages: `snapshots` of [network] in your own configuration.",
            ) from None
        upgrade = Upgrade(names=frozenset({"apt"}))
        renewed = resolve_lock(site, definition, stage=stage, old=lock, upgrade=upgrade)
        note(f"{gone} is gone from the Debian mirror: the lock's apt part was resolved anew.")
        return build(site, definition, renewed, fresh=True, rules=rules, stage=stage, note=note)
    stage.detail("measuring it")
    digest = verifying.measure(site, render.environment_tag(lock), tools=base.reference)
    return verifying.settle(
        site, lock, image, digest, allow_drift=rules.allow_drift, note=note
    ), image


def base_of(site: Site, lock: ImageLock, stage: Stage) -> Base | None:
    """The base of a lock on the box's engine, None if it can only be had with other bytes."""
    return bases.locked(
        site.engine,
        lock.platforms[site.facts.architecture].base,
        box=site.machine,
        box_facts=site.facts,
        archive=site.project.network.snapshots,
        say=stage.detail,
    )


def out_of_reach(site: Site, lock: ImageLock) -> LockError:
    """The error for a locked base that cannot be had."""
    wanted = lock.platforms[site.facts.architecture].base
    return LockError(
        f"The locked base {wanted.reference} ({wanted.digest[:19]}…) is out of reach for "
        f"{site.machine.name}.",
        remedy="`docker save` it on a machine that has it and load it there, or lock anew: "
        f"`jupbox lock {lock.name} --upgrade base --on {site.box.name}`.",
    )


def _gone(error: BuildError) -> str | None:
    """The package and version that the build's own script (fetch.sh) did not find any more."""
    _, said, gone = error.message.partition(_GONE)
    return " ".join(gone.strip().split("=", 1)) if said else None


def build_image(
    site: Site, definition: ImageDefinition, lock: ImageLock, base: Base, stage: Stage, *,
    anew: str = "",
) -> Image:  # fmt: skip
    """Build the environment image of a lock on a base that the engine has.

    Args:
        anew: use nothing that the engine has built before, and call the image this.
    """
    architecture = site.facts.architecture
    context = render.environment_context(
        lock,
        architecture=architecture,
        base=base.reference,
        files=files_of(site, definition, lock),
    )
    labels = {
        label.KIND: "environment",
        label.IMAGE: lock.name,
        label.LOCK: lock.digest(),
        label.RECIPE: str(RECIPE),
    }
    network, platform = network_of(site, definition), lock.platforms[architecture]
    _check_indexes(lock, network)
    snapshot = networks.snapshot_sources(network, definition.base, platform.snapshot)
    uv = uv_of(site, network)
    with (
        networks.build_secrets(network, snapshot=snapshot) as secrets,
        build_secret(platform.interpreter, uv, architecture=platform.architecture) as further,
    ):
        return build_context(
            site,
            context,
            tag=anew or render.environment_tag(lock),
            labels=labels,
            secrets={**secrets, **further},
            stage=stage,
            epoch=lock.epoch,
            fresh=bool(anew),
        )


def files_of(site: Site, definition: ImageDefinition, lock: ImageLock) -> dict[str, bytes]:
    """The contents of a lock's files, by target.

    Raises:
        LockError: a file is not there any more, or not what was locked.
    """
    copied = {file.target: file for file in definition.files}
    return {file.target: _content(site, copied.get(file.target), file) for file in lock.files}


def _content(site: Site, copied: CopiedFile | None, locked: FileLock) -> bytes:
    blob = None
    if copied:
        blob = read_file(
            copied.path, source=copied.source, root=site.project.root, environ=site.around.environ
        )
    if copied is None or blob is None:
        raise LockError(
            f"{copied.path if copied else 'The file'} is not here, which the image has at "
            f"{locked.target}.",
            remedy="Build where the project's files are: in a clone of the team's repository.",
        )
    if hashlib.sha256(blob.content).hexdigest() != locked.sha256:
        raise LockError(
            f"{copied.path} is not what jupbox.lock has of it.",
            remedy="Take the file from version control again, or lock it as it is: `jupbox lock`.",
        )
    return blob.content


def files_in(site: Site, lock: ImageLock) -> dict[str, bytes]:
    """The contents of a lock's files by target, out of the image that was built from it."""
    image = environment_image(site, lock) if lock.files else None
    if image is None:
        return {}
    found = {}
    with site.engine.scratch(image.id) as container:
        for file in lock.files:
            for content in site.engine.get(container, file.target).values():
                found[file.target] = content
    return found


def _check_indexes(lock: ImageLock, network: Network) -> None:
    """Say now which index is missing; uv would only say that it has no such package.

    Raises:
        LockError: a package comes from an index that is not configured here.
    """
    known = set(network.index_names.values())
    packages = [*lock.python, *(p for kernel in lock.kernels.values() for p in kernel.python)]
    for package in packages:
        if package.index and package.index not in known:
            raise LockError(
                f"{package.name} comes from the Python index {package.index!r}, which is not "
                "configured here.",
                remedy="Name it in uv's configuration (`[[index]]` with that name) or in UV_INDEX.",
            )


def build_context(
    site: Site, context: render.Context, *, tag: str, labels: Mapping[str, str],
    secrets: Mapping[str, Path], stage: Stage, epoch: int | None = None, fresh: bool = False,
) -> Image:  # fmt: skip
    """Build a context on the box; its steps show as the stage's details."""

    def on_line(line: str) -> None:
        stage.log(line)
        if step := build_step(line):
            stage.detail(step)

    with tempfile.TemporaryDirectory(prefix="jupbox-build-") as name:
        folder = Path(name)
        for path, content in context.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
            (folder / path).chmod(0o644)
        # whatever this machine's umask: the server's user must get in
        for inner in folder.rglob("*/"):
            inner.chmod(0o755)
        return site.engine.build(
            folder, tag=tag, labels=labels, secrets=secrets, on_line=on_line, epoch=epoch,
            fresh=fresh,
        )  # fmt: skip


_GONE: Final = "gone from the archive: "
_STEP: Final = re.compile(r"^#\d+ \[(?:\S+ )?\s*(\d+)/(\d+)\] (.*)")
_STEPS: Final = {
    "/build/fetch.sh": "getting Debian packages",
    "/build/tools.sh": "getting uv",
    "/build/interpreter.sh": "getting CPython",
    "/build/apt.sh": "installing Debian packages",
    "/build/python.sh": "installing Python packages",
    "/build/extra.sh": "copying the project's files",
    "/build/run.sh": "running the definition's commands",
    "/build/user.sh": "making the notebook's user",
}


def build_step(line: str) -> str | None:
    """What a line of BuildKit's plain progress says is done now, for a person; else None."""
    match = _STEP.match(line)
    return next((text for key, text in _STEPS.items() if match and key in match[3]), None)
