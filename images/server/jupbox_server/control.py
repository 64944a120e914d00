"""`python -m jupbox_server.control`: talk to the server as its owner, over the control socket.

METHOD PATH (`GET /api/kernels`) prints the answer's body; `activity`, `summary`, `login` and
`pass` print one JSON object each. Exit code 0 for an answer of 2xx, else 1 and one line on stderr.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from .paths import CONTROL_SOCKET

#: Seconds to wait for the server; it answers in milliseconds unless it is stuck.
TIMEOUT = 10.0


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def request(path: Path, method: str, target: str, body: str | None) -> tuple[int, bytes]:
    """One request over the socket at `path`: status and body.

    Raises:
        OSError: the server is not there or does not answer.
        http.client.HTTPException: what answers there does not speak HTTP.
    """
    connection = _Connection(path)
    headers = {"Content-Type": "application/json"} if body is not None else {}
    try:
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _wanted(arguments: argparse.Namespace) -> tuple[str, str, str | None]:
    words: list[str] = arguments.words
    if words in (["activity"], ["summary"]):
        return "GET", f"/jupbox/{words[0]}", None
    if words == ["login"]:
        return "POST", "/jupbox/login-codes", json.dumps({"next": arguments.next})
    if words == ["pass"]:
        return "POST", "/jupbox/client-passes", "{}"
    method, target = words
    return method.upper(), target, arguments.body


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="jupbox_server.control", description=__doc__)
    parser.add_argument(
        "words", nargs="+", metavar="activity | summary | login | pass | METHOD PATH"
    )
    parser.add_argument("--next", metavar="PATH", help="where `login` leads to")
    parser.add_argument("--body", metavar="JSON", help="what METHOD PATH sends")
    parser.add_argument("--socket", type=Path, default=CONTROL_SOCKET)
    arguments = parser.parse_args(argv)
    words = arguments.words
    alone = (["activity"], ["summary"], ["login"], ["pass"])
    if words not in alone and (len(words) != 2 or not words[1].startswith("/")):
        parser.error("give activity, summary, login, pass, or a method and a path")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Ask once; the exit code."""
    arguments = _arguments(sys.argv[1:] if argv is None else argv)
    method, target, body = _wanted(arguments)
    try:
        status, answer = request(arguments.socket, method, target, body)
    except (OSError, http.client.HTTPException) as error:
        print(f"the server does not answer at {arguments.socket}: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(answer)
    if answer and not answer.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.flush()
    if 200 <= status < 300:
        return 0
    print(f"{method} {target}: {status} {http.client.responses.get(status, '')}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
