"""The apt part of a lock: what would be installed, asked of apt in the base itself."""

from __future__ import annotations

import re
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
cat > /tmp/preferences <<'JUPBOX-PREFERENCES'
@PREFERENCES@
JUPBOX-PREFERENCES
options="-o Dir::State::Lists=/tmp/lists -o Dir::Cache=/tmp/cache -o APT::Sandbox::User=root"
options="$options -o Dir::Etc::Preferences=/tmp/preferences"
if grep -q . /tmp/sources; then
  options="$options -o Dir::Etc::SourceList=/tmp/sources -o Dir::Etc::SourceParts=/dev/null"
fi
if grep -q . /tmp/ca; then options="$options -o Acquire::https::CAInfo=/tmp/ca"; fi
echo "@INSTALLED"
dpkg-query -W -f '${db:Status-Status} ${Package} ${Version} ${Architecture}\n' \
  | sed -n 's/^installed //p'
apt-get -qq $options -o APT::Update::Error-Mode=any -o Acquire::Retries=2 update >&2 || exit 41
unknown=
for package in $*; do
  apt-cache $options show --no-all-versions "${package%%=*}" >/dev/null 2>&1 \
    || unknown="$unknown ${package%%=*}"
done
if [ -n "$unknown" ]; then echo "@UNKNOWN$unknown"; exit 42; fi
echo "@DATES"
for file in /tmp/lists/*Release; do sed -n 's/^Date: /&/p;/^Date: /q' "$file"; done
echo "@PYTHON"
apt-cache $options show --no-all-versions python3 | sed -n 's/^Version: //p' | head -n 1
wanted=
for layer; do
  wanted="$wanted $layer"
  echo "@LAYER"
  apt-get $options -qq -y -o Acquire::ForceHash=SHA256 --allow-downgrades --no-install-recommends \
    --print-uris install $wanted || exit 43
done
"""


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What apt answered.

    Attributes:
        packages: what is installed beyond the base.
        python_version: the base's own, as `3.13`.
        installed: what the base holds.
        snapshot: the archive's time; empty where no archive said one.
    """

    packages: tuple[AptPackage, ...]
    python_version: str
    installed: tuple[AptPackage, ...] = ()
    snapshot: str = ""


def resolve_apt(
    engine: Engine, base: str, layers: Sequence[Sequence[str]], network: Network, *,
    called: str = "", keep: Sequence[AptPackage] = (),
) -> Simulated:  # fmt: skip
    """Ask apt in the base what it would install.

    Args:
        engine: where the base is.
        base: how the engine names it.
        layers: names, each possibly with `=version`, by layer of the image; python3 is always
            in the first one.
        network: the way to the mirror.
        called: how messages call the base.
        keep: packages that stay in their versions where the mirror has them.

    Raises:
        ResolveError: a package is unknown, cannot be installed, or the mirror is out of reach.
    """
    ca = network.ca_bundle.read_text(errors="replace") if network.ca_bundle else ""
    script = _SCRIPT.replace("@EXPORTS@", network.exports).replace("@CA@", ca)
    script = script.replace("@SOURCES@", network.sources)
    script = script.replace("@PREFERENCES@", apt.preferences(keep))
    first, *others = layers
    wanted = [sorted({"python3", *first}), *(sorted(set(names)) for names in others)]
    words = [" ".join(names) for names in wanted]
    done = engine.try_run(base, ["sh", "-s", "--", *words], input=script.encode())
    said = done.stdout.decode(errors="replace")
    last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
    if is_disk_full(last):
        raise engine.error("asking apt", last)
    if done.returncode in _REASONS:
        unknown = next((line for line in said.splitlines() if line.startswith("@UNKNOWN")), "")
        raise _refused(
            done.returncode, last.removeprefix("E: "), place=engine.place, base=called or base,
            unknown=unknown.split()[1:], wanted=words,
        )  # fmt: skip
    if done.returncode != 0:
        raise engine.unreachable() or EngineError(
            f"apt could not be asked in {called or base} on {engine.place}: {last}",
            remedy="Look whether containers start there: `docker run --rm IMAGE true`.",
        )
    return _read(said)


_REASONS: Final = (41, 42, 43)


def _refused(
    code: int, last: str, *, place: str, base: str, unknown: Sequence[str], wanted: Sequence[str]
) -> ResolveError:
    if code == 41:
        return ResolveError(
            f"The Debian mirror was not reached from {place}: {last}",
            remedy="Look at the machine's network, proxy and apt configuration.",
        )
    if code == 42:
        return ResolveError(
            f"No apt package is called {', '.join(unknown)} in {base}.",
            remedy="Look its name up (`apt search WORD` on such a system) and mend `apt` in "
            "jupbox.toml.",
        )
    return ResolveError(
        f"apt cannot install {' '.join(wanted)}: {last}",
        remedy="Loosen a `=version` in `apt` in jupbox.toml, or drop the package.",
    )


def _read(said: str) -> Simulated:
    """The parts of the script's output, each below its own mark."""
    parts: dict[str, list[str]] = {}
    for part in re.split(r"^@", said, flags=re.MULTILINE)[1:]:
        name, _, text = part.partition("\n")
        parts.setdefault(name, []).append(text)
    version = parts["PYTHON"][0].strip().rpartition(":")[2]
    layers = [apt.parse_uris(text, layer=number) for number, text in enumerate(parts["LAYER"], 1)]
    return Simulated(
        packages=apt.in_layers(layers),
        python_version=".".join(version.split(".")[:2]),
        installed=apt.parse_installed(parts["INSTALLED"][0]),
        snapshot=apt.snapshot_time(parts["DATES"][0]),
    )
