"""The apt part of a lock: what would be installed, asked of apt in the base itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from jupbox import apt
from jupbox.errors import EngineError, ResolveError
from jupbox.host.engine import Engine, is_disk_full
from jupbox.host.network import Network
from jupbox.lock import AptPackage

# Exit codes of the script: 41 no index came, 42 a package is unknown, 43 apt cannot install them.
_SCRIPT: Final = r"""
set -eu
mkdir -p /tmp/lists/partial /tmp/cache/archives/partial
@EXPORTS@
cat > /tmp/sources <<'JUPBOX-SOURCES'
@SOURCES@
JUPBOX-SOURCES
cat > /tmp/ca <<'JUPBOX-CA'
@CA@
JUPBOX-CA
options="-o Dir::State::Lists=/tmp/lists -o Dir::Cache=/tmp/cache -o APT::Sandbox::User=root"
if grep -q . /tmp/sources; then
  options="$options -o Dir::Etc::SourceList=/tmp/sources -o Dir::Etc::SourceParts=/dev/null"
fi
if grep -q . /tmp/ca; then options="$options -o Acquire::https::CAInfo=/tmp/ca"; fi
apt-get -qq $options -o APT::Update::Error-Mode=any -o Acquire::Retries=2 update >&2 || exit 41
unknown=
for package; do
  apt-cache $options show --no-all-versions "${package%%=*}" >/dev/null 2>&1 \
    || unknown="$unknown ${package%%=*}"
done
if [ -n "$unknown" ]; then echo "UNKNOWN$unknown"; exit 42; fi
apt-cache $options show --no-all-versions python3 | sed -n 's/^Version: /PYTHON /p' | head -n 1
apt-get $options --simulate --no-install-recommends install "$@" || exit 43
"""


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What apt answered: the packages, and the base's own Python as `3.13`."""

    packages: tuple[AptPackage, ...]
    python_version: str


def resolve_apt(
    engine: Engine, base: str, packages: Sequence[str], network: Network, *, called: str = ""
) -> Simulated:
    """Ask apt in the base what it would install.

    Args:
        engine: where the base is.
        base: how the engine names it.
        packages: names, each possibly with `=version`; python3 is always among them.
        network: the way to the mirror.
        called: how messages call the base.

    Raises:
        ResolveError: a package is unknown, cannot be installed, or the mirror is out of reach.
    """
    ca = network.ca_bundle.read_text(errors="replace") if network.ca_bundle else ""
    script = _SCRIPT.replace("@EXPORTS@", network.exports).replace("@CA@", ca)
    script = script.replace("@SOURCES@", network.sources)
    wanted = sorted({"python3", *packages})
    done = engine.try_run(base, ["sh", "-s", "--", *wanted], input=script.encode())
    said = done.stdout.decode(errors="replace")
    last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
    if is_disk_full(last):
        raise engine.error("asking apt", last)
    if done.returncode == 41:
        raise ResolveError(
            f"The Debian mirror was not reached from {engine.place}: {last}",
            remedy="Look at the machine's network, proxy and apt configuration.",
        )
    if done.returncode == 42:
        names = next(line for line in said.splitlines() if line.startswith("UNKNOWN")).split()[1:]
        raise ResolveError(
            f"No apt package is called {', '.join(names)} in {called or base}.",
            remedy="Look its name up (`apt search WORD` on such a system) and mend `apt` in "
            "jupbox.toml.",
        )
    if done.returncode == 43:
        raise ResolveError(
            f"apt cannot install {' '.join(wanted)}: {last.removeprefix('E: ')}",
            remedy="Loosen a `=version` in `apt` in jupbox.toml, or drop the package.",
        )
    if done.returncode != 0:
        raise engine.unreachable() or EngineError(
            f"apt could not be asked in {called or base} on {engine.place}: {last}",
            remedy="Look whether containers start there: `docker run --rm IMAGE true`.",
        )
    version = next(line for line in said.splitlines() if line.startswith("PYTHON ")).split()[1]
    return Simulated(
        packages=apt.parse_simulation(said),
        python_version=".".join(version.rpartition(":")[2].split(".")[:2]),
    )
