"""apt's words: a host's sources read, a base's sources written, a simulation's answer read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from jupbox.lock import AptPackage

_SUITES: Final = {"13": "trixie", "12": "bookworm", "11": "bullseye"}
_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
# sources.list(5) says no; these are the words that apt takes for it
_FALSE: Final = {"no", "false", "without", "off", "disable", "0"}
_ROLLING: Final = {"sid", "unstable", "experimental"}
# `Inst name [old] (version origin [arch]) …`, what `apt-get --simulate install` prints
_INST: Final = re.compile(r"^Inst (\S+) (?:\[[^\]]*\] )?\((\S+) .*\[(\w+)\]\)")


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


def parse_simulation(text: str) -> tuple[AptPackage, ...]:
    """What `apt-get --simulate install` would install, sorted by name."""
    found = {
        AptPackage(name=match[1], version=match[2], architecture=match[3])
        for line in text.splitlines()
        if (match := _INST.match(line))
    }
    return tuple(sorted(found, key=lambda package: (package.name, package.architecture)))
