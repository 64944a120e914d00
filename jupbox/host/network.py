"""What a build needs to know of the user's network, handed over as build secrets.

Proxies, a CA bundle, Python indexes with their credentials, the Debian mirror: BuildKit mounts
them for the steps that need them, and nothing of them stays in a layer, a history, argv or an
environment.
"""

from __future__ import annotations

import netrc
import os
import shlex
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from jupbox import apt
from jupbox import indexes as of_uv
from jupbox.errors import ConfigError
from jupbox.host.facts import HostFacts
from jupbox.host.files import write_atomic

_PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
_BUNDLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT")
_SYSTEM_BUNDLE: Final = Path("/etc/ssl/certs/ca-certificates.crt")
# what says where packages come from; anything else of uv's environment is about this machine
_INDEXES: Final = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_INSECURE_HOST")


@dataclass(frozen=True, kw_only=True)
class Network:
    """The way from a build to packages.

    Attributes:
        ca_bundle: PEM file with every CA to trust, None for the usual ones.
        variables: shell variables to export, secrets among them.
        uv_configuration: a uv.toml.
        netrc: a netrc file; only handed over where a private index is set.
        sources: a sources.list for the base, empty for the base's own.
        more_indexes: addresses of further Python indexes, with credentials perhaps.
        snapshots: address of an archive of old Debian packages, None if none is configured.
        index_names: of further Python indexes that have one, by `indexes.plain` address.
    """

    ca_bundle: Path | None
    variables: Mapping[str, str]
    uv_configuration: Path | None
    netrc: Path | None
    sources: str
    more_indexes: tuple[str, ...] = ()
    snapshots: str | None = None
    index_names: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Network(ca_bundle={self.ca_bundle})"

    @property
    def exports(self) -> str:
        """The variables as a shell script."""
        return "".join(f"export {k}={shlex.quote(v)}\n" for k, v in self.variables.items())


def look(
    *,
    environ: Mapping[str, str],
    home: Path,
    root: Path | None,
    configured_bundle: Path | None,
    base: str,
    hosts: tuple[HostFacts, ...],
    snapshots: str | None = None,
) -> Network:
    """Find out about the network from the user's own settings.

    Args:
        environ: the environment variables.
        home: the user's home directory.
        root: the project's folder.
        configured_bundle: a CA bundle that the user's configuration names.
        base: the base's reference; its mirror is wanted.
        hosts: whose apt configuration may name the mirror, best first.
        snapshots: address of an archive of old Debian packages, if the user names one.

    Raises:
        ConfigError: a CA bundle is named that is not there.
    """
    proxies = {
        name: v for name in _PROXIES if (v := environ.get(name) or environ.get(name.upper()))
    }
    variables = {key: v for name, v in proxies.items() for key in (name, name.upper())}
    indexes = {k: v for k, v in environ.items() if k in _INDEXES or k.startswith("UV_INDEX_")}
    given = _first_file(
        Path(environ["UV_CONFIG_FILE"]) if environ.get("UV_CONFIG_FILE") else None,
        root / "uv.toml" if root else None,
    )
    # uv reads one of the project's files: pyproject.toml, which no build sees, where no other is
    projects = _indexes(root / "pyproject.toml", "tool", "uv") if root and not given else ()
    indexes |= of_uv.as_variables(projects, environ)
    uv_configuration = given or _first_file(
        Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "uv" / "uv.toml",
    )
    configured = (*projects, *(_indexes(uv_configuration) if uv_configuration else ()))
    first = of_uv.of_variables(environ) or next((i for i in configured if i.default), None)
    if first:
        # pip puts uv itself into the build, and knows the same thing by another name
        indexes["PIP_INDEX_URL"] = of_uv.with_credentials(first, environ)
    netrc_file = _first_file(Path(environ.get("NETRC") or home / ".netrc"))
    sources = _sources(base, hosts)
    bundle = _bundle(environ, configured_bundle)
    if bundle is None and "https://" in sources:
        bundle = _first_file(_SYSTEM_BUNDLE)  # a slim base knows no CA at all
    more = [i for i in (*of_uv.more_of_variables(environ), *configured) if not i.default]
    return Network(
        ca_bundle=bundle,
        variables={**variables, **indexes},
        uv_configuration=uv_configuration,
        netrc=netrc_file if indexes or uv_configuration else None,
        sources=sources,
        more_indexes=tuple(of_uv.with_credentials(index, environ) for index in more),
        index_names={of_uv.plain(index.url): index.name for index in more if index.name},
        snapshots=snapshots,
    )


def snapshot_sources(network: Network, base: str, when: str) -> str:
    """A sources.list by which a base finds packages of a time that have left the mirror.

    Args:
        network: the way there.
        base: the base's reference.
        when: as a lock has it; empty for none.
    """
    suite = apt.debian_suite(base)
    if not suite or not when:
        return ""
    if network.snapshots:
        times = apt.moments(when)
        return "".join(apt.snapshot_sources(network.snapshots, suite, time) for time in times)
    return apt.own_snapshot_sources(network.sources, when)


def files_for_pip(network: Network, *, ca_path: str) -> dict[str, str]:
    """What `%pip` in the running server needs to know, as the server's room `network` takes it.

    Args:
        network: as the laptop knows it.
        ca_path: where the container will have the CA bundle.

    Returns:
        `pip.conf` and `ca.pem` with their texts; nothing for a network that needs neither.
    """
    files = {}
    settings = []
    if network.ca_bundle:
        files["ca.pem"] = network.ca_bundle.read_text(errors="replace")
        settings.append(("cert", ca_path))
    proxy = network.variables.get("https_proxy") or network.variables.get("all_proxy")
    if proxy:
        settings.append(("proxy", proxy))
    if first := network.variables.get("PIP_INDEX_URL"):
        settings.append(("index-url", _with_netrc(first, network.netrc)))
    if network.more_indexes:
        urls = [_with_netrc(url, network.netrc) for url in network.more_indexes]
        settings.append(("extra-index-url", "\n    ".join(urls)))
    if settings:
        lines = [f"{key} = {value}\n" for key, value in settings]
        files["pip.conf"] = "[global]\n" + "".join(lines)
    return files


def _with_netrc(url: str, file: Path | None) -> str:
    """The address with the credentials that a netrc has for its host."""
    parts = urlsplit(url)
    if file is None or "@" in parts.netloc:
        return url
    try:
        found = netrc.netrc(str(file)).authenticators(parts.hostname or "")
    except (OSError, netrc.NetrcParseError):
        return url
    if found is None:
        return url
    who = f"{quote(found[0] or '', safe='')}:{quote(found[2] or '', safe='')}"
    return parts._replace(netloc=f"{who}@{parts.netloc}").geturl()


def _indexes(file: Path, *tables: str) -> tuple[of_uv.Index, ...]:
    """The indexes of a table of a file; none where it cannot be read, which uv itself will say."""
    try:
        settings: Any = tomllib.loads(file.read_text(encoding="utf-8"))
        for table in tables:
            settings = settings[table]
    except (OSError, ValueError, LookupError, TypeError):
        return ()
    return of_uv.of_settings(settings) if isinstance(settings, dict) else ()


def _bundle(environ: Mapping[str, str], configured: Path | None) -> Path | None:
    named = [("the user's configuration", str(configured))] if configured else []
    named += [(name, environ[name]) for name in _BUNDLES if environ.get(name)]
    for source, named_path in named:
        path = Path(named_path).expanduser()
        if not path.is_file() or not os.access(path, os.R_OK):
            raise ConfigError(
                f"{source} names the CA bundle {path}, which is no file that can be read.",
                remedy="Mend the path or its permissions, or unset it.",
            )
        return path
    return None


def _sources(base: str, hosts: tuple[HostFacts, ...]) -> str:
    suite = apt.debian_suite(base)
    mirrors = [apt.debian_mirror(facts.apt_sources) for facts in hosts]
    mirror = next((mirror for mirror in mirrors if mirror), None)
    return apt.debian_sources(mirror, suite) if suite and mirror else ""


def _first_file(*paths: Path | None) -> Path | None:
    return next((path for path in paths if path and path.is_file()), None)


@contextmanager
def build_secrets(network: Network, *, snapshot: str = "") -> Iterator[dict[str, Path]]:
    """The secrets as files that only we can read, for as long as a build runs.

    Args:
        network: the way to packages.
        snapshot: a sources.list for packages that have left the mirror.
    """
    with tempfile.TemporaryDirectory(prefix="jupbox-net-") as folder:
        texts = {
            "network": network.exports,
            "sources": network.sources,
            "snapshot": snapshot,
        }
        given = {"ca": network.ca_bundle, "uv": network.uv_configuration, "netrc": network.netrc}
        files = {key: path for key, path in given.items() if path}
        for key, text in texts.items():
            if text:
                files[key] = Path(folder) / key
                write_atomic(files[key], text.encode(), mode=0o600)
        yield files
