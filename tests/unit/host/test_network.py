"""What a build gets to know of the user's network."""

from __future__ import annotations

import configparser
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from jupbox.errors import ConfigError
from jupbox.host import network as room
from jupbox.host.facts import HostFacts, parse
from jupbox.host.network import Network, build_secrets
from tests.unit.host.test_facts import answer

DEBIAN = parse(answer())
UBUNTU = replace(DEBIAN, apt_sources="deb http://archive.example/ubuntu noble main")
SECRET = "hunter2-and-more"


def look(
    environ: Mapping[str, str] | None = None,
    *,
    home: Path = Path("/nowhere"),
    root: Path | None = None,
    bundle: Path | None = None,
    base: str = "debian:trixie-slim",
    hosts: tuple[HostFacts, ...] = (),
    snapshots: str | None = None,
) -> Network:
    return room.look(
        environ=environ or {},
        home=home,
        root=root,
        configured_bundle=bundle,
        base=base,
        hosts=hosts,
        snapshots=snapshots,
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle.crt"
    path.write_text("PEM")
    return path


def test_with_nothing_set_there_is_nothing_to_hand_over() -> None:
    with build_secrets(look()) as secrets:
        assert secrets == {}


# --- proxies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "no_proxy", "all_proxy"])
@pytest.mark.parametrize("upper", [False, True])
def test_a_proxy_is_known_in_both_spellings(name: str, upper: bool) -> None:
    given = name.upper() if upper else name
    value = "http://proxy.example:3128"
    assert look({given: value}).variables == {name: value, name.upper(): value}


def test_the_lower_spelling_wins_as_it_does_for_curl() -> None:
    assert look({"http_proxy": "a", "HTTP_PROXY": "b"}).variables["HTTP_PROXY"] == "a"


def test_other_variables_stay_at_home() -> None:
    environ = {"HOME": "/home/a", "UV_CACHE_DIR": "/c", "AWS_SECRET_ACCESS_KEY": SECRET}
    assert look(environ).variables == {}


def test_an_empty_proxy_is_none() -> None:
    assert look({"http_proxy": "", "HTTPS_PROXY": ""}).variables == {}


# --- CA bundles -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT"])
def test_a_bundle_that_a_variable_names_is_used(name: str, bundle: Path) -> None:
    assert look({name: str(bundle)}).ca_bundle == bundle


def test_the_users_configuration_comes_before_the_variables(bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.crt"
    other.write_text("PEM")
    assert look({"SSL_CERT_FILE": str(other)}, bundle=bundle).ca_bundle == bundle


def test_the_order_of_the_variables(bundle: Path, tmp_path: Path) -> None:
    environ = {"PIP_CERT": str(tmp_path / "other"), "SSL_CERT_FILE": str(bundle)}
    assert look(environ).ca_bundle == bundle


@pytest.mark.parametrize(
    ("environ", "configured", "source"),
    [
        ({"SSL_CERT_FILE": "/no/such.crt"}, None, "SSL_CERT_FILE"),
        ({"REQUESTS_CA_BUNDLE": "/no/such.crt"}, None, "REQUESTS_CA_BUNDLE"),
        ({"PIP_CERT": "/"}, None, "PIP_CERT"),
        ({}, Path("/no/such.crt"), "the user's configuration"),
    ],
)
def test_a_bundle_that_is_not_there_is_an_error_that_says_who_named_it(
    environ: dict[str, str], configured: Path | None, source: str
) -> None:
    with pytest.raises(ConfigError, match=source):
        look(environ, bundle=configured)


@pytest.mark.parametrize("configured", [True, False])
def test_a_bundle_may_lie_in_the_home_directory(
    monkeypatch: pytest.MonkeyPatch, bundle: Path, configured: bool
) -> None:
    monkeypatch.setenv("HOME", str(bundle.parent))
    named = "~/bundle.crt"
    found = look(bundle=Path(named)) if configured else look({"SSL_CERT_FILE": named})
    assert found.ca_bundle == bundle


# --- indexes ----------------------------------------------------------------------------------


def test_uvs_own_indexes_go_in() -> None:
    environ = {
        "UV_INDEX": "lab=https://pkg.example/simple",
        "UV_DEFAULT_INDEX": "https://main.example/simple",
        "UV_INDEX_LAB_USERNAME": "alice",
        "UV_INDEX_LAB_PASSWORD": SECRET,
    }
    found = look(environ).variables
    assert environ.items() <= found.items()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"UV_DEFAULT_INDEX": "https://a.example/simple"}, "https://a.example/simple"),
        ({"UV_INDEX_URL": "https://a.example/simple"}, "https://a.example/simple"),
        ({"UV_DEFAULT_INDEX": "lab=https://a.example/simple"}, "https://a.example/simple"),
        ({"UV_DEFAULT_INDEX": "my-lab.1=http://a.example/s"}, "http://a.example/s"),
        (
            {"UV_DEFAULT_INDEX": "lab=https://u:pa=ss@a.example/simple?x=https://b"},
            "https://u:pa=ss@a.example/simple?x=https://b",
        ),
        ({"UV_DEFAULT_INDEX": "https://a.example/?u=https://b"}, "https://a.example/?u=https://b"),
    ],
)
def test_pip_which_brings_uv_gets_the_same_index(environ: dict[str, str], expected: str) -> None:
    assert look(environ).variables["PIP_INDEX_URL"] == expected


def test_uvs_configuration_is_the_one_that_is_named_else_the_projects_else_the_users(
    tmp_path: Path,
) -> None:
    root, home, xdg = tmp_path / "project", tmp_path / "home", tmp_path / "xdg"
    users = home / ".config" / "uv" / "uv.toml"
    xdgs, projects, named = xdg / "uv" / "uv.toml", root / "uv.toml", tmp_path / "named.toml"
    for path in (users, xdgs, projects, named):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    in_xdg = {"XDG_CONFIG_HOME": str(xdg)}
    assert look(home=home).uv_configuration == users
    assert look(in_xdg, home=home).uv_configuration == xdgs
    assert look(in_xdg, home=home, root=root).uv_configuration == projects
    of_all = {**in_xdg, "UV_CONFIG_FILE": str(named)}
    assert look(of_all, home=home, root=root).uv_configuration == named


UV_TOML = """
index-url = "https://old.example/simple"
[[index]]
name = "my-lab"
url = "https://lab.example/simple"
default = true
"""
CREDENTIALS = {"UV_INDEX_MY_LAB_USERNAME": "alice", "UV_INDEX_MY_LAB_PASSWORD": "p@ss/word"}


def test_pip_gets_the_index_of_uvs_configuration_with_its_credentials(tmp_path: Path) -> None:
    (tmp_path / "uv.toml").write_text(UV_TOML)
    found = look(CREDENTIALS, root=tmp_path).variables
    assert found["PIP_INDEX_URL"] == "https://alice:p%40ss%2Fword@lab.example/simple"
    # uv gets the file itself
    assert found.keys() - CREDENTIALS.keys() == {"PIP_INDEX_URL"}


def test_pip_gets_the_index_of_the_variable_with_its_credentials() -> None:
    environ = {"UV_DEFAULT_INDEX": "my-lab=https://lab.example/simple", **CREDENTIALS}
    assert look(environ).variables["PIP_INDEX_URL"].startswith("https://alice:p%40ss%2Fword@lab.")


def test_the_indexes_of_pyproject_go_in_as_variables(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        "[tool.uv]\n" + UV_TOML.replace("[[index]]", "[[tool.uv.index]]")
        + '[[tool.uv.index]]\nurl = "https://more.example/simple"\n'
    )  # fmt: skip
    found = look(root=tmp_path).variables
    assert found["UV_DEFAULT_INDEX"] == "my-lab=https://lab.example/simple"
    assert found["UV_INDEX"] == "https://more.example/simple"
    assert found["PIP_INDEX_URL"] == "https://lab.example/simple"


def test_beside_a_uv_toml_pyproject_is_not_read_as_uv_does(tmp_path: Path) -> None:
    (tmp_path / "uv.toml").write_text(UV_TOML)
    (tmp_path / "pyproject.toml").write_text('[tool.uv]\nindex-url = "https://b.example/s"\n')
    found = look(root=tmp_path).variables
    assert found == {"PIP_INDEX_URL": "https://lab.example/simple"}


def test_the_projects_index_comes_before_the_users(tmp_path: Path) -> None:
    users = tmp_path / "home" / ".config" / "uv" / "uv.toml"
    users.parent.mkdir(parents=True)
    users.write_text(UV_TOML)
    assert look(home=tmp_path / "home").variables["PIP_INDEX_URL"] == "https://lab.example/simple"
    (tmp_path / "pyproject.toml").write_text('[tool.uv]\nindex-url = "https://b.example/s"\n')
    found = look(home=tmp_path / "home", root=tmp_path)
    assert found.variables["PIP_INDEX_URL"] == "https://b.example/s"
    assert found.variables["UV_DEFAULT_INDEX"] == "https://b.example/s"
    assert found.uv_configuration == users


@pytest.mark.parametrize("text", ["no toml", "tool = 1", "[tool]\nuv = 2", "[project]", "\xff"])
def test_a_pyproject_without_uvs_table_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text, encoding="latin-1")
    assert look(root=tmp_path).variables == {}


def test_a_netrc_goes_in_only_where_a_private_index_is_set(tmp_path: Path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.touch()
    assert look(home=tmp_path).netrc is None
    assert look({"UV_INDEX": "https://pkg.example"}, home=tmp_path).netrc == netrc
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    environ = {"UV_INDEX": "https://pkg.example", "NETRC": str(elsewhere)}
    assert look(environ, home=tmp_path).netrc == elsewhere


# --- the mirror -------------------------------------------------------------------------------


def test_the_mirror_is_the_first_debian_hosts() -> None:
    found = look(hosts=(UBUNTU, DEBIAN)).sources
    assert "http://mirror.example/debian trixie main" in found


def test_the_suite_is_the_bases_and_not_the_hosts() -> None:
    assert "/debian bookworm main" in look(base="debian:12", hosts=(DEBIAN,)).sources


@pytest.mark.parametrize(
    ("base", "hosts"),
    [("ubuntu:24.04", (DEBIAN,)), ("debian:trixie", (UBUNTU,)), ("debian:trixie", ())],
)
def test_without_a_mirror_the_bases_own_sources_stay(
    base: str, hosts: tuple[HostFacts, ...]
) -> None:
    assert look(base=base, hosts=hosts).sources == ""


# --- packages that have left the mirror ---------------------------------------------------------

WHEN = "20261123T080000Z"
OLD = "http://old.example/archive"


def test_an_archive_that_the_user_names_is_asked_for_two_times() -> None:
    found = room.snapshot_sources(look(hosts=(DEBIAN,), snapshots=OLD), "debian:13", WHEN)
    addresses = [line.partition("] ")[2].split()[0] for line in found.splitlines()]
    assert addresses == [
        f"{OLD}/{archive}/{when}"
        for when in (WHEN, "20261123T160000Z")
        for archive in ("debian", "debian", "debian-security")
    ]


def test_without_one_apts_own_is_asked() -> None:
    network = look(hosts=(DEBIAN,))
    found = room.snapshot_sources(network, "debian:trixie", WHEN)
    assert found.count(f"[snapshot={WHEN} ") == len(network.sources.splitlines()) > 0


@pytest.mark.parametrize(
    ("network", "base", "when"),
    [
        pytest.param(look(hosts=(DEBIAN,), snapshots=OLD), "debian:13", "", id="no time"),
        pytest.param(look(hosts=(DEBIAN,), snapshots=OLD), "ubuntu:24.04", WHEN, id="no Debian"),
        pytest.param(look(), "debian:13", WHEN, id="the base's own sources"),
    ],
)
def test_where_no_archive_can_be_named_there_are_no_such_sources(
    network: Network, base: str, when: str
) -> None:
    assert room.snapshot_sources(network, base, when) == ""


def test_sources_of_old_packages_are_a_secret_where_there_are_any() -> None:
    with build_secrets(look(), snapshot="deb x\n") as secrets:
        assert {name: path.read_text() for name, path in secrets.items()} == {"snapshot": "deb x\n"}


# --- secrets ----------------------------------------------------------------------------------


@pytest.fixture
def full(bundle: Path, tmp_path: Path) -> Network:
    for name in ("uv.toml", ".netrc"):
        (tmp_path / name).touch()
    environ = {
        "https_proxy": f"http://alice:{SECRET}@proxy.example:3128",
        "UV_INDEX_LAB_PASSWORD": SECRET,
        "SSL_CERT_FILE": str(bundle),
    }
    return look(environ, home=tmp_path, root=tmp_path, hosts=(DEBIAN,))


def test_neither_repr_nor_str_shows_a_secret(full: Network) -> None:
    assert SECRET not in f"{full!r} {full!s} {full}"


def test_each_secret_is_a_file_of_its_name(full: Network, bundle: Path) -> None:
    with build_secrets(full) as secrets:
        assert set(secrets) == {"network", "sources", "ca", "uv", "netrc"}
        assert secrets["ca"] == bundle
        assert SECRET in secrets["network"].read_text()
        assert secrets["sources"].read_text() == full.sources


def test_what_is_written_only_we_can_read_and_afterwards_it_is_gone(full: Network) -> None:
    with build_secrets(full) as secrets:
        written = [secrets["network"], secrets["sources"]]
        modes = [stat.S_IMODE(path.stat().st_mode) for path in written]
        folder = written[0].parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes == [0o600, 0o600]
    assert not folder.exists()


def test_after_a_failure_they_are_gone_too(full: Network) -> None:
    with pytest.raises(KeyboardInterrupt), build_secrets(full) as secrets:
        folder = secrets["network"].parent
        raise KeyboardInterrupt
    assert not folder.exists()


def test_what_is_the_users_own_stays(full: Network) -> None:
    with build_secrets(full) as secrets:
        own = [secrets[key] for key in ("ca", "uv", "netrc")]
    assert all(path.exists() for path in own)


@pytest.mark.parametrize("value", ["a'b", "$(touch /tmp/x)", "a b;c", 'q"q', "back`tick`", "a\nb"])
def test_a_value_is_one_word_of_the_shell(value: str) -> None:
    exports = look({"http_proxy": value}).exports
    quoted = value.replace("'", "'\"'\"'")
    assert f"export http_proxy='{quoted}'\n" in exports


# --- what pip in the running server is told -----------------------------------------------------


def told(network: Network) -> dict[str, str]:
    return room.files_for_pip(network, ca_path="/home/ada/.config/jupbox/ca.pem")


def test_an_open_network_needs_no_file() -> None:
    assert told(look()) == {}


def test_pip_learns_bundle_proxy_and_indexes(bundle: Path) -> None:
    environ = {
        "SSL_CERT_FILE": str(bundle),
        "HTTPS_PROXY": "http://me:50%25@proxy.example:3128",
        "UV_DEFAULT_INDEX": "https://index.example/simple",
        "UV_INDEX": "lab=https://lab.example/simple https://more.example/simple",
        "UV_INDEX_LAB_USERNAME": "me",
        "UV_INDEX_LAB_PASSWORD": SECRET,
    }
    assert told(look(environ)) == {
        "ca.pem": "PEM",
        "pip.conf": "[global]\n"
        "cert = /home/ada/.config/jupbox/ca.pem\n"
        "proxy = http://me:50%25@proxy.example:3128\n"
        "index-url = https://index.example/simple\n"
        f"extra-index-url = https://me:{SECRET}@lab.example/simple\n"
        "    https://more.example/simple\n",
    }


def test_credentials_of_a_netrc_come_along_for_their_host_alone(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text(f"machine index.example login me password {SECRET}\n")
    environ = {"UV_DEFAULT_INDEX": "https://index.example/s", "UV_INDEX": "https://b.example/s"}
    text = told(look(environ, home=tmp_path))["pip.conf"]
    assert f"index-url = https://me:{SECRET}@index.example/s\n" in text
    assert "extra-index-url = https://b.example/s\n" in text


def test_pip_reads_what_is_written(bundle: Path, tmp_path: Path) -> None:
    """The parser that pip itself uses: no sign is special to it."""
    parser = configparser.RawConfigParser()
    environ = {
        "SSL_CERT_FILE": str(bundle),
        "HTTPS_PROXY": "http://a:50%25@b",
        "UV_INDEX": "https://a.example/s https://b.example/s",
    }
    parser.read_string(told(look(environ))["pip.conf"])
    assert parser["global"]["proxy"] == "http://a:50%25@b"
    assert parser["global"]["extra-index-url"].split() == [
        "https://a.example/s",
        "https://b.example/s",
    ]
