"""When a server that hangs is ended, and everything for which it never is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from jupbox_server import heartbeat, hung
from jupbox_server.hung import Limits, Process, Row, Verdict, judge

from tests.images.box import Answer, Browser, RunningServer, Seal, authority, send_code, until
from tests.images.conftest import serving

SIGN = heartbeat.Sign(pid=7, ticks=100, born=0.0, beat=1000.0)
FINE = Process(state="S", faults=5, cpu=10.0, waited=1.0)
LATE, REFUSED = "no answer within 2.8 s", "Connection refused"

# What a signal has the server's event loop do, from inside.
HANGING = """
import signal, time
from jupbox_server.app import BoxServerApp

def spin(*_):
    while True:
        pass

signal.signal(signal.SIGRTMIN, lambda *_: time.sleep(600))
signal.signal(signal.SIGRTMAX, spin)
signal.signal(signal.SIGWINCH, lambda *_: BoxServerApp.instance().http_server.stop())
"""


# -- the rule


class _Row:
    """Probes, 24 seconds apart."""

    def __init__(self, *, answered: bool = True) -> None:
        self.now, self.row, self.limits = 1000.0, None, Limits()
        self.acts: list[str] = []
        if answered:
            self.probe(None)

    row: Row | None

    def probe(
        self,
        problem: str | None = LATE,
        *,
        sign: heartbeat.Sign = SIGN,
        process: Process = FINE,
        after: float = 24.0,
    ) -> Verdict:
        self.now += after
        self.row, verdict = judge(
            self.row,
            sign,
            process,
            problem=problem,
            refused=problem == REFUSED,
            now=self.now,
            limits=self.limits,
        )
        self.acts.append(verdict.act)
        return verdict


def test_a_loop_that_stands_still_for_a_minute_is_ended() -> None:
    row = _Row()
    assert [row.probe().act for _ in range(4)] == ["wait", "wait", "wait", "end"]
    assert "event loop stands still" in row.probe().why
    assert LATE in row.probe().why


def test_a_late_answer_of_a_loop_that_moves_ends_nothing() -> None:
    row = _Row()
    for number in range(100):
        row.probe(sign=replace(SIGN, beat=1000.0 + 20 * number))
    assert set(row.acts) == {"wait"}


def test_a_loop_that_moved_begins_its_minute_again() -> None:
    row = _Row()
    for number in range(100):
        row.probe(sign=replace(SIGN, beat=1000.0 + number // 3))
    assert set(row.acts) == {"wait"}


def test_a_server_that_gets_no_processor_is_not_ended() -> None:
    row = _Row()
    for number in range(100):
        row.probe(process=replace(FINE, waited=23.9 * number))
    assert set(row.acts) == {"wait"}


def test_a_server_that_swaps_or_waits_for_a_disk_is_not_ended() -> None:
    row = _Row()
    for number in range(50):
        row.probe(process=replace(FINE, faults=100 * number))
    for _ in range(50):
        row.probe(process=replace(FINE, state="D"))
    assert set(row.acts) == {"wait"}


@pytest.mark.parametrize("probes", [1, 2, 3])
def test_after_a_pause_the_row_begins_anew(probes: int) -> None:
    row = _Row()
    for _ in range(probes):
        row.probe()
    assert row.probe(after=3600.0).act == "wait"
    assert row.probe().act == "wait"
    assert row.probe(None).act == "wait"


def test_a_loop_that_computes_gets_five_minutes() -> None:
    row = _Row()
    for number in range(20):
        row.probe(process=replace(FINE, cpu=10.0 + 24 * number))
    assert row.acts.index("end") * 24 == pytest.approx(300, abs=48)


def test_a_kernel_that_counts_no_waiting_gets_five_minutes_too() -> None:
    row = _Row()
    for _ in range(20):
        row.probe(process=replace(FINE, waited=None))
    assert row.acts.index("end") * 24 == pytest.approx(300, abs=48)


def test_a_stopped_process_is_told_to_go_on() -> None:
    row = _Row()
    acts = [row.probe(process=replace(FINE, state="T")).act for _ in range(4)]
    assert acts == ["wait", "wait", "wait", "continue"]


def test_a_socket_that_is_gone_ends_a_server_whose_loop_moves() -> None:
    row = _Row()
    acts = [
        row.probe(REFUSED, sign=replace(SIGN, beat=1000.0 + 24 * number)).act for number in range(4)
    ]
    assert acts == ["wait", "wait", "wait", "end"]
    assert "nobody listens" in row.probe(REFUSED).why


def test_a_certificate_that_does_not_fit_ends_nothing() -> None:
    row = _Row()
    for number in range(100):
        row.probe("certificate has expired", sign=replace(SIGN, beat=1000.0 + 24 * number))
    assert set(row.acts) == {"wait"}


@pytest.mark.parametrize("problem", [LATE, REFUSED])
def test_a_server_that_never_answered_gets_five_minutes(problem: str) -> None:
    row = _Row(answered=False)
    sign = replace(SIGN, born=1000.0)
    for _ in range(20):
        row.probe(problem, sign=sign)
    assert row.acts.index("end") * 24 == pytest.approx(300, abs=48)


def test_one_answer_forgives_everything() -> None:
    row = _Row()
    for number in range(60):
        row.probe(None if number % 3 == 2 else REFUSED)
    assert set(row.acts) == {"wait"}


def test_a_new_server_begins_a_row_of_its_own() -> None:
    row = _Row()
    for _ in range(3):
        row.probe()
    new = replace(SIGN, ticks=200, born=row.now)
    assert row.probe(sign=new).act == "wait"
    assert row.row is not None and not row.row.answered


# -- the sign of life


def test_a_sign_is_its_servers_alone(tmp_path: Path) -> None:
    assert heartbeat.read(tmp_path) is None
    now = [5.0]
    beat = heartbeat.Heartbeat(tmp_path / "run", lambda: now[0])
    now[0] = 1234567.0
    beat.beat()
    sign = heartbeat.read(tmp_path / "run")
    assert sign is not None
    assert (sign.pid, sign.born, sign.beat) == (os.getpid(), 5.0, 1234567.0)
    (tmp_path / "run" / heartbeat.NAME).write_text(f"{os.getpid()} 1 5.0 6.0\n")
    assert heartbeat.read(tmp_path / "run") is None


def test_a_server_starts_where_no_sign_can_be_left(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("no folder")
    heartbeat.Heartbeat(tmp_path / "run").beat()
    assert heartbeat.read(tmp_path / "run") is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pid": 1}', '{"more": 1}'])
def test_a_row_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / hung.NAME).write_text(text)
    assert hung.remembered(tmp_path) is None


# -- real servers


def _probe(server: RunningServer, *limits: str, seal: Seal | None = None) -> Answer:
    where = ["--seal", str((seal or server.seal).folder), "--port", str(server.port)]
    notes = ["--run", str(server.control.parent), "--log", str(server.folder / "log")]
    return server.run("health", *where, *notes, *limits)


def _alive(server: RunningServer) -> bool:
    assert server.process is not None
    return server.process.poll() is None


def _probe_until_ended(server: RunningServer, *limits: str) -> None:
    # tests beside this one may take every processor, and that is no time to end a server in
    until(lambda: not _probe(server, *limits).ok and not _alive(server), within=90)


@contextmanager
def _busy(processes: int) -> Iterator[None]:
    """Take every processor."""
    command = [sys.executable, "-c", "while True: pass"]
    started = [subprocess.Popen(command) for _ in range(processes)]
    try:
        yield
    finally:
        for each in started:
            each.kill()
        for each in started:
            each.wait()


def test_a_server_whose_loop_is_blocked_is_ended_and_says_where() -> None:
    with serving(HANGING) as server:
        assert _probe(server).ok
        assert server.process is not None
        server.process.send_signal(signal.SIGRTMIN)
        assert not _probe(server, "--still", "3").ok
        assert _alive(server)
        _probe_until_ended(server, "--still", "3")
        assert server.process.returncode == -signal.SIGKILL
        why, _, where = server.log.partition("its event loop stands still: no answer within")
        assert "jupbox: the server does not answer: " in why
        assert "jupyter_server_config.py" in where
        server.start()
        assert _probe(server).ok


def test_a_server_that_spins_is_given_time_and_then_ended() -> None:
    with serving(HANGING) as server:
        assert _probe(server).ok
        assert server.process is not None
        server.process.send_signal(signal.SIGRTMAX)
        # long enough for it to have had a processor on a machine that is busy
        limits = "--still", "4", "--computing", "600"
        for _ in range(4):
            assert not _probe(server, *limits).ok
        assert _alive(server)
        _probe_until_ended(server, "--still", "1", "--computing", "1")
        assert "spin" in server.log


def test_a_server_without_its_socket_is_ended() -> None:
    with serving(HANGING) as server:
        assert _probe(server).ok
        assert server.process is not None
        server.process.send_signal(signal.SIGWINCH)
        until(lambda: "refused" in _probe(server, "--still", "600").errors)
        _probe_until_ended(server, "--still", "1")
        assert "nobody listens at its port" in server.log


def test_a_stopped_server_goes_on_with_its_kernels() -> None:
    with serving() as server:
        assert _probe(server).ok
        kernel = server.ask("POST", "/api/kernels", "--body", "{}")["id"]
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        for _ in range(2):
            assert not _probe(server, "--still", "1").ok
        until(lambda: _probe(server, "--still", "600").ok, within=60)
        assert "a signal has stopped it" in server.log
        assert [kernel] == [one["id"] for one in server.ask("GET", "/api/kernels")]


def test_a_server_is_never_ended_for_a_busy_machine_or_a_certificate(tmp_path: Path) -> None:
    with serving() as server:
        browser = Browser(server=server, address="127.0.0.1")
        browser.log_in_by_control()
        kernel = browser.start_kernel()
        socket = browser.open_kernel(kernel)
        send_code(socket, "while True: pass")
        until(lambda: server.ask("activity")["kernels"][0]["state"] == "busy")
        assert _probe(server).ok
        assert server.process is not None
        # a share of some hundredths of what a machine with all processors taken leaves it
        os.setpriority(os.PRIO_PROCESS, server.process.pid, 19)
        short = "--still", "1", "--computing", "1", "--start", "1"
        with _busy(16):
            deadline = time.monotonic() + 8
            while time.monotonic() < deadline:
                _probe(server, *short)
        assert "does not answer" not in server.log
        until(lambda: _probe(server, *short).ok, within=60)
        other = Seal(folder=tmp_path / "other", ca=authority())
        other.create()
        deadline = time.monotonic() + 4
        refused = ""
        while time.monotonic() < deadline or "CERTIFICATE_VERIFY_FAILED" not in refused:
            refused = _probe(server, *short, seal=other).errors
            assert refused
        assert "does not answer" not in server.log
        assert _alive(server)
        socket.close()
        assert server.ask("activity")["kernels"][0]["state"] == "busy"
