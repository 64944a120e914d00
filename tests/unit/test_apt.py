"""apt's own words: sources of all kinds, simulations, suites."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from jupbox.apt import (
    Mirror,
    debian_mirror,
    debian_sources,
    debian_suite,
    in_layers,
    moments,
    own_snapshot_sources,
    parse_installed,
    parse_uris,
    preferences,
    snapshot_sources,
    snapshot_time,
)
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


# --- what would be fetched ----------------------------------------------------------------------

ONE, TWO = ("1" * 64, "2" * 64)
URIS = f"""\
'{MAIN}/pool/main/p/python3-defaults/python3_3.13.5-1_amd64.deb' python3_3.13.5-1_amd64.deb 28200 SHA256:{TWO}
'{MAIN}/pool/main/g/git/git_2.47.3-0%2bdeb13u1_amd64.deb' git_1%3a2.47.3-0+deb13u1_amd64.deb 8862 SHA256:{ONE}
'{MAIN}/pool/main/t/tzdata/tzdata_2025b-4%2bdeb13u1%7ebpo1_all.deb' tzdata_2025b-4+deb13u1~bpo1_all.deb 260 SHA256:{ONE}
'{MAIN}/pool/main/g/gcc/libstdc%2b%2b6_14.2.0-19_amd64.deb' libstdc++6_14.2.0-19_amd64.deb 7 SHA256:{TWO}
"""  # noqa: E501 - as apt prints it


def package(name: str, version: str = "1", layer: int = 1, **more: str) -> AptPackage:
    return AptPackage(name=name, version=version, layer=layer, **({"architecture": "amd64"} | more))


def test_what_would_be_fetched_comes_with_its_hash_sorted_and_once() -> None:
    expected = (
        package("git", "1:2.47.3-0+deb13u1", sha256=ONE),
        package("libstdc++6", "14.2.0-19", sha256=TWO),
        package("python3", "3.13.5-1", sha256=TWO),
        package("tzdata", "2025b-4+deb13u1~bpo1", sha256=ONE, architecture="all"),
    )
    assert parse_uris(URIS + URIS, layer=1) == expected


def test_what_would_be_fetched_is_of_the_layer_that_it_was_asked_for() -> None:
    assert {found.layer for found in parse_uris(URIS, layer=3)} == {3}


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("", id="nothing"),
        pytest.param("Reading package lists...", id="talk"),
        pytest.param(f"'{MAIN}/g.deb' git_1_amd64.deb 8862 ", id="no hash"),
        pytest.param(f"'{MAIN}/g.deb' git_1_amd64.deb 8862 MD5Sum:{'1' * 32}", id="a weak hash"),
        pytest.param(f"'{MAIN}/g.deb' git_1_amd64.deb 8862 SHA256:{ONE[1:]}", id="half a hash"),
        pytest.param(f"'{MAIN}/g.dsc' git_1.dsc 8862 SHA256:{ONE}", id="a source"),
    ],
)
def test_a_line_without_a_whole_hash_is_no_package(line: str) -> None:
    assert parse_uris(f"{line}\n", layer=1) == ()


def test_what_a_base_holds_is_sorted_and_has_no_hash() -> None:
    said = "tzdata 2025b-4 all\nlibc6 2.41-12 amd64\nbash 5.2.37-2+b5 amd64\n"
    assert parse_installed(said) == (
        package("bash", "5.2.37-2+b5"),
        package("libc6", "2.41-12"),
        package("tzdata", "2025b-4", architecture="all"),
    )
    assert parse_installed("") == ()


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        pytest.param(["a b"], {"a": 1, "b": 1}, id="one layer"),
        pytest.param(["a", "a b", "a b c"], {"a": 1, "b": 2, "c": 3}, id="each brings its own"),
        pytest.param(["a", "a", "a b"], {"a": 1, "b": 3}, id="one brings nothing"),
        pytest.param(["", "a"], {"a": 2}, id="nothing below"),
        pytest.param(["a x", "a b"], {"a": 2, "b": 2}, id="a conflict removes what was below"),
        pytest.param(["a=1", "a=2 b"], {"a": 2, "b": 2}, id="a conflict of versions"),
        pytest.param(["a", "a x", "a b"], {"a": 1, "b": 3}, id="a conflict in the middle"),
        pytest.param([""], {}, id="nothing at all"),
    ],
)
def test_a_package_is_of_the_lowest_layer_that_fits_those_above(
    layers: Sequence[str], expected: dict[str, int]
) -> None:
    def simulated(number: int, words: str) -> tuple[AptPackage, ...]:
        parts = [word.partition("=") for word in words.split()]
        return tuple(package(name, version or "1", number) for name, _, version in parts)

    found = in_layers([simulated(number, words) for number, words in enumerate(layers, 1)])
    assert {one.name: one.layer for one in found} == expected
    last = simulated(1, layers[-1])
    assert [(one.name, one.version) for one in found] == [(p.name, p.version) for p in last]


# --- archives of old packages -------------------------------------------------------------------

WHEN = "20261123T080000Z"


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        ("Date: Mon, 23 Nov 2026 08:00:00 UTC\n", WHEN),
        ("Date: Mon, 23 Nov 2026 10:00:00 +0200\n", WHEN),
        ("Mon, 23 Nov 2026 08:00:00 UTC", WHEN),
        ("Date: Sat, 21 Nov 2026 20:11:12 UTC\nDate: Mon, 23 Nov 2026 08:00:00 UTC\n", WHEN),
        ("Date: Mon, 23 Nov 2026 08:00:00 UTC\nDate: Sat, 21 Nov 2026 20:11:12 UTC\n", WHEN),
        ("Date: some day\nDate: Mon, 23 Nov 2026 08:00:00 UTC\n\n", WHEN),
        ("Date: some day\n", ""),
        ("", ""),
    ],
)
def test_the_archives_time_is_the_latest_of_its_release_files(dates: str, expected: str) -> None:
    assert snapshot_time(dates) == expected


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_archive_of_old_packages_is_a_mirror_of_a_time(slash: str) -> None:
    option = "[check-valid-until=no signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    old = "http://old.example/archive"
    assert snapshot_sources(f"{old}{slash}", "trixie", WHEN) == (
        f"deb {option} {old}/debian/{WHEN} trixie main\n"
        f"deb {option} {old}/debian/{WHEN} trixie-updates main\n"
        f"deb {option} {old}/debian-security/{WHEN} trixie-security main\n"
    )


def test_the_archive_that_apt_knows_is_an_option_of_the_same_sources() -> None:
    sources = debian_sources(BOTH, "trixie")
    lines = own_snapshot_sources(sources, WHEN).splitlines()
    assert len(lines) == len(sources.splitlines())
    for line, before in zip(lines, sources.splitlines(), strict=True):
        assert line.startswith(f"deb [snapshot={WHEN} check-valid-until=no signed-by=/usr/")
        assert line.partition("] ")[2] == before.partition("] ")[2]
    assert own_snapshot_sources("", WHEN) == ""


@pytest.mark.parametrize(
    ("when", "later"),
    [
        (WHEN, "20261123T160000Z"),
        ("20261231T200000Z", "20270101T040000Z"),
        ("20280228T235959Z", "20280229T075959Z"),
    ],
)
def test_a_time_is_looked_for_as_it_is_and_some_hours_later(when: str, later: str) -> None:
    assert moments(when) == (when, later)


def test_preferences_hold_each_package_at_its_version_even_against_newer_ones() -> None:
    found = preferences([package("git", "1:2"), package("tzdata", "2025b")])
    assert found == (
        "Package: git\nPin: version 1:2\nPin-Priority: 1001\n"
        "\n"
        "Package: tzdata\nPin: version 2025b\nPin-Priority: 1001\n"
    )
    assert preferences([]) == ""
