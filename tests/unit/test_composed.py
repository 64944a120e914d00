"""A stack's compose file as a candidate, as a release's record, and with another seal."""

from __future__ import annotations

from typing import Any

import pytest

from jupbox import composed as room
from jupbox import labels as label

LABELS = {label.KIND: "server", label.GENERATION: "4", label.WHO: "ada@laptop", label.LOCK: "abc"}
STACK: dict[str, Any] = {
    "name": "jupbox-ada_workbox",
    "services": {
        "notebook": {
            "image": "jupbox-ada_workbox:seal-4",
            "restart": "always",
            "read_only": True,
            "cap_drop": ["ALL"],
            "environment": {"A": "a $$ sign"},
            "mem_limit": "1073741824",
            "depends_on": {"db": {"condition": "service_started"}},
            "networks": {"default": None},
            "healthcheck": {"test": ["CMD", "true"]},
            "ports": [
                {"target": 8501, "published": "8501", "host_ip": "127.0.0.1"},
                {"target": 8888, "published": "8889", "host_ip": "127.0.0.1"},
            ],
            "volumes": [
                {"type": "volume", "source": "home", "target": "/home/ada", "volume": {}},
                {"type": "volume", "source": "seal", "target": "/etc/jupbox/seal"},
                {"type": "volume", "source": "tmp", "target": "/tmp", "volume": {}},
                {"type": "bind", "source": "/home/ada/notebooks", "target": "/home/ada/notebooks"},
            ],
            "labels": LABELS,
        },
        "db": {"image": "postgres"},
    },
    "networks": {"default": {"name": "jupbox-ada_workbox_default"}},
    "volumes": {
        "home": {"name": "jupbox-ada_workbox_home", "external": True},
        "seal": {"name": "jupbox-ada_workbox_seal-4", "labels": {"a": "b"}},
    },
}


def test_a_candidate_is_the_same_notebook_and_touches_nothing_of_the_stacks() -> None:
    made = room.candidate(STACK, name="jupbox-ada_workbox-candidate", labels={label.KIND: "x"})
    assert (made["name"], set(made["services"])) == ("jupbox-ada_workbox-candidate", {"notebook"})
    notebook = made["services"]["notebook"]
    for same in ("image", "read_only", "cap_drop", "environment", "mem_limit"):
        assert notebook[same] == STACK["services"]["notebook"][same]
    assert not {"ports", "networks", "depends_on"} & notebook.keys()
    assert notebook["restart"] == "no"
    assert notebook["labels"] == {label.KIND: "x"}
    assert notebook["volumes"] == [
        {"type": "volume", "target": "/home/ada"},
        {"type": "volume", "target": "/tmp"},
    ]
    assert not {"networks", "volumes"} & made.keys()


def test_a_file_comes_back_from_a_label_as_it_was() -> None:
    assert room.unpacked(room.packed(STACK)) == STACK


@pytest.mark.parametrize(
    "value", ["", "AAAA", "not base64!", room.packed({}), room.packed({"services": {"db": {}}})]
)
def test_a_label_that_holds_no_file_is_an_error(value: str) -> None:
    with pytest.raises(ValueError):
        room.unpacked(value)


def test_another_seal_changes_nothing_else() -> None:
    volumes = {"seal": "jupbox-ada_workbox_seal-9", "home": "jupbox-ada_workbox_home-2"}
    made = room.resealed(
        STACK, image="jupbox-ada_workbox:seal-9", volumes=volumes, labels={label.ORIGIN: "4"}
    )
    notebook, before = made["services"]["notebook"], STACK["services"]["notebook"]
    assert notebook["image"] == "jupbox-ada_workbox:seal-9"
    assert notebook["labels"].items() >= {**LABELS, label.ORIGIN: "4"}.items()
    assert made["volumes"]["home"] == {"name": "jupbox-ada_workbox_home-2", "external": True}
    assert made["volumes"]["seal"] == {"name": "jupbox-ada_workbox_seal-9", "labels": {"a": "b"}}
    same = before.keys() - {"image", "labels"}
    assert {key: notebook[key] for key in same} == {key: before[key] for key in same}
    assert made["services"]["db"] == STACK["services"]["db"]
    assert room.home_of(made) == "jupbox-ada_workbox_home-2"


def test_the_servers_port_is_the_one_that_leads_to_it() -> None:
    assert room.port_of(STACK) == 8889
    with pytest.raises(ValueError):
        room.port_of({"services": {"notebook": {}}})


def test_a_record_says_what_its_container_does() -> None:
    assert room.release_labels(STACK) == {
        label.GENERATION: "4",
        label.WHO: "ada@laptop",
        label.LOCK: "abc",
    }
