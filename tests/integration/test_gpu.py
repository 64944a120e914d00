"""GPUs on a box whose engine believes that it has NVIDIA's runtime: a fake one that is runc."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupbox.errors import EngineError, SetupError
from tests.integration.boxes.boxes import BoxUnderTest
from tests.integration.errorbox import refused, unchanged
from tests.integration.jupbox_command import MainJob
from tests.integration.team import Team, team

pytestmark = [pytest.mark.box, pytest.mark.slow]

# The engine takes device requests when it finds the hook's program at its start, and runs that
# before each container that has one.
INSTALL = """
mkdir -p /etc/docker
echo '{"runtimes": {"nvidia": {"path": "runc"}}}' > /etc/docker/daemon.json
cat > /usr/local/bin/nvidia-container-runtime-hook <<'SH'
#!/bin/sh
echo "$@" >> /run/nvidia-hook.log
SH
chmod 0755 /usr/local/bin/nvidia-container-runtime-hook
"""
REMOVE = "rm -f /etc/docker/daemon.json /usr/local/bin/nvidia-container-runtime-hook"
KEYS = 'files = "volume"\n'


@pytest.fixture
def lab(ada: MainJob, tmp_path: Path) -> Iterator[Team]:
    """A team's box on a host with no GPU."""
    with team(ada, ada.laptop, tmp_path / "team", "lab", KEYS) as made:
        yield made


@pytest.fixture
def runtime(ada: MainJob) -> Iterator[BoxUnderTest]:
    """The box with a fake of NVIDIA's runtime."""
    ada.box.exec("sh", "-ec", INSTALL)
    try:
        ada.box.restart_engine()
        yield ada.box
    finally:
        ada.box.exec("sh", "-ec", REMOVE)
        ada.box.restart_engine()


def requests(made: Team) -> list[dict[str, Any]]:
    """The devices that the notebook's container asks for."""
    return made.stack.inspect()["HostConfig"]["DeviceRequests"] or []


def test_gpus_of_an_engine_without_the_runtime_are_refused_and_auto_means_none(lab: Team) -> None:
    lab.write(KEYS + "gpus = 1\n")
    with unchanged(lab.job.box):
        said = refused(lab.laptop.jupbox("up", "lab"), EngineError)
    assert "no NVIDIA runtime" in said.wrong
    assert "`jupbox setup lab --gpu`" in said.remedy
    # which there is nothing to be had by: the box has no card
    said = refused(lab.laptop.jupbox("setup", "lab", "--gpu", "--yes"), SetupError)
    assert "has no NVIDIA GPU" in said.wrong
    lab.write(KEYS)
    lab.jupbox("up")
    assert requests(lab) == []


def test_gpus_come_by_themselves_by_number_or_not_at_all(lab: Team, runtime: BoxUnderTest) -> None:
    lab.jupbox("up")
    every = {"Driver": "nvidia", "Count": -1, "DeviceIDs": None, "Capabilities": [["gpu"]]}
    assert [request | every for request in requests(lab)] == requests(lab) != []
    assert runtime.exec("cat", "/run/nvidia-hook.log").split()
    assert lab.laptop.jupbox("up", "lab", "--dry-run").code == 0

    lab.write(KEYS + "gpus = 2\n")
    lab.jupbox("up")
    assert [request["Count"] for request in requests(lab)] == [2]

    lab.write(KEYS + 'gpus = "none"\n')
    lab.jupbox("up")
    assert requests(lab) == []
