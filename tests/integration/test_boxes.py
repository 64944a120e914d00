"""The boxes themselves: what every other integration test builds on."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

import pytest

from tests.integration.boxes.boxes import BoxUnderTest
from tests.integration.boxes.fixtures import GetBox


def on(box: str, *argv: str, env: Mapping[str, str]) -> str:
    done = subprocess.run(
        ["ssh", box, *argv], check=False, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def import_base(box: BoxUnderTest) -> None:
    """Give the box's engine an image without a registry: the box's own system."""
    paths = "bin sbin lib lib64 etc usr var/lib/dpkg tmp"
    box.exec("sh", "-c", f"tar -C / -c {paths} | docker import - base", timeout=300)


@pytest.mark.parametrize(
    ("name", "driver"),
    [
        pytest.param("workbox", "overlay2", marks=pytest.mark.xdist_group("box-workbox")),
        pytest.param("storebox", "overlayfs", marks=pytest.mark.xdist_group("box-storebox")),
    ],
)
def test_ada_uses_the_engine_with_its_own_store(
    name: str, driver: str, box: GetBox, laptop: dict[str, str]
) -> None:
    box(name)
    found = on(name, "docker", "info", "--format", "{{.Driver}}", env=laptop)
    assert found == driver
    assert on(name, "id", "--user", env=laptop) == "1500"


def test_logins_are_counted_one_by_one(workbox: BoxUnderTest, laptop: dict[str, str]) -> None:
    before = workbox.accepted()
    assert on("workbox", "whoami", env=laptop) == "ada"
    assert on("workbox-root", "whoami", env=laptop) == "root"
    assert workbox.accepted() == before + 2
    assert "lab" in on("workbox", "id", "--groups", "--name", env=laptop).split()


def test_docker_reaches_the_box_over_ssh(workbox: BoxUnderTest, laptop: dict[str, str]) -> None:
    command = ["docker", "-H", "ssh://workbox", "version", "--format", "{{.Server.Version}}"]
    done = subprocess.run(
        command, check=False, env=laptop, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("26."), done.stderr


@pytest.mark.slow
def test_inner_containers_reach_the_mirror_and_the_box_survives_everything(
    workbox: BoxUnderTest, laptop: dict[str, str]
) -> None:
    import_base(workbox)
    workbox.exec("docker", "run", "--rm", "base", "apt-get", "update", "--error-on=any")
    workbox.exec(
        *("docker", "run", "--detach", "--restart=always", "--stop-signal=KILL"),
        *("--name=lasting", "base", "sleep", "infinity"),
    )

    def is_up() -> bool:
        return workbox.exec("docker", "inspect", "-f", "{{.State.Running}}", "lasting") == "true\n"

    for disturb in (workbox.restart_engine, workbox.kill_engine, workbox.restart):
        disturb()
        assert is_up(), disturb.__name__
        assert on("workbox", "whoami", env=laptop) == "ada"
    workbox.exec("docker", "rm", "--force", "lasting")
