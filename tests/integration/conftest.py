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
from tests.integration.errorbox import desk, errorbox, lonelybox
from tests.integration.jupbox_command import ada, ada_on_store, other_laptop

__all__ = [
    "ada",
    "ada_on_store",
    "bare12",
    "bare13",
    "box",
    "boxes",
    "desk",
    "errorbox",
    "keyring",
    "laptop",
    "lonelybox",
    "other_laptop",
    "pytest_itemcollected",
    "storebox",
    "systemd12",
    "workbox",
]
