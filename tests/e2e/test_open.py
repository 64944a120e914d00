"""`jupbox open` over connections that drop, and how it ends."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.opened import Opened, opening
from tests.integration.boxes.boxes import BoxUnderTest
from tests.integration.jupbox_command import MainJob, Visitor

pytestmark = pytest.mark.slow

_AUTHORIZED = "/home/ada/.ssh/authorized_keys"


def drop_connections(box: BoxUnderTest) -> None:
    """Kill what serves ada's ssh connections on the box."""
    box.exec("pkill", "-KILL", "--uid", "ada", "--exact", "sshd-session")


def refused_logins(box: BoxUnderTest) -> int:
    log = box.exec("cat", "/var/log/sshd.log")
    return len(re.findall(r"Connection closed by authenticating user ada ", log))


@pytest.fixture
def locked_out(ada: MainJob) -> Iterator[None]:
    """The box lets ada in no more."""
    ada.box.exec("mv", _AUTHORIZED, f"{_AUTHORIZED}.away")
    yield
    ada.box.exec("mv", f"{_AUTHORIZED}.away", _AUTHORIZED)


def test_a_dropped_connection_comes_back_at_the_same_port(ada: MainJob, opened: Opened) -> None:
    visitor = Visitor(address="127.0.0.1", port=opened.port, ca_pem=ada.ca_pem)
    assert visitor.log_in(ada.first.password or "")
    for times in (1, 2):
        drop_connections(ada.box)
        opened.wait_for("The connection to workbox was lost.", times=times)
        opened.wait_for(f"Connected again: {opened.url}", times=times)
        # the same login, too
        assert visitor.request("GET", "/api/kernels") == 200


def test_open_gives_up_after_two_refused_logins(
    ada: MainJob, opened: Opened, locked_out: None
) -> None:
    before = refused_logins(ada.box)
    drop_connections(ada.box)
    assert opened.process.wait(timeout=60) == 12
    assert "workbox refused the login" in opened.text
    assert refused_logins(ada.box) - before == 2
    assert not opened.listens()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_open_and_the_server_runs_on(
    ada: MainJob, opened: Opened, number: signal.Signals
) -> None:
    identity, children = ada.stack.identity(), opened.children()
    assert opened.listens()
    assert children
    assert opened.end(number) == 0
    assert opened.text.splitlines()[-1] == "Closed; the server on workbox runs on."
    assert not opened.listens()
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
    assert ada.stack.identity() == identity


def test_two_opens_at_a_time_each_have_a_port_and_end_alone(ada: MainJob, opened: Opened) -> None:
    with opening(ada.laptop, "workbox", "--no-browser") as second:
        assert second.port != opened.port
        assert second.listens()
    assert second.process.returncode == 0
    assert opened.listens()
