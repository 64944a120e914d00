"""Folders, groups, shared memory, variables and ports of the host, attached to one container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jupbox.errors import FilesError
from tests.integration.boxes.boxes import BoxUnderTest
from tests.integration.errorbox import refused, unchanged
from tests.integration.jupbox_command import MainJob
from tests.integration.team import Team, team

pytestmark = [pytest.mark.box, pytest.mark.slow]

PORT = 18511
# `/srv/beamline` is root's, and the group's to read and write
PREPARE = """
groupadd --gid 4711 beamline
install -d -m 0770 -g beamline /srv/beamline
echo 42 > /srv/beamline/run-1 && chmod 0640 /srv/beamline/run-1 && chgrp beamline /srv/beamline/*
install -d -o ada -g ada /home/ada/results
"""
RESTORE = "rm -rf /srv/beamline /home/ada/results; groupdel beamline"
KEYS = f"""
files = "volume"
shm_size = "100m"
ports = [{PORT}]
env = {{ GREETING = "a $HOME" }}
group_add = ["beamline"]
mounts = ["/srv/beamline:/data/beamline", "/srv/beamline:/data/shared:rw", "~/results:~/results"]
"""


@pytest.fixture
def beamline(ada: MainJob, tmp_path: Path) -> Iterator[Team]:
    """A team's box on a host with a group, its folder, and one of ada's own."""
    ada.box.exec("sh", "-ec", PREPARE)
    try:
        with team(ada, ada.laptop, tmp_path / "team", "beam", KEYS) as made:
            yield made
    finally:
        ada.box.exec("sh", "-c", RESTORE)


def listening(box: BoxUnderTest, port: int) -> list[str]:
    """The addresses of the box that lead to a port."""
    lines = box.exec("ss", "-Hltn", f"sport = :{port}").splitlines()
    return [line.split()[3] for line in lines]


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("/srv/beamline:/data/beamline", "/srv/elsewhere:/data/beamline", "/srv/elsewhere"),
        ('["beamline"]', '["beamlin"]', "beamlin"),
    ],
)
def test_what_the_host_has_not_is_refused_before_anything_is_built(
    beamline: Team, right: str, wrong: str, named: str
) -> None:
    beamline.write(KEYS.replace(right, wrong))
    with unchanged(beamline.job.box):
        said = refused(beamline.laptop.jupbox("up", "beam"), FilesError)
    assert named in said.wrong
    assert "jupbox.toml" in said.remedy


def test_a_kernel_has_what_the_keys_attach(beamline: Team) -> None:
    beamline.jupbox("up")
    stack, box = beamline.stack, beamline.job.box
    kernel = stack.start_kernel()
    seen = stack.run_in_kernel(
        kernel,
        "import os\n"
        "def write(path):\n"
        "    try: open(path, 'w').write('7')\n"
        "    except OSError as error: return error.strerror\n"
        "shm = os.statvfs('/dev/shm')\n"
        "print(shm.f_blocks * shm.f_frsize)\n"
        "print(os.environ['GREETING'])\n"
        "print(4711 in os.getgroups())\n"
        "print(open('/data/beamline/run-1').read().strip())\n"
        "print(write('/data/beamline/run-2'))\n"
        "print(write('/data/shared/run-3'))\n"
        "print(write('/home/ada/results/mean'))\n",
    ).splitlines()
    assert seen == [
        str(100 << 20), "a $HOME", "True", "42", "Read-only file system", "None", "None",
    ]  # fmt: skip
    assert box.exec("cat", "/srv/beamline/run-3", "/home/ada/results/mean") == "77"
    assert box.exec("stat", "-c", "%U", "/home/ada/results/mean").strip() == "ada"
    # a dashboard: up to the host's loopback, and no further
    assert listening(box, PORT) == [f"127.0.0.1:{PORT}"]
    stack.run_in_kernel(
        kernel,
        "import subprocess, sys\n"
        f"serve = [sys.executable, '-m', 'http.server', '{PORT}', '-d', '/home/ada/results']\n"
        "subprocess.Popen(serve, stderr=subprocess.DEVNULL)\n"
        "import time, socket\n"
        f"while socket.socket().connect_ex(('127.0.0.1', {PORT})): time.sleep(0.05)\n",
    )
    get = f"exec 3<>/dev/tcp/127.0.0.1/{PORT}; printf 'GET /mean HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    assert box.exec("bash", "-c", get).endswith("\n\n7")
