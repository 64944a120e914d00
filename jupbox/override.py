"""`compose.override.yaml`: what a project runs beside the notebook, and what it may not touch.

Pure: in come files as `docker compose config` normalises them (the Compose specification's own
merge), out come problems, hashes and the stack's final file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from jupbox import labels as label
from jupbox.errors import ConfigError

FILE: Final = "compose.override.yaml"
NOTEBOOK: Final = "notebook"

Composed = Mapping[str, Any]
"""A compose file as `docker compose config --format json` prints it."""

# what a project may add to the notebook: nothing by which it starts, is reached or is confined
_ADDABLE: Final = frozenset(
    {"depends_on", "devices", "dns", "dns_search", "environment", "extra_hosts", "labels",
     "networks", "ulimits", "volumes"}
)  # fmt: skip
_OURS: Final = frozenset({"home", "restoring", "seal", "tmp", "authority"})
_SECRET: Final = frozenset({"seal", "authority"})


def check(ours: Composed, merged: Composed, *, root: str, remote: bool) -> None:
    """Look whether what a project adds leaves the stack as it must be.

    Args:
        ours: the stack alone.
        merged: with the project's file merged into it.
        root: the project's folder on this machine.
        remote: whether the engine is another machine's.

    Raises:
        ConfigError: it does not; the first problem is in the message.
    """
    for what, remedy in _problems(ours, merged, root=root, remote=remote):
        raise ConfigError(f"{FILE}: {what}", remedy=remedy)


def _problems(
    ours: Composed, merged: Composed, *, root: str, remote: bool
) -> Iterator[tuple[str, str]]:
    if merged.get("name") != ours["name"]:
        yield "`name` is the stack's own.", "Leave it out."
    for name, volume in ours.get("volumes", {}).items():
        if merged["volumes"].get(name) != volume:
            yield f"volumes.{name} is the stack's own.", "Give yours another name."
    own_names = {volume["name"] for volume in ours.get("volumes", {}).values()}
    for name, volume in merged.get("volumes", {}).items():
        prefix = f"{ours['name']}_"
        taken = volume.get("name", "").removeprefix(prefix).partition("-")[0] in _OURS
        if name not in ours.get("volumes", {}) and (volume.get("name") in own_names or taken):
            yield f"volumes.{name} has the name of one of the stack's.", "Give it another name."
    yield from _of_notebook(ours["services"][NOTEBOOK], merged["services"].get(NOTEBOOK, {}))
    ports = {port["published"] for port in ours["services"][NOTEBOOK].get("ports", [])}
    for name in sidecars_of(merged):
        yield from _of_sidecar(name, merged["services"][name], ports, root=root, remote=remote)


def _of_notebook(ours: Composed, merged: Composed) -> Iterator[tuple[str, str]]:
    for key in sorted(ours.keys() | merged.keys()):
        was, now = ours.get(key), merged.get(key)
        if was == now or (key in _ADDABLE and _holds(was, now)):
            continue
        remedy = (
            f"It may add {', '.join(sorted(_ADDABLE))} to it; jupbox.toml has keys for the rest."
        )
        yield f"services.{NOTEBOOK}.{key} is jupbox's own.", remedy


def _holds(was: Any, now: Any) -> bool:
    """Whether all of `was` is still there."""
    if was is None:
        return True
    if isinstance(was, dict):
        return isinstance(now, dict) and all(
            key in now and now[key] == value for key, value in was.items()
        )
    return isinstance(now, list) and all(item in now for item in was)


def _of_sidecar(
    name: str, service: Composed, ports: set[str], *, root: str, remote: bool
) -> Iterator[tuple[str, str]]:
    where = f"services.{name}"
    if "container_name" in service:
        yield (
            f"{where}.container_name would be the same for everybody on that host.",
            f"Leave it out; the notebook reaches the service as `{name}`.",
        )
    for port in service.get("ports", []):
        if port.get("published") in ports:
            yield (
                f"{where} publishes port {port['published']}, which is the notebook's.",
                f"Choose another, or none: the notebook reaches the service as `{name}`.",
            )
    for volume in service.get("volumes", []):
        if volume.get("source") in _SECRET:
            yield (
                f"{where} mounts {volume['source']}, which holds the server's keys.",
                "Use a volume of its own.",
            )
        source = str(volume.get("source", ""))
        if volume.get("type") == "bind" and remote and f"{source}/".startswith(f"{root}/"):
            yield (
                f"{where} mounts {source}, a path of this machine that the box does not have.",
                "Copy it into an image by `build`, or name an absolute path of the box.",
            )


def open_ports(merged: Composed) -> tuple[tuple[str, str], ...]:
    """(service, port) of what sidecars publish on more than the loopback."""
    return tuple(
        (name, str(port["published"]))
        for name in sidecars_of(merged)
        for port in merged["services"][name].get("ports", [])
        if port.get("published") and not str(port.get("host_ip", "")).startswith("127.")
    )


def sidecars_of(merged: Composed) -> tuple[str, ...]:
    """The services beside the notebook."""
    return tuple(sorted(set(merged["services"]) - {NOTEBOOK}))


def notebook_digest(ours: Composed, merged: Composed) -> str:
    """A hash over what is added to the notebook; empty for nothing."""
    was, now = ours["services"][NOTEBOOK], merged["services"][NOTEBOOK]
    added = {key: now[key] for key in now if now[key] != was.get(key)}
    return _hash(added) if added else ""


def sidecar_digests(
    merged: Composed, *, contexts: Mapping[str, str], passing: str
) -> dict[str, str]:
    """A hash over each service beside the notebook, with what its build and volumes are.

    Args:
        merged: the whole file.
        contexts: a hash over the files of each service's build context.
        passing: a folder whose path is another one each time.
    """
    shared = {key: merged.get(key) for key in ("networks", "secrets", "configs")}
    found = {}
    for name in sidecars_of(merged):
        values = [merged["services"][name], shared, contexts.get(name, "")]
        text = json.dumps(values, sort_keys=True).replace(passing, "")
        found[name] = hashlib.sha256(text.encode()).hexdigest()
    return found


def labelled(
    merged: Composed, *, digests: Mapping[str, str], labels: Mapping[str, str]
) -> dict[str, Any]:
    """The stack's final file: each sidecar and volume of the project says whose it is."""
    services = dict(merged["services"])
    for name, digest in digests.items():
        own = {**labels, label.KIND: "sidecar", label.CONFIGURATION: digest}
        services[name] = {
            "restart": "unless-stopped",
            **services[name],
            "labels": {**services[name].get("labels", {}), **own},
        }
    return {**merged, "services": services}


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
