"""Puts a Docker engine on a machine that has none: look, plan, do, look again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from jupbox.errors import SetupError
from jupbox.host.engine import MINIMUM
from jupbox.host.machine import Machine

INSTRUCTIONS: Final = "https://docs.docker.com/engine/install/"

# apt and the packages' own scripts, on a slow disk behind a slow line
_STEP_SECONDS: Final = 1800


@dataclass(frozen=True, kw_only=True)
class EngineState:
    """What a machine has of an engine, as the user that we are there sees it.

    Attributes:
        os_id: `ID` of os-release; empty when there is none.
        os_version: `VERSION_ID` of os-release, such as `12` or `24.04`.
        codename: `VERSION_CODENAME` of os-release.
        has_sudo: whether sudo asks for no password.
        has_systemd: whether systemd is what runs services.
        engine_version: of the engine that answers, else of the one installed; None: neither.
        engine_package: the Debian package that the installed engine is from, None for any other.
        compose_version: of the docker command's plugin there, None when it has none.
        buildx_version: likewise.
        other_packages: further installed packages that the vendor's would replace.
        running: whether an engine answers.
        socket: path of its socket there.
        socket_usable: whether this login may write to it.
        in_docker_group: whether the user's next login is in the group docker.
        has_service: whether systemd knows a docker.service.
        enabled_at_boot: whether systemd starts it at boot.
    """

    os_id: str
    os_version: str
    codename: str
    architecture: str
    uid: int
    user: str
    has_sudo: bool
    has_systemd: bool
    engine_version: str | None
    engine_package: str | None
    compose_version: str | None
    buildx_version: str | None
    other_packages: tuple[str, ...]
    running: bool
    socket: str | None
    socket_usable: bool
    in_docker_group: bool
    has_service: bool
    enabled_at_boot: bool

    @property
    def needs_new_login(self) -> bool:
        """Whether the user may use the engine, though not before the next login."""
        return self.running and self.in_docker_group and not self.socket_usable


@dataclass(frozen=True, kw_only=True)
class Step:
    """One change to a machine: a POSIX sh script, to be run by root.

    Attributes:
        by_hand: what its user does where it fails.
        restarts: it ends the engine that runs, and with it all containers.
    """

    title: str
    why: str
    script: str
    by_hand: str = f"install Docker by hand: {INSTRUCTIONS}"
    restarts: bool = False


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """The vendor's package repository: one folder a distribution, and the key that signs it."""

    url: str
    key_sha256: str


DOCKER: Final = Vendor(
    url="https://download.docker.com/linux",
    # the whole key file, fingerprint 9DC858229FC7DD38854AE2D88D81803C0EBFCD88; another file is not
    # taken, and the distribution's packages are
    key_sha256="1500c1f56fa9e26b9b8f42452a553675796ade0807cdce11975eb98170b3a570",
)


@dataclass(frozen=True, kw_only=True)
class _System:
    """What is installed on one distribution's release."""

    packages: tuple[str, ...]
    # packages that come from Debian 13, and they alone
    from_trixie: tuple[str, ...] = ()


_DEBIAN_PACKAGES: Final = ("docker.io", "docker-cli", "docker-compose", "docker-buildx")
_SYSTEMS: Final[Mapping[tuple[str, str], _System]] = {
    # its own docker.io is 20.10 and has no Compose v2; runc and all else stay Debian 12's
    ("debian", "12"): _System(
        packages=(*_DEBIAN_PACKAGES, "containerd", "iptables"),
        from_trixie=(*_DEBIAN_PACKAGES, "containerd"),
    ),
    ("debian", "13"): _System(packages=(*_DEBIAN_PACKAGES, "iptables")),
}
_UBUNTU: Final = _System(
    packages=("docker.io", "docker-compose-v2", "docker-buildx", "iptables"),
)
_OLDEST_UBUNTU: Final = (24, 4)
_VENDOR_PACKAGES: Final = (
    "docker-ce",
    "docker-ce-cli",
    "containerd.io",
    "docker-buildx-plugin",
    "docker-compose-plugin",
)
_DISTRIBUTION_ENGINE: Final = "docker.io"

# Asks the engine itself for its version: the docker command may be missing. Perl is part of
# every Debian and Ubuntu.
_PROBE: Final = r"""
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C
engine_at() { # socket, a command that runs others (sudo) or none
    ${2:-} perl -MIO::Socket::UNIX -e 'alarm 10;
        my $socket = IO::Socket::UNIX->new(Peer => $ARGV[0]) or exit 1;
        print $socket "GET /version HTTP/1.0\r\nHost: docker\r\n\r\n";
        local $/; print $1 if <$socket> =~ /"Version" *: *"([^"]+)"/' "$1" 2>/dev/null
}
"""

_LOOK: Final = (
    _PROBE
    + r"""
tell() { printf 'jupbox.%s=%s\n' "$1" "$2"; }
yes_if() { # name, command
    name=$1; shift
    if "$@" >/dev/null 2>&1; then tell "$name" yes; else tell "$name" no; fi
}
user=$(id -un)
sudo=
[ -r /etc/os-release ] && . /etc/os-release
tell os_id "${ID:-}"
tell os_version "${VERSION_ID:-}"
tell codename "${VERSION_CODENAME:-}"
tell architecture "$(dpkg --print-architecture 2>/dev/null || uname -m)"
tell uid "$(id -u)"
tell user "$user"
if [ "$(id -u)" != 0 ] && sudo -n true >/dev/null 2>&1; then sudo='sudo -n'; fi
yes_if has_sudo [ -n "$sudo" ]
yes_if has_systemd [ -d /run/systemd/system ]
socket= version=
for place in "${DOCKER_HOST#unix://}" /var/run/docker.sock \
    "${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/docker.sock"
do
    if [ -S "$place" ]; then socket=$place; break; fi
done
tell socket "$socket"
if [ -n "$socket" ]; then
    yes_if socket_usable [ -w "$socket" ]
    if [ -w "$socket" ]; then version=$(engine_at "$socket")
    elif [ -n "$sudo" ]; then version=$(engine_at "$socket" "$sudo")
    # no way to ask: is anybody listening?
    elif grep -q "00010000 .* /\(var/\)\?run/docker.sock$" /proc/net/unix; then tell running yes
    fi
fi
[ -z "$version" ] || tell running yes
[ -n "$version" ] || version=$(dockerd --version 2>/dev/null </dev/null)
tell engine_version "$version"
tell compose_version "$(docker compose version --short 2>/dev/null </dev/null)"
tell buildx_version "$(docker buildx version 2>/dev/null </dev/null)"
for package in docker.io docker-ce docker-cli docker-compose docker-compose-v2 docker-buildx \
    containerd runc podman-docker
do
    case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in
        installed) tell package "$package" ;;
    esac
done
tell groups "$(id -nG -- "$user")"
if [ -d /run/systemd/system ]; then
    yes_if has_service systemctl cat docker.service
    yes_if enabled_at_boot systemctl --quiet is-enabled docker.service
fi
"""
)

APT: Final = r"""
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
get() { apt-get -q -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold "$@"; }
# a package that would have to go is somebody's: then rather stop
put_in() { get install -y --no-install-recommends --no-remove "$@"; }
# apt's own downloader: its proxies, and it is there on the barest system
download() { # URL, file
    timeout 10 /usr/lib/apt/apt-helper -o Acquire::Retries=0 -o Acquire::http::Timeout=5 \
        -o Acquire::https::Timeout=5 -o APT::Sandbox::User=root download-file "$1" "$2"
}
"""
"""How a step's script installs packages."""

_INSTALL: Final = (
    APT
    + r"""
repositories() { apt-get indextargets --no-release-info --format "$1" 'Created-By: Packages'; }

vendor_key=/etc/apt/keyrings/docker.asc
vendor_source=/etc/apt/sources.list.d/docker.sources

add_vendor() {
    added=no
    [ -n "$vendor" ] || return 1
    case $(repositories '$(REPO_URI)') in *"$vendor"*) return 0 ;; esac
    scratch=$(mktemp -d)
    if download "$vendor/gpg" "$scratch/key" && \
        echo "$vendor_key_sha256  $scratch/key" | sha256sum --check --status
    then
        install -D -m 0644 "$scratch/key" "$vendor_key"
        printf '%s\n' 'Types: deb' "URIs: $vendor" "Suites: $codename" 'Components: stable' \
            "Signed-By: $vendor_key" > "$vendor_source"
        added=yes
        rm -r "$scratch"
    else
        rm -r "$scratch"
        return 1
    fi
}

from_vendor() {
    add_vendor >&2 || return 1
    if get update && put_in --download-only $vendor_packages; then
        return 0
    fi
    [ "$added" = no ] || rm -f "$vendor_source" "$vendor_key"
    return 1
}

add_trixie() {
    [ -n "$from_trixie" ] || return 0
    mirror=$(repositories '$(RELEASE) $(COMPONENT) $(REPO_URI)' |
        awk -v own="$codename" '($1 == own || $1 ~ /stable$/) && $2 == "main" {print $3; exit}')
    [ -n "$mirror" ] || { echo "apt is configured with no Debian mirror" >&2; return 1; }
    # the first releases of Debian 12 lack the key of Debian 13
    put_in debian-archive-keyring
    # first the pin: there must be no moment at which all of Debian 13 is to be had
    mkdir -p /etc/apt/preferences.d
    cat > /etc/apt/preferences.d/jupbox-engine <<PIN
Explanation: The Docker engine comes from Debian 13, and nothing else does (jupbox setup).
Explanation: Remove this file, and sources.list.d/jupbox-trixie.sources, to upgrade to Debian 13.
Package: *
Pin: release n=trixie
Pin-Priority: -1

Package: $from_trixie
Pin: release n=trixie
Pin-Priority: 990
PIN
    cat > /etc/apt/sources.list.d/jupbox-trixie.sources <<SOURCE
Types: deb
URIs: $mirror
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCE
    get update
}

if from_vendor; then
    put_in $vendor_packages
else
    # a foreign source that does not answer need not stop us; a missing package will
    get update || :
    add_trixie
    put_in $packages
fi
"""
)

_START: Final = (
    _PROBE
    + r"""
set -eu
# not by the pid file: the packages' init script may have started one that has not written it yet,
# and two engines spoil each other; nor by name alone: a container may run one
pid_of_engine() {
    for comm in $(grep -lx dockerd /proc/[0-9]*/comm 2>/dev/null); do
        process=${comm%/comm}
        if [ "$(readlink "$process/ns/mnt")" = "$(readlink /proc/self/ns/mnt)" ]; then
            echo "${process#/proc/}"
            return 0
        fi
    done
    return 1
}

if [ -d /run/systemd/system ]; then
    systemctl enable --now docker.service
    [ "$restart" = no ] || systemctl restart docker.service
else
    if [ "$restart" = yes ] && pid=$(pid_of_engine); then
        kill "$pid"
        for _ in $(seq 300); do [ -d "/proc/$pid" ] || break; sleep 0.2; done
    fi
    if ! pid_of_engine >/dev/null; then
        # left by one that was killed; its number may be another process by now
        rm -f /var/run/docker.pid
        setsid --fork dockerd >> /var/log/dockerd.log 2>&1 < /dev/null
    fi
fi
deadline=$(($(date +%s) + 60))
until [ -n "$(engine_at /var/run/docker.sock)" ]; do
    if [ "$(date +%s)" -ge "$deadline" ]; then
        if [ -d /run/systemd/system ]
        then journalctl --unit docker.service --lines 3 --no-pager --output cat
        else tail -q -n 3 /var/log/docker.log /var/log/dockerd.log 2>/dev/null
        fi >&2
        exit 1
    fi
    sleep 0.2
done
"""
)

_JOIN: Final = r"""
set -eu
getent group docker >/dev/null || groupadd --system docker
gpasswd --add "$user" docker >/dev/null
"""


def setup(machine: Machine, *, say: Callable[[str], None]) -> EngineState:
    """Make sure that `machine` has an engine that its user may use.

    Args:
        machine: where; we are root there, or sudo asks for no password.
        say: told what is done and what the user should know, a sentence a call.

    Returns:
        The state at the end. Where `needs_new_login` holds, only a new login (over ssh: a new
        connection) has the right to use the engine.

    Raises:
        SetupError: the system is not supported, we may not, or a step failed.
        HostError: the machine is out of reach.
    """
    before = look(machine)
    steps = plan_setup(before, clients=machine.is_local)
    if steps and before.os_id == "ubuntu":
        say(f"jupbox is not tested on Ubuntu; {before.os_version} should work.")
    for step in steps:
        say(f"{step.title}: {step.why}")
        perform(machine, step, as_root=before.uid == 0)
    after = look(machine) if steps else before
    if plan_setup(after, clients=machine.is_local):
        raise SetupError(
            f"{machine.name} still has no engine that jupbox can use.",
            remedy=f"Install one by hand: {INSTRUCTIONS}",
        )
    for sentence in _advice(after, machine):
        say(sentence)
    return after


def look(machine: Machine) -> EngineState:
    """What `machine` has of an engine, asked in one command that changes nothing.

    Raises:
        HostError: the machine is out of reach.
    """
    return parse_state(machine.run(["sh", "-s"], input=_LOOK.encode(), timeout=120).text)


def parse_state(text: str) -> EngineState:
    """Read the answer of the script that looks; other lines may stand between its own."""
    told = re.findall(r"^jupbox\.(\w+)=(.*)$", text, re.MULTILINE)
    values = dict(told)
    packages = tuple(value for name, value in told if name == "package")
    engines = [package for package in packages if package in (_DISTRIBUTION_ENGINE, "docker-ce")]
    return EngineState(
        os_id=values["os_id"],
        os_version=values["os_version"],
        codename=values["codename"],
        architecture=values["architecture"],
        uid=int(values["uid"]),
        user=values["user"],
        has_sudo=values["has_sudo"] == "yes",
        has_systemd=values["has_systemd"] == "yes",
        engine_version=_version(values["engine_version"]),
        engine_package=engines[0] if engines else None,
        compose_version=_version(values["compose_version"]),
        buildx_version=_version(values["buildx_version"]),
        other_packages=tuple(package for package in packages if package not in engines),
        running=values.get("running") == "yes",
        socket=values["socket"] or None,
        socket_usable=values.get("socket_usable") == "yes",
        in_docker_group="docker" in values["groups"].split(),
        has_service=values.get("has_service") == "yes",
        enabled_at_boot=values.get("enabled_at_boot") == "yes",
    )


def plan_setup(
    state: EngineState, *, clients: bool = True, vendor: Vendor = DOCKER
) -> tuple[Step, ...]:
    """What is missing for an engine that the user may use; empty when nothing is.

    Args:
        state: what is there.
        clients: whether Compose and Buildx are needed there as well, as they are on the machine
            that jupbox runs on.
        vendor: whose packages are taken where they can be had.

    Raises:
        SetupError: the system is not supported, the engine is somebody else's and too old, or we
            may not change anything.
    """
    steps = []
    installs = not _suffices(state, clients=clients)
    if installs:
        steps.append(_install(state, vendor))
    if installs or not state.running or (state.has_service and not state.enabled_at_boot):
        steps.append(start(state, restart=installs and state.running))
    if state.uid != 0 and not state.socket_usable and not state.in_docker_group:
        steps.append(_join(state))
    return allowed(state, steps)


def allowed(state: EngineState, steps: Sequence[Step]) -> tuple[Step, ...]:
    """Steps that we may take.

    Raises:
        SetupError: we may not change anything, and there is something to change.
    """
    if steps and state.uid != 0 and not state.has_sudo:
        raise SetupError(
            f"{state.user} may not change the system: {steps[0].title.lower()}.",
            remedy="Ask an administrator to do it, or log in as one: root, or a user whose sudo "
            f"asks for no password. By hand: {INSTRUCTIONS}",
        )
    return tuple(steps)


def supports(state: EngineState) -> bool:
    """Whether an engine can be set up on such a system."""
    try:
        _system(state)
    except SetupError:
        return False
    return True


def _suffices(state: EngineState, *, clients: bool) -> bool:
    # one that answers nobody but root tells no version; the log-in that may ask will see
    found = {"engine": state.engine_version or ("" if not state.running else None)}
    if clients:
        found |= {"compose": state.compose_version or "", "buildx": state.buildx_version or ""}
    return all(
        version is None or _numbers(version) >= MINIMUM[part] for part, version in found.items()
    )


def _install(state: EngineState, vendor: Vendor) -> Step:
    if state.engine_version and state.engine_package != _DISTRIBUTION_ENGINE:
        raise _foreign(state)
    system = _system(state)
    # the vendor's packages do not go together with the distribution's
    untouched = state.engine_package is None and not state.other_packages
    variables = {
        "codename": state.codename,
        "packages": " ".join(system.packages),
        "from_trixie": " ".join(system.from_trixie),
        "vendor": f"{vendor.url}/{state.os_id}" if untouched else "",
        "vendor_key_sha256": vendor.key_sha256,
        "vendor_packages": " ".join(_VENDOR_PACKAGES),
    }
    origin = "the vendor's packages if they can be had, else " if untouched else ""
    release = "the distribution's"
    if system.from_trixie:
        release = (
            "Debian 13's, and no other package of it (remove /etc/apt/preferences.d/jupbox-engine "
            "before you upgrade to Debian 13)"
        )
    return Step(
        title="Install Docker",
        why=f"engine, command line, Compose and Buildx; {origin}{release}.",
        script=assignments(variables) + _INSTALL,
    )


def _system(state: EngineState) -> _System:
    known = _SYSTEMS.get((state.os_id, state.os_version))
    if known:
        return known
    if state.os_id == "ubuntu" and _numbers(state.os_version) >= _OLDEST_UBUNTU:
        return _UBUNTU
    name = f"{state.os_id} {state.os_version}".strip() or "This system"
    raise SetupError(
        f"{name} is none that jupbox can set an engine up on (Debian 12 and 13, "
        "Ubuntu 24.04 and newer).",
        remedy=f"Install Docker as its vendor says, then run this again: {INSTRUCTIONS}",
    )


def _foreign(state: EngineState) -> SetupError:
    parts = {"Docker": state.engine_version, "Compose": state.compose_version}
    parts |= {"Buildx": state.buildx_version}
    found = ", ".join(f"{part} {version or 'missing'}" for part, version in parts.items())
    wanted = ", ".join(".".join(map(str, numbers)) for numbers in MINIMUM.values())
    upgrade = (
        f"`apt-get install {' '.join(_VENDOR_PACKAGES)}`"
        if state.engine_package == "docker-ce"
        else "the way it was installed"
    )
    return SetupError(
        f"Docker is there, not from the distribution, and not new enough: {found} "
        f"(wanted: {wanted}).",
        remedy=f"Upgrade it: {upgrade}. See {INSTRUCTIONS}",
    )


def start(state: EngineState, *, restart: bool) -> Step:
    """Have the engine run, now and after a boot; anew where it runs already and `restart` holds."""
    how = "by systemd, now and at each boot" if state.has_systemd else "by itself"
    why = f"{how}; its containers start anew." if restart else f"{how}."
    variables = {"restart": "yes" if restart else "no"}
    script = assignments(variables) + _START
    return Step(title="Start the Docker engine", why=why, script=script, restarts=restart)


def _join(state: EngineState) -> Step:
    return Step(
        title=f"Let {state.user} use the engine",
        why="by the group docker. Whoever is in it can become root on this machine.",
        script=assignments({"user": state.user}) + _JOIN,
    )


def perform(machine: Machine, step: Step, *, as_root: bool) -> None:
    """Take a step.

    Raises:
        SetupError: it failed; the last that was complained of is in the message.
    """
    # in braces, so that sh has read all of it before a program can eat the rest of the input
    script = f"{{\n{step.script}\n}} </dev/null\n"
    argv = ["sh", "-s"] if as_root else ["sudo", "-n", "sh", "-s"]
    done = machine.run(argv, input=script.encode(), timeout=_STEP_SECONDS, check=False)
    if done.returncode != 0:
        raise SetupError(
            f"`{step.title}` failed on {machine.name}: {_reason(done.error)}",
            remedy=f"Mend that and run it again, or {step.by_hand}",
        )


def _reason(error: str) -> str:
    lines = [line for line in error.splitlines() if line.strip()]
    by_apt = [line for line in lines if line.startswith("E: ")]
    return (by_apt or lines or ["no reason given"])[-1][:500]


def _advice(state: EngineState, machine: Machine) -> Sequence[str]:
    advice = []
    if state.needs_new_login:
        advice.append(f"{state.user} may use the engine from the next login on.")
    if not state.has_systemd and state.engine_package:
        again = "local" if machine.is_local else machine.name
        advice.append(
            "There is no systemd: nothing starts the engine after a boot but "
            f"`jupbox setup {again}`."
        )
    return advice


def assignments(variables: Mapping[str, str]) -> str:
    """The first lines of a script: variables, quoted."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())


def _version(text: str) -> str | None:
    """The first version in what a program says of itself."""
    match = re.search(r"\d+\.\d+[\w.+~-]*", text)
    return match[0] if match else None


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else ()
