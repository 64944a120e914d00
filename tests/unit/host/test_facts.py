"""Answers of the facts script from systems of several kinds."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from typing import Any

import pytest

from jupbox.host import facts as room
from jupbox.host.facts import HostFacts, parse

MARK = "=====jupbox:"


def answer(**sections: str) -> str:
    """What the script prints on a Debian server, but for the given sections."""
    usual = {
        "user": "alice",
        "uid": "1000",
        "gid": "1000",
        "groups": "1000 27 998",
        "group-names": "alice sudo docker",
        "home": "/home/alice",
        "host": "workbox",
        "fqdn": "workbox.example.org",
        "machine": "x86_64",
        "system": "Linux",
        "os": 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_CODENAME=trixie',
        "memory": "16384000",
        "cpus": "8",
        "docker": "/usr/sbin/dockerd",
        "socket": "/var/run/docker.sock",
        "usable": "yes",
        "addresses": "",
        "bridges": "",
        "listening": "00000000:0016\n0100007F:22B8\n00000000000000000000000000000000:0016",
        "apt": "deb http://mirror.example/debian trixie main",
        "end": "",
    }
    changed = usual | {key.replace("_", "-"): value for key, value in sections.items()}
    return "".join(f"\n{MARK}{name}\n{body}\n" for name, body in changed.items())


def test_the_script_asks_for_every_section_that_the_parser_reads() -> None:
    asked = set(re.findall(r"\bmark ([a-z-]+)", room._SCRIPT))
    assert asked == set(re.findall(rf"{MARK}(\S+)", answer()))


# --- systems ----------------------------------------------------------------------------------


def test_a_debian_server() -> None:
    assert parse(answer()) == HostFacts(
        user="alice",
        uid=1000,
        gid=1000,
        groups={1000: "alice", 27: "sudo", 998: "docker"},
        home="/home/alice",
        host="workbox",
        fqdn="workbox.example.org",
        architecture="amd64",
        system="Linux",
        os_id="debian",
        os_codename="trixie",
        memory=16_384_000 * 1024,
        cpus=8,
        has_engine=True,
        socket="/var/run/docker.sock",
        socket_usable=True,
        addresses=(),
        listening=frozenset({22, 8888}),
        apt_sources="deb http://mirror.example/debian trixie main",
    )


def test_a_fedora_server_without_an_engine() -> None:
    found = parse(
        answer(
            os="NAME='Fedora Linux'\nID=fedora\nVERSION_CODENAME=\"\"\n",
            machine="aarch64",
            docker="",
            socket="",
            usable="",
            apt="",
        )
    )
    assert (found.os_id, found.os_codename, found.architecture) == ("fedora", "", "arm64")
    assert (found.has_engine, found.socket, found.socket_usable) == (False, None, False)
    assert found.apt_sources == ""


def test_an_alpine_box_whose_busybox_knows_no_json() -> None:
    found = parse(
        answer(os="ID=alpine\nVERSION_ID=3.22.0", fqdn="", addresses="", docker="/usr/bin/dockerd")
    )
    assert (found.os_id, found.fqdn, found.addresses) == ("alpine", None, ())


def test_a_mac() -> None:
    found = parse(
        answer(
            system="Darwin",
            machine="arm64",
            groups="20 12 61",
            group_names="staff everyone localaccounts",
            home="/Users/alice",
            os="",
            memory="",
            cpus="",
            docker="",
            socket="/var/run/docker.sock",
            addresses="",
            listening="",
            apt="",
        )
    )
    assert (found.system, found.architecture) == ("Darwin", "arm64")
    assert (found.os_id, found.memory, found.listening) == ("", 0, frozenset())
    assert not found.has_engine
    assert found.socket_usable


def test_an_architecture_that_is_not_known_keeps_its_own_name() -> None:
    assert parse(answer(machine="riscv64")).architecture == "riscv64"


def test_a_greeting_before_the_answer_is_no_part_of_it() -> None:
    assert parse("Welcome to workbox!\n" + answer()) == parse(answer())


def test_a_socket_of_somebody_else() -> None:
    found = parse(answer(usable="no"))
    assert found.socket
    assert not found.socket_usable


# --- groups and owners ------------------------------------------------------------------------


def test_group_names_with_spaces_are_given_to_no_wrong_number() -> None:
    found = parse(answer(groups="1000 5000 998", group_names="alice domain users docker"))
    assert found.groups == {1000: "group1000", 5000: "group5000", 998: "group998"}


@pytest.mark.parametrize(
    ("user", "owner"),
    [
        ("alice", "alice"),
        ("Alice.Smith", "alice-smith"),
        ("LAB\\alice", "lab-alice"),
        ("alice@lab.example", "alice-lab-example"),
        ("alice_", "alice"),
        ("jürgen", "j-rgen"),
        ("日本", "uid1000"),
    ],
)
def test_an_owner_is_a_name_that_docker_accepts(user: str, owner: str) -> None:
    assert parse(answer(user=user)).owner == owner


# --- addresses --------------------------------------------------------------------------------


def link(name: str, *entries: dict[str, Any]) -> dict[str, Any]:
    return {"ifname": name, "addr_info": list(entries)}


def v4(address: str, **more: Any) -> dict[str, Any]:
    return {"family": "inet", "local": address, "scope": "global", **more}


def v6(address: str, **more: Any) -> dict[str, Any]:
    return {"family": "inet6", "local": address, "scope": "global", **more}


def addresses(*links: dict[str, Any], bridges: str = "") -> tuple[str, ...]:
    return parse(answer(addresses=json.dumps(links), bridges=bridges)).addresses


def test_lasting_addresses_of_both_families_count() -> None:
    found = addresses(
        link("eth0", v4("192.0.2.7"), v6("2001:db8::7")), link("eth1", v4("10.0.0.2"))
    )
    assert found == ("192.0.2.7", "2001:db8::7", "10.0.0.2")


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(v6("2001:db8::1:2", temporary=True), id="temporary"),
        pytest.param(v6("2001:db8::1:3", deprecated=True), id="deprecated"),
        pytest.param(v6("fe80::1", scope="link"), id="link-local, IPv6"),
        pytest.param(v4("169.254.1.2", scope="link"), id="link-local, IPv4"),
        pytest.param(v4("127.0.0.1", scope="host"), id="loopback, IPv4"),
        pytest.param(v6("::1", scope="host"), id="loopback, IPv6"),
        pytest.param({}, id="an empty entry, which some versions of ip print"),
    ],
)
def test_what_does_not_last_does_not_count(entry: dict[str, Any]) -> None:
    assert addresses(link("eth0", entry, v4("192.0.2.7"))) == ("192.0.2.7",)


@pytest.mark.parametrize("name", ["docker0", "br-0123456789ab", "veth1a2b3c"])
def test_docker_s_own_interfaces_do_not_count(name: str) -> None:
    found = addresses(
        link(name, v4("172.17.0.1")),
        link("eth0", v4("192.0.2.7")),
        bridges="docker0\nbr-0123456789ab",
    )
    assert found == ("192.0.2.7",)


def test_an_interface_without_an_address_is_fine() -> None:
    assert addresses({"ifname": "eth0"}, link("eth1")) == ()


# --- asking -----------------------------------------------------------------------------------


@dataclass
class Asked:
    """A machine that answers as it is told, and remembers what it was asked."""

    says: str
    calls: list[tuple[list[str], bytes]] = field(default_factory=list)

    def run(self, argv: list[str], *, input: bytes, timeout: float) -> Any:
        self.calls.append((argv, input))

        class _Done:
            text = self.says

        return _Done()


def test_one_command_asks_for_everything() -> None:
    machine = Asked(says=answer())
    assert room.look(machine) == parse(answer())  # type: ignore[arg-type]
    assert [argv for argv, _ in machine.calls] == [["sh", "-s"]]


@pytest.mark.real_process
def test_the_script_runs_here_and_its_answer_is_understood() -> None:
    done = subprocess.run(
        ["sh", "-s"], input=room._SCRIPT, capture_output=True, text=True, check=True, timeout=30
    )
    found = parse(done.stdout)
    assert found.user
    assert found.system == "Linux"
    assert found.memory > 0
    assert found.cpus > 0
    assert found.groups
