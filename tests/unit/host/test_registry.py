"""What an engine says of a registry, and whose credentials it is shown."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from jupbox.errors import EngineError
from jupbox.host import registry
from jupbox.host.engine import Engine
from jupbox.host.registry import Standing, credentials, look
from jupbox.secret import Secret

HOST = "registry.example.org:5000"
REFERENCE = f"{HOST}/team/x:1"


def write(home: Path, settings: object) -> None:
    (home / ".docker").mkdir(exist_ok=True)
    (home / ".docker" / "config.json").write_text(json.dumps(settings))


def read(header: Secret | None) -> Any:
    return json.loads(base64.urlsafe_b64decode(header.reveal())) if header else None


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@dataclass
class Asked:
    """An engine that answers with one status without credentials and another with some."""

    without: int
    given: int
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def request(self, path: str, headers: Mapping[str, Secret], *, timeout: float) -> int:
        header = headers.get("X-Registry-Auth")
        self.asked.append((path, read(header)))
        status = self.given if header else self.without
        if status == 0:
            raise EngineError("silent", remedy="none")
        return status


def standing(engine: Asked, home: Path) -> Standing:
    return look(cast(Engine, engine), REFERENCE, environ={}, home=home)


@pytest.mark.parametrize(
    ("without", "given", "expected"),
    [
        (200, 0, Standing.THERE),
        (404, 0, Standing.MISSING),
        (401, 0, Standing.LOGIN),
        (403, 0, Standing.LOGIN),
        (500, 401, Standing.LOGIN),
        (500, 500, Standing.UNREACHABLE),
        (500, 404, Standing.UNREACHABLE),
        (0, 0, Standing.UNREACHABLE),
    ],
)
def test_without_credentials_the_engine_tells_a_login_from_no_answer(
    tmp_path: Path, without: int, given: int, expected: Standing
) -> None:
    engine = Asked(without, given)
    assert standing(engine, tmp_path) is expected
    assert engine.asked[0] == (f"/distribution/{REFERENCE}/json", None)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, Standing.THERE), (404, Standing.MISSING), (401, Standing.LOGIN)],
)
def test_the_users_credentials_go_with_the_question(
    tmp_path: Path, status: int, expected: Standing
) -> None:
    write(tmp_path, {"auths": {HOST: {"auth": encoded("ada:a:b")}}})
    engine = Asked(500, status)
    assert standing(engine, tmp_path) is expected
    assert [given for _, given in engine.asked] == [{"username": "ada", "password": "a:b"}]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"auths": {}},
        {"auths": {"other": {"auth": encoded("a:b")}}},
        {"auths": {HOST: {}}},
        {"auths": {HOST: {"auth": "%%%"}}},
        {"auths": None, "credHelpers": None},
        [],
        "text",
    ],
)
def test_a_file_without_a_login_for_the_host_is_none(tmp_path: Path, settings: object) -> None:
    write(tmp_path, settings)
    assert credentials(HOST, environ={}, home=tmp_path) is None


def test_a_token_goes_as_one(tmp_path: Path) -> None:
    write(tmp_path, {"auths": {HOST: {"identitytoken": "t"}}})
    assert read(credentials(HOST, environ={}, home=tmp_path)) == {"identitytoken": "t"}


def test_the_configuration_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {HOST: {"identitytoken": "t"}}}))
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    assert credentials(HOST, environ=environ, home=Path("/nowhere")) is not None


@pytest.mark.real_process
@pytest.mark.parametrize("settings", [{"credsStore": "test"}, {"credHelpers": {HOST: "test"}}])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"Username": "ada", "Secret": "s"}, {"username": "ada", "password": "s"}),
        ({"Username": "<token>", "Secret": "s"}, {"identitytoken": "s"}),
        ({}, None),
    ],
)
def test_a_credential_helper_is_asked_for_the_host(
    tmp_path: Path, settings: object, answer: object, expected: object
) -> None:
    write(tmp_path, settings)
    helper = tmp_path / "docker-credential-test"
    helper.write_text(
        f'#!/bin/sh\n[ "$1" = get ] && read -r host; [ "$host" = {HOST} ] || exit 1\n'
        f"echo '{json.dumps(answer)}'\n"
    )
    helper.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert read(credentials(HOST, environ=environ, home=tmp_path)) == expected


@pytest.mark.real_process
def test_a_helper_that_is_not_there_is_no_login(tmp_path: Path) -> None:
    write(tmp_path, {"credsStore": "missing"})
    assert credentials(HOST, environ={"PATH": "/nowhere"}, home=tmp_path) is None


def test_credentials_are_not_shown(tmp_path: Path) -> None:
    write(tmp_path, {"auths": {HOST: {"auth": encoded("ada:word")}}})
    assert "word" not in repr(credentials(HOST, environ={}, home=tmp_path))


def test_the_host_of_a_repository_keeps_its_port() -> None:
    assert registry.host_of(REFERENCE) == HOST
