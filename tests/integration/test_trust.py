"""The authority in real NSS databases, and its certificates in front of other programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext

import pytest

from jupbox.errors import CertificateError, TrustError
from jupbox.host import trust as trust_room
from jupbox.host.trust import Store, is_trusted, stores, trust, untrust
from jupbox.pki import Authority, Names, authority_name, issue_leaf, make_authority

NOW = datetime.now(UTC)
NAMES = Names.of(["workbox", "workbox.example.org", "192.0.2.7"])
NICKNAME = authority_name("workbox")


def certutil(*arguments: str, stdin: bytes = b"") -> str:
    done = subprocess.run(
        ["certutil", *arguments], input=stdin, capture_output=True, check=True, timeout=60
    )
    return done.stdout.decode()


def database(directory: Path, password: str = "") -> Path:
    directory.mkdir(parents=True)
    if password:
        file = directory.parent / "password"
        file.write_text(password + "\n")
        certutil("-N", "-d", f"sql:{directory}", "-f", str(file))
    else:
        certutil("-N", "-d", f"sql:{directory}", "--empty-password")
    return directory


def listed(directory: Path) -> list[tuple[str, str]]:
    """Nicknames and trust flags, read from certutil's table."""
    lines = certutil("-L", "-d", f"sql:{directory}").splitlines()[4:]
    return [(line.rsplit(None, 1)[0].strip(), line.rsplit(None, 1)[1]) for line in lines if line]


def stored(directory: Path, nickname: str = NICKNAME) -> str:
    text = certutil("-L", "-d", f"sql:{directory}", "-n", nickname, "-a")
    return "".join(text.split())


def text_of(pem: bytes) -> str:
    return "".join(pem.decode().split())


def nss(directory: Path) -> Store:
    return Store(kind="nss", location=str(directory))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority(box="workbox", names=NAMES, now=NOW)


@pytest.fixture(scope="module")
def newer() -> Authority:
    return make_authority(box="workbox", names=NAMES, now=NOW)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def made(home: Path) -> None:
    home.mkdir()


def test_makes_chromiums_database_and_trusts_for_servers_only(
    home: Path, authority: Authority
) -> None:
    chromium = home / ".pki/nssdb"
    result = trust(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home, system=False)
    assert result.added == (nss(chromium),)
    assert (result.already, result.skipped) == ((), ())
    assert listed(chromium) == [(NICKNAME, "C,,")]
    assert stored(chromium) == text_of(authority.certificate_pem)
    assert chromium.stat().st_mode & 0o777 == 0o700
    assert (home / ".pki").stat().st_mode & 0o777 == 0o700


def test_nss_itself_verifies_a_leaf_by_the_trusted_authority(
    home: Path, authority: Authority
) -> None:
    trust(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home, system=False)
    where = f"sql:{home / '.pki/nssdb'}"
    leaf = issue_leaf(authority=authority, names=NAMES, now=NOW)
    certutil("-A", "-d", where, "-n", "leaf", "-t", ",,", "-a", stdin=leaf.certificate_pem)
    assert "certificate is valid" in certutil("-V", "-d", where, "-n", "leaf", "-u", "V", "-e")


def test_done_twice_it_changes_nothing(home: Path, authority: Authority) -> None:
    def again() -> trust_room.TrustResult:
        return trust(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home, system=False)

    first = again()
    written = (home / ".pki/nssdb/cert9.db").read_bytes()
    second = again()
    assert (second.added, second.already) == ((), first.added)
    assert (home / ".pki/nssdb/cert9.db").read_bytes() == written


def test_an_older_authority_of_the_box_is_replaced(
    home: Path, authority: Authority, newer: Authority
) -> None:
    for each in (authority, newer):
        trust(ca_pem=each.certificate_pem, nickname=NICKNAME, home=home, system=False)
    assert listed(home / ".pki/nssdb") == [(NICKNAME, "C,,")]
    assert stored(home / ".pki/nssdb") == text_of(newer.certificate_pem)
    assert is_trusted(ca_pem=newer.certificate_pem, nickname=NICKNAME, home=home)
    assert not is_trusted(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home)


def test_other_boxes_and_other_certificates_stay(
    home: Path, authority: Authority, newer: Authority
) -> None:
    other = make_authority(box="otherbox", names=NAMES, now=NOW)
    other_name = authority_name("otherbox")
    trust(ca_pem=other.certificate_pem, nickname=other_name, home=home, system=False)
    for each in (authority, newer):
        trust(ca_pem=each.certificate_pem, nickname=NICKNAME, home=home, system=False)
    untrust(nickname=NICKNAME, home=home, system=False)
    assert listed(home / ".pki/nssdb") == [(other_name, "C,,")]


def test_trust_that_the_user_took_away_is_given_back_when_asked(
    home: Path, authority: Authority
) -> None:
    trust(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home, system=False)
    certutil("-M", "-d", f"sql:{home / '.pki/nssdb'}", "-n", NICKNAME, "-t", ",,")
    assert not is_trusted(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home)
    trust(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home, system=False)
    assert listed(home / ".pki/nssdb") == [(NICKNAME, "C,,")]


def test_a_box_under_a_second_name_is_trusted_already(home: Path, authority: Authority) -> None:
    trust(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home, system=False)
    again = trust(
        ca_pem=authority.certificate_pem, nickname="another name", home=home, system=False
    )
    assert (again.added, len(again.already)) == ((), 1)
    assert is_trusted(ca_pem=authority.certificate_pem, nickname="another name", home=home)


def test_a_nickname_with_a_colon_is_not_taken_for_a_token(home: Path, authority: Authority) -> None:
    nickname = authority_name("me@host:2222")
    for _ in range(2):
        trust(ca_pem=authority.certificate_pem, nickname=nickname, home=home, system=False)
    assert is_trusted(ca_pem=authority.certificate_pem, nickname=nickname, home=home)
    assert len(untrust(nickname=nickname, home=home, system=False)) == 1
    assert listed(home / ".pki/nssdb") == []


@pytest.mark.parametrize(
    "profile",
    [
        ".mozilla/firefox/abc.default-esr",
        ".config/mozilla/firefox/abc.default",
        "snap/firefox/common/.mozilla/firefox/abc.default",
        ".var/app/org.mozilla.firefox/.mozilla/firefox/abc.default",
        ".var/app/org.mozilla.firefox/config/mozilla/firefox/abc.default",
        "Library/Application Support/Firefox/Profiles/abc.default",
    ],
)
def test_finds_firefox_profiles(home: Path, authority: Authority, profile: str) -> None:
    directory = database(home / profile)
    (home / profile).with_name("never-started").mkdir()
    result = trust(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home, system=False)
    assert result.added == (nss(home / ".pki/nssdb"), nss(directory))
    assert listed(directory) == [(NICKNAME, "C,,")]


def test_finds_each_firefox_profile_once_and_those_that_lie_elsewhere(
    home: Path, tmp_path: Path
) -> None:
    root = home / ".mozilla/firefox"
    inside, outside = database(root / "in.default"), database(tmp_path / "elsewhere")
    (root / "profiles.ini").write_text(
        "[General]\nVersion=2\n\n"
        "[Profile0]\nName=a\nIsRelative=1\nPath=in.default\n\n"
        f"[Profile1]\nName=100%\nIsRelative=0\nPath={outside}\n"
    )
    assert set(stores(home)) == {nss(home / ".pki/nssdb"), nss(inside), nss(outside)}
    assert len(stores(home)) == 3


def test_a_broken_profiles_ini_hides_nothing(home: Path) -> None:
    inside = database(home / ".mozilla/firefox/in.default")
    (home / ".mozilla/firefox/profiles.ini").write_bytes(b"no section\n\xff")
    assert nss(inside) in stores(home)


def test_a_confined_chromium_gets_its_own_database(home: Path, authority: Authority) -> None:
    (home / "snap/chromium/2911").mkdir(parents=True)
    (home / "snap/chromium/current").symlink_to("2911")
    trust(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home, system=False)
    assert listed(home / "snap/chromium/2911/.pki/nssdb") == [(NICKNAME, "C,,")]


def test_the_database_of_a_new_chromium_is_not_hidden_by_an_old_one(
    home: Path, authority: Authority
) -> None:
    modern = database(home / ".local/share/pki/nssdb")
    trust(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home, system=False)
    assert listed(modern) == [(NICKNAME, "C,,")]
    assert not (home / ".pki").exists()


def test_a_database_with_a_primary_password_is_skipped_and_left_as_it_was(
    home: Path, authority: Authority
) -> None:
    locked = database(home / ".mozilla/firefox/locked.default", password="primary secret")
    result = trust(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home, system=False)
    assert [store for store, _ in result.skipped] == [nss(locked)]
    assert "BAD_PASSWORD" in result.skipped[0][1]
    assert listed(locked) == []
    assert result.added == (nss(home / ".pki/nssdb"),)
    assert not is_trusted(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home)


def test_a_broken_database_is_skipped_with_its_reason(home: Path, authority: Authority) -> None:
    broken = home / ".mozilla/firefox/broken.default"
    broken.mkdir(parents=True)
    (broken / "cert9.db").write_bytes(b"no database")
    result = trust(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home, system=False)
    assert [store for store, _ in result.skipped] == [nss(broken)]
    assert result.skipped[0][1]


def test_nothing_written_is_an_error_with_the_reason(home: Path, authority: Authority) -> None:
    (home / ".pki").write_text("a file in the way")
    with pytest.raises(TrustError, match=r"No trust store could be written.*\.pki/nssdb"):
        trust(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home, system=False)
    assert not is_trusted(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can meet another user's home")
def test_root_makes_no_database_in_a_users_home(home: Path, authority: Authority) -> None:
    os.chown(home, 4711, 4711)
    with pytest.raises(TrustError, match="belongs to another user"):
        trust(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home, system=False)
    assert list(home.iterdir()) == []


def test_without_certutil_the_error_names_the_package(
    home: Path, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "apt-get").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(TrustError, match="certutil is missing") as raised:
        trust(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home, system=False)
    assert raised.value.remedy == "Install certutil: apt install libnss3-tools"
    assert list(home.iterdir()) == []
    assert not is_trusted(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home)


def test_what_is_no_certificate_is_refused(home: Path) -> None:
    with pytest.raises(CertificateError):
        trust(ca_pem=b"no pem", nickname=NICKNAME, home=home, system=False)
    assert list(home.iterdir()) == []


def test_untrust_takes_it_out_everywhere_and_says_where(home: Path, authority: Authority) -> None:
    profile = database(home / ".mozilla/firefox/abc.default")
    trust(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home, system=False)
    assert untrust(nickname=NICKNAME, home=home, system=False) == (
        nss(home / ".pki/nssdb"),
        nss(profile),
    )
    assert listed(profile) == []
    assert untrust(nickname=NICKNAME, home=home, system=False) == ()


def test_untrust_makes_no_database(home: Path) -> None:
    assert untrust(nickname=NICKNAME, home=home, system=False) == ()
    assert list(home.iterdir()) == []


# The system's store


@pytest.fixture
def system_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The distribution's own update-ca-certificates on directories of the test.

    Like a real system's store it holds another authority before.
    """
    if shutil.which("update-ca-certificates") is None:
        pytest.skip("no Debian: update-ca-certificates is not here")
    local, bundle = tmp_path / "local", tmp_path / "certs"
    for directory in (local, bundle, tmp_path / "shipped", tmp_path / "hooks"):
        directory.mkdir()
    shipped = make_authority(box="shipped", names=NAMES, now=NOW).certificate_pem
    (tmp_path / "shipped/shipped.crt").write_bytes(shipped)
    (tmp_path / "ca-certificates.conf").write_text("shipped.crt\n")
    command = (
        *trust_room._DEBIAN.refresh,
        "--certsconf",
        str(tmp_path / "ca-certificates.conf"),
        "--certsdir",
        str(tmp_path / "shipped"),
        "--localcertsdir",
        str(local),
        "--etccertsdir",
        str(bundle),
        "--hooksdir",
        str(tmp_path / "hooks"),
    )
    layout = trust_room._SystemLayout(directory=local, suffix=".crt", refresh=command)
    monkeypatch.setattr(trust_room, "_system_layout", lambda: layout)
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return bundle


def system_trusts(directory: Path, authority: Authority) -> tuple[bool, bool]:
    """Whether an authority is found in the bundle and by OpenSSL's hashed links."""
    bundled = text_of(authority.certificate_pem) in text_of(
        (directory / "ca-certificates.crt").read_bytes()
    )
    verified = subprocess.run(
        ["openssl", "verify", "-no-CAfile", "-no-CAstore", "-CApath", str(directory)],
        input=issue_leaf(authority=authority, names=NAMES, now=NOW).certificate_pem,
        check=False,
        capture_output=True,
        timeout=60,
    )
    return bundled, verified.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes the system's store")
def test_root_writes_the_systems_store_and_takes_it_back(
    home: Path, authority: Authority, newer: Authority, system_store: Path
) -> None:
    for each in (authority, newer):
        first = trust(ca_pem=each.certificate_pem, nickname=NICKNAME, home=home, system=True)
        assert [store.kind for store in first.added] == ["nss", "system"]
        assert system_trusts(system_store, each) == (True, True)
    assert system_trusts(system_store, authority) == (False, False)
    second = trust(ca_pem=newer.certificate_pem, nickname=NICKNAME, home=home, system=True)
    assert [store.kind for store in second.already] == ["nss", "system"]
    removed = untrust(nickname=NICKNAME, home=home, system=True)
    assert [store.kind for store in removed] == ["nss", "system"]
    assert system_trusts(system_store, newer) == (False, False)


def test_others_than_root_are_told_that_the_systems_store_was_skipped(
    home: Path, authority: Authority, system_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    trust(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home, system=False)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    result = trust(ca_pem=authority.certificate_pem, nickname=NICKNAME, home=home, system=True)
    assert [(store.kind, reason) for store, reason in result.skipped] == [
        ("system", "only root may write it")
    ]
    assert system_trusts(system_store, authority) == (False, False)


# Other programs and our certificates


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> Path:
    leaf = issue_leaf(authority=authority, names=NAMES, now=NOW)
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    (tmp_path / "leaf.pem").write_bytes(leaf.certificate_pem)
    (tmp_path / "chain.pem").write_bytes(leaf.certificate_pem + leaf.key_pem.reveal().encode())
    return tmp_path


def openssl_verify(files: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *("openssl", "verify", "-x509_strict", "-purpose", "sslserver"),
            *("-CAfile", str(files / "ca.pem"), *arguments, str(files / "leaf.pem")),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("-verify_hostname", "workbox.example.org"),
        ("-verify_hostname", "localhost"),
        ("-verify_ip", "192.0.2.7"),
        ("-verify_ip", "::1"),
    ],
)
def test_openssl_verifies_the_leaf(files: Path, arguments: tuple[str, str]) -> None:
    done = openssl_verify(files, *arguments)
    assert (done.returncode, done.stderr) == (0, "")


def test_openssl_refuses_another_name(files: Path) -> None:
    assert openssl_verify(files, "-verify_hostname", "other.example").returncode != 0


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def port(files: Path) -> Iterator[int]:
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "chain.pem")
    with ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")
@pytest.mark.parametrize(
    ("host", "accepted"),
    [
        ("workbox", True),
        ("localhost", True),
        ("127.0.0.1", True),
        ("192.0.2.8", False),
        ("other.example", False),
    ],
)
def test_curl_accepts_the_boxs_names_and_no_others(
    files: Path, port: int, host: str, accepted: bool
) -> None:
    done = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "20"),
            *("--cacert", str(files / "ca.pem"), "--connect-to", f"::127.0.0.1:{port}"),
            f"https://{host}:{port}/api",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    # 60: the server's certificate cannot be authenticated.
    assert done.returncode == (0 if accepted else 60), done.stderr
