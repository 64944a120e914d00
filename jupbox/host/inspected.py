"""Images and containers, as far as jupbox looks at them, of what the library says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jupbox.tables import SERVER_PORT


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image that the engine has."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    layers: tuple[str, ...]
    labels: Mapping[str, str]
    architecture: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container, running or not.

    Attributes:
        health: `healthy`, `unhealthy`, `starting`, or empty without a health check.
        volumes: mount destination to volume name.
        published: the (address, port) of the server's own port, None when there is none.
        ports: further published ports, container's number to host's.
        memory: limit in bytes, None without one.
        cpus: limit in processors, None without one.
        restart: the restart policy, such as `always` or `no`.
    """

    id: str
    name: str
    image: str
    state: str
    health: str
    exit_code: int
    started: datetime | None
    restarts: int
    labels: Mapping[str, str]
    volumes: Mapping[str, str]
    published: tuple[str, int] | None
    ports: Mapping[int, int]
    memory: int | None
    cpus: float | None
    restart: str = "always"

    @property
    def held_ports(self) -> frozenset[int]:
        """The host's ports that it publishes."""
        return frozenset([*self.ports.values(), *([self.published[1]] if self.published else [])])

    @property
    def running(self) -> bool:
        """Whether its process runs now."""
        return self.state == "running"


def image_of(found: Any) -> Image:
    """An image of what the library says of it."""
    return Image(
        id=found.id,
        tags=tuple(found.repo_tags or ()),
        digests=tuple(found.repo_digests or ()),
        layers=tuple(found.root_fs.layers or ()),
        labels=found.config.labels or {},
        architecture=found.architecture,
        size=found.size,
    )


def published_by(found: Any, of: str = "") -> list[tuple[str, int]]:
    """The (address, port) that a container publishes; a range stands for each of its ports.

    Args:
        found: what the library says of the container.
        of: one port of the container alone, such as `8888/tcp`; empty for all.
    """
    bindings = found.host_config.port_bindings or {}
    chosen = [bindings.get(of)] if of else bindings.values()
    ports = []
    for binding in (binding for each in chosen for binding in each or ()):
        # empty: the engine chose one when it started the container, and another at the next start
        first, _, last = (binding.host_port or "").partition("-")
        if first.isdigit():
            numbers = range(int(first), int(last or first) + 1)
            ports += [(binding.host_ip or "0.0.0.0", number) for number in numbers]
    return ports


def container_of(found: Any) -> Container:
    """A container of what the library says of it."""
    state = found.state
    started = state.started_at if state.started_at and state.started_at.year > 1 else None
    return Container(
        id=found.id,
        name=found.name.removeprefix("/"),
        image=found.image,
        state=state.status,
        health=(state.health.status if state.health else "") or "",
        exit_code=state.exit_code or 0,
        started=started,
        restarts=found.restart_count or 0,
        labels=found.config.labels or {},
        volumes={m.destination: m.name for m in found.mounts if m.type == "volume"},
        published=next(iter(published_by(found, f"{SERVER_PORT}/tcp")), None),
        ports={
            int(key.partition("/")[0]): published[0][1]
            for key in found.host_config.port_bindings or {}
            if key != f"{SERVER_PORT}/tcp" and (published := published_by(found, key))
        },
        memory=found.host_config.memory or None,
        cpus=(found.host_config.nano_cpus or 0) / 1e9 or None,
        restart=found.host_config.restart_policy.name or "no",
    )
