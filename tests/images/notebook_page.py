"""What JupyterLab does with a notebook and its kernel, without a browser."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

import websocket

from tests.images.box import Browser, until


@dataclass(kw_only=True)
class NotebookPage:
    """A page that shows a notebook.

    Attributes:
        session: what it calls itself; a page that lost its connection comes back with the same.
    """

    browser: Browser
    path: str
    kernel: str
    session: str = field(default_factory=lambda: uuid.uuid4().hex)
    socket: websocket.WebSocket | None = None

    def connect(self) -> None:
        """Open the kernel's websocket."""
        self.socket = websocket.create_connection(
            f"wss://localhost:{self.browser.server.port}/api/kernels/{self.kernel}/channels"
            f"?session_id={self.session}",
            timeout=20,
            sslopt={"context": self.browser.server.seal.trust()},
            cookie="; ".join(f"{key}={value}" for key, value in self.browser.cookies.items()),
            suppress_origin=True,
        )

    def vanish(self) -> None:
        """Be gone with no goodbye."""
        assert self.socket is not None
        self.socket.sock.close()
        self.socket = None
        until(lambda: self._connections() == 0)

    def _connections(self) -> int:
        return int(self.browser.get(f"/api/kernels/{self.kernel}").json["connections"])

    def _send(self, channel: str, kind: str, content: dict[str, Any], **more: Any) -> str:
        assert self.socket is not None
        header = {
            "msg_id": more.pop("id", uuid.uuid4().hex),
            "msg_type": kind,
            "username": "",
            "session": self.session,
            "version": "5.3",
        }
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        self.socket.send(json.dumps(message | more | {"channel": channel, "buffers": []}))
        return str(header["msg_id"])

    def run(self, code: str, *, cell: str = "a") -> str:
        """Run a cell; the request's id."""
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": True}
        return self._send("shell", "execute_request", content, metadata={"cellId": cell})

    def show(self, run: str, *, cell: str = "a") -> None:
        """Ask for what a run that another page began has printed and will print."""
        metadata = {"cellId": cell, "jupbox_attach": True}
        self._send("shell", "execute_request", {"code": ""}, metadata=metadata, id=run)

    def answer(self, question: dict[str, Any], text: str) -> None:
        """Fill in the kernel's box."""
        parent = question["header"]
        self._send("stdin", "input_reply", {"value": text}, parent_header=parent)

    def hear(self, run: str, *kinds: str) -> list[dict[str, Any]]:
        """What the kernel says of a run until (and with) a message of one of those types."""
        assert self.socket is not None
        heard = []
        while True:
            message = json.loads(self.socket.recv())
            if message["parent_header"].get("msg_id") == run:
                heard.append(message)
                if message["msg_type"] in kinds:
                    return heard

    def finish(self, run: str) -> list[dict[str, Any]]:
        """What the kernel says of a run until it has ended; the reply comes on its own line."""
        heard = self.hear(run, "execute_reply")
        idle = {"execution_state": "idle"}
        while idle not in [message["content"] for message in heard]:
            heard += self.hear(run, "status")
        return heard

    def missed(self) -> list[dict[str, Any]]:
        """The runs that it does not show."""
        query = f"kernel={self.kernel}&session={self.session}"
        found: list[dict[str, Any]] = self.browser.get(f"/jupbox/runs?{query}").json
        return found

    def state(self) -> tuple[str, str]:
        """Hash and time of the file, as JupyterLab looks at them before it saves."""
        model = self.browser.get(f"/api/contents/{self.path}?content=0&hash=1").json
        return model["hash"], model["last_modified"]

    def read(self) -> dict[str, Any]:
        """The notebook, by the API."""
        content: dict[str, Any] = self.browser.get(f"/api/contents/{self.path}").json["content"]
        return content

    def save(self, notebook: dict[str, Any]) -> None:
        """Save the notebook."""
        model = {"type": "notebook", "format": "json", "content": notebook}
        assert self.browser.request(
            "PUT", f"/api/contents/{self.path}", json.dumps(model)
        ).status in {200, 201}

    def file(self) -> dict[str, Any]:
        """The notebook, as it is on the disk when nobody is just writing it."""
        path = self.browser.server.home / "notebooks" / self.path

        def whole() -> dict[str, Any] | None:
            try:
                value: dict[str, Any] = json.loads(path.read_text())
            except ValueError:
                return None
            return value

        value = until(whole)
        assert value is not None
        return value

    def shown(self, run: list[dict[str, Any]]) -> str:
        """The text of a run's messages."""
        return "".join(
            message["content"]["text"] for message in run if message["msg_type"] == "stream"
        )

    def reopened(self) -> NotebookPage:
        """The same notebook in another page, connected."""
        other = NotebookPage(browser=self.browser, path=self.path, kernel=self.kernel)
        other.connect()
        return other


def notebook(*sources: str) -> dict[str, Any]:
    """A notebook of cells that are called a, b, c, ..."""
    cells = [
        {"cell_type": "code", "id": name, "source": source, "metadata": {}, "outputs": []}
        | {"execution_count": None}
        for name, source in zip("abcdefgh", sources, strict=False)
    ]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def printed(cell: dict[str, Any]) -> str:
    """The text below a cell."""
    return "".join("".join(output.get("text", "")) for output in cell["outputs"])


def opened(browser: Browser, path: str, *sources: str) -> NotebookPage:
    """A page that has just made a notebook and started its kernel."""
    page = NotebookPage(browser=browser, path=path, kernel="")
    page.save(notebook(*sources))
    wanted = {"path": path, "type": "notebook", "name": "", "kernel": {"name": "python3"}}
    session = browser.request("POST", "/api/sessions", json.dumps(wanted)).json
    page.kernel = session["kernel"]["id"]
    page.connect()
    return page
