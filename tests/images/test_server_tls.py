"""TLS as the server speaks it, and its probe."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

import pytest
from jupbox_server.health import LIMIT

from tests.images.box import Browser, RunningServer, Seal, authority, pair, until, value_of


def _handshake(server: RunningServer, context: ssl.SSLContext) -> tuple[str, str]:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw,
        context.wrap_socket(raw) as wrapped,
    ):
        return wrapped.version() or "", (wrapped.cipher() or ("",))[0]


def _client(
    *, newest: ssl.TLSVersion, suites: str = "ALL:@SECLEVEL=0", curve: str = ""
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = newest
    context.set_ciphers(suites)
    if curve:
        context.set_ecdh_curve(curve)
    return context


@pytest.mark.parametrize(
    ("newest", "suite", "version"),
    [
        (ssl.TLSVersion.TLSv1_3, "ALL", "TLSv1.3"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", "TLSv1.2"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-CHACHA20-POLY1305", "TLSv1.2"),
    ],
)
def test_what_the_intermediate_profile_names_is_spoken(
    server: RunningServer, newest: ssl.TLSVersion, suite: str, version: str
) -> None:
    spoken, chosen = _handshake(server, _client(newest=newest, suites=suite))
    assert spoken == version
    assert suite in ("ALL", chosen)


# The alert is the server's: an error of the client's own would prove nothing.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "alert"),
    [
        (ssl.TLSVersion.TLSv1, "TLSV1_ALERT_PROTOCOL_VERSION"),
        (ssl.TLSVersion.TLSv1_1, "TLSV1_ALERT_PROTOCOL_VERSION"),
    ],
)
def test_an_old_protocol_is_refused(
    server: RunningServer, version: ssl.TLSVersion, alert: str
) -> None:
    with pytest.raises(ssl.SSLError) as refused:
        _handshake(server, _client(newest=version))
    assert refused.value.reason == alert


@pytest.mark.parametrize(
    "suites",
    [
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA384",
        "ECDHE-ECDSA-AES128-CCM",
        "AES128-GCM-SHA256",
    ],
)
def test_a_weak_suite_is_refused(server: RunningServer, suites: str) -> None:
    with pytest.raises(ssl.SSLError) as refused:
        _handshake(server, _client(newest=ssl.TLSVersion.TLSv1_2, suites=suites))
    assert "HANDSHAKE_FAILURE" in refused.value.reason


@pytest.mark.parametrize(
    ("curve", "spoken"),
    [("prime256v1", True), ("secp384r1", True), ("secp521r1", False), ("X448", False)],
)
def test_only_the_profiles_curves_are_spoken(
    server: RunningServer, curve: str, spoken: bool
) -> None:
    client = _client(newest=ssl.TLSVersion.TLSv1_3, suites="ALL", curve=curve)
    if spoken:
        assert _handshake(server, client)[0] == "TLSv1.3"
    else:
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            _handshake(server, client)


def test_plain_http_gets_no_answer(server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(b"GET /api HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            answer = raw.recv(4096)
        except ConnectionResetError:
            answer = b""
    assert b"HTTP" not in answer


def test_a_new_pair_is_served_without_a_restart(server: RunningServer, browser: Browser) -> None:
    browser.log_in_by_control()
    kernel = browser.start_kernel()
    channel = browser.open_kernel(kernel)
    assert value_of(channel, "y = 1; y") == "1"
    new = pair(server.seal.ca)
    server.seal.write_pair(new)
    until(lambda: server.served_serial() == new.serial)
    assert value_of(channel, "y + 1") == "2"
    assert browser.may_enter()
    assert browser.request("DELETE", f"/api/kernels/{kernel}").status == 204


def test_a_pair_that_does_not_match_is_never_served(server: RunningServer) -> None:
    old, new = server.served_serial(), pair(server.seal.ca)
    refusals = server.log.count("certificate is not used")
    server.seal.write("cert.pem", new.chain)
    until(lambda: server.log.count("certificate is not used") == refusals + 1)
    assert server.served_serial() == old
    server.seal.write("key.pem", new.key)
    until(lambda: server.served_serial() == new.serial)


def test_half_a_certificate_is_never_served(server: RunningServer) -> None:
    old, new = server.served_serial(), pair(server.seal.ca)
    refusals = server.log.count("certificate is not used")
    server.seal.write("key.pem", new.key)
    server.seal.write("cert.pem", new.chain[:-200])
    until(lambda: server.log.count("certificate is not used") > refusals)
    assert server.served_serial() == old
    server.seal.write("cert.pem", new.chain)
    until(lambda: server.served_serial() == new.serial)


def test_the_probe_is_content_with_a_live_server(server: RunningServer) -> None:
    answer = server.run("health", "--seal", str(server.seal.folder), "--port", str(server.port))
    assert (answer.status, answer.text, answer.errors) == (0, "", "")


def test_the_probe_refuses_a_certificate_that_is_not_the_seals(
    server: RunningServer, tmp_path: Path
) -> None:
    other = Seal(folder=tmp_path / "seal", ca=authority())
    other.create()
    answer = server.run("health", "--seal", str(other.folder), "--port", str(server.port))
    assert answer.status == 1
    assert "CERTIFICATE_VERIFY_FAILED" in answer.errors


def test_the_probe_gives_up_on_a_server_that_says_nothing(server: RunningServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        answer = server.run("health", "--seal", str(server.seal.folder), "--port", str(port))
        # its own limit, and the start of a Python on a machine that tests keep busy
        assert time.monotonic() - began < LIMIT + 5
    assert answer.status == 1
    assert answer.errors == f"unhealthy: no answer within {LIMIT} s\n"
    refused = server.run("health", "--seal", str(server.seal.folder), "--port", str(port))
    assert refused.status == 1
