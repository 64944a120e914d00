"""What a box's host is like, asked in one command."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from jupbox.host.machine import Machine

# Sections are told apart by a line that no program prints.
_MARK: Final = "=====jupbox:"

_SCRIPT: Final = """
mark() { printf '\\n%s%s\\n' '=====jupbox:' "$1"; }
mark user; id -un; mark uid; id -u; mark gid; id -g
mark groups; id -G; mark group-names; id -Gn
mark home; printf '%s\\n' "$HOME"
mark host; hostname 2>/dev/null || uname -n
mark fqdn; hostname -f 2>/dev/null
mark machine; uname -m
mark system; uname -s
mark os; cat /etc/os-release 2>/dev/null
mark memory; sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo 2>/dev/null
mark cpus; getconf _NPROCESSORS_ONLN 2>/dev/null
mark docker; PATH=$PATH:/usr/sbin:/sbin command -v dockerd 2>/dev/null
rootless=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/docker.sock
sockets() {
  for s in "${DOCKER_HOST#unix://}" /var/run/docker.sock "$rootless"
  do [ -S "$s" ] && [ "$1" "$s" ] && printf '%s\\n' "$s" && return; done
}
mark socket; sockets -w || sockets -S
mark usable; [ -n "$(sockets -w)" ] && echo yes || echo no
mark addresses; ip -j address 2>/dev/null
mark bridges; for b in /sys/class/net/*/bridge; do [ -d "$b" ] && basename "${b%/bridge}"; done
mark listening; cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" {print $2}'
mark apt
for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources
do [ -f "$f" ] && { cat "$f"; printf '\\n\\n'; }; done
mark end
"""

_ARCHITECTURES: Final = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """A host as the user that we are there sees it.

    Attributes:
        groups: supplementary groups, name by gid.
        memory: bytes, 0 when unknown.
        cpus: processors, 0 when unknown.
        socket: the engine's socket, None when there is none.
        socket_usable: whether we may write to it.
        addresses: lasting addresses: global, not temporary, on no bridge.
        listening: TCP ports that something listens on, with the addresses.
        apt_sources: the host's apt configuration as text.
    """

    user: str
    uid: int
    gid: int
    groups: Mapping[int, str]
    home: str
    host: str
    fqdn: str | None
    architecture: str
    system: str
    os_id: str
    os_codename: str
    memory: int
    cpus: int
    has_engine: bool
    socket: str | None
    socket_usable: bool
    addresses: tuple[str, ...]
    listening: frozenset[int]
    apt_sources: str

    @property
    def owner(self) -> str:
        """Whose stacks they are: the remote user, as a name that Docker accepts."""
        kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in self.user.lower())
        return kept.strip("-") or f"uid{self.uid}"


def look(machine: Machine) -> HostFacts:
    """Ask a host for its facts, with one command.

    Raises:
        HostError: the host is out of reach.
    """
    done = machine.run(["sh", "-s"], input=_SCRIPT.encode(), timeout=60)
    return parse(done.text)


def parse(text: str) -> HostFacts:
    """Read the answer of the facts script."""
    sections: dict[str, str] = {}
    for part in text.split(_MARK)[1:]:
        name, _, body = part.partition("\n")
        sections[name.strip()] = body.strip()
    release = {
        key: value.strip("\"'")
        for key, _, value in (line.partition("=") for line in sections["os"].splitlines())
    }
    bridges = set(sections["bridges"].split())
    gids = [int(gid) for gid in sections["groups"].split()]
    names = sections["group-names"].split()
    if len(names) != len(gids):
        # a directory service's names may hold spaces, and then no name belongs to its number
        names = [f"group{gid}" for gid in gids]
    return HostFacts(
        user=sections["user"],
        uid=int(sections["uid"]),
        gid=int(sections["gid"]),
        groups=dict(zip(gids, names, strict=True)),
        home=sections["home"],
        host=sections["host"],
        fqdn=sections["fqdn"] or None,
        architecture=_ARCHITECTURES.get(sections["machine"], sections["machine"]),
        system=sections["system"],
        os_id=release.get("ID", ""),
        os_codename=release.get("VERSION_CODENAME", ""),
        memory=int(sections["memory"] or 0) * 1024,
        cpus=int(sections["cpus"] or 0),
        has_engine=bool(sections["docker"]),
        socket=sections["socket"] or None,
        socket_usable=sections["usable"] == "yes",
        addresses=tuple(_lasting(sections["addresses"], bridges)),
        listening=frozenset(int(x.rpartition(":")[2], 16) for x in sections["listening"].split()),
        apt_sources=sections["apt"],
    )


def _lasting(text: str, bridges: set[str]) -> Iterable[str]:
    """Addresses that a certificate may name: they are still the host's next month."""
    for link in json.loads(text or "[]"):
        virtual = link.get("ifname") in bridges or link.get("ifname", "").startswith("veth")
        for entry in link.get("addr_info", []):
            if virtual or entry.get("temporary") or entry.get("deprecated") or "local" not in entry:
                continue
            address = ipaddress.ip_address(entry["local"])
            if not address.is_link_local and not address.is_loopback:
                yield entry["local"]
