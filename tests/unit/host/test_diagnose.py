"""Answers of the script that looks at a box, and ways to addresses."""

from __future__ import annotations

import re
from typing import Any

import pytest

from jupbox.doctor import Folder, Host, Reach, Space
from jupbox.errors import HostError
from jupbox.host import diagnose as room
from jupbox.host import facts
from jupbox.host.diagnose import Ways, parse, ways_of
from jupbox.host.network import Network
from tests.unit.host.test_facts import answer

FACTS = facts.parse(answer())
WAYS = Ways(mirror="http://mirror.example/debian", index="https://index.example/simple", proxies={})
ANSWER = """
Welcome to workbox!
jupbox.clock=1000
jupbox.dns=yes
jupbox.os_name=Debian GNU/Linux 13 (trixie)
jupbox.MemAvailable=8388608
jupbox.SwapTotal=2048
jupbox.SwapFree=1024
jupbox.space=1000 500 / 100 50 /var/lib/docker
jupbox.space=1000 500 / 100 50 /home/ada/my notebooks
jupbox.space=4000 3000 /home - - /home/ada
jupbox.path=/home/ada/my notebooks
jupbox.kind=folder
jupbox.owner=1500
jupbox.filesystem=nfs4
jupbox.writable=yes
jupbox.open_path=no
jupbox.firewall=ufw
jupbox.firewall=nftables
jupbox.index=Could not resolve host: index.example
jupbox.mirror=unlooked
jupbox.end=yes
"""


def read(text: str = ANSWER, **changes: Any) -> Host:
    given: dict[str, Any] = {
        "facts": FACTS, "state": None, "word": " workbox", "ways": WAYS,
        "architectures": ("amd64",), "clock": (1000.5, 1002.0),
    }  # fmt: skip
    return parse(text, **(given | changes))


def test_an_answer_is_read_past_a_banner() -> None:
    host = read()
    assert (host.available, host.swap) == (8 * 2**30, (2 * 2**20, 2**20))
    assert host.firewalls == ("ufw", "nftables")
    assert not host.gpu
    assert host.folder == Folder(
        path="/home/ada/my notebooks", kind="folder", owner=1500, filesystem="nfs4",
        writable=True, open_path=False,
    )  # fmt: skip


def test_a_disk_with_two_folders_is_told_once() -> None:
    engine, files = read().disks
    assert engine == Space(
        path="/var/lib/docker", mount="/", total=1_024_000, free=512_000, inodes=100,
        free_inodes=50,
    )  # fmt: skip
    assert (files.path, files.inodes, files.free_inodes) == ("/home/ada", 0, 0)


def test_what_answers_and_what_was_not_looked_for() -> None:
    host = read()
    assert host.dns == Reach(address="index.example")
    assert host.index == Reach(
        address="index.example/simple", problem="Could not resolve host: index.example"
    )
    assert host.mirror is not None and not host.mirror.looked


def test_half_an_answer_is_none() -> None:
    with pytest.raises(HostError, match="cannot be read"):
        read(ANSWER.replace("jupbox.end=yes", ""))


@pytest.mark.parametrize(
    ("clock", "skew"),
    [
        ((1000.9, 1001.0), 0),
        ((990.0, 1010.0), 0),
        ((900.0, 940.0), 60),
        ((1100.0, 1101.0), -100),
        (None, None),
    ],
)
def test_a_clock_is_off_by_what_the_asking_does_not_explain(
    clock: tuple[float, float] | None, skew: int | None
) -> None:
    assert read(clock=clock).skew == skew


def test_a_script_that_is_asked_tells_all_that_is_read() -> None:
    told = set(re.findall(r"\btell ([a-z_]+)", room._LOOK))
    assert set(re.findall(r"^jupbox\.([a-z_]+)=", ANSWER, re.MULTILINE)) - told <= {
        "dns", "index", "mirror",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("proxies", "address", "expected"),
    [
        ({}, "https://index.example/simple", ("index.example", 443)),
        ({}, "http://mirror.example:8080/debian", ("mirror.example", 8080)),
        ({"https_proxy": "http://p.example:3128"}, "https://i.example/", ("p.example", 3128)),
        ({"https_proxy": "http://proxy.example:3128"}, "http://i.example/", ("i.example", 80)),
        ({"https_proxy": "proxy.example:3128"}, "https://i.example/", ("proxy.example", 3128)),
        (
            {"https_proxy": "http://proxy.example:3128", "no_proxy": "localhost,.example"},
            "https://i.example/",
            ("i.example", 443),
        ),
    ],
)  # fmt: skip
def test_the_way_to_an_address_leads_through_the_proxy(
    proxies: dict[str, str], address: str, expected: tuple[str, int]
) -> None:
    assert Ways(proxies=proxies).via(address) == expected


def test_no_credential_goes_along() -> None:
    network = Network(
        ca_bundle=None,
        variables={"https_proxy": "http://ada:pw-1@proxy.example:3128", "UV_INDEX": "x"},
        uv_configuration=None,
        netrc=None,
        sources="deb [signed-by=/k] https://ada:pw-2@mirror.example/debian trixie main\n",
    )
    ways = ways_of(network, index="https://ada:pw-3@index.example/simple")
    assert ways == Ways(
        mirror="https://mirror.example/debian",
        index="https://index.example/simple",
        proxies={"https_proxy": "http://proxy.example:3128"},
    )
