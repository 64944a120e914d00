"""From a definition to the exact versions that it stands for, and where they are kept."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, cast

from jupbox import labels as label
from jupbox import render
from jupbox.console import Stage
from jupbox.errors import (
    LockError,
    ResolveError,
)
from jupbox.host import base as bases
from jupbox.host import facts as host_facts
from jupbox.host import network as networks
from jupbox.host.files import write_atomic
from jupbox.host.interpreters import OLDEST, Uv, resolve_interpreter
from jupbox.host.machine import LocalMachine
from jupbox.host.network import Network
from jupbox.host.resolve import resolve_python, resolve_uv
from jupbox.host.simulate import resolve_apt
from jupbox.host.stack import State
from jupbox.lock import (
    Architecture,
    FileLock,
    ImageLock,
    InterpreterLock,
    KernelLock,
    Lock,
    PlatformLock,
    PythonPackage,
    dump_lock,
    is_stale,
    load_lock,
)
from jupbox.project import PYTHON_OF_BASES, ImageDefinition, base_with, fits
from jupbox.site import Site, lock_path, read_lock_file
from jupbox.tables import DEFAULT_BASE

_DAY: Final = 86_400


def network_of(site: Site, definition: ImageDefinition) -> Network:
    """The way from the box's builds to packages, by this user's settings."""
    mine = () if site.machine.is_local else (host_facts.look(LocalMachine()),)
    return networks.look(
        environ=site.around.environ,
        home=site.around.home,
        root=site.project.root,
        configured_bundle=site.project.network.ca_bundle,
        base=definition.base,
        hosts=(site.facts, *mine),
    )


def read_lock(site: Site) -> Lock:
    """The project's lock; an empty one if there is none yet."""
    return read_lock_file(lock_path(site.project, site.box))


def write_lock(site: Site, image: ImageLock) -> None:
    """Put an image's part into the project's lock."""
    path = lock_path(site.project, site.box)
    with suppress(OSError):  # `write_atomic` says what is wrong with the folder
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, dump_lock(read_lock(site).with_image(image)).encode(), mode=0o644)


def usable_lock(site: Site, definition: ImageDefinition) -> ImageLock | None:
    """The image's lock, None if there is none; it may lack the box's architecture.

    Raises:
        LockError: it is stale, and a project's lock is not changed unasked.
    """
    image = read_lock(site).images.get(definition.name)
    if image is None:
        return None
    if is_stale(image, definition):
        if site.project.root is None:
            return None
        raise LockError(
            f"jupbox.lock does not match the definition of {definition.name} any more.",
            remedy=f"`jupbox lock {definition.name}` resolves it anew; then look at the change.",
        )
    return image


def recorded_lock(
    site: Site, state: State, definition: ImageDefinition, *, record: bool
) -> tuple[ImageLock | None, str]:
    """The lock that holds for a box, or why there is none.

    Args:
        record: write one that was found on the box into the lock file.

    Raises:
        LockError: it is stale, and a project's lock is not changed unasked.
    """
    lock = usable_lock(site, definition)
    if lock is None:
        lock = running_lock(site, state)
        if lock is None or lock.name != definition.name or is_stale(lock, definition):
            return None, "there is none yet"
        if record:
            write_lock(site, lock)
    if site.facts.architecture not in lock.platforms:
        return None, f"it has nothing for {site.facts.architecture} yet"
    return lock, ""


def running_lock(site: Site, state: State) -> ImageLock | None:
    """The lock that the stack's image was built from, as that image itself says.

    Without it a fresh laptop would resolve newer versions and replace a server that is well.
    """
    if state.container is None:
        return None
    digest = state.container.labels.get(label.LOCK, "")
    for image in site.engine.images({label.KIND: "environment", label.LOCK: digest}):
        with site.engine.scratch(image.id) as container:
            files = site.engine.get(container, render.LOCK_IN_IMAGE)
        for content in files.values():
            lock = load_lock(content.decode(), source=f"the lock on {site.machine.name}")
            for found in lock.images.values():
                return found
    return None


def resolve_lock(
    site: Site, definition: ImageDefinition, *, stage: Stage, keep: ImageLock | None = None,
    prefer: ImageLock | None = None, record: bool = True,
) -> ImageLock:  # fmt: skip
    """Resolve a definition on a box and record it.

    Args:
        site: the box whose engine is asked.
        definition: what to resolve.
        stage: told what happens.
        keep: a lock whose Python packages and epoch stay as they are.
        prefer: a lock whose Python versions are taken where they still fit.
        record: write it into the lock file.

    Raises:
        ResolveError: something cannot be resolved.
        BaseImageError: no way to the base.
    """
    network = network_of(site, definition)
    epoch = keep.epoch if keep else int(site.around.now().timestamp()) // _DAY * _DAY
    if definition.base != DEFAULT_BASE and definition.base == base_with(definition.requires_python):
        python = PYTHON_OF_BASES[definition.base]
        stage.detail(f"taking {definition.base}, which has Python {python}")
    base = bases.resolve(
        site.engine,
        definition.base,
        box=site.machine,
        box_facts=site.facts,
        epoch=epoch,
        say=stage.detail,
    )
    stage.detail("asking apt for versions")
    simulated = resolve_apt(
        site.engine, base.reference, definition.apt, network, called=definition.base
    )
    architecture = cast(Architecture, site.facts.architecture)
    interpreter = None
    if not fits(simulated.python_version, definition.requires_python):
        stage.detail("looking for a CPython")
        interpreter = _interpreter(site, definition, simulated.python_version, network, keep)
    part = PlatformLock(
        architecture=architecture,
        base=base.lock,
        python_version=interpreter.version.rpartition(".")[0]
        if interpreter
        else simulated.python_version,
        apt=simulated.packages,
        interpreter=interpreter,
    )
    if keep and _python_version(keep) == part.python_version:
        image = replace(keep, platforms={**keep.platforms, architecture: part})
    else:
        stage.detail("asking the Python index for versions")
        image = _resolve_python(site, definition, network, part, epoch=epoch, prefer=prefer)
    if record:
        write_lock(site, image)
    return image


def resolve_more(site: Site, definition: ImageDefinition, old: ImageLock) -> ImageLock:
    """The lock of a definition to which packages were added, with as little moved as can be.

    Base and Debian packages stay as they are where the definition's are those of the lock; the
    lock file is left to the caller.

    Args:
        site: the box whose engine is asked.
        definition: the new one.
        old: the lock of what it was before.

    Raises:
        ResolveError: the packages do not go together.
    """
    part = old.platforms[site.facts.architecture]
    network = network_of(site, definition)
    image = _resolve_python(site, definition, network, part, epoch=old.epoch, prefer=old)
    return replace(image, platforms=old.platforms)


def _python_version(lock: ImageLock) -> str:
    return next(iter(lock.platforms.values())).python_version


def _resolve_python(
    site: Site, definition: ImageDefinition, network: Network, part: PlatformLock, *, epoch: int,
    prefer: ImageLock | None,
) -> ImageLock:  # fmt: skip
    resolve = partial(
        resolve_python,
        python_version=part.python_version,
        environ=site.around.environ,
        ca_bundle=network.ca_bundle,
        cwd=site.project.root,
    )
    kernels = {
        kernel.name: KernelLock(
            display_name=kernel.display_name,
            python=resolve(
                (*kernel.python, "ipykernel", "pip"), prefer=_kernel_of(prefer, kernel.name)
            ),
        )
        for kernel in definition.kernels
    }
    uv = resolve_uv(
        None,
        python_version=part.python_version,
        environ=site.around.environ,
        ca_bundle=network.ca_bundle,
        cwd=site.project.root,
    )
    image = ImageLock(
        name=definition.name,
        definition=definition.digest,
        epoch=epoch,
        uv=uv,
        python=resolve(definition.python, prefer=prefer.python if prefer else ()),
        platforms={part.architecture: part},
        kernels=kernels,
    )
    return completed(image, definition)


def completed(image: ImageLock, definition: ImageDefinition) -> ImageLock:
    """A lock with what needs no resolving: it stands in the definition as it is."""
    files = tuple(
        FileLock(target=file.target, sha256=file.sha256, mode="0755" if file.executable else "0644")
        for file in definition.files
    )
    return replace(
        image,
        sources=definition.sources,
        env=definition.env,
        settings=definition.settings,
        files=files,
    )


def _kernel_of(lock: ImageLock | None, name: str) -> tuple[PythonPackage, ...]:
    kernel = lock.kernels.get(name) if lock else None
    return kernel.python if kernel else ()


def uv_of(site: Site, network: Network) -> Uv:
    """uv, as it finds interpreters for a site."""
    return Uv(environ=site.around.environ, ca_bundle=network.ca_bundle, cwd=site.project.root)


def _interpreter(
    site: Site, definition: ImageDefinition, found: str, network: Network, keep: ImageLock | None
) -> InterpreterLock:
    """A CPython of its own for a base that has only the Python `found`.

    Raises:
        ResolveError: there is none, or it cannot be fetched.
    """
    wanted = definition.requires_python or ""
    others = [p.interpreter for p in keep.platforms.values() if p.interpreter] if keep else []
    interpreter = resolve_interpreter(
        wanted,
        uv_of(site, network),
        architecture=cast(Architecture, site.facts.architecture),
        version=others[0].version if others else None,
    )
    if interpreter:
        return interpreter
    having = [base for base, python in PYTHON_OF_BASES.items() if fits(python, wanted)]
    known = ", ".join(f"{base} has {python}" for base, python in PYTHON_OF_BASES.items())
    raise ResolveError(
        f"{definition.base} has Python {found}; {definition.name} requires {wanted}, and uv has no "
        f"such CPython from {OLDEST} on, which the notebook server needs.",
        remedy=f'Leave `base` out, or write base = "{having[0]}", which has it.'
        if having
        else f"Loosen `requires-python`, or name a `base` that has it ({known}).",
    )
