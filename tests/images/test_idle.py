"""What is shut down because nobody uses it, and what never is."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import websocket
from jupbox_server.activity import Activity
from jupbox_server.idle import VARIABLE, IdleWatch, processor_time, wanted

from tests.images.box import Browser, RunningServer, send_code, until, value_of
from tests.images.conftest import serving

HOUR = 3600.0


class _Kernel:
    kernel_name = "python3"
    execution_state = "idle"

    def __init__(self) -> None:
        self.last_activity = datetime(2030, 1, 1, tzinfo=UTC)


class _Kernels(dict[str, Any]):
    def __init__(self, *names: str) -> None:
        super().__init__({name: _Kernel() for name in names})
        self._kernel_connections = dict.fromkeys(names, 0)

    def list_kernel_ids(self) -> list[str]:
        return list(self)

    def get_kernel(self, kernel_id: str) -> Any:
        return self[kernel_id]

    async def shutdown_kernel(self, kernel_id: str) -> None:
        del self[kernel_id]


class _Sessions:
    async def list_sessions(self) -> list[dict[str, Any]]:
        return []


class _Watched:
    """A watch over fakes, an hour of patience, and a clock that goes when told to."""

    def __init__(self, *names: str) -> None:
        self.now, self.log = 0.0, list[str]()
        self.kernels = _Kernels(*names)
        self.activity = Activity(kernels=self.kernels, sessions=_Sessions(), terminals=dict)
        self.watch = IdleWatch(
            HOUR,
            activity=self.activity,
            kernels=self.kernels,
            terminals=dict,
            end_terminal=self._no_terminal,
            log=self.log.append,
            clock=lambda: self.now,
        )

    async def _no_terminal(self, name: str) -> None:
        raise AssertionError(name)

    def look(self, *, after: float = 600.0) -> list[str]:
        """The kernels that are left."""
        self.now += after
        asyncio.run(self.watch.look())
        return list(self.kernels)


def test_a_kernel_that_nobody_uses_is_shut_down_and_the_log_says_so() -> None:
    watched = _Watched("one")
    left = [watched.look() for _ in range(7)]
    assert left == [["one"]] * 6 + [[]]
    assert watched.log == ["Nobody has used kernel one for 1 h: it is shut down."]


@pytest.mark.parametrize("state", ["busy", "starting", "unheard-of"])
def test_a_kernel_that_is_not_idle_stays(state: str) -> None:
    watched = _Watched("one")
    watched.kernels["one"].execution_state = state
    assert [watched.look() for _ in range(50)][-1] == ["one"]


def test_a_kernel_with_executions_in_the_servers_queue_stays() -> None:
    watched = _Watched("one")
    watched.activity.pending = lambda _kernel_id: 1
    assert [watched.look() for _ in range(50)][-1] == ["one"]


def test_a_kernel_whose_notebook_is_open_stays() -> None:
    watched = _Watched("one", "two")
    watched.kernels._kernel_connections["one"] = 1
    assert [watched.look() for _ in range(50)][-1] == ["one"]


def test_the_hour_begins_at_the_end_of_a_run() -> None:
    watched = _Watched("one")
    watched.look()
    watched.kernels["one"].execution_state = "busy"
    for _ in range(50):
        watched.look()
    watched.kernels["one"].execution_state = "idle"
    assert [watched.look() for _ in range(7)] == [["one"]] * 6 + [[]]


def test_a_run_between_two_looks_counts_as_well() -> None:
    watched = _Watched("one")
    for second in range(50):
        watched.kernels["one"].last_activity = datetime(2030, 1, 1, 0, 0, second, tzinfo=UTC)
        watched.look()
    assert list(watched.kernels) == ["one"]


def test_a_clock_that_is_set_forward_ends_nothing() -> None:
    watched = _Watched("one")
    watched.kernels["one"].last_activity = datetime(1999, 1, 1, tzinfo=UTC)
    assert watched.look() == ["one"]
    assert watched.look() == ["one"]


def test_a_kernel_in_whose_background_something_computes_stays() -> None:
    command = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(command) as process:
        try:
            watched = _Watched("one")
            watched.kernels["one"].provisioner = process
            watched.look(after=0)
            before = processor_time(process.pid)
            until(lambda: processor_time(process.pid) > before + 0.1)
            watched.look(after=1.0)
            watched.watch._after = 0.5
            before = processor_time(process.pid)
            until(lambda: processor_time(process.pid) > before + 0.1)
            assert watched.look(after=1.0) == ["one"]
        finally:
            process.kill()


def test_a_processs_time_holds_its_childrens() -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    with subprocess.Popen([sys.executable, "-c", script], process_group=0) as process:
        try:
            until(lambda: processor_time(process.pid) > 0.5)
        finally:
            os.killpg(process.pid, 9)
    assert processor_time(2**22 + 1) == 0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [({}, None), ("", None), ("x", None), ("0", None), ("-1", None), ("90", 90)],
)
def test_nothing_is_shut_down_unless_the_box_says_when(value: Any, seconds: float | None) -> None:
    environ = {VARIABLE: value} if isinstance(value, str) else {}
    assert wanted(environ) == seconds


def _kernels(server: RunningServer) -> set[str]:
    return {kernel["id"] for kernel in server.ask("GET", "/api/kernels")}


def _terminals(server: RunningServer) -> set[str]:
    return {terminal["name"] for terminal in server.ask("GET", "/api/terminals")}


def _terminal(server: RunningServer, browser: Browser, line: str) -> str:
    """A terminal that a line was typed into, and that nobody has open any more."""
    name = str(browser.request("POST", "/api/terminals", "{}").json["name"])
    socket = websocket.create_connection(
        f"wss://localhost:{server.port}/terminals/websocket/{name}",
        sslopt={"context": server.seal.trust()},
        cookie="; ".join(f"{key}={value}" for key, value in browser.cookies.items()),
        suppress_origin=True,
        timeout=20,
    )
    socket.send(json.dumps(["stdin", f"echo be''gun; {line}\r"]))
    while "begun" not in socket.recv():
        pass
    socket.close()
    return name


def test_a_real_server_shuts_down_what_is_idle_and_nothing_else() -> None:
    with serving(variables={VARIABLE: "4"}) as server:
        browser = Browser(server=server, address="127.0.0.1")
        browser.log_in_by_control()
        used, computing, opened = (browser.start_kernel() for _ in range(3))
        sockets = {kernel: browser.open_kernel(kernel) for kernel in (used, computing, opened)}
        for socket in sockets.values():
            value_of(socket, "1")
        # prints nothing for longer than the limit, then ends
        send_code(sockets[used], "import threading; threading.Event().wait(7); ended = 1")
        send_code(sockets[computing], "import threading; threading.Event().wait(600)")
        until(lambda: server.ask("summary")["busy"] == 2)
        sockets[used].close()
        sockets[computing].close()
        foreground = _terminal(server, browser, "sleep 600")
        background = _terminal(server, browser, "sleep 600 &")
        unused = _terminal(server, browser, "true")
        until(lambda: server.ask("summary")["busy"] == 1)
        ended = time.monotonic()
        assert used in _kernels(server)
        until(lambda: used not in _kernels(server), within=60)
        assert time.monotonic() - ended >= 3
        until(lambda: unused not in _terminals(server), within=60)
        assert _kernels(server) == {computing, opened}
        assert _terminals(server) == {foreground, background}
        assert value_of(sockets[opened], "40 + 2") == "42"
        assert f"Nobody has used kernel {used}" in server.log
