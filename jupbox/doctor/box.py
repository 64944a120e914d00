"""A box's host and its engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from jupbox.doctor.finding import (
    BOX,
    Finding,
    Severity,
    error,
    fine,
    listed,
    memory_size,
    note,
    warning,
)
from jupbox.doctor.resources import Reach, Space, of_reach, of_space

_DISK_REMEDY: Final = (
    "`docker system df` there says what Docker holds; `docker builder prune` drops caches alone."
)
_MEMORY_WARNING: Final = 2 * 2**30
# the kernel keeps a part of what was bought or rented as 2 GiB
_MEMORY_SLACK: Final = 0.85
_SWAPLESS: Final = 4 * 2**30
_SCARCE: Final = 0.10
# TLS and login codes bear half a minute; a certificate is dated back by an hour, cookies less
_SKEW_WARNING: Final = 30
_SKEW_ERROR: Final = 300
_ROOT: Final = 0


@dataclass(frozen=True, kw_only=True)
class Connection:
    """The way to the box.

    Attributes:
        milliseconds: what it took, None for this machine itself.
        kept: an earlier command's connection was used.
    """

    milliseconds: int | None
    kept: bool = False


@dataclass(frozen=True, kw_only=True)
class Boot:
    """Whether the engine comes back after a boot.

    Attributes:
        systemd: whether systemd runs services there.
        service: whether it knows the engine.
        enabled: whether it starts it at boot.
    """

    systemd: bool
    service: bool
    enabled: bool


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The user's files on the host.

    Attributes:
        kind: `folder`, `none` or `other`.
        owner: uid, None where there is none yet.
        filesystem: as `df -T` calls it.
        writable: by the remote user, as tried; of the nearest folder above where there is none.
        open_path: whether every folder on the way lets other users pass.
        shared: whether its group or everybody may write.
    """

    path: str
    kind: str
    owner: int | None
    filesystem: str
    writable: bool
    open_path: bool
    shared: bool = False


@dataclass(frozen=True, kw_only=True)
class Host:
    """A box's host, with or without an engine.

    Attributes:
        word: how a command line names the box, with a space before it.
        setup_knows: whether `setup` can put an engine on its system.
        skew: seconds that its clock is ahead of this machine's; None for this machine.
        memory: bytes in all.
        available: bytes that a program could have now.
        swap: bytes in all, and free.
        disks: the engine's disk and the files'.
        firewalls: those that are active.
        listening: TCP ports that something listens on.
        gpu: whether there is an NVIDIA card.
        dns: whether names resolve.
        mirror: the Debian mirror, None when no configuration names one.
        index: the Python index, likewise.
    """

    word: str
    user: str
    uid: int
    groups: tuple[str, ...]
    system: str
    os_name: str
    architecture: str
    architectures: tuple[str, ...]
    setup_knows: bool
    skew: int | None
    memory: int
    available: int
    swap: tuple[int, int]
    disks: tuple[Space, ...]
    firewalls: tuple[str, ...]
    addresses: tuple[str, ...]
    listening: frozenset[int]
    gpu: bool
    folder: Folder | None
    dns: Reach | None
    mirror: Reach | None
    index: Reach | None
    boot: Boot | None


@dataclass(frozen=True, kw_only=True)
class EngineSeen:
    """An engine that answers.

    Attributes:
        storage: its storage driver.
        rootless: whether it runs as the user.
        runtimes: names of its runtimes.
        warnings: its own, about the kernel.
        dns: whether names resolve in a container; None: no container to look with.
        account_uid: whose files the notebook writes.
        account_lacks: groups of the remote user that the notebook's user is not in.
    """

    version: str
    storage: str
    rootless: bool
    runtimes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    dns: Reach | None = None
    account_uid: int | None = None
    account_lacks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What jupbox.toml says of the box.

    Attributes:
        port: None where jupbox chooses it.
        memory: limit in bytes.
    """

    expose: str
    port: int | None
    memory: int | None


def of_connection(connection: Connection) -> Finding:
    """What is to be said of the way to the box."""
    if connection.milliseconds is None:
        return fine(BOX, "ssh", "This machine itself; no ssh is needed.")
    kept = "An earlier command's connection answers" if connection.kept else "Connected"
    return fine(BOX, "ssh", f"{kept} in {connection.milliseconds} ms.")


def of_host(host: Host, *, engine: EngineSeen | None, wish: Wish) -> list[Finding]:
    """What is to be said of a box's host, in the order of printing."""
    found = [_system(host), _architecture(host), _user(host)]
    if engine:
        found += _engine(host, engine)
    if host.boot:
        found.append(_boot(host, host.boot, rootless=bool(engine and engine.rootless)))
    for name, disk in zip(("disk", "files-disk"), host.disks, strict=False):
        found += of_space(BOX, name, disk, remedy=_DISK_REMEDY)
    found += [_memory(host, wish), *_swap(host)]
    if host.skew is not None:
        found.append(_clock(host.skew))
    found += _firewall(host, wish)
    if engine is None and wish.port in host.listening:
        found.append(_occupied(wish.port))
    if host.folder:
        found += _folder(host, host.folder, engine)
    found += _gpu(host, engine)
    found += _network(host, engine)
    return found


def _system(host: Host) -> Finding:
    if host.system != "Linux":
        return error(
            BOX, "system", f"It runs {host.system}.", "Take a host that runs Linux for the box."
        )
    name = host.os_name or "Linux"
    if host.setup_knows:
        return fine(BOX, "system", name)
    return note(
        BOX,
        "system",
        f"{name} is none that jupbox is tested on or can set an engine up on.",
        "Nothing to do where its own Docker engine is new enough.",
    )


def _architecture(host: Host) -> Finding:
    if host.architecture in host.architectures:
        return fine(BOX, "architecture", host.architecture)
    return error(
        BOX,
        "architecture",
        f"It is a {host.architecture} machine; jupbox makes images for "
        f"{' and '.join(host.architectures)}.",
        "Use another machine.",
    )


def _user(host: Host) -> Finding:
    groups = f", groups {', '.join(host.groups)}" if host.groups else ""
    return fine(BOX, "user", f"{host.user} (uid {host.uid}){groups}")


def _engine(host: Host, engine: EngineSeen) -> Iterator[Finding]:
    yield fine(BOX, "engine", f"Docker {engine.version}; {host.user} may use it.")
    if engine.storage == "vfs":
        yield warning(
            BOX,
            "storage",
            "The engine's storage driver is vfs: every image layer is a full copy.",
            "Give Docker a disk on which overlay2 works (ext4, xfs), then restart it.",
        )
    else:
        yield fine(BOX, "storage", f"{engine.storage}{', rootless' if engine.rootless else ''}")
    limits = [line for line in engine.warnings if "memory limit" in line.lower()]
    if limits:
        yield warning(
            BOX,
            "limits",
            "The kernel there cannot limit a container's memory, so `memory` has no effect.",
            "Turn the memory cgroup on (kernel command line: cgroup_enable=memory), and boot.",
        )


def _boot(host: Host, boot: Boot, *, rootless: bool) -> Finding:
    if rootless:
        return note(
            BOX,
            "boot",
            "The engine is rootless: it starts with its user's login, if at all.",
            "`loginctl enable-linger` and `systemctl --user enable docker` there.",
        )
    if not boot.systemd:
        return warning(
            BOX,
            "boot",
            "There is no systemd: nothing starts the engine after a boot.",
            f"Run `jupbox setup{host.word}` after each boot.",
        )
    if not boot.service:
        return note(
            BOX,
            "boot",
            "systemd has no docker.service: what starts the engine is not known.",
            "Make sure that it comes back after a boot, and with it the server.",
        )
    if not boot.enabled:
        return warning(
            BOX,
            "boot",
            "The engine is not started at boot, so neither is the server.",
            f"`jupbox setup{host.word}` turns it on (systemctl enable docker).",
        )
    return fine(BOX, "boot", "The engine is started at boot.")


def _memory(host: Host, wish: Wish) -> Finding:
    if not host.memory:
        return note(BOX, "memory", "How much memory there is could not be seen.", "Nothing to do.")
    text = f"{memory_size(host.available)} of {memory_size(host.memory)} available."
    if wish.memory and wish.memory > host.memory:
        return warning(
            BOX,
            "memory",
            f"`memory` allows the server {memory_size(wish.memory)}; the machine has "
            f"{memory_size(host.memory)}.",
            "Set a smaller `memory` in jupbox.toml: else the kernel ends some program, not this.",
        )
    if host.memory < _MEMORY_WARNING * _MEMORY_SLACK:
        return warning(
            BOX,
            "memory",
            f"The machine has {memory_size(host.memory)} of memory in all.",
            "2 GiB and more are comfortable; close kernels that you do not need.",
        )
    if host.available < host.memory * _SCARCE:
        return note(
            BOX,
            "memory",
            f"Only {text}",
            "Shut kernels down that nobody needs, or see there who has it (`top`).",
        )
    return fine(BOX, "memory", text)


def _swap(host: Host) -> Iterator[Finding]:
    total, free = host.swap
    if not host.memory:
        return
    if total and free < total * _SCARCE:
        yield warning(
            BOX,
            "swap",
            f"Swap is full: {memory_size(free)} of {memory_size(total)} free. The machine is slow.",
            "Shut kernels down that nobody needs.",
        )
    elif not total and host.memory < _SWAPLESS:
        yield note(
            BOX,
            "swap",
            "There is no swap: a full memory ends kernels at once.",
            "A swap file of a few GB helps a small machine.",
        )
    else:
        yield fine(
            BOX, "swap", f"{memory_size(free)} of {memory_size(total)} free." if total else "None."
        )


def _clock(skew: int) -> Finding:
    off = abs(skew)
    severity = Severity.OK
    if off > _SKEW_WARNING:
        severity = Severity.ERROR if off > _SKEW_ERROR else Severity.WARNING
    if severity is Severity.OK:
        return fine(BOX, "clock", "The same as here, to seconds.")
    return Finding(
        area=BOX,
        name="clock",
        severity=severity,
        message=f"The box's clock is {off} s {'ahead of' if skew > 0 else 'behind'} this "
        "machine's: certificates and logins may seem expired, or not yet good.",
        remedy="Set the wrong one of the two right (`timedatectl set-ntp true`).",
    )


def _firewall(host: Host, wish: Wish) -> Iterator[Finding]:
    active = f"{listed(host.firewalls)} active" if host.firewalls else "none seen"
    if wish.expose == "tunnel":
        yield fine(BOX, "firewall", f"{active}; the server is on the loopback alone.")
        return
    addresses = host.addresses if wish.expose == "public" else (wish.expose,)
    if wish.expose != "public" and wish.expose not in host.addresses:
        yield warning(
            BOX,
            "expose",
            f"{wish.expose} is none of the box's lasting addresses: without it the server does "
            "not start, not after a boot either.",
            'Set `expose` to an address of the box, or to "tunnel" or "public".',
        )
    port = f"Port {wish.port}" if wish.port else "The server's port"
    opened = f"{port} is open at {', '.join(addresses) or 'every address'}"
    if host.firewalls:
        yield warning(
            BOX,
            "firewall",
            f"{opened}, past {listed(host.firewalls)}: Docker's rules come first.",
            'Nothing if that is meant; else expose = "tunnel", or rules in the chain DOCKER-USER.',
        )
        return
    yield note(
        BOX,
        "firewall",
        f"{opened}; no firewall was seen, and Docker's rules would come before it.",
        'Nothing if that is meant; else expose = "tunnel".',
    )


def _occupied(port: int | None) -> Finding:
    return note(
        BOX,
        "port",
        f"Something listens on port {port} there; whose it is only the engine knows.",
        'If it is not the notebook server, set another `port`, or "auto".',
    )


def _folder(host: Host, folder: Folder, engine: EngineSeen | None) -> Iterator[Finding]:
    account = engine.account_uid if engine else None
    mend = "Mend its owner or permissions there, or set another `files` in jupbox.toml."
    if folder.kind == "other":
        yield error(BOX, "files", f"{folder.path} is no folder.", mend)
        return
    if not folder.writable:
        what = "written" if folder.kind == "folder" else "made"
        owner = f" (owner uid {folder.owner})" if folder.owner is not None else ""
        yield error(BOX, "files", f"{folder.path}{owner} cannot be {what} by {host.user}.", mend)
    elif folder.kind == "none":
        yield fine(BOX, "files", f"{folder.path} will be made by `up`.")
    elif _foreign(host, folder, account):
        yield warning(
            BOX,
            "files",
            f"{folder.path} belongs to uid {folder.owner}; the notebook runs as uid {account}.",
            mend,
        )
    else:
        yield fine(BOX, "files", f"{folder.path} is writable ({folder.filesystem}).")
    yield from _squashed(host, folder, account)
    if engine and engine.account_lacks:
        yield note(
            BOX,
            "groups",
            f"The notebook's user is not in {host.user}'s "
            f"group{'s' if len(engine.account_lacks) > 1 else ''} {listed(engine.account_lacks)}: "
            "the first `up` fixed them.",
            "Where a notebook needs one, name it in `group_add` in jupbox.toml.",
        )


def _foreign(host: Host, folder: Folder, account: int | None) -> bool:
    """Whether the notebook's user is another one than may write the folder."""
    if account is None or folder.shared or folder.owner == account:
        return False
    # what root has in its own home becomes the notebook user's at the next `up`
    return not (host.uid == _ROOT and folder.owner == _ROOT)


def _squashed(host: Host, folder: Folder, account: int | None) -> Iterator[Finding]:
    if not folder.filesystem.startswith("nfs"):
        return
    foreign = folder.owner is not None and account is not None and folder.owner != account
    if host.uid == _ROOT or foreign:
        yield warning(
            BOX,
            "mount",
            f"{folder.path} is on NFS, where root is usually nobody (root_squash).",
            "Use the box as the user who owns the folder, not as root.",
        )
    elif not folder.open_path:
        yield warning(
            BOX,
            "mount",
            f"{folder.path} is on NFS in a folder closed to others: the engine, which is root, "
            "may not get in (root_squash).",
            "`chmod o+x` the folders on the way, or set `files` to a folder of a local disk.",
        )


def _gpu(host: Host, engine: EngineSeen | None) -> Iterator[Finding]:
    runtime = engine is not None and "nvidia" in engine.runtimes
    if host.gpu and engine and not runtime:
        yield note(
            BOX,
            "gpu",
            "There is an NVIDIA card, and the engine has no runtime for it.",
            f"`jupbox setup{host.word} --gpu` installs it.",
        )
    elif host.gpu and runtime:
        yield fine(BOX, "gpu", "NVIDIA card, and the engine's runtime for it.")
    elif runtime:
        yield note(
            BOX,
            "gpu",
            "The engine has the NVIDIA runtime, and no card was seen.",
            "Look whether the driver is loaded: `nvidia-smi` there.",
        )
    elif not host.gpu:
        yield fine(BOX, "gpu", "None.")


def _network(host: Host, engine: EngineSeen | None) -> Iterator[Finding]:
    if host.dns:
        yield _resolves(
            "dns", "on the box", host.dns, "Look at /etc/resolv.conf there (`resolvectl status`)."
        )
    if engine and engine.dns:
        remedy = 'Give the engine name servers: "dns" in /etc/docker/daemon.json there.'
        yield _resolves("dns-inside", "in the container", engine.dns, remedy)
    if host.mirror:
        yield of_reach(BOX, "mirror", "The Debian mirror", host.mirror)
    if host.index:
        yield of_reach(BOX, "index", "The Python index", host.index)


def _resolves(name: str, where: str, dns: Reach, remedy: str) -> Finding:
    if dns.problem is None:
        return fine(BOX, name, f"Names resolve {where}.")
    message = f"{dns.address} does not resolve {where}: {dns.problem}."
    return warning(BOX, name, message, remedy)
