"""What the integration tests share: the boxes."""

from __future__ import annotations

from tests.integration.boxes.fixtures import (
    bare12,
    bare13,
    box,
    boxes,
    keyring,
    laptop,
    pytest_itemcollected,
    storebox,
    systemd12,
    workbox,
)

__all__ = [
    "bare12",
    "bare13",
    "box",
    "boxes",
    "keyring",
    "laptop",
    "pytest_itemcollected",
    "storebox",
    "systemd12",
    "workbox",
]
