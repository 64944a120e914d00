"""The server's parts that need no server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from jupbox_server import cgroup, guessing
from jupbox_server.codes import LIFETIME, OUTSTANDING, LoginCodes, is_local_path
from jupbox_server.config import keep_users_own, sections_of
from jupbox_server.guessing import GuessLimit
from jupbox_server.seal import SealError, host_allowed, read_hash
from traitlets.config import Config

from tests.images.conftest import SERVER


class Clock:
    """Time that goes on when told to."""

    now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_a_code_works_once_and_not_after_its_minute() -> None:
    clock = Clock()
    codes = LoginCodes(clock)
    first, second, third = (codes.mint(f"/{number}") for number in range(3))
    assert codes.consume(first) == "/0"
    assert codes.consume(first) is None
    clock.now += LIFETIME
    assert codes.consume(second) == "/1"
    clock.now += 0.1
    assert codes.consume(third) is None
    assert LIFETIME == 60


def test_codes_that_nobody_uses_take_no_room() -> None:
    codes = LoginCodes(Clock())
    minted = [codes.mint("/lab") for _ in range(OUTSTANDING + 1)]
    assert codes.consume(minted[0]) is None
    assert codes.consume(minted[-1]) == "/lab"
    assert all(code not in repr(vars(codes)) for code in minted)


@pytest.mark.parametrize(
    ("target", "local"),
    [("/lab", True), ("/lab?a=b#c", True), ("//x", False), ("/\\x", False), ("/\tx", False),
     ("/a\r\nb", False), ("", False), ("lab", False), ("javascript:1", False)],
)  # fmt: skip
def test_a_target_stays_on_the_server(target: str, local: bool) -> None:
    assert is_local_path(target) is local


def test_wrong_passwords_make_the_wait_longer() -> None:
    clock = Clock()
    limit = GuessLimit(clock)
    assert [limit.admit("192.0.2.1") for _ in range(guessing.FREE_TRIES)] == [0] * 5
    waits = []
    for _ in range(8):
        waits.append(limit.admit("192.0.2.1"))
        clock.now += waits[-1]
        assert limit.admit("192.0.2.1") == 0
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert limit.admit("192.0.2.2") == 0


def test_the_right_password_and_time_forgive() -> None:
    clock = Clock()
    limit = GuessLimit(clock)
    for address in ("192.0.2.1", "192.0.2.2"):
        for _ in range(guessing.FREE_TRIES):
            limit.admit(address)
    limit.succeeded("192.0.2.1")
    assert limit.admit("192.0.2.1") == 0
    assert limit.admit("192.0.2.2") > 0
    clock.now += guessing.FORGET_AFTER + 1
    assert limit.admit("192.0.2.2") == 0


def test_many_addresses_share_one_allowance_and_little_memory() -> None:
    clock = Clock()
    limit = GuessLimit(clock)
    admitted = sum(limit.admit(f"10.0.{n // 250}.{n % 250}") == 0 for n in range(200))
    assert admitted == guessing.ALL_AT_ONCE
    for n in range(3000):
        clock.now += 2
        limit.admit(f"10.1.{n // 250}.{n % 250}")
    assert len(limit) <= guessing.ADDRESSES


def test_one_ipv6_network_is_one_guesser() -> None:
    limit = GuessLimit(Clock())
    for n in range(guessing.FREE_TRIES):
        assert limit.admit(f"2001:db8::{n:x}") == 0
    assert limit.admit("2001:db8::ffff") > 0
    assert limit.admit("2001:db8:0:1::1") == 0


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("[::1]:8888", True), ("LOCALHOST.", True), ("Box", True), ("x.lab.example", True),
     ("a.x.lab.example", False), ("lab.example", False), ("[2001:db8::7]", True), ("", False),
     ("10.0.0.1", False), ("localhost.evil.example", False), (":8888", False)],
)  # fmt: skip
def test_a_host_header_must_name_the_box(host: str, allowed: bool) -> None:
    assert host_allowed(host, ("box", "*.lab.example", "2001:db8::7")) is allowed


def test_a_hash_error_never_shows_the_file(tmp_path: Path) -> None:
    (tmp_path / "password.hash").write_text("my password")
    with pytest.raises(SealError) as error:
        read_hash(tmp_path / "password.hash")
    assert "my password" not in str(error.value)


def test_memory_and_time_are_read_from_cgroup_v2(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text("5000\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 2000\nactive_file 3\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 77\nuser_usec 50\n")
    expected = cgroup.Usage(memory_bytes=3000, memory_limit_bytes=None, cpu_usec=77)
    assert cgroup.usage(tmp_path) == expected
    (tmp_path / "memory.max").write_text("9000\n")
    assert cgroup.usage(tmp_path).memory_limit_bytes == 9000


@pytest.mark.parametrize(("limit", "read"), [("9223372036854771712", None), ("9000", 9000)])
def test_memory_and_time_are_read_from_cgroup_v1(
    tmp_path: Path, limit: str, read: int | None
) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "cpuacct").mkdir()
    (tmp_path / "memory/memory.usage_in_bytes").write_text("5000\n")
    (tmp_path / "memory/memory.limit_in_bytes").write_text(f"{limit}\n")
    (tmp_path / "memory/memory.stat").write_text("cache 1\ntotal_inactive_file 1000\n")
    (tmp_path / "cpuacct/cpuacct.usage").write_text("77000\n")
    expected = cgroup.Usage(memory_bytes=4000, memory_limit_bytes=read, cpu_usec=77)
    assert cgroup.usage(tmp_path) == expected


def test_a_kernel_that_says_nothing_is_no_error(tmp_path: Path) -> None:
    nothing = cgroup.Usage(memory_bytes=None, memory_limit_bytes=None, cpu_usec=None)
    assert cgroup.usage(tmp_path) == nothing


def test_the_user_keeps_taste_and_loses_what_opens() -> None:
    from jupyter_server.auth.identity import PasswordIdentityProvider
    from jupyter_server.serverapp import ServerApp

    asked = Config()
    asked.ServerApp.max_body_size = 5
    asked.ServerApp.a_trait_of_tomorrow = True
    asked.ServerApp.IdentityProvider.token = "x"
    asked.LoggingConfigurable.token = "x"
    asked.IdentityProvider.token = "x"
    asked.LabApp.news_url = None
    asked.FileContentsManager.always_delete_dir = True
    asked.FileContentsManager.root_dir = "/"
    closed = sections_of((ServerApp, PasswordIdentityProvider))
    kept, dropped = keep_users_own(asked, closed, {})
    assert kept.ServerApp == {"max_body_size": 5}
    assert kept.LabApp == {"news_url": None}
    assert kept.FileContentsManager == {"always_delete_dir": True}
    assert not kept.IdentityProvider and not kept.LoggingConfigurable
    assert "ServerApp.a_trait_of_tomorrow" in dropped
    assert asked.ServerApp.a_trait_of_tomorrow is True


@pytest.mark.parametrize("module", ["control", "health"])
def test_probe_and_client_load_nothing_of_jupyter(module: str) -> None:
    code = (
        f"import sys, jupbox_server.{module}; "
        "print([m for m in sys.modules if m.split('.')[0] in "
        "('jupyter_server', 'tornado', 'traitlets', 'argon2')])"
    )
    command = [sys.executable, "-P", "-c", code]
    environment = {"PYTHONPATH": str(SERVER)}
    assert subprocess.check_output(command, env=environment, text=True).strip() == "[]"
