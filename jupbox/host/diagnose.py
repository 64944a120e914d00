"""Looks at this machine and at a box for `doctor`; changes nothing but a file that goes again.

The box is asked in one command over the connection that stands. Every question has a deadline:
what hangs is itself a finding.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import platformdirs

from jupbox.doctor import Boot, Connection, EngineSeen, Folder, Host, Laptop, Program, Reach, Space
from jupbox.errors import ClientError, HostError
from jupbox.host.engine import MINIMUM, Engine
from jupbox.host.facts import HostFacts
from jupbox.host.inspected import Container
from jupbox.host.machine import LocalMachine, Machine, run_here
from jupbox.host.network import Network
from jupbox.host.resolve import find_uv
from jupbox.host.setup import EngineState, supports
from jupbox.host.ssh import SshMachine
from jupbox.secret import without_credentials

_PROBE_SECONDS: Final = 4
_COMMAND_SECONDS: Final = 20
# one that can have no answer is one that says so; another failure is one of the way to it
_UNSATISFIABLE: Final = 1
_SOME_PACKAGE: Final = "uv"
_DOCKER_REMEDY: Final = (
    "Install docker-cli, docker-compose and docker-buildx here (`jupbox setup local` does it on "
    "Debian and Ubuntu)."
)
_OTHER_WAYS: Final = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "BUILDX_BUILDER")
_VERSION: Final = re.compile(r"\d+\.\d+[\w.+~-]*")


# -- this machine


def look_here(
    *, environ: Mapping[str, str], network: Network | None, root: Path | None, with_ssh: bool
) -> Laptop:
    """Look at the machine that jupbox runs on.

    Args:
        environ: the environment variables.
        network: the way to packages, None where its configuration is broken.
        root: the project's folder, whose uv configuration holds.
        with_ssh: whether an ssh client is needed.
    """
    bundle = network.ca_bundle if network else None
    with ThreadPoolExecutor() as pool:
        index = pool.submit(_index_here, environ=environ, bundle=bundle, cwd=root)
        asked = [pool.submit(_docker_program, *each) for each in _DOCKER_PROGRAMS]
        programs = [each.result() for each in asked]
        if with_ssh:
            programs.insert(0, _ssh_program())
        programs.append(_uv_program())
    return Laptop(
        programs=tuple(programs),
        bundle=str(bundle) if bundle else None,
        cache=_space_here(platformdirs.user_cache_path("jupbox")),
        ignored=tuple(name for name in _OTHER_WAYS if environ.get(name)),
        index=index.result(),
    )


_DOCKER_PROGRAMS: Final = (
    ("docker", "Docker's command line", ("--version",)),
    ("compose", "`docker compose`", ("compose", "version", "--short")),
    ("buildx", "`docker buildx`", ("buildx", "version")),
)


def _docker_program(name: str, title: str, arguments: Sequence[str]) -> Program:
    return Program(
        name=name,
        title=title,
        version=_version_of("docker", *arguments),
        minimum=MINIMUM.get(name, ()),
        remedy=_DOCKER_REMEDY,
    )


def _ssh_program() -> Program:
    # `ssh -V` writes to its standard error
    version = _version_of("ssh", "-V")
    return Program(
        name="ssh-client", title="OpenSSH", version=version, remedy="Install an OpenSSH client."
    )


def _uv_program() -> Program:
    remedy = "Install jupbox again, or uv beside it."
    try:
        version = _version_of(str(find_uv()), "--version")
    except ClientError as error:
        version, remedy = None, error.remedy
    return Program(name="uv", title="uv", version=version, remedy=remedy)


def _version_of(*argv: str) -> str | None:
    """The first version in what a program says of itself; None where it fails."""
    try:
        done = run_here(argv, input=b"", timeout=_COMMAND_SECONDS, machine=LocalMachine.name)
    except (HostError, OSError):
        return None
    match = _VERSION.search(done.text + done.error)
    return match[0] if done.returncode == 0 and match else None


def _space_here(folder: Path) -> Space | None:
    there = next((f for f in (folder, *folder.parents) if f.is_dir()), None)
    if there is None:
        return None
    try:
        seen = os.statvfs(there)
    except OSError:
        return None
    return Space(
        path=_from_home(there),
        mount=str(there),
        total=seen.f_blocks * seen.f_frsize,
        free=seen.f_bavail * seen.f_frsize,
        inodes=seen.f_files,
        free_inodes=seen.f_favail,
    )


def _from_home(folder: Path) -> str:
    """A path as a person writes it."""
    home = Path.home()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)


def _index_here(
    *, environ: Mapping[str, str], bundle: Path | None, cwd: Path | None
) -> Reach | None:
    """Whether uv, with all of its own configuration, gets an answer from the index."""
    address = index_address(environ=environ, cwd=cwd)
    given = {**environ, "UV_HTTP_TIMEOUT": str(_PROBE_SECONDS), "UV_HTTP_RETRIES": "0"}
    if bundle and not environ.get("SSL_CERT_FILE"):
        given["SSL_CERT_FILE"] = str(bundle)
    done = _uv("--no-deps", "--no-cache", text=_SOME_PACKAGE, environ=given, cwd=cwd)
    if done is None:
        problem: str | None = f"no answer in {_COMMAND_SECONDS} s"
    elif done.returncode in {0, _UNSATISFIABLE}:
        problem = None
    else:
        said = without_credentials(done.stderr.decode(errors="replace")).strip().splitlines()
        problem = _cause(said)
    return Reach(address=_plain(address), problem=problem)


def _cause(said: Sequence[str]) -> str:
    last = re.sub(r"^\W*(cause|error|Caused by): *", "", said[-1]) if said else "no reason given"
    return last.strip().rstrip(".")[:160]


def index_address(*, environ: Mapping[str, str], cwd: Path | None) -> str:
    """The default Python index by uv's configuration, credentials included; empty if unknown."""
    done = _uv("--offline", "--emit-index-url", text="", environ=environ, cwd=cwd)
    said = done.stdout.decode(errors="replace") if done else ""
    match = re.search(r"^--index-url (\S+)$", said, re.MULTILINE)
    return match[1] if match else ""


def _uv(
    *options: str, text: str, environ: Mapping[str, str], cwd: Path | None
) -> subprocess.CompletedProcess[bytes] | None:
    try:
        return subprocess.run(
            [str(find_uv()), "pip", "compile", "-", "--quiet", "--python", sys.executable,
             "--no-header", *options],
            input=text.encode(), env=dict(environ), cwd=cwd, capture_output=True, check=False,
            timeout=_COMMAND_SECONDS,
        )  # fmt: skip
    except (OSError, ClientError, subprocess.TimeoutExpired):
        return None


def _plain(address: str) -> str:
    """An address without credentials, query and the scheme's noise."""
    parts = urlsplit(without_credentials(address))
    return f"{parts.netloc}{parts.path}".rstrip("/")


# -- the way to the box


def reach(machine: LocalMachine | SshMachine) -> Connection:
    """Connect, and say how long it took.

    Raises:
        HostError: not reachable; its subclasses say why ssh was refused.
        ClientError: there is no ssh here.
    """
    if not isinstance(machine, SshMachine):
        return Connection(milliseconds=None)
    assert machine.settings is not None  # asks ssh for its configuration first
    kept = machine.is_connected()
    begun = time.monotonic()
    machine.run(["true"], timeout=_COMMAND_SECONDS)
    return Connection(milliseconds=round((time.monotonic() - begun) * 1000), kept=kept)


# -- the box


@dataclass(frozen=True, kw_only=True)
class Ways:
    """Where a box's builds get packages from; addresses without credentials."""

    mirror: str = ""
    index: str = ""
    proxies: Mapping[str, str]

    def via(self, address: str) -> tuple[str, int]:
        """The host and port that a client connects to: the proxy's, else the address's own."""
        parts = urlsplit(address)
        proxy = self.proxies.get(f"{parts.scheme}_proxy", "")
        if proxy and not _is_exempt(parts.hostname or "", self.proxies.get("no_proxy", "")):
            parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
        default = 443 if parts.scheme == "https" else 80
        return parts.hostname or "", parts.port or default


def _is_exempt(host: str, exempt: str) -> bool:
    words = [word.strip().lstrip("*.") for word in exempt.split(",")]
    return any(word and (host == word or host.endswith(f".{word}")) for word in words)


def ways_of(network: Network | None, *, index: str) -> Ways:
    """The addresses that the network's configuration names."""
    variables = network.variables if network else {}
    mirror = re.search(r"^deb .*?(https?://\S+)", network.sources if network else "", re.MULTILINE)
    proxies = {name: v for name, v in variables.items() if name.endswith("_proxy")}
    return Ways(
        mirror=without_credentials(mirror[1]) if mirror else "",
        index=without_credentials(index),
        proxies={name: without_credentials(value) for name, value in proxies.items()},
    )


_LOOK: Final = r"""
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin
tell() { printf 'jupbox.%s=%s\n' "$1" "$2"; }
files=$1 engine=$2 seconds=$3 mirror=$4 mirror_host=$5 mirror_port=$6
index=$7 index_host=$8 index_port=$9
tell clock "$(date +%s)"
soon() { if command -v timeout >/dev/null; then timeout "$seconds" "$@"; else "$@"; fi; }

resolve() { # name of the answer, host
    if ! command -v getent >/dev/null; then tell "$1" unlooked
    elif soon getent ahosts "$2" >/dev/null 2>&1; then tell "$1" yes
    else tell "$1" "no address was found"
    fi
}
reach() { # name of the answer, address, the host and port that lead there
    if command -v curl >/dev/null; then
        # -k: whose certificate it is matters to a build, which is given the laptop's authorities
        said=$(curl -k -sS -I -o /dev/null -m "$seconds" -w '%{http_code}' "$2" 2>&1)
        case $said in
            *[1-5][0-9][0-9]) tell "$1" yes ;;
            *) tell "$1" "$(printf '%s' "$said" | sed -n '1s/^curl: ([0-9]*) //p')" ;;
        esac
    elif command -v perl >/dev/null; then
        if soon perl -MIO::Socket::IP -e '
            IO::Socket::IP->new(PeerHost => $ARGV[0], PeerPort => $ARGV[1], Timeout => $ARGV[2])
                or exit 1' "$3" "$4" "$seconds" >/dev/null 2>&1
        then tell "$1" yes
        else tell "$1" "no connection to $3 port $4"
        fi
    else tell "$1" unlooked
    fi
}
[ -z "$mirror" ] || reach mirror "$mirror" "$mirror_host" "$mirror_port" &
[ -z "$index" ] || reach index "$index" "$index_host" "$index_port" &
name=${index_host:-$mirror_host}
[ -z "$name" ] || resolve dns "$name" &

tell os_name "$([ -r /etc/os-release ] && . /etc/os-release && printf '%s' "$PRETTY_NAME")"
sed -n 's/^\(MemAvailable\|SwapTotal\|SwapFree\): *\([0-9]*\) kB/jupbox.\1=\2/p' \
    /proc/meminfo 2>/dev/null

above() { # the nearest folder that is there
    there=$1
    while [ ! -e "$there" ]; do there=$(dirname -- "$there"); done
    printf '%s' "$there"
}
space() {
    blocks=$(soon df -Pk "$1" 2>/dev/null | awk 'NR == 2 {print $2, $4, $6}')
    inodes=$(soon df -Pi "$1" 2>/dev/null | awk 'NR == 2 {print $2, $4}')
    [ -z "$blocks" ] || tell space "$blocks ${inodes:-0 0} $1"
}
[ -z "$engine" ] || space "$(above "$engine")"
if [ "$files" != volume ]; then
    case $files in "~"*) files=$HOME${files#"~"} ;; esac
    near=$(above "$files")
    space "$near"
    kind=none
    [ -e "$files" ] && kind=other
    [ -d "$files" ] && kind=folder
    tell path "$files"
    tell kind "$kind"
    [ "$kind" = none ] || tell owner "$(stat -L -c %u "$files" 2>/dev/null)"
    tell filesystem "$(df -PT "$near" 2>/dev/null | awk 'NR == 2 {print $2}')"
    case $kind in
        folder)
            scratch=$(mktemp "$files/.jupbox-doctor-XXXXXX" 2>/dev/null) && rm -f -- "$scratch" &&
                tell writable yes
            [ -z "$(find -L "$files" -maxdepth 0 -perm /022)" ] || tell shared yes ;;
        none) [ -d "$near" ] && [ -w "$near" ] && [ -x "$near" ] && tell writable yes ;;
    esac
    step=$near open=yes
    while [ "$step" != / ] && [ "$step" != . ]; do
        step=$(dirname -- "$step")
        [ -n "$(find "$step" -maxdepth 0 -perm -001 2>/dev/null)" ] || open=no
    done
    tell open_path "$open"
fi

if grep -qs '^ENABLED=yes' /etc/ufw/ufw.conf; then tell firewall ufw; fi
if grep -qsx firewalld /proc/[0-9]*/comm; then tell firewall firewalld; fi
if [ -d /run/systemd/system ] && systemctl --quiet is-active nftables.service; then
    tell firewall nftables
fi
[ -e /dev/nvidia0 ] && tell gpu yes
for device in /sys/bus/pci/devices/*; do
    case $(cat "$device/vendor" "$device/class" 2>/dev/null | tr '\n' ' ') in
        "0x10de 0x03"*) tell gpu yes ;;
    esac
done
wait
tell end yes
"""


def look(
    machine: Machine, *, facts: HostFacts, state: EngineState | None, word: str, files: str,
    engine_root: str, ways: Ways, architectures: tuple[str, ...],
) -> Host:  # fmt: skip
    """Look at a box's host, in one command.

    Args:
        machine: where.
        facts: what is known of it already.
        state: what `setup` sees of it, None where that failed.
        word: how a command line names the box, with a space before it.
        files: the box's `files`; a leading ~ is the home there.
        engine_root: the folder in which the engine keeps everything, empty if unknown.
        ways: addresses to try from there.
        architectures: for which jupbox makes images.

    Raises:
        HostError: it did not answer in time, or not in a way that can be read.
    """
    text, before, after = _ask(machine, files=files, engine_root=engine_root, ways=ways)
    return parse(
        text,
        facts=facts,
        state=state,
        word=word,
        ways=ways,
        architectures=architectures,
        clock=None if machine.is_local else (before, after),
    )


def _ask(machine: Machine, *, files: str, engine_root: str, ways: Ways) -> tuple[str, float, float]:
    words = [files, engine_root, str(_PROBE_SECONDS)]
    for address in (ways.mirror, ways.index):
        host, port = ways.via(address) if address else ("", 0)
        words += [address, host, str(port)]
    exports = "".join(
        f"export {n}={shlex.quote(v)} {n.upper()}={shlex.quote(v)}\n"
        for n, v in ways.proxies.items()
    )
    # in braces, so that sh has read all of it before a program can eat the rest of the input
    script = f"{{\n{exports}{_LOOK}\n}} </dev/null\n"
    before = time.time()
    done = machine.run(
        ["sh", "-s", "--", *words], input=script.encode(), timeout=_COMMAND_SECONDS, check=False
    )
    return done.text, before, time.time()


def parse(
    text: str, *, facts: HostFacts, state: EngineState | None, word: str, ways: Ways,
    architectures: tuple[str, ...], clock: tuple[float, float] | None,
) -> Host:  # fmt: skip
    """Read the answer of the script; other lines may stand between its own.

    Args:
        text: what it printed.
        facts: see `look`; likewise `state`, `word`, `ways` and `architectures`.
        clock: this machine's time before and after, seconds since 1970; None for itself.

    Raises:
        HostError: it did not come to its end.
    """
    told = re.findall(r"^jupbox\.(\w+)=(.*)$", text, re.MULTILINE)
    values = dict(told)
    if "end" not in values:
        raise HostError(
            "The host's answer cannot be read: it has no POSIX shell, or ended half way.",
            remedy="Look whether `ssh HOST sh -c true` prints nothing and ends well.",
        )
    name = ways.via(ways.index or ways.mirror)[0]
    return Host(
        word=word,
        user=facts.user,
        uid=facts.uid,
        groups=tuple(facts.groups.values()),
        system=facts.system,
        os_name=values.get("os_name", ""),
        architecture=facts.architecture,
        architectures=architectures,
        setup_knows=state is not None and supports(state),
        skew=_skew(values.get("clock", ""), clock),
        memory=facts.memory,
        available=_kilobytes(values.get("MemAvailable")),
        swap=(_kilobytes(values.get("SwapTotal")), _kilobytes(values.get("SwapFree"))),
        disks=_disks([value for key, value in told if key == "space"]),
        firewalls=tuple(value for key, value in told if key == "firewall"),
        addresses=facts.addresses,
        listening=facts.listening,
        gpu="gpu" in values,
        folder=_folder(values),
        dns=None if _is_address(name) else _answer(name, values.get("dns")),
        mirror=_answer(_plain(ways.mirror), values.get("mirror")),
        index=_answer(_plain(ways.index), values.get("index")),
        boot=_boot(facts, state),
    )


def _skew(theirs: str, clock: tuple[float, float] | None) -> int | None:
    """How far a clock is from the span in which it was asked."""
    if clock is None or not theirs.isdigit():
        return None
    before, after = clock
    # theirs is cut down to a whole second
    if before - 1 <= int(theirs) <= after:
        return 0
    return round(int(theirs) - (after if int(theirs) > after else before))


def _kilobytes(text: str | None) -> int:
    return int(text or 0) * 1024


def _disks(lines: Sequence[str]) -> tuple[Space, ...]:
    """Every disk once, by the folder that was asked first."""
    found: dict[str, Space] = {}
    for line in lines:
        total, free, mount, inodes, free_inodes, path = line.split(" ", 5)
        found.setdefault(
            mount,
            Space(
                path=path,
                mount=mount,
                total=int(total) * 1024,
                free=int(free) * 1024,
                inodes=int(inodes) if inodes.isdigit() else 0,
                free_inodes=int(free_inodes) if free_inodes.isdigit() else 0,
            ),
        )
    return tuple(found.values())


def _folder(values: Mapping[str, str]) -> Folder | None:
    if "path" not in values:
        return None
    owner = values.get("owner", "")
    return Folder(
        path=values["path"],
        kind=values["kind"],
        owner=int(owner) if owner.isdigit() else None,
        filesystem=values["filesystem"] or "unknown",
        writable=values.get("writable") == "yes",
        open_path=values.get("open_path") == "yes",
        shared=values.get("shared") == "yes",
    )


def _answer(address: str, said: str | None) -> Reach | None:
    if said is None:
        return None
    if said == "unlooked":
        return Reach(address=address, problem="there is no tool for it there", looked=False)
    problem = None if said == "yes" else without_credentials(said)[:160] or "no answer"
    return Reach(address=address, problem=problem)


def _boot(facts: HostFacts, state: EngineState | None) -> Boot | None:
    if state is None or not (facts.has_engine or facts.socket):
        return None
    return Boot(systemd=state.has_systemd, service=state.has_service, enabled=state.enabled_at_boot)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return not name
    return True


# -- its engine


def look_at_engine(engine: Engine) -> tuple[EngineSeen, str]:
    """What the engine says of itself, and the folder that it keeps everything in.

    Raises:
        EngineError: it does not answer.
    """
    info = engine.info()
    options = [str(option) for option in info.get("SecurityOptions") or ()]
    seen = EngineSeen(
        version=str(info.get("ServerVersion", "")),
        storage=str(info.get("Driver", "")),
        rootless=any("rootless" in option for option in options),
        runtimes=tuple(info.get("Runtimes") or {}),
        warnings=_warnings(info),
    )
    return seen, str(info.get("DockerRootDir", ""))


def _warnings(info: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(line) for line in info.get("Warnings") or ())


def resolves_inside(engine: Engine, container: Container, ways: Ways) -> Reach | None:
    """Whether the running server's container resolves the name that builds need.

    Raises:
        EngineError: the engine does not answer.
    """
    name = ways.via(ways.index or ways.mirror)[0]
    if _is_address(name):
        return None
    command = ["timeout", str(_PROBE_SECONDS), "getent", "ahosts", name]
    done = engine.execute(container.id, command)
    return Reach(address=name, problem=None if done.returncode == 0 else "no address was found")
