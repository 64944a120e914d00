"""`python -m jupbox_server.prove`: whether this server can be used, shown by using it.

It logs in as `jupbox open` does, by a control login over verified HTTPS, starts a kernel and runs
a cell in it. Exit code 0 and the kernel's name in JSON, else 1 and one line that says what failed,
or 4 where the disk is full, which is no fault of the release.
A new release passes this before the old one goes.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import ssl
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import control
from .health import trusting
from .paths import CONTROL_SOCKET, PORT, SEAL, Paths
from .room import measure

#: Seconds for the server to come up, and for a kernel to do so on a machine that is busy.
LIMIT = 120.0
#: Valid in every language that has a kernel, and without an effect in each.
CELL = "1"

FAILED, DISK_FULL = 1, 4
#: Bytes below which a kernel may not find the room for its connection file, history and settings.
ROOM = 5_000_000

_POLL = 0.1
#: What tornado calls an answer that did not come.
_TOO_LATE = 599


class ProofError(Exception):
    """The server cannot be used; the message says what failed."""


@dataclass(kw_only=True)
class Visit:
    """A client of the server's port that has logged in.

    Args:
        port: on the loopback.
        context: what verifies the server.
        cookies: those that it was given.
    """

    port: int
    context: ssl.SSLContext
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        """Who we are, and that no other site sent us."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"Cookie": cookie, "X-XSRFToken": self.cookies.get("_xsrf", "")}

    def request(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        """One request; redirects are not followed, cookies are kept.

        Raises:
            OSError: no answer, or another certificate than the seal's.
            http.client.HTTPException: not HTTP.
        """
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=30, context=self.context
        )
        try:
            connection.request(method, path, body, self.headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        for line in response.headers.get_all("Set-Cookie") or []:
            self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
        return response.status, answer


def _login_path(socket: Path, deadline: float) -> str:
    """A control login's path, once the server is up.

    Raises:
        ProofError: it is not, in time.
    """
    while True:
        try:
            status, answer = control.request(socket, "POST", "/jupbox/login-codes", "{}")
            if status == http.client.OK:
                return str(json.loads(answer)["path"])
            reason = f"the control socket answers {status}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = str(error)
        if time.monotonic() > deadline:
            raise ProofError(f"the server does not come up: {reason}")
        time.sleep(_POLL)


def _log_in(visit: Visit, path: str) -> None:
    try:
        visit.request("GET", "/login")  # where Jupyter hands out its token against forged requests
        status, _ = visit.request("GET", path)
        if status != http.client.FOUND:
            raise ProofError(f"the control login answers {status}")
        status, _ = visit.request("GET", "/api/status")
    except (OSError, http.client.HTTPException) as error:
        raise ProofError(f"no answer over HTTPS: {error}") from None
    if status != http.client.OK:
        raise ProofError(f"logged in, the server answers {status}")


def _start_kernel(visit: Visit) -> tuple[str, str]:
    """A new kernel of the server's default; its id and name."""
    try:
        status, answer = visit.request("POST", "/api/kernels", "{}")
        made = json.loads(answer) if status == http.client.CREATED else {}
        return str(made["id"]), str(made["name"])
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ProofError(f"no kernel starts: {error}") from None
    except KeyError:
        raise ProofError(f"no kernel starts: the server answers {status}") from None


def _message(kind: str, content: dict[str, Any]) -> dict[str, Any]:
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": kind,
        "session": uuid.uuid4().hex,
        "username": "jupbox",
        "version": "5.3",
        "date": datetime.now(UTC).isoformat(),
    }
    return {
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": content,
        "channel": "shell",
        "buffers": [],
    }


async def _run_cell(visit: Visit, kernel: str) -> dict[str, Any]:
    """Run the cell over the kernel's websocket, as a browser does; the reply's content.

    Raises:
        ProofError: the websocket does not open, or closes.
    """
    from tornado.httpclient import HTTPError, HTTPRequest  # noqa: PLC0415 (the server is up)
    from tornado.websocket import websocket_connect  # noqa: PLC0415

    url = f"wss://127.0.0.1:{visit.port}/api/kernels/{quote(kernel)}/channels"
    request = HTTPRequest(url, headers=visit.headers, ssl_options=visit.context)
    options = {"silent": False, "store_history": False, "allow_stdin": False}
    question = _message("execute_request", {"code": CELL, **options})
    try:
        socket = await websocket_connect(request)
    except HTTPError as error:
        if error.code == _TOO_LATE:
            raise ProofError("it does not come up") from None
        raise ProofError(f"its websocket answers {error.code}: {error.message}") from None
    try:
        await socket.write_message(json.dumps(question))
        while (said := await socket.read_message()) is not None:
            answer = json.loads(said)
            mine = answer.get("parent_header", {}).get("msg_id") == question["header"]["msg_id"]
            if mine and answer.get("msg_type") == "execute_reply":
                content: dict[str, Any] = answer["content"]
                return content
    finally:
        socket.close()
    raise ProofError("it ended")


async def _run_in_time(visit: Visit, kernel: str, limit: float) -> None:
    """Run the cell.

    Raises:
        ProofError: it does not run within `limit` seconds, or ends with an error.
    """
    try:
        content = await asyncio.wait_for(_run_cell(visit, kernel), limit)
    except TimeoutError:
        raise ProofError(f"it does not answer within {limit:g} s") from None
    if content["status"] != "ok":
        raise ProofError(f"a cell fails: {content.get('ename')}: {content.get('evalue')}")


def prove(paths: Paths, port: int, *, limit: float = LIMIT) -> str:
    """Log in, start a kernel, run a cell and end the kernel; the kernel's name.

    Args:
        paths: where the seal and the control socket are.
        port: of the server, on the loopback.
        limit: seconds for the server to come up, and again for the kernel.

    Raises:
        ProofError: something of it does not work.
    """
    path = _login_path(paths.control, time.monotonic() + limit)
    try:
        visit = Visit(port=port, context=trusting(paths.certificate))
    except OSError as error:
        raise ProofError(f"the certificate cannot be used: {error}") from None
    _log_in(visit, path)
    kernel, name = _start_kernel(visit)
    try:
        asyncio.run(_run_in_time(visit, kernel, limit))
    except (OSError, ValueError, KeyError) as error:
        raise ProofError(f"kernel {name} cannot be reached: {error}") from None
    except ProofError as error:
        raise ProofError(f"kernel {name}: {error}") from None
    finally:
        with suppress(OSError, http.client.HTTPException):
            visit.request("DELETE", f"/api/kernels/{quote(kernel)}")
    return name


def main(argv: Sequence[str] | None = None) -> int:
    """Prove once; the exit code."""
    parser = argparse.ArgumentParser(prog="jupbox_server.prove", description=__doc__)
    parser.add_argument("--seal", type=Path, default=SEAL, metavar="DIR")
    parser.add_argument("--control", type=Path, default=CONTROL_SOCKET, metavar="SOCKET")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--limit", type=float, default=LIMIT, metavar="SECONDS")
    arguments = parser.parse_args(argv)
    paths = Paths(seal=arguments.seal, control=arguments.control)
    try:
        name = prove(paths, arguments.port, limit=arguments.limit)
    except ProofError as error:
        print(error, file=sys.stderr)
        full = any(disk.free_bytes < ROOM for disk in measure([Path.home()]))
        return DISK_FULL if full else FAILED
    print(json.dumps({"kernel": name}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
