"""Whatever ends the server, it comes back by itself: same URL, certificate, password, files."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.e2e.opened import Opened, opening
from tests.integration.boxes.boxes import wait_until
from tests.integration.jupbox_command import MainJob, Visitor

pytestmark = pytest.mark.slow

_NOTEBOOK = {"type": "notebook", "content": {
    "cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5,
}}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a visitor finds."""

    url: str
    port: int
    certificate: str
    let_in: bool
    notebook: int


def kill_the_server(job: MainJob) -> None:
    """SIGKILL the process that serves; container and init are not touched."""
    init = str(job.stack.inspect()["State"]["Pid"])
    server = job.box.exec("pgrep", "--parent", init).strip()
    job.box.exec("kill", "-KILL", server)


def restart_the_engine(job: MainJob) -> None:
    job.box.restart_engine()


def restart_the_box(job: MainJob) -> None:
    job.box.restart()


def look(job: MainJob, opened: Opened, notebook: str) -> Seen:
    visitor = Visitor(address="127.0.0.1", port=opened.port, ca_pem=job.ca_pem)
    return Seen(
        url=job.status()["url"],
        port=opened.port,
        certificate=visitor.fingerprint(),
        let_in=visitor.log_in(job.first.password or ""),
        notebook=visitor.request("GET", f"/api/contents/{notebook}"),
    )


def answers(job: MainJob, opened: Opened) -> bool:
    visitor = Visitor(address="127.0.0.1", port=opened.port, ca_pem=job.ca_pem)
    try:
        return visitor.request("GET", "/api") == 200
    except (ssl.SSLError, OSError):
        return False


@pytest.mark.parametrize("happens", [kill_the_server, restart_the_engine, restart_the_box])
def test_the_server_comes_back_as_it_was(ada: MainJob, happens: Callable[[MainJob], None]) -> None:
    notebook = f"{happens.__name__}.ipynb"
    ada.stack.control("PUT", f"/api/contents/{notebook}", "--body", json.dumps(_NOTEBOOK))
    with opening(ada.laptop, "workbox", "--no-browser") as opened:
        before, identity = look(ada, opened, notebook), ada.stack.identity()
        assert (before.let_in, before.notebook) == (True, 200)
        happens(ada)
        # the one that was open all the time serves again
        wait_until(lambda: answers(ada, opened), "an answer")
        assert look(ada, opened, notebook) == before
        assert ("Connected again" in opened.text) == (happens is restart_the_box)
    after = ada.stack.identity()
    assert after[0] == identity[0]
    assert after[1] != identity[1]
    with opening(ada.laptop, "workbox", "--no-browser") as opened:
        assert look(ada, opened, notebook) == before


def test_an_up_after_the_engine_was_killed_finds_everything_as_it_was(ada: MainJob) -> None:
    """The next engine ends what runs and takes that for the user's own stop (moby 41302)."""
    notebook = "kill_the_engine.ipynb"
    ada.stack.control("PUT", f"/api/contents/{notebook}", "--body", json.dumps(_NOTEBOOK))
    with opening(ada.laptop, "workbox", "--no-browser") as opened:
        before, identity = look(ada, opened, notebook), ada.stack.identity()
        ada.box.kill_engine()
        up = ada.jupbox("up")
        assert look(ada, opened, notebook) == before
    assert up.password is None
    assert ada.stack.identity()[0] == identity[0]
