"""`doctor` on real boxes, well and broken: it always comes to an end, and names what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.boxes.boxes import BoxUnderTest, Keyring
from tests.integration.errorbox import unchanged, write
from tests.integration.jupbox_command import Answer, Laptop, MainJob
from tests.integration.test_errors import add_host, listening, reaching

on_errorbox = [pytest.mark.box, pytest.mark.xdist_group("box-errorbox")]


def examined(laptop: Laptop, *arguments: str) -> tuple[Answer, Mapping[tuple[str, str], Any]]:
    """What `doctor --json` found, by area and name."""
    answer = laptop.jupbox("doctor", *arguments, "--json", timeout=120)
    assert "Traceback" not in answer.stdout + answer.stderr
    found = answer.json["findings"]
    code = {"ok": 0, "note": 0, "warning": 1, "error": 2}[answer.json["worst"]]
    assert code == answer.code, answer.stderr
    return answer, {(one["area"], one["name"]): one for one in found}


def errors_of(found: Mapping[tuple[str, str], Any]) -> set[tuple[str, str]]:
    return {where for where, one in found.items() if one["severity"] == "error"}


def test_a_box_that_is_well_shows_no_error_and_is_left_as_it_was(ada: MainJob) -> None:
    identity = ada.stack.identity()
    with unchanged(ada.box):
        answer, found = examined(ada.laptop, ada.box.name)
    assert errors_of(found) == set(), answer.stdout
    fine = {where for where, one in found.items() if one["severity"] == "ok"}
    assert {
        ("laptop", "docker"), ("laptop", "compose"), ("laptop", "buildx"), ("laptop", "index"),
        ("laptop", "ssh-client"), ("box", "ssh"), ("box", "engine"), ("box", "clock"),
        ("box", "disk"), ("box", "files"), ("box", "dns"), ("box", "dns-inside"),
        ("box", "mirror"), ("box", "index"), ("server", "state"), ("server", "port"),
        ("server", "image"), ("server", "certificate"),
    } <= fine  # fmt: skip
    # the test boxes run no systemd
    assert found["box", "boot"]["severity"] == "warning"
    assert "`jupbox setup workbox`" in found["box", "boot"]["remedy"]
    assert not ada.box.exec("find", "/home/ada/notebooks", "-name", ".jupbox-doctor*").strip()
    assert ada.stack.identity() == identity


def test_a_person_sees_three_groups_and_a_count(ada: MainJob) -> None:
    answer = ada.laptop.jupbox("doctor", ada.box.name)
    lines = answer.stdout.splitlines()
    titles = [line for line in lines if line and not line.startswith(" ")]
    assert titles[:3] == ["This machine", "workbox", "Server"]
    assert lines[-1].endswith(", 0 errors.")
    assert any("→ Run `jupbox setup workbox`" in line or "-> Run" in line for line in lines)


def test_a_host_out_of_reach_is_one_error_beside_what_is_here(desk: Laptop) -> None:
    # the index is as little there, and its password is nobody's business
    laptop = desk.at(
        desk.folder,
        UV_DEFAULT_INDEX="https://ada:pw-4711@index.invalid/simple",
        DOCKER_HOST="tcp://elsewhere.invalid:2375",
    )
    answer, found = examined(laptop, "nosuchhost.invalid")
    assert errors_of(found) == {("box", "ssh")}
    assert "is not known" in found["box", "ssh"]["message"]
    assert "`ssh nosuchhost.invalid`" in found["box", "ssh"]["remedy"]
    assert found["laptop", "compose"]["severity"] == "ok"
    assert found["laptop", "docker-host"]["severity"] == "note"
    assert found["laptop", "index"]["severity"] == "warning"
    assert "index.invalid/simple" in found["laptop", "index"]["message"]
    assert "pw-4711" not in answer.stdout + answer.stderr
    assert found["server", "state"]["severity"] == "note"


def test_a_laptop_without_programs_and_with_a_lost_bundle_is_told_all(
    desk: Laptop, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    laptop = desk.at(desk.folder, PATH=str(tmp_path / "empty"), SSL_CERT_FILE="/nothing/ca.pem")
    _, found = examined(laptop, "nosuchhost.invalid")
    assert errors_of(found) == {
        ("laptop", "ssh-client"), ("laptop", "docker"), ("laptop", "compose"),
        ("laptop", "buildx"), ("laptop", "ca-bundle"), ("box", "ssh"),
    }  # fmt: skip
    assert "/nothing/ca.pem" in found["laptop", "ca-bundle"]["message"]


class TestOnABoxWhereThingsGoWrong:
    """Each as a user meets it."""

    pytestmark = on_errorbox

    def test_a_user_who_may_not_use_the_engine_still_sees_the_host(
        self, errorbox: BoxUnderTest, desk: Laptop, keyring: Keyring
    ) -> None:
        errorbox.exec("useradd", "--create-home", "carol")
        errorbox.exec("cp", "-r", "/home/ada/.ssh", "/home/carol/.ssh")
        errorbox.exec("chown", "-R", "carol:carol", "/home/carol/.ssh")
        settings = reaching(errorbox) | {"User": "carol", "IdentityFile": keyring.key}
        add_host(desk, "carols", **settings)
        with unchanged(errorbox):
            _, found = examined(desk, "carols")
        assert errors_of(found) == {("box", "permission")}
        assert found["box", "permission"]["message"].startswith("carol may not use")
        assert "`jupbox setup carols`" in found["box", "permission"]["remedy"]
        assert {("box", "memory"), ("box", "disk"), ("box", "files"), ("box", "dns")} <= set(found)

    def test_port_folder_and_mount_are_found_at_once(
        self, errorbox: BoxUnderTest, desk: Laptop
    ) -> None:
        write(
            desk,
            '[boxes.errors]\nhost = "errorbox"\nport = 9331\nfiles = "/etc"\n'
            'mounts = ["/nothing/there:/data"]\nmemory = "4000g"\nexpose = "public"\n',
        )
        with unchanged(errorbox), listening(errorbox, 9331, user="ada"):
            _, found = examined(desk)
        assert errors_of(found) == {("box", "port"), ("box", "files"), ("box", "mounts")}
        assert "taken by process perl" in found["box", "port"]["message"]
        assert found["box", "files"]["message"] == "/etc (owner uid 0) cannot be written by ada."
        assert "/nothing/there" in found["box", "mounts"]["message"]
        assert found["box", "memory"]["severity"] == "warning"
        assert found["box", "firewall"]["severity"] == "note"
        assert "Port 9331 is open at" in found["box", "firewall"]["message"]
        assert found["server", "state"]["message"] == "There is no notebook server on errorbox."

    def test_a_firewall_that_docker_passes_by_is_a_warning(
        self, errorbox: BoxUnderTest, desk: Laptop
    ) -> None:
        write(desk, '[boxes.errors]\nhost = "errorbox"\nport = 9332\nexpose = "public"\n')
        errorbox.exec("sh", "-c", "mkdir -p /etc/ufw && echo ENABLED=yes > /etc/ufw/ufw.conf")
        try:
            _, found = examined(desk)
        finally:
            errorbox.exec("rm", "-r", "/etc/ufw")
        assert found["box", "firewall"]["severity"] == "warning"
        assert "past ufw" in found["box", "firewall"]["message"]

    def test_a_box_with_no_engine_leads_to_setup(
        self, lonelybox: BoxUnderTest, desk: Laptop
    ) -> None:
        _, found = examined(desk, "lonelybox")
        assert errors_of(found) == {("box", "engine")}
        assert "`jupbox setup lonelybox`" in found["box", "engine"]["remedy"]
        assert ("box", "files") in found
        assert found["server", "state"]["severity"] == "note"
