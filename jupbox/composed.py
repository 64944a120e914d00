"""A stack's compose file as Compose itself normalises it: as a candidate, and as a release again.

What is edited here is what `docker compose config --format json` gives: no shorthand, every value
where the specification has it (https://github.com/compose-spec/compose-spec). Its `$` are doubled,
so that a file made of it means the same.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

from jupbox import labels as label
from jupbox.override import NOTEBOOK
from jupbox.tables import SERVER_PORT

Composed = Mapping[str, Any]

# What would stand in the running stack's way, or wait for what a candidate has not.
_NOT_OF_CANDIDATE: Final = frozenset(
    {"ports", "networks", "depends_on", "links", "container_name", "network_mode", "expose"}
)
# The user's folders are not touched: what a candidate writes goes with it.
_EMPTY: Final = frozenset({"home", "tmp"})


def text(composed: Composed) -> str:
    """A compose file as Compose reads it: JSON is YAML."""
    return json.dumps(composed, indent=1)


def packed(composed: Composed) -> str:
    """A compose file as a label's value."""
    short = json.dumps(composed, separators=(",", ":"), sort_keys=True)
    return base64.b64encode(zlib.compress(short.encode(), 9)).decode()


def unpacked(value: str) -> dict[str, Any]:
    """The compose file of a label's value.

    Raises:
        ValueError: it holds none.
    """
    try:
        composed = json.loads(zlib.decompress(base64.b64decode(value, validate=True)))
    except zlib.error:
        raise ValueError("not compressed") from None
    if not isinstance(composed, dict) or NOTEBOOK not in composed.get("services", {}):
        raise ValueError("no compose file of a stack")
    return composed


def candidate(composed: Composed, *, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """The same notebook beside the running one: no port, no file of the user's, no second start.

    Args:
        composed: the stack's file.
        name: the candidate's own compose project.
        labels: of its container, instead of the stack's.
    """
    service = composed["services"][NOTEBOOK]
    kept = {key: value for key, value in service.items() if key not in _NOT_OF_CANDIDATE}
    notebook = {
        **kept,
        # it exits if it fails, and its exit is looked at
        "restart": "no",
        "healthcheck": {"disable": True},
        # the engine's own: a network of its own would have to be made, and removed
        "network_mode": "bridge",
        "labels": dict(labels),
        # the seal is read from the image
        "volumes": [
            {"type": "volume", "target": each["target"]}
            for each in service.get("volumes", [])
            if each.get("type") == "volume" and each.get("source") in _EMPTY
        ],
    }
    shared = {key: composed[key] for key in ("secrets", "configs") if key in composed}
    return {"name": name, "services": {NOTEBOOK: notebook}, **shared}


def resealed(
    composed: Composed, *, image: str, volumes: Mapping[str, str], labels: Mapping[str, str]
) -> dict[str, Any]:
    """A release's file with another seal.

    Args:
        composed: the release's.
        image: the sealed image that runs.
        volumes: names that are others now, by what they are for (`seal`, `home`).
        labels: of the container, in addition to its own or in their place.
    """
    service = composed["services"][NOTEBOOK]
    if "home" in volumes:
        # compose compares services, which name a volume by what it is for
        labels = {**labels, label.HOME: volumes["home"]}
    notebook = {**service, "image": image, "labels": {**service.get("labels", {}), **labels}}
    named = {
        key: {**value, "name": volumes[key]} if key in volumes else value
        for key, value in composed.get("volumes", {}).items()
    }
    if "home" in volumes:
        # whatever an older jupbox wrote: it is not compose's to remove
        named["home"] = {"name": volumes["home"], "external": True}
    services = {**composed["services"], NOTEBOOK: notebook}
    return {**composed, "services": services, "volumes": named}


def label_of(composed: Composed, name: str) -> str:
    """A label of the notebook's container; empty without it."""
    return str(composed["services"][NOTEBOOK].get("labels", {}).get(name, ""))


def port_of(composed: Composed) -> int:
    """The host's port at which the notebook server is published.

    Raises:
        ValueError: none is.
    """
    ports = composed["services"][NOTEBOOK].get("ports", [])
    found = [port for port in ports if int(port.get("target", 0)) == SERVER_PORT]
    if not found:
        raise ValueError("no port is published")
    return int(found[0]["published"])


def home_of(composed: Composed) -> str:
    """The name of the volume that is the home directory."""
    return str(composed["volumes"]["home"]["name"])


def release_labels(composed: Composed) -> dict[str, str]:
    """The labels by which a record of a release says what it is, from those of its container."""
    names = (label.STACK, label.BOX, label.OWNER, label.LOCK, label.IMAGE, label.GENERATION,
             label.WHO, label.SINCE, label.REVISION, label.ORIGIN, label.VERSION)  # fmt: skip
    found = {name: label_of(composed, name) for name in names}
    return {name: value for name, value in found.items() if value}
