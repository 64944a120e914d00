"""`%pip install` in a notebook: works at once, lasts, and is seen."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import websocket

from tests.images.box import Browser, RunningServer, until, value_of
from tests.images.conftest import serving
from tests.images.installed import wheel

# not a login shell: what /etc/profile of the machine that runs the tests does is not ours
CONFIGURATION = """c.ServerApp.terminado_settings = {"shell_command": ["/bin/sh"]}"""


@pytest.fixture(scope="module")
def own() -> Iterator[RunningServer]:
    """A server that may be restarted, with nothing on the side yet."""
    with serving(CONFIGURATION) as running:
        yield running


def visitor(server: RunningServer) -> Browser:
    browser = Browser(server=server, address="127.8.0.1")
    browser.log_in_by_control()
    return browser


def test_pip_install_in_a_notebook_works_at_once_and_lasts(
    own: RunningServer, tmp_path: Path
) -> None:
    wheel(tmp_path, "jupboxtiny", "1.5", ["jupyterlab<1"])
    browser = visitor(own)
    socket = browser.open_kernel(browser.start_kernel())
    install = f"%pip install -q --no-index --no-deps --find-links {tmp_path} jupboxtiny"
    value_of(socket, install)
    assert value_of(socket, "import jupboxtiny; jupboxtiny.VERSION") == "'1.5'"
    socket.close()

    side = own.ask("summary")["side"]
    (default,) = side["envs"]
    assert default["packages"] == [{"name": "jupboxtiny", "version": "1.5", "image": None}]
    (clash,) = default["clashes"]
    assert re.fullmatch(
        r"jupboxtiny 1.5 on the side needs jupyterlab<1, but finds jupyterlab [\d.]+ in the image",
        clash,
    )
    assert own.run("side", "report").json == side

    own.stop()
    own.start()
    browser = visitor(own)
    socket = browser.open_kernel(browser.start_kernel())
    assert value_of(socket, "import jupboxtiny; jupboxtiny.VERSION") == "'1.5'"
    assert value_of(socket, "!pip uninstall -q -y jupboxtiny") == ""
    socket.close()
    assert own.ask("summary")["side"]["envs"][0]["packages"] == []


def test_the_kernel_that_opens_is_the_sides(own: RunningServer) -> None:
    specs = own.ask("GET", "/api/kernelspecs")
    assert specs["default"] == "python3"
    python = specs["kernelspecs"]["python3"]["spec"]["argv"][0]
    assert python.startswith(str(own.home / ".local/share/jupbox/side/default-"))
    assert visitor(own).get("/kernelspecs/python3/logo-64x64.png").status == 200


def test_a_kernel_started_later_trusts_what_jupbox_left_meanwhile(own: RunningServer) -> None:
    path = own.home / ".config" / "jupbox" / "ca.pem"
    path.parent.mkdir(parents=True)
    path.write_text("CA")
    browser = visitor(own)

    def trusted() -> bool:
        kernel = browser.start_kernel()
        socket = browser.open_kernel(kernel)
        try:
            value = value_of(socket, "import os; os.environ.get('SSL_CERT_FILE')")
        finally:
            socket.close()
            own.ask("DELETE", f"/api/kernels/{kernel}")
        return value == repr(str(path))

    try:
        until(trusted)
    finally:
        path.unlink()


def test_a_terminal_finds_the_sides_python_and_pip(own: RunningServer) -> None:
    browser = visitor(own)
    name = browser.request("POST", "/api/terminals", "{}").json["name"]
    socket = websocket.create_connection(
        f"wss://localhost:{own.port}/terminals/websocket/{name}",
        sslopt={"context": own.seal.trust()},
        cookie="; ".join(f"{key}={value}" for key, value in browser.cookies.items()),
        suppress_origin=True,
        timeout=20,
    )
    try:
        # the quotes keep the echo of what is typed from being the answer
        line = "echo 'a'nswer $(command -v python) $(command -v pip) $VIRTUAL_ENV end\r"
        socket.send(json.dumps(["stdin", line]))
        seen = ""

        def answered() -> re.Match[str] | None:
            nonlocal seen
            kind, *text = json.loads(socket.recv())
            seen += text[0] if kind == "stdout" else ""
            return re.search(r"answer (\S+)/bin/python (\S+)/bin/pip (\S+)\s+end", seen)

        found = until(answered)
        assert found
        assert len(set(found.groups())) == 1
        assert found[1].startswith(str(own.home))
    finally:
        socket.close()
        own.ask("DELETE", f"/api/terminals/{name}")


def test_a_wrong_module_on_the_side_does_not_keep_the_server_from_starting(
    own: RunningServer,
) -> None:
    site = next((own.home / ".local/share/jupbox/side").glob("default-*/lib/python*/site-packages"))
    wrong = [
        site / f"{name}.py" for name in ("tornado", "traitlets", "jupyter_server", "sitecustomize")
    ]
    for path in wrong:
        path.write_text("raise RuntimeError('the wrong one')\n")
    try:
        own.stop()
        own.start()
        assert own.ask("summary")["version"]
    finally:
        for path in wrong:
            path.unlink()
