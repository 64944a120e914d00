"""Who comes in, and who does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import websocket
from jupbox_server.passes import LIFETIME, OUTSTANDING, ClientPasses

from tests.images.box import (
    PASSWORD,
    Browser,
    RunningServer,
    Seal,
    authority,
    hash_of,
    login_cookie,
    pair,
    until,
    value_of,
)
from tests.images.conftest import SERVER, TOKEN


@pytest.fixture
def kept_password(server: RunningServer):
    """Give the server its password back."""
    yield
    server.seal.write_password(PASSWORD)


def test_the_password_opens_a_session(browser: Browser) -> None:
    assert not browser.may_enter()
    answer = browser.log_in(PASSWORD)
    assert answer.status == 302
    assert browser.may_enter()
    cookie = login_cookie(browser)
    assert cookie.startswith(f"username-localhost-{browser.server.port}-")
    for attribute in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert attribute in cookie


def test_a_page_without_login_leads_to_the_login_form(browser: Browser) -> None:
    answer = browser.get("/lab")
    assert (answer.status, answer.headers["Location"]) == (302, "/login?next=%2Flab")
    form = browser.get("/login").text
    assert 'name="password"' in form
    assert "oken authentication" not in form
    assert "new_password" not in form


@pytest.mark.parametrize("password", ["wrong horse battery", "", TOKEN, PASSWORD + " ", "x" * 5000])
def test_another_password_is_refused(browser: Browser, password: str) -> None:
    assert browser.log_in(password).status == 401
    assert not browser.may_enter()


def test_a_hash_as_jupyter_makes_it_is_understood(
    server: RunningServer, browser: Browser, kept_password: None
) -> None:
    from argon2 import PasswordHasher

    jupyters = PasswordHasher(memory_cost=10240, time_cost=10, parallelism=8)
    server.seal.write("password.hash", f"argon2:{jupyters.hash('née en hiver')}".encode())
    assert browser.log_in("née en hiver").status == 302


def test_who_guesses_has_to_wait_but_not_the_owner(browser: Browser) -> None:
    answers = [browser.log_in("wrong horse") for _ in range(7)]
    statuses = [answer.status for answer in answers]
    assert statuses[:5] == [401] * 5
    assert 429 in statuses[5:]
    assert all(int(a.headers["Retry-After"]) >= 1 for a in answers if a.status == 429)
    browser.log_in_by_control()
    assert browser.may_enter()


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (f"/api/kernels?token={TOKEN}", {}),
        ("/api/kernels?token=", {}),
        ("/api/kernels", {"Authorization": f"token {TOKEN}"}),
        ("/api/kernels", {"Authorization": f"Bearer {TOKEN}"}),
        ("/api/kernels", {"Authorization": "token "}),
        ("/api/kernels", {"Cookie": "username-localhost=x; mine=x"}),
    ],
)
def test_no_token_opens_it(browser: Browser, path: str, headers: dict[str, str]) -> None:
    assert browser.get(path, headers).status == 403


@pytest.mark.parametrize("path", ["/api/kernels", "/api/contents", "/api/terminals", "/metrics"])
def test_the_users_configuration_does_not_open_it(browser: Browser, path: str) -> None:
    answer = browser.get(path)
    assert answer.status == 403 or answer.headers["Location"].startswith("/login")
    log = browser.server.log
    for name in ("IdentityProvider.token", "ServerApp.tornado_settings", "ServerApp.allow_origin"):
        assert f"Ignored {name}" in log
    assert "Ignored ServerApp.open_browser" not in log
    assert "Ignored ServerApp.max_body_size" not in log


def test_a_logged_in_request_without_the_xsrf_token_is_refused(browser: Browser) -> None:
    browser.log_in_by_control()
    del browser.cookies["_xsrf"]
    assert browser.request("POST", "/api/kernels", "{}").status == 403
    assert browser.get("/api/kernels", {"Origin": "https://evil.example"}).status == 404


def test_the_box_decides_folder_terminals_and_lab(browser: Browser) -> None:
    browser.log_in_by_control()
    (browser.server.home / "notebooks" / "seen.txt").write_text("here")
    names = [entry["name"] for entry in browser.get("/api/contents").json["content"]]
    assert "seen.txt" in names
    assert browser.get("/api/terminals").status == 200
    assert browser.get("/").headers["Location"] == "/lab?"
    lab = browser.get("/lab")
    assert lab.status == 200
    page = json.loads(lab.text.split('type="application/json">')[1].split("</script>")[0])
    assert (page["token"], page["quitButton"]) == ("", False)


def test_an_empty_cookie_secret_is_not_used(server: RunningServer) -> None:
    secret = server.home / ".local/share/jupyter/runtime/jupyter_cookie_secret"
    assert secret.stat().st_size >= 32


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost:9999", True),
        ("workbox", True),
        ("a.lab.example:8888", True),
        ("192.0.2.7:8888", True),
        ("127.0.0.1", True),
        ("evil.example", False),
        ("workbox.evil.example", False),
        ("192.0.2.8", False),
    ],
)
def test_only_the_boxs_own_names_are_answered(browser: Browser, host: str, allowed: bool) -> None:
    browser.host = host
    assert (browser.get("/login").status == 200) is allowed


def test_a_changed_password_ends_old_logins_and_no_kernel(
    server: RunningServer, browser: Browser, kept_password: None
) -> None:
    browser.log_in_by_control()
    kernel = browser.start_kernel()
    socket = browser.open_kernel(kernel)
    assert value_of(socket, "x = 41; x") == "41"
    pid = server.process.pid

    server.seal.write_password("another long password")

    assert not browser.may_enter()
    with pytest.raises(websocket.WebSocketConnectionClosedException):
        while True:
            opcode, data = socket.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                assert int.from_bytes(data[:2]) == 1008
                raise websocket.WebSocketConnectionClosedException
    with pytest.raises(websocket.WebSocketBadStatusException):
        browser.open_kernel(kernel)
    assert browser.log_in(PASSWORD).status == 401
    assert browser.log_in("another long password").status == 302
    assert value_of(browser.open_kernel(kernel), "x + 1") == "42"
    assert server.process.pid == pid and server.process.poll() is None
    assert browser.request("DELETE", f"/api/kernels/{kernel}").status == 204


@pytest.mark.parametrize("content", [b"", b"argon2:", b"sha1:0e112c3ddfce:a68df677475c2b47b6e86d"])
def test_without_a_usable_hash_nobody_is_logged_in(
    server: RunningServer, browser: Browser, kept_password: None, content: bytes
) -> None:
    browser.log_in_by_control()
    before = (server.seal.folder / "password.hash").read_bytes()
    unused = server.ask("login")["path"]
    server.seal.write("password.hash", content)
    assert not browser.may_enter()
    assert browser.log_in(PASSWORD).status == 401
    assert browser.log_in("").status == 401
    assert browser.get(unused).status == 403
    assert server.ask("GET", "/api/kernels") is not None
    server.seal.write("password.hash", before)
    assert browser.may_enter()


def test_a_replaced_hash_is_noticed_like_a_rewritten_one(
    server: RunningServer, browser: Browser, kept_password: None
) -> None:
    browser.log_in_by_control()
    path = server.seal.folder / "password.hash"
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    new = server.seal.folder / "new"
    new.write_text(hash_of("another long password"))
    os.utime(new, ns=times)
    new.replace(path)
    assert not browser.may_enter()


def test_the_browser_cannot_shut_the_server_down(browser: Browser) -> None:
    browser.log_in_by_control()
    answer = browser.request("POST", "/api/shutdown", "")
    assert answer.status == 403
    assert "jupbox down" in answer.text
    assert browser.may_enter()


def _start(folder: Path, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "jupbox_server", "--seal", str(folder), "--port", "1"],
        env={"PYTHONPATH": str(SERVER), "HOME": str(home), "JUPYTER_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("password.hash", b"", "is empty"),
        ("password.hash", b"\n", "is empty"),
        ("password.hash", None, "cannot be read"),
        ("password.hash", b"secret-in-clear", "argon2id"),
        ("password.hash", hash_of("x").encode()[:-30], "argon2id"),
        ("password.hash", (hash_of("x") + "\n" + hash_of("y")).encode(), "argon2id"),
        ("cert.pem", None, "cannot be read"),
        ("cert.pem", b"", "cut off"),
        ("key.pem", pair(authority()).key, "do not match"),
        ("key.pem", b"nonsense", "cannot be used"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # hashes differ between workers
)
def test_a_seal_that_does_not_hold_is_a_server_that_does_not_start(
    tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    seal = Seal(folder=tmp_path / "seal", ca=authority())
    seal.create()
    if content is None:
        (seal.folder / name).unlink()
    else:
        seal.write(name, content)
    done = _start(seal.folder, tmp_path)
    assert done.returncode == os.EX_CONFIG
    assert done.stderr.startswith("jupbox: the server does not start: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert "secret-in-clear" not in done.stderr


def test_who_is_logged_in_survives_nothing_else(browser: Browser) -> None:
    """Logging out ends the session in this browser."""
    browser.log_in_by_control()
    browser.get("/logout")
    until(lambda: not browser.may_enter())


# --- passes of other clients --------------------------------------------------------------------


def client(browser: Browser) -> dict[str, str]:
    """What a client shows that has the owner's pass, and no cookie."""
    return {"Authorization": f"token {browser.server.ask('pass')['token']}"}


def test_a_pass_opens_the_server_for_a_client_until_the_password_is_another(
    server: RunningServer, browser: Browser, kept_password: None
) -> None:
    shown = client(browser)
    assert browser.get("/api/kernels", shown).status == 200
    browser.cookies.clear()
    server.seal.write_password("another horse battery")
    assert browser.get("/api/kernels", shown).status == 403


def test_a_pass_needs_no_cookie_and_no_xsrf_token(browser: Browser) -> None:
    shown = client(browser)
    made = browser.request("POST", "/api/kernels", "{}", shown)
    assert made.status == 201
    browser.cookies.clear()
    gone = browser.request("DELETE", f"/api/kernels/{made.json['id']}", None, shown)
    assert gone.status == 204


def test_only_the_owner_has_passes_made(browser: Browser) -> None:
    browser.log_in_by_control()
    assert browser.request("POST", "/jupbox/client-passes", "{}").status == 404


def test_a_pass_lasts_a_day_and_the_oldest_of_too_many_goes() -> None:
    now = [0.0]
    passes = ClientPasses(clock=lambda: now[0])
    token = passes.mint("hash-1")
    assert passes.holds(token, "hash-1")
    assert not passes.holds(token, "hash-2")
    assert not passes.holds("x", "hash-1")
    now[0] = LIFETIME
    assert not passes.holds(token, "hash-1")
    first, *_ = [passes.mint("hash-1") for _ in range(OUTSTANDING + 1)]
    assert not passes.holds(first, "hash-1")
