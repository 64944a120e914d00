"""apt's own words: sources of all kinds, simulations, suites."""

from __future__ import annotations

import pytest

from jupbox.apt import Mirror, debian_mirror, debian_sources, debian_suite, parse_simulation
from jupbox.lock import AptPackage

MAIN = "http://mirror.example/debian"
SECURITY = "http://mirror.example/debian-security"
BOTH = Mirror(main=MAIN, security=SECURITY)

ONE_LINE = f"""\
deb {MAIN} trixie main contrib
deb {MAIN} trixie-updates main
deb {SECURITY} trixie-security main
"""
DEB822 = f"""\
Types: deb deb-src
URIs: {MAIN}
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp

Types: deb
URIs: {SECURITY}
Suites: trixie-security
Components: main
"""
UBUNTU = """\
Types: deb
URIs: http://archive.example/ubuntu/
Suites: noble noble-updates noble-backports
Components: main universe

Types: deb
URIs: http://security.example/ubuntu/
Suites: noble-security
Components: main universe
"""
KEY_INSIDE = f"""\
Types: deb
URIs: {MAIN}
Suites: trixie
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----
"""


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        pytest.param(ONE_LINE, BOTH, id="one-line"),
        pytest.param(DEB822, BOTH, id="deb822, several stanzas and suites"),
        pytest.param(f"# moved to debian.sources\n\n\n{DEB822}\n\n", BOTH, id="both, one empty"),
        pytest.param(
            f"deb [arch=amd64 signed-by=/etc/apt/keyrings/a.gpg] {MAIN} trixie main",
            Mirror(main=MAIN, security=None),
            id="options",
        ),
        pytest.param(
            f"deb {MAIN}/ bookworm main # the institute's",
            Mirror(main=f"{MAIN}/", security=None),
            id="a slash at the end, a comment after it",
        ),
        pytest.param(f"# deb {MAIN} trixie main\n", None, id="commented out"),
        pytest.param(f"deb-src {MAIN} trixie main\n", None, id="source packages only"),
        pytest.param(
            DEB822.replace("Types: deb deb-src", "Types: deb-src"),
            None,
            id="deb822, source packages only",
        ),
        pytest.param(
            "".join(f"#{line}\n" for line in DEB822.splitlines()), None, id="deb822, commented out"
        ),
        pytest.param(KEY_INSIDE, Mirror(main=MAIN, security=None), id="deb822, key inside"),
        pytest.param(
            f"Types: deb\nURIs:\n {MAIN}\n {MAIN}2\nSuites: sid\nComponents: main\n",
            Mirror(main=MAIN, security=None),
            id="deb822, a field over several lines",
        ),
        pytest.param(
            f"deb http://other.example/debian trixie-backports main\ndeb {MAIN} trixie main",
            Mirror(main=MAIN, security=None),
            id="backports first",
        ),
        pytest.param(UBUNTU, None, id="Ubuntu"),
        pytest.param(
            f"{UBUNTU}\ndeb https://download.example/linux/ubuntu noble stable\n",
            None,
            id="Ubuntu with a vendor's repository",
        ),
        pytest.param(
            f"deb https://download.example/linux/debian-vendor trixie stable\n{ONE_LINE}",
            BOTH,
            id="a vendor's repository first",
        ),
        pytest.param(
            "deb cdrom:[Debian GNU/Linux 13 _Trixie_]/ trixie main\n" + ONE_LINE,
            BOTH,
            id="the installer's disc",
        ),
        pytest.param(
            "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: trixie\n",
            None,
            id="a list of mirrors, which is a file of the host",
        ),
        pytest.param("", None, id="nothing"),
    ],
)
def test_the_mirror_of_a_host(sources: str, expected: Mirror | None) -> None:
    assert debian_mirror(sources) == expected


@pytest.mark.parametrize("word", ["no", "No", "false", "off", "0", "disable", "without"])
def test_a_stanza_that_is_switched_off_names_no_mirror(word: str) -> None:
    assert debian_mirror(f"Enabled: {word}\n{KEY_INSIDE}") is None


def test_a_stanza_that_is_switched_on_does() -> None:
    assert debian_mirror(f"Enabled: yes\n{KEY_INSIDE}") == Mirror(main=MAIN, security=None)


# --- to sources -------------------------------------------------------------------------------


def test_sources_hold_updates_and_security() -> None:
    option = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    expected = (
        f"deb {option} {MAIN} bookworm main\n"
        f"deb {option} {MAIN} bookworm-updates main\n"
        f"deb {option} {SECURITY} bookworm-security main\n"
    )
    assert debian_sources(BOTH, "bookworm") == expected


def test_no_security_mirror_is_made_up() -> None:
    assert "security" not in debian_sources(Mirror(main=MAIN, security=None), "trixie")


def test_a_rolling_suite_has_neither_updates_nor_security() -> None:
    assert len(debian_sources(BOTH, "sid").splitlines()) == 1


def test_written_sources_are_read_again() -> None:
    assert debian_mirror(debian_sources(BOTH, "trixie")) == BOTH


# --- suites -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("debian:trixie-slim", "trixie"),
        ("debian:trixie", "trixie"),
        ("debian:13", "trixie"),
        ("debian:13-slim", "trixie"),
        ("debian:12-slim", "bookworm"),
        ("debian:bookworm-20260101-slim", "bookworm"),
        ("debian:stable-slim", "stable"),
        ("debian:sid", "sid"),
        ("docker.io/library/debian:trixie-slim", "trixie"),
        ("library/debian:trixie", "trixie"),
        ("docker.io/debian:trixie", "trixie"),
        ("debian", None),
        ("debian:latest", None),
        ("debian:99", None),
        ("debian:12.5", None),
        ("debian:bookworm-backports", None),
        ("ubuntu:24.04", None),
        ("ubuntu:noble", None),
        ("registry.example/debian:trixie", None),
        ("registry.example:5000/team/debian:trixie", None),
        ("python:3.13-trixie", None),
        (f"debian:trixie@sha256:{'a' * 64}", None),
        ("debian:trixie\nevil", None),
    ],
)
def test_the_suite_of_a_base(reference: str, expected: str | None) -> None:
    assert debian_suite(reference) == expected


# --- simulations ------------------------------------------------------------------------------

SIMULATION = """\
Reading package lists...
Building dependency tree...
The following additional packages will be installed:
  libpython3-stdlib perl-base
The following packages will be upgraded:
  perl-base
1 upgraded, 3 newly installed, 0 to remove and 0 not upgraded.
Inst perl-base [5.40.1-6] (5.40.1-6+deb13u1 Debian-Security:13/stable-security [amd64]) []
Inst python3-minimal (3.13.5-1 Debian:13.2/stable [amd64]) [python3-minimal:amd64 ]
Inst git (1:2.47.3-0+deb13u1 Debian:13.2/stable, Debian-Security:13/stable-security [amd64])
Inst ca-certificates (20250419 Debian:13.2/stable [all])
Inst libc6:i386 (2.41-12 Debian:13.2/stable [i386])
Inst tzdata (2025b-4+deb13u1~bpo1 local-mirror [all])
Remv gone [1.0]
Conf perl-base (5.40.1-6+deb13u1 Debian-Security:13/stable-security [amd64])
Conf git (1:2.47.3-0+deb13u1 Debian:13.2/stable [amd64])
"""


def test_a_simulation_gives_what_would_be_installed_sorted_and_once() -> None:
    expected = (
        AptPackage(name="ca-certificates", version="20250419", architecture="all"),
        AptPackage(name="git", version="1:2.47.3-0+deb13u1", architecture="amd64"),
        AptPackage(name="libc6:i386", version="2.41-12", architecture="i386"),
        AptPackage(name="perl-base", version="5.40.1-6+deb13u1", architecture="amd64"),
        AptPackage(name="python3-minimal", version="3.13.5-1", architecture="amd64"),
        AptPackage(name="tzdata", version="2025b-4+deb13u1~bpo1", architecture="all"),
    )
    assert parse_simulation(SIMULATION + SIMULATION) == expected


def test_an_upgrade_is_locked_at_its_new_version() -> None:
    (package,) = parse_simulation("Inst bash [5.2.1-1] (5.2.2-1 Debian:13/stable [arm64])\n")
    assert (package.version, package.architecture) == ("5.2.2-1", "arm64")


def test_nothing_to_install_is_no_package() -> None:
    assert parse_simulation("0 upgraded, 0 newly installed, 0 to remove.\n") == ()
