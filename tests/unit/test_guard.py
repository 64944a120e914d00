"""Whether what works is ended: asked, named, waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from jupbox import labels as label
from jupbox.console import Console
from jupbox.errors import KernelsBusyError, ServerError
from jupbox.host.engine import Engine
from jupbox.host.inspected import Container
from jupbox.workflows import guard as room
from jupbox.workflows.found import Found
from jupbox.workflows.guard import Consent
from tests.unit.fakes import container
from tests.unit.release.bench import STACK, bench

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def kernel(state: str = "busy", notebook: str | None = "train.ipynb") -> dict[str, Any]:
    since = (NOW - timedelta(hours=9)).isoformat()
    return {
        "id": "1",
        "name": "python3",
        "notebook": notebook,
        "state": state,
        "since": since,
        "last_activity": since,
        "connections": 0,
    }


def terminal(command: str = "") -> dict[str, Any]:
    return {
        "name": "1",
        "busy": bool(command),
        "command": command,
        "since": None,
        "last_activity": None,
    }


@pytest.fixture
def found() -> Found:
    made = bench()
    labels = {label.STACK: STACK, label.KIND: "server"}
    made.engine.all_containers.append(container("server", labels))
    return Found(site=made.site, state=made.state)


Answers = Callable[..., None]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """Has the server give one answer after the other, the last one for ever."""
    answers: list[Any] = []

    def control(_engine: Engine, _container: Container, *words: str, user: str) -> Any:
        answer = answers[0] if len(answers) == 1 else answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer[words[0]] if "activity" not in answer or words != ("activity",) else answer

    monkeypatch.setattr(room, "control", control)
    monkeypatch.setattr("jupbox.workflows.guard.time.sleep", lambda _seconds: None)

    def say(*given: Any) -> None:
        answers[:] = given

    yield say


def activity(*kernels: dict[str, Any], terminals: tuple[dict[str, Any], ...] = ()) -> Any:
    told: dict[str, Any] = {"kernels": list(kernels), "terminals": list(terminals)}
    return {**told, "activity": told}


def ask(found: Found, **consent: bool) -> None:
    room.ensure_idle(found, verb="down", consent=Consent(**consent), console=Console())


def test_a_busy_kernel_stops_the_verb_and_is_named(
    found: Found, server: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    server(activity(kernel(), kernel("idle", "other.ipynb")))
    with pytest.raises(KernelsBusyError) as caught:
        ask(found)
    assert "`down` would end it" in caught.value.message
    assert "--when-idle" in caught.value.remedy
    told = capsys.readouterr().err
    assert "train.ipynb" in told
    assert "other.ipynb" not in told


def test_a_terminal_that_runs_something_is_at_work(found: Found, server: Answers) -> None:
    server(activity(terminals=(terminal("rsync"), terminal())))
    with pytest.raises(KernelsBusyError, match="One kernel or terminal"):
        ask(found)


def test_idle_kernels_are_named_and_no_reason_to_stop(
    found: Found, server: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    server(activity(kernel("idle"), kernel("idle", None), terminals=(terminal(),)))
    ask(found)
    told = capsys.readouterr().err
    assert "train.ipynb" in told
    assert "a python3 kernel without a notebook" in told


def test_force_asks_nobody(found: Found, server: Answers) -> None:
    server(AssertionError("nobody was to be asked"))
    ask(found, force=True)


def test_when_idle_waits_until_nothing_works(
    found: Found, server: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    server(activity(kernel()), activity(kernel()), activity(kernel("idle")))
    ask(found, when_idle=True)
    assert "Waiting for train.ipynb" in capsys.readouterr().err


def test_when_idle_may_wait_later(found: Found, server: Answers) -> None:
    server(activity(kernel()))
    room.ensure_idle(
        found, verb="up", consent=Consent(when_idle=True), console=Console(), wait=False
    )


def test_a_server_that_does_not_answer_has_nobody_to_ask(found: Found, server: Answers) -> None:
    server(ServerError("it is stuck", remedy="none"))
    ask(found)


def test_an_older_server_tells_numbers(found: Found, server: Answers) -> None:
    summary = {"kernels": 2, "busy": 1, "terminals": 0, "terminals_busy": 0}
    server(ServerError("404", remedy="none"), {"summary": summary})
    with pytest.raises(KernelsBusyError, match="One kernel"):
        ask(found)


def test_a_stopped_server_ends_nothing(server: Answers) -> None:
    server(AssertionError("nobody was to be asked"))
    made = bench()
    labels = {label.STACK: STACK, label.KIND: "server"}
    made.engine.all_containers.append(container("server", labels, state="exited"))
    ask(Found(site=made.site, state=made.state))


def test_a_whole_engine_is_asked_for_every_server_on_it() -> None:
    class Machine:
        def run(self, _argv: object, *, input: bytes, timeout: float, check: bool) -> Any:
            assert b"dev.jupbox.kind=server" in input
            lines = [
                '{"kernels": [], "terminals": []}',
                '{"kernels": [{"name": "r", "state": "busy"}], "terminals": []}',
            ]
            return type("Done", (), {"text": "\n".join(lines)})

    with pytest.raises(KernelsBusyError, match="`setup` would end it"):
        room.ensure_engine_idle(
            cast(Any, Machine()), where="workbox", consent=Consent(), console=Console(),
            now=lambda: NOW,
        )  # fmt: skip
