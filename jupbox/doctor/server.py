"""A stack: the server, what it was built from, its certificate."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from jupbox.doctor.finding import (
    SERVER,
    Finding,
    Severity,
    error,
    fine,
    memory_size,
    note,
    size,
    times,
    warning,
)

_NEAR_LIMIT: Final = 0.90


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What the server shows.

    Attributes:
        due: a third of its life or less is left.
        fits: whether it names the box as it is called now.
        own: whether it is one of the user's own.
        trusted: whether this user's browsers know its authority.
    """

    expires: datetime
    due: bool
    fits: bool
    own: bool
    trusted: bool


@dataclass(frozen=True, kw_only=True)
class SidePackage:
    """A package that was installed beside the image."""

    name: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the server says of itself over its control socket.

    Attributes:
        memory: bytes in use and the limit, None where there is none; None: not said.
        full: disks that are nearly full: folder, bytes that are free, bytes in all.
        oom_kills: processes that were ended since its start because the memory was used up.
        side: packages beside the image.
        clashes: what is at odds among them, in words.
    """

    memory: tuple[int, int | None] | None = None
    side: tuple[SidePackage, ...] = ()
    clashes: tuple[str, ...] = ()
    full: tuple[tuple[str, int, int], ...] = ()
    oom_kills: int = 0


def near_limit(used: int, limit: int | None) -> bool:
    """Whether memory is so nearly used up that the next big step ends a kernel."""
    return bool(limit) and limit is not None and used > limit * _NEAR_LIMIT


def read_summary(answer: Mapping[str, Any]) -> Summary:
    """The server's own answer; a server of another version may say less."""
    used, limit = answer.get("memory_bytes"), answer.get("memory_limit_bytes")
    envs = (answer.get("side") or {}).get("envs") or ()
    return Summary(
        memory=(int(used), int(limit) if limit else None) if used is not None else None,
        side=tuple(
            SidePackage(name=str(one["name"]), version=str(one.get("version") or ""))
            for env in envs
            for one in env.get("packages") or ()
        ),
        clashes=tuple(str(clash) for env in envs for clash in env.get("clashes") or ()),
        full=tuple(
            (str(disk["path"]), int(disk["free_bytes"]), int(disk["total_bytes"]))
            for disk in answer.get("disks") or ()
            if disk.get("nearly_full")
        ),
        oom_kills=int(answer.get("oom_kills") or 0),
    )


@dataclass(frozen=True, kw_only=True)
class Locked:
    """What the server was built from, against the project.

    Attributes:
        image: the image definition's name.
        deployed: digest of the lock that runs.
        project: digest of the project's lock, None where it has none for this image.
        stale: whether the definition has changed since.
        by_hand: whether a stale lock waits for `jupbox lock`; without a project `up` renews it.
    """

    image: str
    deployed: str
    project: str | None
    stale: bool
    by_hand: bool = True


@dataclass(frozen=True, kw_only=True)
class Server:
    """A stack.

    Attributes:
        word: how a command line names the box, with a space before it.
        health: `healthy`, `unhealthy`, `starting`, or empty.
        port: the server's own on the host, None when it publishes none.
        bindings: (address, port) that the container publishes, the server's own among them.
        sealed: whether the engine still has the image that the next start needs.
        summary: its own answer, None where it gives none.
    """

    word: str
    state: str
    health: str
    exit_code: int
    restarts: int
    port: int | None
    bindings: tuple[tuple[str, int], ...]
    expose: str
    sealed: bool
    locked: Locked | None
    certificate: Certificate | None
    summary: Summary | None


NO_SERVER: Final = "There is no notebook server"


def of_no_server(where: str, word: str) -> Finding:
    """The one finding where there is no stack."""
    return note(SERVER, "state", f"{NO_SERVER} on {where}.", f"`jupbox up{word}` makes one.")


def of_server(server: Server, *, now: datetime) -> list[Finding]:
    """What is to be said of a stack, in the order of printing."""
    found = [_state(server), *_restarts(server), *_bindings(server)]
    found.append(_sealed(server))
    if server.locked:
        found.append(_locked(server, server.locked))
    if server.summary:
        found += [*_side(server.summary), *_usage(server.summary)]
        found += _full(server.summary)
    if server.certificate:
        found += _certificate(server, server.certificate, now=now)
    return found


def _state(server: Server) -> Finding:
    logs = f"`jupbox logs{server.word}` says why."
    if server.state != "running":
        crashed = server.state == "restarting" or server.exit_code not in {0, 143}
        return Finding(
            area=SERVER,
            name="state",
            severity=Severity.ERROR if crashed else Severity.NOTE,
            message=f"It is {server.state} (exit code {server.exit_code})."
            if crashed
            else "It is stopped.",
            remedy=logs if crashed else f"`jupbox up{server.word}` starts it.",
        )
    if server.health == "starting":
        return note(SERVER, "state", "It is starting.", "Look again in half a minute.")
    if server.health == "unhealthy" or server.summary is None:
        return error(SERVER, "state", "It runs, and does not answer.", logs)
    return fine(SERVER, "state", "It runs and answers.")


def _restarts(server: Server) -> Iterator[Finding]:
    if server.restarts:
        yield note(
            SERVER,
            "restarts",
            f"It ended by itself and was started anew {times(server.restarts)}.",
            f"`jupbox logs{server.word}` says why; often it was out of memory.",
        )


def _bindings(server: Server) -> Iterator[Finding]:
    again = f"`jupbox up{server.word}` makes it so again."
    open_at = [address for address, _ in server.bindings if not _is_loopback(address)]
    if server.port is None:
        yield error(SERVER, "port", "It publishes no port.", again)
    elif server.expose == "tunnel" and open_at:
        yield error(
            SERVER,
            "port",
            f'Its port {server.port} is open at {", ".join(open_at)}, though `expose` is "tunnel".',
            again,
        )
    elif server.expose != "tunnel" and not open_at:
        yield warning(
            SERVER, "port", f"It is on the loopback alone, though `expose` is {server.expose}.",
            again,
        )  # fmt: skip
    else:
        places = ", ".join(dict.fromkeys(address for address, _ in server.bindings))
        yield fine(SERVER, "port", f"{server.port} at {places}")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _sealed(server: Server) -> Finding:
    if server.sealed:
        return fine(SERVER, "image", "Its sealed image is there.")
    return warning(
        SERVER,
        "image",
        "Its sealed image is gone from the engine: a stopped server would not start again.",
        f"`jupbox up{server.word}` makes it anew; `docker image prune -a` there takes it away.",
    )


def _locked(server: Server, locked: Locked) -> Finding:
    up = f"`jupbox up{server.word}` rolls the project's out."
    if locked.stale:
        return note(
            SERVER,
            "lock",
            f"The definition of {locked.image} has changed since it was locked.",
            f"`jupbox lock {locked.image}`, then `jupbox up{server.word}`."
            if locked.by_hand
            else f"`jupbox up{server.word}` locks it anew and moves the server to it.",
        )
    if locked.project is None:
        return fine(SERVER, "lock", f"{locked.deployed[:12]} ({locked.image}); none here yet.")
    if locked.project != locked.deployed:
        return note(
            SERVER,
            "lock",
            f"It runs lock {locked.deployed[:12]} of {locked.image}; the project has "
            f"{locked.project[:12]}.",
            up,
        )
    return fine(SERVER, "lock", f"{locked.deployed[:12]} ({locked.image}), as the project's.")


def _side(summary: Summary) -> Iterator[Finding]:
    for clash in summary.clashes:
        yield warning(
            SERVER,
            "clash",
            clash if clash.endswith(".") else f"{clash}.",
            "`%pip uninstall` the one beside the image in a notebook, or add what fits to it.",
        )
    if summary.side:
        names = ", ".join(f"{p.name} {p.version}".strip() for p in summary.side[:5])
        more = f" and {len(summary.side) - 5} more" if len(summary.side) > 5 else ""
        yield note(
            SERVER,
            "side",
            f"Installed beside the image: {names}{more}.",
            "`jupbox add NAME` puts one into the image, for everybody.",
        )


def _usage(summary: Summary) -> Iterator[Finding]:
    if summary.memory is None:
        return
    used, limit = summary.memory
    if limit and near_limit(used, limit):
        yield warning(
            SERVER,
            "memory",
            f"It uses {memory_size(used)} of the {memory_size(limit)} that it may: the next big "
            "step ends a kernel.",
            "Shut kernels down that nobody needs, or set a larger `memory` in jupbox.toml.",
        )
    else:
        yield fine(
            SERVER,
            "memory",
            f"{memory_size(used)}{f' of {memory_size(limit)}' if limit else ', no limit'}",
        )


def _full(summary: Summary) -> Iterator[Finding]:
    for path, free, total in summary.full:
        yield warning(
            SERVER,
            "disk",
            f"Only {size(free)} of {size(total)} free at {path}: a notebook may soon not be saved.",
            "Delete what nobody needs there: while the disk is so full, what is deleted goes at "
            "once and not to the trash.",
        )
    if summary.oom_kills:
        yield note(
            SERVER,
            "out-of-memory",
            f"The memory was used up, and a process ended for it, {times(summary.oom_kills)} since "
            "the server started.",
            "Set a larger `memory` in jupbox.toml, or hold less data at once.",
        )


def _certificate(server: Server, cert: Certificate, *, now: datetime) -> Iterator[Finding]:
    day = f"{cert.expires:%Y-%m-%d}"
    renew = (
        "Put a new one at `tls.cert` and `tls.key`, then `jupbox up`."
        if cert.own
        else f"`jupbox up{server.word}` renews it."
    )
    if cert.expires <= now:
        yield error(SERVER, "certificate", f"It expired on {day}.", renew)
    elif cert.due:
        yield warning(SERVER, "certificate", f"It ends on {day}.", renew)
    else:
        yield fine(SERVER, "certificate", f"Good until {day}.")
    if not cert.fits:
        yield warning(
            SERVER,
            "names",
            "Its certificate does not name the box as it is called now.",
            f"`jupbox up{server.word}` makes a new one; then `jupbox trust{server.word}`.",
        )
    if not cert.own:
        yield _trust(server, cert)


def _trust(server: Server, cert: Certificate) -> Finding:
    if cert.trusted:
        return fine(SERVER, "trust", "This user's browsers trust it.")
    return note(
        SERVER,
        "trust",
        "This user's browsers do not know its certificate.",
        f"`jupbox trust{server.word}`",
    )
