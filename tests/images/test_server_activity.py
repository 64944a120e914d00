"""What the server says of its kernels and terminals: busy with what, since when."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

import pytest
import websocket
from jupbox_server.activity import SETTLED, Activity, program
from jupbox_server.control import request

from tests.images.box import Browser, RunningServer, send_code, until, value_of


def _kernel(server: RunningServer, kernel: str) -> dict[str, Any]:
    found = server.ask("activity")["kernels"]
    return next(entry for entry in found if entry["id"] == kernel)


@contextmanager
def _session(server: RunningServer, path: str, kind: str = "notebook") -> Iterator[str]:
    """A session; its kernel's id."""
    body = {"path": path, "name": "Console 1", "type": kind, "kernel": {"name": "python3"}}
    kernel = server.ask("POST", "/api/sessions", "--body", json.dumps(body))["kernel"]["id"]
    try:
        yield str(kernel)
    finally:
        server.ask("DELETE", f"/api/kernels/{kernel}")


def test_a_silent_kernel_is_busy_since_its_cell_began(
    server: RunningServer, browser: Browser
) -> None:
    browser.log_in_by_control()
    with _session(server, "a folder/work.ipynb") as kernel:
        socket = browser.open_kernel(kernel)
        value_of(socket, "1")
        idle = _kernel(server, kernel)
        assert (idle["state"], idle["connections"]) == ("idle", 1)
        before = datetime.now(UTC)
        send_code(socket, "import threading; threading.Event().wait(120)")
        busy = until(lambda: (k := _kernel(server, kernel))["state"] == "busy" and k)
        socket.close()
        assert busy["notebook"] == "a folder/work.ipynb"
        assert busy["name"] == "python3"
        since = datetime.fromisoformat(busy["since"])
        assert before <= since <= datetime.fromisoformat(busy["last_activity"])
        assert since.utcoffset() == timedelta(0)
        assert idle["since"] < busy["since"]
        until(lambda: _kernel(server, kernel)["connections"] == 0)
        assert _kernel(server, kernel)["since"] == busy["since"]


def _read_until_reply(socket: websocket.WebSocket, sent: str) -> None:
    while True:
        message = json.loads(socket.recv())
        if message["msg_type"] == "execute_reply" and message["parent_header"]["msg_id"] == sent:
            return


def test_a_kernel_is_not_idle_between_two_queued_cells(
    server: RunningServer, browser: Browser
) -> None:
    browser.log_in_by_control()
    with _session(server, "queued.ipynb") as kernel:
        socket = browser.open_kernel(kernel)
        value_of(socket, "1")
        cells = [send_code(socket, "import time; time.sleep(0.01)") for _ in range(150)]
        seen: list[str] = []
        reader = Thread(target=_read_until_reply, args=(socket, cells[-1]))
        reader.start()
        while reader.is_alive():
            _, answer = request(server.control, "GET", "/jupbox/activity", None)
            kernels = json.loads(answer)["kernels"]
            seen += [one["state"] for one in kernels if one["id"] == kernel]
        # this test hears of the last cell's end later than the server does
        busy = seen.index("idle") if "idle" in seen else len(seen)
        assert set(seen[:busy]) == {"busy"}
        assert set(seen[busy:]) <= {"idle"}
        assert "busy" in seen
        until(lambda: _kernel(server, kernel)["state"] == "idle", within=60)
        socket.close()


def test_a_console_is_called_by_its_name_and_a_bare_kernel_by_nothing(
    server: RunningServer,
) -> None:
    bare = server.ask("POST", "/api/kernels", "--body", "{}")["id"]
    with _session(server, "console-1-2f6a", "console") as console:
        assert _kernel(server, console)["notebook"] == "Console 1"
        assert _kernel(server, bare)["notebook"] is None
    server.ask("DELETE", f"/api/kernels/{bare}")
    assert bare not in [entry["id"] for entry in server.ask("activity")["kernels"]]


def test_a_terminal_is_busy_with_its_foreground_program(
    server: RunningServer, browser: Browser
) -> None:
    browser.log_in_by_control()
    name = browser.request("POST", "/api/terminals", "{}").json["name"]

    def look() -> dict[str, Any]:
        return next(one for one in server.ask("activity")["terminals"] if one["name"] == name)

    try:
        assert (look()["busy"], look()["command"]) == (False, "")
        socket = websocket.create_connection(
            f"wss://localhost:{server.port}/terminals/websocket/{name}",
            sslopt={"context": server.seal.trust()},
            cookie="; ".join(f"{key}={value}" for key, value in browser.cookies.items()),
            suppress_origin=True,
            timeout=20,
        )
        idle_since = look()["since"]
        socket.send(json.dumps(["stdin", "true | tail -f /dev/null --pid=1\r"]))
        busy = until(lambda: (one := look())["busy"] and one)
        assert busy["command"] == "tail"
        assert idle_since < busy["since"] <= datetime.now(UTC).isoformat()
        assert datetime.fromisoformat(busy["last_activity"]).tzinfo
        socket.send(json.dumps(["stdin", "\x03"]))
        until(lambda: not look()["busy"])
        socket.close()
    finally:
        server.ask("DELETE", f"/api/terminals/{name}")


def test_what_the_kernels_do_is_not_told_on_the_port(browser: Browser) -> None:
    browser.log_in_by_control()
    assert browser.get("/jupbox/activity").status == 404


class _FakeKernels(dict[str, Any]):
    def list_kernel_ids(self) -> list[str]:
        return list(self)

    def get_kernel(self, kernel_id: str) -> Any:
        return self[kernel_id]


class _FakeKernel:
    kernel_name = "python3"
    last_activity = None
    execution_state = "idle"


class _FakeSessions:
    async def list_sessions(self) -> list[dict[str, Any]]:
        return []


def _watch(kernels: _FakeKernels, now: list[datetime]) -> Activity:
    return Activity(kernels=kernels, sessions=_FakeSessions(), terminals=dict, now=lambda: now[0])


@pytest.mark.parametrize(
    ("said", "state"), [("restarting", "unknown"), (None, "unknown"), ("dead", "dead")]
)
def test_a_state_without_a_name_is_unknown(said: str | None, state: str) -> None:
    kernels = _FakeKernels(one=_FakeKernel())
    kernels["one"].execution_state = said
    watch = _watch(kernels, [datetime.now(UTC)])
    assert asyncio.run(watch.report())["kernels"][0]["state"] == state


def test_a_kernel_with_executions_in_the_servers_queue_is_busy() -> None:
    now = [datetime(2030, 1, 1, tzinfo=UTC)]
    kernels = _FakeKernels(one=_FakeKernel())
    watch, queued = _watch(kernels, now), [0]
    watch.pending = lambda _kernel_id: queued[0]
    watch.look()
    now[0] += timedelta(hours=1)
    queued[0] = 1
    watch.look()
    now[0] += timedelta(hours=1)
    kernel = asyncio.run(watch.report())["kernels"][0]
    assert (kernel["state"], kernel["since"]) == ("busy", "2030-01-01T01:00:00+00:00")
    queued[0] = 0
    watch.look()
    assert watch.since("one") == datetime(2030, 1, 1, 2, tzinfo=UTC)


def test_a_kernel_that_nobody_talked_to_is_idle_after_a_minute() -> None:
    now = [datetime(2030, 1, 1, tzinfo=UTC)]
    kernels = _FakeKernels(one=_FakeKernel())
    kernels["one"].execution_state = "starting"
    watch, seen = _watch(kernels, now), []
    for _ in range(5):
        seen.append(asyncio.run(watch.report())["kernels"][0]["state"])
        now[0] += timedelta(seconds=25)
    assert seen == ["starting", "starting", "starting", "idle", "idle"]
    kernels["one"].execution_state = "busy"
    assert asyncio.run(watch.report())["kernels"][0]["state"] == "busy"
    kernels["one"].execution_state = "starting"  # anew
    assert asyncio.run(watch.report())["kernels"][0]["state"] == "starting"


def test_fifty_kernels_are_waited_for_at_once() -> None:
    kernels = _FakeKernels({str(number): _FakeKernel() for number in range(50)})
    watch = _watch(kernels, [datetime.now(UTC)])
    began = time.monotonic()
    assert len(asyncio.run(watch.report())["kernels"]) == 50
    assert SETTLED <= time.monotonic() - began < 10 * SETTLED  # and not 50 times


def test_a_program_is_told_without_its_arguments() -> None:
    assert program(os.getpgid(0)) != ""
    assert " " not in program(os.getpgid(0))
    assert program(2**22 + 1) == ""
