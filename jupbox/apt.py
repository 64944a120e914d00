"""apt's words: a host's sources read, a base's sources written, a simulation's answer read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote

from jupbox.lock import AptPackage

_SUITES: Final = {"13": "trixie", "12": "bookworm", "11": "bullseye"}
_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
# sources.list(5) says no; these are the words that apt takes for it
_FALSE: Final = {"no", "false", "without", "off", "disable", "0"}
_ROLLING: Final = {"sid", "unstable", "experimental"}
# `'URI' name_version_architecture.deb size SHA256:hash`
_URI: Final = re.compile(
    r"^'[^']*' (?P<name>[a-z0-9][a-z0-9+.-]+)_(?P<version>[^_ ]+)_(?P<architecture>\w+)\.deb \d+ "
    r"SHA256:(?P<sha256>[0-9a-f]{64})$"
)
# snapshot.debian.org looks at the mirrors four times a day
_ARCHIVED_AFTER_HOURS: Final = (0, 8)


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """Where a host gets its Debian packages from, by its own configuration."""

    main: str
    security: str | None


def debian_suite(reference: str) -> str | None:
    """The Debian suite of a base such as `debian:trixie-slim`; None for any other image.

    `debian:13`, `debian:trixie` and `debian:trixie-20260101-slim` are understood.
    """
    match = re.fullmatch(r"(?:docker\.io/)?(?:library/)?debian:([a-z0-9]+)(?:-[0-9]+)?(?:-slim)?",
                         reference)  # fmt: skip
    if not match:
        return None
    tag = match.group(1)
    # a number that is not known here, or `latest`: no suite of a mirror is called so
    return _SUITES.get(tag, None if tag.isdigit() or tag == "latest" else tag)


def debian_mirror(sources: str) -> Mirror | None:
    """The Debian mirror that a host's apt sources name; None when it is no Debian.

    Args:
        sources: the text of sources.list and of every file in sources.list.d, both formats.
    """
    entries = list(_one_line(sources)) + list(_deb822(sources))
    main = next((uri for uri, suite in entries if _is_archive(uri) and "-" not in suite), None)
    security = next((uri for uri, suite in entries if suite.endswith("-security")), None)
    return Mirror(main=main, security=security) if main else None


def _is_archive(uri: str) -> bool:
    return uri.rstrip("/").endswith("/debian")


def _one_line(sources: str) -> Iterator[tuple[str, str]]:
    for line in sources.splitlines():
        words = re.sub(r"\[[^\]]*\]", "", line.partition("#")[0]).split()
        # main: a vendor's repository for Debian ends in /debian as well
        if words[:1] == ["deb"] and "main" in words[3:]:
            yield words[1], words[2]


def _deb822(sources: str) -> Iterator[tuple[str, str]]:
    for stanza in re.split(r"\n\s*\n", sources):
        fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t]+.*)*)$", stanza, re.MULTILINE))
        enabled = fields.get("Enabled", "yes").strip().lower() not in _FALSE
        has_main = "main" in fields.get("Components", "").split()
        if "deb" in fields.get("Types", "").split() and enabled and has_main:
            for uri in fields.get("URIs", "").split():
                for suite in fields.get("Suites", "").split():
                    yield uri, suite


def debian_sources(mirror: Mirror, suite: str) -> str:
    """A sources.list for a Debian suite from a mirror, updates and security included."""
    option = f"[signed-by={_KEYRING}]"
    lines = [f"deb {option} {mirror.main} {suite} main"]
    if suite not in _ROLLING:
        lines.append(f"deb {option} {mirror.main} {suite}-updates main")
    if mirror.security and suite not in _ROLLING:
        lines.append(f"deb {option} {mirror.security} {suite}-security main")
    return "\n".join(lines) + "\n"


def parse_uris(text: str, *, layer: int) -> tuple[AptPackage, ...]:
    """What `apt-get --print-uris install` would fetch with SHA-256 hashes, sorted by name.

    Args:
        text: what it printed.
        layer: of the image, which the packages are for.
    """
    found = {
        AptPackage(
            name=match["name"],
            version=unquote(match["version"]),
            architecture=match["architecture"],
            sha256=match["sha256"],
            layer=layer,
        )
        for line in text.splitlines()
        if (match := _URI.match(line))
    }
    return tuple(sorted(found, key=lambda package: (package.name, package.architecture)))


def parse_installed(text: str) -> tuple[AptPackage, ...]:
    """What a base holds, from lines of name, version and architecture; sorted by name."""
    rows = [line.split() for line in text.splitlines()]
    return tuple(
        AptPackage(name=name, version=version, architecture=architecture)
        for name, version, architecture in sorted(rows)
    )


def in_layers(simulated: Sequence[Sequence[AptPackage]]) -> tuple[AptPackage, ...]:
    """Which layer of an image brings which package.

    Args:
        simulated: what is installed up to each layer, the lowest first, all beyond the base.

    Returns:
        What the last one installs, each package in the lowest layer that has it. Where a layer
        has what those above it have not (a conflict), it counts for nothing.
    """
    last = simulated[-1]
    keys = {_key(package) for package in last}
    fitting = [
        (number, {_key(package) for package in layer})
        for number, layer in enumerate(simulated, 1)
        if {_key(package) for package in layer} <= keys
    ]
    return tuple(
        replace(package, layer=next(number for number, has in fitting if _key(package) in has))
        for package in last
    )


def _key(package: AptPackage) -> tuple[str, str, str]:
    return package.name, package.version, package.architecture


def snapshot_time(dates: str) -> str:
    """The archive's time, from its Release files' `Date` lines; empty without any.

    The latest of them, in the form that archives of old packages take (`20261123T080000Z`).
    """
    found = []
    for line in dates.splitlines():
        with suppress(ValueError):
            moment = parsedate_to_datetime(line.removeprefix("Date:").strip())
            # `-0000` comes back without a zone, and means UTC
            found.append(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return f"{max(found).astimezone(UTC):%Y%m%dT%H%M%SZ}" if found else ""


def snapshot_sources(archive: str, suite: str, when: str) -> str:
    """A sources.list for a Debian suite as it was at a time, from an archive of old packages.

    Args:
        archive: its address, below which `debian` and `debian-security` lie, as on
            snapshot.debian.org.
        suite: such as `trixie`.
        when: as `snapshot_time` has it.
    """
    base = archive.rstrip("/")
    mirror = Mirror(main=f"{base}/debian/{when}", security=f"{base}/debian-security/{when}")
    # a Release file of then is out of date by definition
    return debian_sources(mirror, suite).replace("[signed-by=", "[check-valid-until=no signed-by=")


def own_snapshot_sources(sources: str, when: str) -> str:
    """A sources.list by which apt 3 finds packages of a time in the archive that it knows itself.

    Source: sources.list(5), the option `snapshot`; an older apt takes no notice of it.
    """
    return sources.replace("[signed-by=", f"[snapshot={when} check-valid-until=no signed-by=")


def moments(when: str) -> tuple[str, ...]:
    """A `snapshot_time` itself, and later ones: an archive of old packages takes hours."""
    start = datetime.strptime(when, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return tuple(
        f"{start + timedelta(hours=hours):%Y%m%dT%H%M%SZ}" for hours in _ARCHIVED_AFTER_HOURS
    )


def preferences(packages: Iterable[AptPackage]) -> str:
    """A file of apt's preferences by which versions stay where the archive still has them."""
    return "\n".join(
        f"Package: {package.name}\nPin: version {package.version}\nPin-Priority: 1001\n"
        for package in packages
    )
