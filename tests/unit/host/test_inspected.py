"""What is read of an image and of a container."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace as Thing
from typing import Any

import pytest

from jupbox.host.inspected import container_of, image_of, published_by

POLICY = Thing(name="always")


def test_an_image_is_mapped() -> None:
    found = Thing(
        id="sha256:1",
        repo_tags=None,
        repo_digests=["debian@sha256:2"],
        root_fs=Thing(layers=["sha256:3"]),
        config=Thing(labels=None),
        architecture="arm64",
        size=7,
    )
    image = image_of(found)
    assert (image.id, image.tags, image.digests) == ("sha256:1", (), ("debian@sha256:2",))
    assert (image.layers, image.labels) == (("sha256:3",), {})
    assert (image.architecture, image.size) == ("arm64", 7)


def found_container(**changes: Any) -> Thing:
    started = datetime(2026, 1, 1, tzinfo=UTC)
    given: dict[str, Any] = {
        "id": "1",
        "name": "notebook",
        "image": "sha256:1",
        "state": Thing(
            status="running", health=Thing(status="healthy"), exit_code=0, started_at=started
        ),
        "restart_count": None,
        "config": Thing(labels={"a": "b"}),
        "mounts": [
            Thing(type="volume", destination="/tmp", name="v"),
            Thing(type="bind", destination="/data", name=None),
        ],
        "host_config": Thing(port_bindings=None, memory=0, nano_cpus=0, restart_policy=POLICY),
    }
    return Thing(**(given | changes))


def binding(address: str | None, port: str | None) -> Thing:
    return Thing(host_ip=address, host_port=port)


def test_a_container_is_mapped() -> None:
    container = container_of(found_container())
    assert (container.name, container.running, container.health) == ("notebook", True, "healthy")
    assert (container.restarts, container.published) == (0, None)
    assert container.volumes == {"/tmp": "v"}
    assert container.started == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_container_that_was_never_started_has_no_start() -> None:
    never = datetime(1, 1, 1, tzinfo=UTC)
    state = Thing(status="created", health=None, exit_code=None, started_at=never)
    container = container_of(found_container(state=state))
    assert (container.started, container.running, container.health) == (None, False, "")


@pytest.mark.parametrize(
    ("bindings", "expected"),
    [
        (None, []),
        ({}, []),
        ({"8888/tcp": None}, []),
        ({"8888/tcp": [binding("127.0.0.1", "8889")]}, [("127.0.0.1", 8889)]),
        ({"8888/tcp": [binding("", "80"), binding("::1", "81")]}, [("0.0.0.0", 80), ("::1", 81)]),
        ({"80/tcp": [binding(None, "")]}, []),
        ({"80/tcp": [binding(None, None)], "81/tcp": [binding(None, "9")]}, [("0.0.0.0", 9)]),
        ({"80/tcp": [binding("", "8000-8002")]}, [("0.0.0.0", n) for n in (8000, 8001, 8002)]),
    ],
)
def test_published_ports(bindings: Any, expected: list[tuple[str, int]]) -> None:
    found = found_container(
        host_config=Thing(port_bindings=bindings, memory=0, nano_cpus=0, restart_policy=POLICY)
    )
    assert published_by(found) == expected
    servers = [pair for pair in expected if "8888/tcp" in (bindings or {})]
    assert container_of(found).published == (servers[0] if servers else None)


def test_limits_and_dashboards_ports_of_a_container() -> None:
    bindings = {"8888/tcp": [binding("", "9000")], "8501/tcp": [binding("127.0.0.1", "8501")]}
    host = Thing(
        port_bindings=bindings, memory=2**30, nano_cpus=1_500_000_000, restart_policy=POLICY
    )
    found = container_of(found_container(host_config=host))
    assert (found.published, dict(found.ports)) == (("0.0.0.0", 9000), {8501: 8501})
    assert (found.memory, found.cpus, found.held_ports) == (2**30, 1.5, {9000, 8501})


def test_a_container_says_whether_it_starts_again_by_itself() -> None:
    host = Thing(port_bindings={}, memory=0, nano_cpus=0, restart_policy=Thing(name="no"))
    assert container_of(found_container(host_config=host)).restart == "no"
