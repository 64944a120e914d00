"""The control socket, its client, and the control login."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest

from tests.images.box import Browser, RunningServer, login_cookie, send_code, until


def test_the_socket_is_the_servers_users_alone(server: RunningServer) -> None:
    mode = server.control.stat().st_mode
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)
    assert stat.S_IMODE(server.control.parent.stat().st_mode) == 0o700


def test_the_socket_reaches_the_api_without_login(server: RunningServer) -> None:
    kernel = server.ask("POST", "/api/kernels", "--body", "{}")["id"]
    assert kernel in [entry["id"] for entry in server.ask("GET", "/api/kernels")]
    assert server.ask("DELETE", f"/api/kernels/{kernel}") is None
    assert server.ask("GET", "/api/me")["identity"]["username"] == "owner"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "unix", "X-Real-Ip": "", "X-Scheme": "http"},
        {"Host": "localhost"},
        {"Host": "%2Frun%2Fjupbox%2Fcontrol.sock"},
        {"Host": ""},
    ],
)
def test_the_port_cannot_pass_for_the_socket(browser: Browser, headers: dict[str, str]) -> None:
    assert browser.get("/api/kernels", headers).status in {400, 403}


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/jupbox/summary"), ("POST", "/jupbox/login-codes")]
)
def test_what_is_the_owners_is_not_there_on_the_port(
    browser: Browser, method: str, path: str
) -> None:
    assert browser.request(method, path).status == 404
    browser.log_in_by_control()
    assert browser.request(method, path).status == 404


def test_a_control_login_opens_a_session_once(server: RunningServer, browser: Browser) -> None:
    path = server.ask("login")["path"]
    assert re.fullmatch(r"/jupbox/login\?code=[\w-]{43}", path)
    answer = browser.get(path)
    assert (answer.status, answer.headers["Location"]) == (302, "/lab")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert {"Secure", "HttpOnly"} <= set(login_cookie(browser).split("; "))
    assert browser.may_enter()

    browser.cookies.clear()
    again = browser.get(path)
    assert again.status == 403
    assert "jupbox open" in again.text
    assert again.headers["Cache-Control"] == "no-store"
    assert not browser.may_enter()


@pytest.mark.parametrize("query", ["", "?code=", "?code=wrong", "?other=1"])
def test_an_unknown_code_opens_nothing(browser: Browser, query: str) -> None:
    assert browser.get(f"/jupbox/login{query}").status == 403
    assert not browser.may_enter()


def test_a_browser_that_looks_ahead_does_not_use_the_code_up(
    server: RunningServer, browser: Browser
) -> None:
    path = server.ask("login")["path"]
    assert browser.get(path, {"Sec-Purpose": "prefetch;prerender"}).status == 503
    assert browser.get(path).status == 302


def test_a_control_login_leads_where_it_was_minted_for(
    server: RunningServer, browser: Browser
) -> None:
    path = server.ask("login", "--next", "/lab/tree/a%20b.ipynb")["path"]
    assert browser.get(path).headers["Location"] == "/lab/tree/a%20b.ipynb"


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil", "lab"])
def test_a_control_login_leads_nowhere_else(server: RunningServer, target: str) -> None:
    answer = server.run("control", "--socket", str(server.control), "login", "--next", target)
    assert answer.status == 1
    assert "400" in answer.errors


def test_no_code_lands_in_the_log(server: RunningServer, browser: Browser) -> None:
    codes = []
    for host in ("evil.example", browser.host, browser.host):
        path = server.ask("login")["path"]
        codes.append(path.partition("=")[2])
        Browser(server=server, address=browser.address, host=host).get(path)
        browser.get(path, {"Referer": f"https://localhost{path}"})
    browser.get("/jupbox/login?code=" + codes[0] + "&code=" + codes[1])
    until(lambda: server.log.count("/jupbox/login") >= 3)
    assert [code for code in codes if code in server.log] == []


def test_the_summary_counts_a_busy_kernel_that_nobody_watches(
    server: RunningServer, browser: Browser
) -> None:
    before = server.ask("summary")
    browser.log_in_by_control()
    kernel = browser.start_kernel()
    socket = browser.open_kernel(kernel)
    send_code(socket, "import threading; threading.Event().wait(120)")
    until(lambda: server.ask("summary")["busy"] == before["busy"] + 1)
    socket.close()
    during = server.ask("summary")
    assert during["busy"] == before["busy"] + 1
    assert during["kernels"] == before["kernels"] + 1
    assert during["seal"] == json.loads((server.seal.folder / "seal.json").read_text())
    assert during["started"] == before["started"] <= during["last_activity"]
    assert during["version"] and during["jupyterlab"]
    expected = {"memory_bytes", "memory_limit_bytes", "cpu_usec", "terminals", "terminals_busy"}
    assert expected <= set(during)
    server.ask("DELETE", f"/api/kernels/{kernel}")
    assert server.ask("summary")["kernels"] == before["kernels"]


def test_the_summary_counts_a_terminal_with_work_in_it(
    server: RunningServer, browser: Browser
) -> None:
    import websocket

    browser.log_in_by_control()
    name = browser.request("POST", "/api/terminals", "{}").json["name"]
    until(lambda: server.ask("summary")["terminals"] == 1)
    socket = websocket.create_connection(
        f"wss://localhost:{server.port}/terminals/websocket/{name}",
        sslopt={"context": server.seal.trust()},
        cookie="; ".join(f"{key}={value}" for key, value in browser.cookies.items()),
        suppress_origin=True,
        timeout=20,
    )
    socket.send(json.dumps(["stdin", "cat\r"]))
    until(lambda: server.ask("summary")["terminals_busy"] == 1)
    server.ask("DELETE", f"/api/terminals/{name}")
    until(lambda: server.ask("summary")["terminals"] == 0)


def test_the_client_says_in_one_line_what_is_wrong(server: RunningServer, tmp_path: Path) -> None:
    for arguments in (
        ("--socket", str(tmp_path / "none"), "summary"),
        ("--socket", str(server.control), "GET", "/api/kernels/none"),
    ):
        answer = server.run("control", *arguments)
        assert answer.status == 1
        assert answer.errors.count("\n") == 1
