"""Every rule of `doctor`: where it speaks up, how loud, and where it is content."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jupbox import doctor
from jupbox.doctor import (
    Boot,
    Certificate,
    Connection,
    EngineSeen,
    Finding,
    Folder,
    Host,
    Laptop,
    Locked,
    Program,
    Reach,
    Server,
    Severity,
    SidePackage,
    Space,
    Summary,
    Wish,
)
from jupbox.errors import HostKeyError

OK, NOTE, WARNING, ERROR = Severity
GB = 10**9
GIB = 2**30
NOW = datetime(2026, 6, 1, tzinfo=UTC)

DISK = Space(path="/data", mount="/", total=200 * GB, free=90 * GB, inodes=1000, free_inodes=900)
LAPTOP = Laptop(
    programs=(
        Program(
            name="compose", title="compose", version="2.26.1-4", minimum=(2, 26), remedy="Get."
        ),
    ),
    bundle=None,
    cache=DISK,
    ignored=(),
    index=Reach(address="index.example/simple"),
)
FOLDER = Folder(
    path="/home/ada/notebooks", kind="folder", owner=1500, filesystem="ext4", writable=True,
    open_path=True,
)  # fmt: skip
HOST = Host(
    word=" workbox",
    user="ada",
    uid=1500,
    groups=("ada", "docker"),
    system="Linux",
    os_name="Debian GNU/Linux 13 (trixie)",
    architecture="amd64",
    architectures=("amd64", "arm64"),
    setup_knows=True,
    skew=0,
    memory=16 * GIB,
    available=8 * GIB,
    swap=(2 * GIB, 2 * GIB),
    disks=(DISK,),
    firewalls=(),
    addresses=("192.0.2.7",),
    listening=frozenset({22}),
    gpu=False,
    folder=FOLDER,
    dns=Reach(address="index.example"),
    mirror=Reach(address="mirror.example/debian"),
    index=Reach(address="index.example/simple"),
    boot=Boot(systemd=True, service=True, enabled=True),
)
ENGINE = EngineSeen(
    version="26.1.5", storage="overlay2", rootless=False, runtimes=("runc",), account_uid=1500
)
WISH = Wish(expose="tunnel", port=8888, memory=None)
CERTIFICATE = Certificate(
    expires=NOW + timedelta(days=300), due=False, fits=True, own=False, trusted=True
)
SERVER = Server(
    word=" workbox",
    state="running",
    health="healthy",
    exit_code=0,
    restarts=0,
    port=8888,
    bindings=(("127.0.0.1", 8888),),
    expose="tunnel",
    sealed=True,
    locked=Locked(image="minimal", deployed="a" * 64, project="a" * 64, stale=False),
    certificate=CERTIFICATE,
    summary=Summary(memory=(GIB, 4 * GIB)),
)


def bad(findings: list[Finding]) -> dict[str, Severity]:
    """What is worse than fine, by name."""
    return {f.name: f.severity for f in findings if f.severity is not OK}


def of_host(
    *, engine: EngineSeen | None = ENGINE, wish: Wish = WISH, **changes: Any
) -> list[Finding]:
    return doctor.of_host(replace(HOST, **changes), engine=engine, wish=wish)


def of_server(**changes: Any) -> list[Finding]:
    return doctor.of_server(replace(SERVER, **changes), now=NOW)


def message(findings: list[Finding], name: str) -> str:
    (found,) = [f for f in findings if f.name == name]
    return f"{found.message} {found.remedy}"


# --- findings ---------------------------------------------------------------------------------


def finding(severity: Severity) -> Finding:
    return Finding(area="box", name="disk", severity=severity, message="So it is.", remedy="Do.")


@pytest.mark.parametrize(
    ("severities", "code", "summary"),
    [
        ([], 0, "0 warnings, 0 errors."),
        ([OK, NOTE], 0, "0 warnings, 0 errors."),
        ([OK, WARNING, NOTE], 1, "1 warning, 0 errors."),
        ([ERROR, WARNING, WARNING, ERROR], 2, "2 warnings, 2 errors."),
    ],
)
def test_the_exit_code_is_the_worst_findings(
    severities: list[Severity], code: int, summary: str
) -> None:
    findings = [finding(severity) for severity in severities]
    assert code == doctor.exit_code(findings)
    assert summary == doctor.summary(findings)


def test_json_has_every_field_in_words() -> None:
    assert finding(WARNING).as_json() == {
        "area": "box", "name": "disk", "severity": "warning", "message": "So it is.",
        "remedy": "Do.",
    }  # fmt: skip


def test_an_error_is_a_finding_in_its_own_words() -> None:
    raised = HostKeyError("The key is another one.", remedy="Ask.")
    found = doctor.of_error(raised, area="box", name="ssh")
    assert (
        found.severity, found.message, found.remedy,
    ) == (ERROR, "The key is another one.", "Ask.")  # fmt: skip


def test_where_all_is_well_nothing_is_said_to_do() -> None:
    findings = [
        *doctor.of_laptop(LAPTOP), doctor.of_connection(Connection(milliseconds=200)), *of_host(),
        *of_server(),
    ]  # fmt: skip
    assert bad(findings) == {}
    assert [f.name for f in findings if f.remedy] == []


# --- this machine -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "expected"),
    [("2.26.1-4", {}), ("v2.40.3", {}), ("3.0", {}), ("2.25.9", {"compose": ERROR}),
     (None, {"compose": ERROR})],
)  # fmt: skip
def test_a_program_is_there_and_new_enough(
    version: str | None, expected: dict[str, Severity]
) -> None:
    program = replace(LAPTOP.programs[0], version=version)
    assert bad(doctor.of_laptop(replace(LAPTOP, programs=(program,)))) == expected


def test_variables_that_are_not_followed_are_a_note() -> None:
    found = doctor.of_laptop(replace(LAPTOP, ignored=("DOCKER_HOST", "DOCKER_CONTEXT")))
    assert bad(found) == {"docker-host": NOTE}
    assert "DOCKER_HOST and DOCKER_CONTEXT" in message(found, "docker-host")


@pytest.mark.parametrize(
    ("reach", "expected"),
    [
        (None, {}),
        (Reach(address="x"), {}),
        (Reach(address="x", problem="no route"), {"index": WARNING}),
        (Reach(address="x", problem="no tool", looked=False), {"index": NOTE}),
    ],
)
def test_an_index_out_of_reach_is_a_warning(
    reach: Reach | None, expected: dict[str, Severity]
) -> None:
    assert bad(doctor.of_laptop(replace(LAPTOP, index=reach))) == expected


# --- disks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "free", "expected"),
    [
        (20 * GB, 6 * GB, OK),
        (20 * GB, 4.9 * GB, WARNING),
        (100 * GB, 9 * GB, WARNING),
        (10_000 * GB, 400 * GB, OK),
        (20 * GB, 0.9 * GB, ERROR),
    ],
)
def test_a_disk_that_fills_up(total: float, free: float, expected: Severity) -> None:
    disk = replace(DISK, total=int(total), free=int(free))
    for findings, name in (
        (of_host(disks=(disk,)), "disk"),
        (of_host(disks=(DISK, disk)), "files-disk"),
        (doctor.of_laptop(replace(LAPTOP, cache=disk)), "cache"),
    ):
        assert bad(findings) == ({} if expected is OK else {name: expected})


@pytest.mark.parametrize(
    ("inodes", "free", "expected"),
    [(0, 0, {}), (1000, 51, {}), (1000, 49, {"inodes": WARNING}), (1000, 9, {"inodes": ERROR})],
)
def test_a_disk_that_takes_no_more_files(
    inodes: int, free: int, expected: dict[str, Severity]
) -> None:
    assert bad(of_host(disks=(replace(DISK, inodes=inodes, free_inodes=free),))) == expected


# --- the box ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"system": "Darwin"}, {"system": ERROR}),
        ({"setup_knows": False}, {"system": NOTE}),
        ({"architecture": "riscv64"}, {"architecture": ERROR}),
        ({"boot": None}, {}),
        ({"boot": Boot(systemd=False, service=False, enabled=False)}, {"boot": WARNING}),
        ({"boot": Boot(systemd=True, service=False, enabled=False)}, {"boot": NOTE}),
        ({"boot": Boot(systemd=True, service=True, enabled=False)}, {"boot": WARNING}),
        ({"memory": 0}, {"memory": NOTE}),
        # what is left of 2 GiB after the kernel
        ({"memory": 1900 * 2**20, "available": GIB}, {}),
        ({"memory": 1500 * 2**20, "available": GIB}, {"memory": WARNING}),
        ({"available": GIB}, {"memory": NOTE}),
        ({"swap": (0, 0)}, {}),
        ({"swap": (0, 0), "memory": 3 * GIB, "available": GIB}, {"swap": NOTE}),
        ({"swap": (2 * GIB, GIB // 10)}, {"swap": WARNING}),
        ({"skew": None}, {}),
        ({"skew": 30}, {}),
        ({"skew": -31}, {"clock": WARNING}),
        ({"skew": 301}, {"clock": ERROR}),
        ({"dns": Reach(address="x", problem="no address")}, {"dns": WARNING}),
        ({"mirror": Reach(address="x", problem="no route")}, {"mirror": WARNING}),
        ({"index": Reach(address="x", problem="no route")}, {"index": WARNING}),
        ({"dns": None, "mirror": None, "index": None, "folder": None, "disks": ()}, {}),
    ],
)  # fmt: skip
def test_a_hosts_condition(changes: dict[str, Any], expected: dict[str, Severity]) -> None:
    assert bad(of_host(**changes)) == expected


def test_a_clock_says_who_is_ahead() -> None:
    assert "is 400 s ahead of this" in message(of_host(skew=400), "clock")
    assert "is 400 s behind this" in message(of_host(skew=-400), "clock")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"storage": "vfs"}, {"storage": WARNING}),
        ({"rootless": True}, {"boot": NOTE}),
        ({"warnings": ("WARNING: No memory limit support",)}, {"limits": WARNING}),
        ({"warnings": ("WARNING: bridge-nf-call-iptables is disabled",)}, {}),
        ({"dns": Reach(address="index.example")}, {}),
        ({"dns": Reach(address="x", problem="no address")}, {"dns-inside": WARNING}),
        ({"runtimes": ("runc", "nvidia")}, {"gpu": NOTE}),
        ({"account_lacks": ("lab",)}, {"groups": NOTE}),
    ],
)
def test_an_engines_condition(changes: dict[str, Any], expected: dict[str, Severity]) -> None:
    assert bad(of_host(engine=replace(ENGINE, **changes))) == expected


def test_a_card_without_the_engines_runtime_leads_to_setup() -> None:
    found = of_host(gpu=True)
    assert bad(found) == {"gpu": NOTE}
    assert "`jupbox setup workbox --gpu`" in message(found, "gpu")
    assert bad(of_host(gpu=True, engine=replace(ENGINE, runtimes=("nvidia",)))) == {}


def test_without_an_engine_all_of_the_host_is_still_told() -> None:
    found = of_host(engine=None, gpu=True, skew=400)
    assert {"system", "user", "boot", "disk", "memory", "files", "dns"} <= {f.name for f in found}
    assert bad(found) == {"clock": ERROR}


def test_without_an_engine_a_port_in_use_is_a_note() -> None:
    assert bad(of_host(engine=None, listening=frozenset({8888}))) == {"port": NOTE}
    assert bad(of_host(listening=frozenset({8888}))) == {}


def test_more_memory_than_there_is_cannot_be_given() -> None:
    assert bad(of_host(wish=replace(WISH, memory=16 * GIB))) == {}
    assert bad(of_host(wish=replace(WISH, memory=17 * GIB))) == {"memory": WARNING}


# --- firewall ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expose", "firewalls", "expected"),
    [
        ("tunnel", ("ufw",), {}),
        ("tunnel", (), {}),
        ("public", (), {"firewall": NOTE}),
        ("public", ("ufw",), {"firewall": WARNING}),
        ("192.0.2.7", ("firewalld",), {"firewall": WARNING}),
        ("198.51.100.1", (), {"firewall": NOTE, "expose": WARNING}),
    ],
)
def test_what_is_open_past_a_firewall(
    expose: str, firewalls: tuple[str, ...], expected: dict[str, Severity]
) -> None:
    wish = replace(WISH, expose=expose)
    assert bad(of_host(wish=wish, firewalls=firewalls)) == expected


def test_a_firewall_finding_names_port_and_addresses() -> None:
    found = of_host(
        wish=replace(WISH, expose="public"), firewalls=("ufw", "nftables"),
        addresses=("192.0.2.7", "2001:db8::7"),
    )  # fmt: skip
    said = message(found, "firewall")
    assert "Port 8888 is open at 192.0.2.7, 2001:db8::7, past ufw and nftables" in said


# --- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "uid", "expected"),
    [
        ({}, 1500, {}),
        ({"kind": "none", "owner": None}, 1500, {}),
        ({"kind": "none", "owner": None, "writable": False}, 1500, {"files": ERROR}),
        ({"kind": "other"}, 1500, {"files": ERROR}),
        ({"writable": False, "owner": 0}, 1500, {"files": ERROR}),
        ({"owner": 1600}, 1500, {"files": WARNING}),
        ({"owner": 1600, "shared": True}, 1500, {}),
        ({"owner": 0}, 0, {}),
        ({"owner": 1600}, 0, {"files": WARNING}),
        ({"filesystem": "nfs4"}, 1500, {}),
        ({"filesystem": "nfs4"}, 0, {"mount": WARNING}),
        ({"filesystem": "nfs", "owner": 1600, "shared": True}, 1500, {"mount": WARNING}),
        ({"filesystem": "nfs4", "open_path": False}, 1500, {"mount": WARNING}),
        ({"filesystem": "ext4", "open_path": False}, 1500, {}),
    ],
)
def test_a_folder_for_the_files(
    changes: dict[str, Any], uid: int, expected: dict[str, Severity]
) -> None:
    assert bad(of_host(uid=uid, folder=replace(FOLDER, **changes))) == expected


# --- the server -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"state": "exited"}, {"state": NOTE}),
        # SIGTERM is how `stop` ends it
        ({"state": "exited", "exit_code": 143}, {"state": NOTE}),
        ({"state": "exited", "exit_code": 137}, {"state": ERROR}),
        ({"state": "restarting"}, {"state": ERROR}),
        ({"health": "unhealthy"}, {"state": ERROR}),
        ({"health": "starting"}, {"state": NOTE}),
        ({"health": "starting", "summary": None}, {"state": NOTE}),
        ({"summary": None}, {"state": ERROR}),
        ({"restarts": 3}, {"restarts": NOTE}),
        ({"bindings": (("0.0.0.0", 8888),)}, {"port": ERROR}),
        ({"bindings": (("127.0.0.1", 8888), ("0.0.0.0", 8050))}, {"port": ERROR}),
        ({"bindings": (("::1", 8888),)}, {}),
        ({"bindings": (("0.0.0.0", 8888),), "expose": "public"}, {}),
        ({"expose": "public"}, {"port": WARNING}),
        ({"port": None, "bindings": ()}, {"port": ERROR}),
        ({"sealed": False}, {"image": WARNING}),
        ({"locked": None}, {}),
        ({"locked": replace(SERVER.locked, project=None)}, {}),
        ({"locked": replace(SERVER.locked, project="b" * 64)}, {"lock": NOTE}),
        ({"locked": replace(SERVER.locked, stale=True)}, {"lock": NOTE}),
        ({"summary": Summary(side=(SidePackage(name="rich", version="14.0"),))}, {"side": NOTE}),
        ({"summary": Summary(clashes=("numpy 2 is beside numpy 1",))}, {"clash": WARNING}),
        ({"summary": Summary(memory=None)}, {}),
        ({"summary": Summary(memory=(4 * GIB, None))}, {}),
        ({"summary": Summary(memory=(int(3.5 * GIB), 4 * GIB))}, {}),
        ({"summary": Summary(memory=(int(3.7 * GIB), 4 * GIB))}, {"memory": WARNING}),
        ({"certificate": None}, {}),
        ({"certificate": replace(CERTIFICATE, due=True)}, {"certificate": WARNING}),
        ({"certificate": replace(CERTIFICATE, expires=NOW)}, {"certificate": ERROR}),
        ({"certificate": replace(CERTIFICATE, fits=False)}, {"names": WARNING}),
        ({"certificate": replace(CERTIFICATE, trusted=False)}, {"trust": NOTE}),
        ({"certificate": replace(CERTIFICATE, trusted=False, own=True)}, {}),
    ],
)  # fmt: skip
def test_a_servers_condition(changes: dict[str, Any], expected: dict[str, Severity]) -> None:
    assert bad(of_server(**changes)) == expected


def test_a_stale_lock_of_no_project_is_renewed_by_up() -> None:
    stale = replace(SERVER.locked, stale=True)
    assert "`jupbox lock minimal`" in message(of_server(locked=stale), "lock")
    said = message(of_server(locked=replace(stale, by_hand=False)), "lock")
    assert "`jupbox up workbox` locks it anew" in said


def test_side_packages_are_named_and_the_rest_counted() -> None:
    side = tuple(SidePackage(name=f"p{n}", version="1") for n in range(7))
    said = message(of_server(summary=Summary(side=side)), "side")
    assert "p0 1, p1 1, p2 1, p3 1, p4 1 and 2 more" in said


def test_a_summary_is_read_with_what_is_beside_every_environment() -> None:
    packages = [{"name": "rich", "version": "14.0", "image": None}, {"name": "x", "version": None}]
    envs = [
        {"env": "server", "packages": packages, "clashes": ["rich needs y"]},
        {"env": "other", "packages": [], "clashes": ["z"]},
    ]
    answer = {"memory_bytes": 5, "memory_limit_bytes": 7, "side": {"envs": envs, "leftover": []}}
    assert doctor.read_summary(answer) == Summary(
        memory=(5, 7),
        side=(SidePackage(name="rich", version="14.0"), SidePackage(name="x", version="")),
        clashes=("rich needs y", "z"),
    )


@pytest.mark.parametrize("answer", [{}, {"side": None}, {"side": {}}, {"side": {"envs": []}}])
def test_an_older_servers_summary_says_less(answer: dict[str, Any]) -> None:
    assert doctor.read_summary(answer) == Summary()
    unlimited = {**answer, "memory_bytes": 5, "memory_limit_bytes": None}
    assert doctor.read_summary(unlimited) == Summary(memory=(5, None))


def test_a_nearly_full_disk_and_used_up_memory_are_told_before_they_bite() -> None:
    answer = {
        "disks": [
            {"path": "/home/ada", "free_bytes": 9, "total_bytes": 10, "nearly_full": False},
            {"path": "/data", "free_bytes": 10**9, "total_bytes": 10**12, "nearly_full": True},
        ],
        "oom_kills": 2,
    }
    summary = doctor.read_summary(answer)
    assert summary == Summary(full=(("/data", 10**9, 10**12),), oom_kills=2)
    findings = of_server(summary=summary)
    assert bad(findings) == {"disk": Severity.WARNING, "out-of-memory": Severity.NOTE}
    assert "Only 1.0 GB of 1000 GB free at /data" in message(findings, "disk")
    assert "2 times" in message(findings, "out-of-memory")


def test_whatever_is_worse_than_fine_says_what_to_do() -> None:
    findings = [
        *of_host(skew=400, setup_knows=False, gpu=True, swap=(GIB, 0), memory=GIB, available=0,
                 boot=Boot(systemd=False, service=False, enabled=False),
                 folder=replace(FOLDER, writable=False), wish=replace(WISH, expose="public")),
        *of_server(restarts=1, sealed=False, summary=None, bindings=(("0.0.0.0", 8888),),
                   certificate=replace(CERTIFICATE, expires=NOW, fits=False, trusted=False)),
        doctor.of_no_server("workbox", " workbox"),
    ]  # fmt: skip
    assert len(bad(findings)) >= 12
    assert [f.name for f in findings if bool(f.remedy) is (f.severity is OK)] == []
