"""NVIDIA's container toolkit: what lets an engine hand the host's GPUs to containers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from jupbox.errors import SetupError
from jupbox.host import setup as engine
from jupbox.host.machine import Machine
from jupbox.host.setup import EngineState, Step

INSTRUCTIONS: Final = (
    "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html"
)
NVIDIA: Final = engine.Vendor(
    url="https://nvidia.github.io/libnvidia-container",
    # the whole key file, fingerprint C95B321B61E88C1809C4F759DDCAE044F796ECB0; another is not taken
    key_sha256="c880576d6cf75a48e5027a871bac70fd0421ab07d2b55f30877b21f1c87959c9",
)
_BY_HAND: Final = f"install it by hand: {INSTRUCTIONS}"

# A loaded driver tells its version; /dev/nvidiactl is there once anything has used it.
_LOOK: Final = r"""
yes_if() { if "$@" >/dev/null 2>&1; then echo yes; else echo no; fi; }
has_runtime() {
    $sudo perl -MIO::Socket::UNIX -e 'alarm 10;
        my $socket = IO::Socket::UNIX->new(Peer => $ARGV[0]) or exit 1;
        print $socket "GET /info HTTP/1.0\r\nHost: docker\r\n\r\n";
        local $/; exit(<$socket> =~ /"nvidia" *: *[{] *"path"/ ? 0 : 1)' "$socket"
}
yes_if [ -e /proc/driver/nvidia/version -o -e /dev/nvidiactl ]
yes_if command -v nvidia-ctk
yes_if has_runtime
"""

_INSTALL: Final = (
    engine.APT
    + r"""
key=/etc/apt/keyrings/nvidia-container-toolkit.asc
source=/etc/apt/sources.list.d/nvidia-container-toolkit.sources
known() { apt-cache policy nvidia-container-toolkit | grep -q 'Candidate: [^(]'; }

# a foreign source that does not answer need not stop us
get update || :
if ! known; then
    scratch=$(mktemp -d)
    trap 'rm -r "$scratch"' EXIT
    host=${vendor#*://}
    download "$vendor/gpgkey" "$scratch/key" || {
        echo "E: apt has no nvidia-container-toolkit, and ${host%%/*} is not reached" >&2
        exit 1
    }
    echo "$vendor_key_sha256  $scratch/key" | sha256sum --check --status || {
        echo "E: the key at ${host%%/*} is not the one that signs NVIDIA's packages" >&2
        exit 1
    }
    install -D -m 0644 "$scratch/key" "$key"
    printf '%s\n' 'Types: deb' "URIs: $vendor/stable/deb/$architecture" 'Suites: /' \
        "Signed-By: $key" > "$source"
    get update || :
    known || rm -f "$key" "$source"
fi
put_in nvidia-container-toolkit
"""
)

_CONFIGURE: Final = """
set -eu
nvidia-ctk runtime configure --runtime=docker
"""


@dataclass(frozen=True, kw_only=True)
class GpuState:
    """What a machine has of NVIDIA.

    Attributes:
        has_driver: whether a GPU's driver is loaded.
        has_toolkit: whether the toolkit is installed.
        has_runtime: whether the engine that answers knows its runtime.
    """

    has_driver: bool
    has_toolkit: bool
    has_runtime: bool


def look(machine: Machine, state: EngineState) -> GpuState:
    """What `machine` has of NVIDIA, asked in one command that changes nothing.

    Raises:
        HostError: the machine is out of reach.
    """
    sudo = "sudo -n" if state.has_sudo and not state.socket_usable else ""
    variables = engine.assignments({"socket": state.socket or "", "sudo": sudo})
    said = machine.run(["sh", "-s"], input=(variables + _LOOK).encode()).text.split()
    driver, toolkit, runtime = (word == "yes" for word in said[-3:])
    return GpuState(has_driver=driver, has_toolkit=toolkit, has_runtime=runtime)


def plan_gpu(
    state: EngineState, gpu: GpuState, *, name: str, vendor: engine.Vendor = NVIDIA
) -> tuple[Step, ...]:
    """What is missing for an engine that hands out GPUs; empty when nothing is.

    Args:
        state: what there is of an engine.
        gpu: what there is of NVIDIA.
        name: the machine's.
        vendor: whose packages are taken where the distribution has none.

    Raises:
        SetupError: there is no GPU with a driver, or we may not change anything.
    """
    if gpu.has_runtime:
        return ()
    if not gpu.has_driver:
        raise SetupError(
            f"{name} has no NVIDIA GPU, or its driver is not loaded.",
            remedy="Install the distribution's NVIDIA driver first: `nvidia-smi` there must list "
            "the GPU.",
        )
    steps = [] if gpu.has_toolkit else [_install(state, vendor)]
    # By a reload (SIGHUP) the engine would know the runtime, and still hand out no GPU: it looks
    # for the toolkit's hook at its start alone.
    restart = engine.start(state, restart=True)
    configure = Step(
        title="Give the engine NVIDIA's runtime",
        why="by nvidia-ctk; the engine restarts, so running kernels on this host end.",
        script=_CONFIGURE + restart.script,
        by_hand=_BY_HAND,
        restarts=True,
    )
    return engine.allowed(state, [*steps, configure])


def setup_gpu(
    machine: Machine, *, say: Callable[[str], None], vendor: engine.Vendor = NVIDIA
) -> None:
    """Make sure that the engine of `machine` can hand the host's GPUs to containers.

    Args:
        machine: where; it has an engine.
        say: told what is done, a sentence a call.
        vendor: whose packages are taken where the distribution has none.

    Raises:
        SetupError: there is no GPU, we may not, or a step failed.
        HostError: the machine is out of reach.
    """
    state = engine.look(machine)
    steps = plan_gpu(state, look(machine, state), name=machine.name, vendor=vendor)
    for step in steps:
        say(f"{step.title}: {step.why}")
        engine.perform(machine, step, as_root=state.uid == 0)
    if steps and not look(machine, engine.look(machine)).has_runtime:
        raise SetupError(
            f"The engine on {machine.name} still has no NVIDIA runtime.",
            remedy=f"`nvidia-ctk runtime configure` did not help; {_BY_HAND}",
        )


def _install(state: EngineState, vendor: engine.Vendor) -> Step:
    variables = {
        "architecture": state.architecture,
        "vendor": vendor.url,
        "vendor_key_sha256": vendor.key_sha256,
    }
    return Step(
        title="Install NVIDIA's container toolkit",
        why="it hands the host's GPUs to containers; the distribution's package if it has one, "
        "else NVIDIA's own.",
        script=engine.assignments(variables) + _INSTALL,
        by_hand=_BY_HAND,
    )
