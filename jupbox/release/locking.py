"""From a definition to the exact versions that it stands for, and where they are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar, cast

from packaging.specifiers import SpecifierSet

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
    AptPackage,
    Architecture,
    FileLock,
    ImageLock,
    InterpreterLock,
    KernelLock,
    Lock,
    PlatformLock,
    PythonPackage,
    dump_lock,
    is_old,
    is_stale,
    load_lock,
)
from jupbox.project import PYTHON_OF_BASES, Box, ImageDefinition, Project, base_with, fits
from jupbox.site import Site, lock_path, read_lock_at
from jupbox.tables import DEFAULT_BASE

_DAY: Final = 86_400
_NO_UV: Final = PythonPackage(name="uv", version="0", marker=None, hashes=())

_P = TypeVar("_P", AptPackage, PythonPackage)
_Resolve = Callable[..., tuple[PythonPackage, ...]]


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
        snapshots=site.project.network.snapshots,
    )


def read_lock(site: Site) -> Lock:
    """The project's lock; an empty one if there is none yet."""
    return read_lock_of(site.project, site.box)


def read_lock_of(project: Project, box: Box) -> Lock:
    """The lock that holds for a box, which need not be in reach; an empty one if there is none."""
    return read_lock_at(lock_path(project, box), shared=project.root is not None)


def write_lock(site: Site, image: ImageLock) -> None:
    """Put an image's part into the project's lock, beside what that has for other architectures."""
    path = lock_path(site.project, site.box)
    with suppress(OSError):  # `write_atomic` says what is wrong with the folder
        path.parent.mkdir(parents=True, exist_ok=True)
    lock = read_lock(site)
    whole = image.merged(lock.images.get(image.name)) if image.platforms else image
    text = dump_lock(lock.with_image(whole)).encode()
    if not path.is_file() or path.read_bytes() != text:
        write_atomic(path, text, mode=0o644)


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
            remedy=f"`jupbox lock {definition.name}` resolves what changed; "
            "`jupbox lock --diff HEAD` shows it.",
        )
    return image


def locked(site: Site, definition: ImageDefinition) -> ImageLock:
    """The lock of the file for the box's architecture, and nothing else (`--locked`).

    Raises:
        LockError: it is missing or stale.
    """
    lock = usable_lock(site, definition)
    if lock is None or site.facts.architecture not in lock.platforms:
        on = f" on {site.facts.architecture}" if lock else ""
        raise LockError(
            f"There is no lock for {definition.name}{on}.",
            remedy=f"`jupbox lock {definition.name} --on {site.box.name}` makes one; commit it.",
        )
    return lock.only(site.facts.architecture)


def recorded_lock(
    site: Site, state: State, definition: ImageDefinition, *, record: bool
) -> tuple[ImageLock | None, str]:
    """The lock that holds for a box, of its architecture; or why there is none.

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
    return lock.only(site.facts.architecture), ""


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
            if is_old(content.decode()):
                continue
            lock = load_lock(content.decode(), source=f"the lock on {site.machine.name}")
            for found in lock.images.values():
                return found
    return None


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """What of a lock shall move to the newest; the rest moves only where it must.

    Attributes:
        everything: all of it.
        names: packages, or `base`, `apt` and `python` for all of a kind, `uv` for the installer.
    """

    everything: bool = False
    names: frozenset[str] = frozenset()

    def of(self, kind: str) -> bool:
        """Whether all of a kind shall move."""
        return self.everything or kind in self.names

    def without(self, packages: Sequence[_P]) -> tuple[_P, ...]:
        """The packages that shall stay."""
        return tuple(package for package in packages if package.name not in self.names)

    def touches(self, packages: Sequence[AptPackage | PythonPackage]) -> bool:
        """Whether one of the packages shall move."""
        return any(package.name in self.names for package in packages)


NOTHING: Final = Upgrade()


def resolve_lock(
    site: Site, definition: ImageDefinition, *, stage: Stage, old: ImageLock | None = None,
    upgrade: Upgrade = NOTHING, record: bool = True,
) -> ImageLock:  # fmt: skip
    """Resolve a definition on a box, moving as little as can be, and record it.

    Args:
        site: the box whose engine is asked.
        definition: what to resolve.
        stage: told what happens.
        old: the lock of before, maybe of another state of the definition or of other
            architectures alone.
        upgrade: what shall move.
        record: write it into the lock file.

    Returns:
        The lock for the box's architecture.

    Raises:
        ResolveError: something cannot be resolved.
        BaseImageError: no way to the base.
    """
    network = network_of(site, definition)
    kin = _kin(site, definition)
    part = _system(site, definition, network, stage, old=old, kin=kin, upgrade=upgrade)
    image = _python(site, definition, network, part, stage, old=old, kin=kin, upgrade=upgrade)
    image = completed(image, definition)
    before = old.only(part.architecture) if old else None
    if before and _apart_from_times(image).digest() == _apart_from_times(before).digest():
        image = before  # no byte changes without a reason
    if record:
        write_lock(site, image)
    return image


def _kin(site: Site, definition: ImageDefinition) -> tuple[ImageLock, ...]:
    """The locks of what a definition extends: images share their layers where versions are one."""
    locks = read_lock(site).images if site.project.root else {}
    names = [layer.name for layer in definition.layers if layer.name != definition.name]
    return tuple(locks[name] for name in reversed(names) if name in locks)


def _apart_from_times(lock: ImageLock) -> ImageLock:
    platforms = {
        key: replace(part, snapshot="", environment=None) for key, part in lock.platforms.items()
    }
    return replace(lock, epoch=0, platforms=platforms)


def _system(
    site: Site, definition: ImageDefinition, network: Network, stage: Stage, *,
    old: ImageLock | None, kin: Sequence[ImageLock], upgrade: Upgrade,
) -> PlatformLock:  # fmt: skip
    """Base and Debian packages, of the box's architecture."""
    architecture = cast(Architecture, site.facts.architecture)
    known = [lock.platforms[architecture] for lock in kin if architecture in lock.platforms]
    before = old.platforms.get(architecture) if old else None
    same = before is not None and old is not None and old.system == definition.system_digest
    asked = any(map(upgrade.of, ("base", "apt"))) or upgrade.touches(before.apt if before else ())
    if before and same and not asked:
        return replace(before, environment=None)  # it is of the whole lock that was
    base = _base(site, definition, stage, before=before, known=known, upgrade=upgrade)
    stage.detail("asking apt for versions")
    stay = [*(before.apt if before else ()), *(p for part in known[:1] for p in part.apt)]
    simulated = resolve_apt(
        site.engine,
        base.reference,
        [layer.apt for layer in definition.layers],
        network,
        called=definition.base,
        keep=() if upgrade.of("apt") else upgrade.without(stay),
    )
    python, interpreter = simulated.python_version, None
    if not fits(python, definition.requires_python):
        stage.detail("looking for a CPython")
        before_it = None if upgrade.of("python") else old
        interpreter = _interpreter(site, definition, python, network, before_it)
    return PlatformLock(
        architecture=architecture,
        base=base.lock,
        python_version=interpreter.version.rpartition(".")[0] if interpreter else python,
        interpreter=interpreter,
        snapshot=simulated.snapshot,
        base_packages=simulated.installed if base.lock.kind == "rootfs" else (),
        apt=simulated.packages,
    )


def _base(
    site: Site, definition: ImageDefinition, stage: Stage, *, before: PlatformLock | None,
    known: Sequence[PlatformLock], upgrade: Upgrade,
) -> bases.Base:  # fmt: skip
    """The base of before while it can be had; else, or when asked for, another."""
    if definition.base != DEFAULT_BASE and definition.base == base_with(definition.requires_python):
        python = PYTHON_OF_BASES[definition.base]
        stage.detail(f"taking {definition.base}, which has Python {python}")
    fitting = [part.base for part in (before, *known) if part]
    for lock in () if upgrade.of("base") else fitting:
        if lock.reference == definition.base and (
            found := bases.locked(
                site.engine, lock, box=site.machine, box_facts=site.facts,
                archive=site.project.network.snapshots, say=stage.detail,
            )
        ):  # fmt: skip
            return found
    return bases.resolve(
        site.engine,
        definition.base,
        box=site.machine,
        box_facts=site.facts,
        epoch=_today(site),
        say=stage.detail,
        anew=upgrade.of("base"),
    )


def _today(site: Site) -> int:
    return int(site.around.now().timestamp()) // _DAY * _DAY


def _python(
    site: Site, definition: ImageDefinition, network: Network, part: PlatformLock, stage: Stage, *,
    old: ImageLock | None, kin: Sequence[ImageLock], upgrade: Upgrade,
) -> ImageLock:  # fmt: skip
    """The Python packages of an image, of its kernels, and the whole lock."""
    before = old if old and _python_version(old) == part.python_version else None
    epochs = [lock.epoch for lock in (old, *kin) if lock and not upgrade.of("base")]
    head = ImageLock(
        name=definition.name,
        definition=definition.digest,
        system=definition.system_digest,
        # what is younger in the base would come once more
        epoch=max(epochs[0] if epochs else _today(site), part.base.epoch or 0),
        uv=before.uv if before else _NO_UV,
        python=before.python if before else (),
        platforms={part.architecture: part},
        kernels=before.kernels if before else {},
    )
    packages = [*head.python, *(p for kernel in head.kernels.values() for p in kernel.python)]
    asked = any(map(upgrade.of, ("python", "uv"))) or upgrade.touches(packages)
    if before and not is_stale(before, definition) and not asked:
        return head
    stage.detail("asking the Python index for versions")
    related = next((lock for lock in kin if _python_version(lock) == part.python_version), None)
    return _resolve_python(
        site, definition, network, head, related=related.python if related else (), upgrade=upgrade
    )


def _python_version(lock: ImageLock) -> str:
    return next((part.python_version for part in lock.platforms.values()), "")


def _resolve_python(
    site: Site, definition: ImageDefinition, network: Network, head: ImageLock, *,
    related: Sequence[PythonPackage], upgrade: Upgrade,
) -> ImageLock:  # fmt: skip
    (part,) = head.platforms.values()
    asking: dict[str, Any] = {
        "python_version": part.python_version,
        "environ": site.around.environ,
        "ca_bundle": network.ca_bundle,
        "cwd": site.project.root,
        "index_names": network.index_names,
    }
    sources = not definition.reproducible
    resolve = cast(_Resolve, partial(resolve_python, **asking, sources=sources))

    def stay(packages: Sequence[PythonPackage]) -> tuple[PythonPackage, ...]:
        return () if upgrade.of("python") else upgrade.without(packages)

    kernels = {
        kernel.name: KernelLock(
            display_name=kernel.display_name,
            python=resolve(
                (*kernel.python, "ipykernel", "pip"),
                prefer=stay(_kernel_of(head, kernel.name)),
                constraints=kernel.constraints,
            ),
        )
        for kernel in definition.kernels
    }
    moved = head.uv is _NO_UV or upgrade.of("uv")
    resolve = partial(resolve, constraints=definition.constraints)
    python = resolve(definition.python, prefer=stay(head.python or related))
    return replace(
        head,
        uv=resolve_uv(None, **asking) if moved else head.uv,
        python=_in_layers(definition, python, resolve),
        kernels=kernels,
    )


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
        run=definition.run,
        reproducible=definition.reproducible,
    )


def _in_layers(
    definition: ImageDefinition, whole: tuple[PythonPackage, ...], resolve: _Resolve
) -> tuple[PythonPackage, ...]:
    """Which definition of the chain brings which package: the lowest that comes to need it."""
    layers = {package.name: len(definition.layers) for package in whole}
    files: dict[tuple[str, str], PythonPackage] = {}
    versions = {(package.name, package.version) for package in whole}
    for number in range(len(definition.layers) - 1, 0, -1):
        names = [name for layer in definition.layers[:number] for name in layer.python]
        with suppress(ResolveError):
            below = resolve(tuple(names), prefer=whole)
            if {(package.name, package.version) for package in below} <= versions:
                layers |= {package.name: number for package in below}
                files |= {(package.name, package.version): package for package in below}
    # from wheels alone where those are enough, as in the images of the definitions below
    return tuple(
        replace(package, layer=layers[package.name], hashes=own.hashes, source=own.source)
        for package in whole
        for own in (files.get((package.name, package.version), package),)
    )


def _kernel_of(lock: ImageLock, name: str) -> tuple[PythonPackage, ...]:
    kernel = lock.kernels.get(name)
    return kernel.python if kernel else ()


def uv_of(site: Site, network: Network) -> Uv:
    """uv, as it finds interpreters for a site."""
    return Uv(environ=site.around.environ, ca_bundle=network.ca_bundle, cwd=site.project.root)


def _interpreter(
    site: Site, definition: ImageDefinition, found: str, network: Network, old: ImageLock | None
) -> InterpreterLock:
    """A CPython of its own for a base that has only the Python `found`.

    That of `old` stays where it fits, and holds for other architectures, too.

    Raises:
        ResolveError: there is none, or it cannot be fetched.
    """
    wanted = definition.requires_python or ""
    architecture = cast(Architecture, site.facts.architecture)
    known = {key: part.interpreter for key, part in old.platforms.items()} if old else {}
    stay = {key: own for key, own in known.items() if own and own.version in SpecifierSet(wanted)}
    if architecture in stay:
        return stay[architecture]
    interpreter = resolve_interpreter(
        wanted,
        uv_of(site, network),
        architecture=architecture,
        version=next((own.version for own in stay.values()), None),
    )
    if interpreter:
        return interpreter
    having = [base for base, python in PYTHON_OF_BASES.items() if fits(python, wanted)]
    pythons = ", ".join(f"{base} has {python}" for base, python in PYTHON_OF_BASES.items())
    raise ResolveError(
        f"{definition.base} has Python {found}; {definition.name} requires {wanted}, and uv has no "
        f"such CPython from {OLDEST} on, which the notebook server needs.",
        remedy=f'Leave `base` out, or write base = "{having[0]}", which has it.'
        if having
        else f"Loosen `requires-python`, or name a `base` that has it ({pythons}).",
    )
