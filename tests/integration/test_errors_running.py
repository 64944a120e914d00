"""What goes wrong with a server that runs: it must run on as before."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from jupbox import errors
from tests.integration.errorbox import leftovers, refused, unchanged, write
from tests.integration.jupbox_command import Laptop, MainJob
from tests.triggers import triggers

SOCKET = "/run/jupbox/control.sock"


@triggers(errors.BuildError)
def test_a_package_that_is_not_the_locked_one_stops_the_build(ada: MainJob, desk: Laptop) -> None:
    write(desk, '[boxes.broken]\nhost = "workbox"\nport = "auto"\n')
    package = re.compile(r'^ *\{ name = "ipykernel".*$', re.MULTILINE)
    locked = package.sub(lambda m: re.sub(r":[0-9a-f]{64}", f":{'0' * 64}", m[0]),
                         ada.lock.read_text())  # fmt: skip
    (desk.folder / "jupbox.lock").write_text(locked)
    with unchanged(ada.box):
        said = refused(desk.jupbox("up"), errors.BuildError)
    assert "ipykernel" in said.wrong
    assert "Take jupbox.lock from version control again" in said.remedy
    assert leftovers(desk) == []


@triggers(errors.ServerError)
def test_a_server_that_does_not_answer_is_said_so(ada: MainJob) -> None:
    ada.stack.exec("mv", SOCKET, f"{SOCKET}.away")
    try:
        said = refused(ada.laptop.jupbox("open", "workbox", "--url"), errors.ServerError)
    finally:
        ada.stack.exec("mv", f"{SOCKET}.away", SOCKET)
    assert said.wrong.startswith("The notebook server does not answer: ")
    assert "`jupbox logs`" in said.remedy


@triggers(errors.TrustError)
def test_trust_without_a_tool_that_could_write_it_names_the_package(
    ada: MainJob, desk: Laptop, tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "docker").symlink_to(str(shutil.which("docker")))
    path = f"{desk.environ['HOME']}/bin:{programs}"
    with TemporaryDirectory(prefix="jb-") as home:  # short, as a home is
        laptop = desk.at(desk.folder, HOME=home, PATH=path)
        said = refused(laptop.jupbox("trust", "workbox"), errors.TrustError)
    assert "No trust store could be written" in said.wrong
    assert "certutil" in said.remedy
