"""One lock, the same bytes: what is recorded, what is checked, and what is gone from the mirror."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jupbox import errors
from jupbox.lock import ImageLock, Lock, PlatformLock, dump_lock, load_lock
from tests.integration.boxes.images import debian_mirror
from tests.integration.errorbox import refused
from tests.integration.jupbox_command import MainJob
from tests.integration.team import Team, team
from tests.integration.test_images import gateway_of
from tests.triggers import triggers

OTHER = "0" * 64


@pytest.fixture
def lab(ada: MainJob, tmp_path: Path) -> Iterator[Team]:
    """A project on workbox whose image is the shared one under another name."""
    with team(ada, ada.laptop, tmp_path / "lab", "lab") as made:
        yield made
    mine = "docker images -q --filter label=dev.jupbox.image=lab | sort -u"
    ada.box.exec("sh", "-c", f"{mine} | xargs -r docker rmi -f")


def lock_of(made: Team) -> ImageLock:
    return load_lock((made.folder / "jupbox.lock").read_text(), source="").images[made.name]


def write_lock(made: Team, lock: ImageLock) -> None:
    (made.folder / "jupbox.lock").write_text(dump_lock(Lock().with_image(lock)))


def platform(lock: ImageLock) -> PlatformLock:
    (found,) = lock.platforms.values()
    return found


def with_platform(lock: ImageLock, new: PlatformLock) -> ImageLock:
    return replace(lock, platforms={new.architecture: new})


def environment_images(made: Team) -> list[str]:
    tags = made.stack.docker("images", "jupbox-env", "--format", "{{.Tag}}").split()
    return [tag for tag in tags if tag.startswith(f"{made.name}-")]


# --- what is built is recorded ----------------------------------------------------------------


@pytest.mark.slow
def test_the_first_up_records_what_it_built_and_verify_proves_it(ada: MainJob) -> None:
    lock = load_lock(ada.lock.read_text(), source="").images["minimal"]
    digest = platform(lock).environment
    assert digest is not None
    assert ada.status()["bytes"] == "verified"
    said = ada.jupbox("verify").stdout
    assert digest in said
    assert "minimal on workbox is what the lock records, to the byte." in said


@pytest.mark.slow
def test_locking_again_in_the_same_world_changes_no_byte(lab: Team) -> None:
    before = (lab.folder / "jupbox.lock").read_bytes()
    lab.laptop.must("lock")
    assert (lab.folder / "jupbox.lock").read_bytes() == before
    said = lab.laptop.must("lock", "--upgrade", "apt", "python").stdout
    assert "packages locked, none changed" in said
    assert (lab.folder / "jupbox.lock").read_bytes() == before


@pytest.mark.slow
@triggers(errors.DriftError)
def test_a_build_that_gives_another_image_fails_unless_drift_is_allowed(lab: Team) -> None:
    lock = lock_of(lab)
    write_lock(lab, lock.with_recorded("amd64", f"sha256:{OTHER}"))
    text = (lab.folder / "jupbox.lock").read_text()
    said = refused(lab.laptop.jupbox("up"), errors.DriftError)
    assert "is not the one that it records" in said.wrong
    assert "--allow-drift" in said.remedy
    assert environment_images(lab) == []
    assert "no notebook server" in lab.jupbox("status").stdout
    assert "taken all the same" in lab.laptop.must("up", "--allow-drift").stderr
    assert lab.jupbox("status", "--json").json["bytes"] == "drifted"
    assert "Nothing to do" in lab.jupbox("up").stdout
    assert (lab.folder / "jupbox.lock").read_text() == text


# --- what is installed is checked -------------------------------------------------------------


@pytest.mark.slow
def test_another_file_of_a_debian_package_stops_the_build(lab: Team) -> None:
    lock = lock_of(lab)
    there = platform(lock)
    apt = [replace(p, sha256=OTHER) if p.name == "nano" else p for p in there.apt]
    write_lock(lab, with_platform(lock, replace(there, apt=tuple(apt))))
    said = refused(lab.laptop.jupbox("up"), errors.BuildError)
    assert re.search(
        r"E: nano=\S+: the archive's file has another SHA-256 than the lock", said.wrong
    )
    assert "Take jupbox.lock from version control again" in said.remedy
    assert environment_images(lab) == []


@pytest.mark.slow
def test_another_wheel_of_a_python_package_stops_the_build(lab: Team) -> None:
    lock = lock_of(lab)
    other = [
        replace(p, hashes=(f"sha256:{OTHER}",)) if p.name == "tornado" else p for p in lock.python
    ]
    write_lock(lab, replace(lock, python=tuple(other)))
    said = refused(lab.laptop.jupbox("up"), errors.BuildError)
    assert "Hash mismatch for `tornado==" in said.wrong
    assert environment_images(lab) == []


# --- --locked, and versions that are gone -----------------------------------------------------


@pytest.mark.slow
@triggers(errors.LockError)
def test_locked_wants_the_lock_to_be_there_and_to_fit(lab: Team) -> None:
    kept = (lab.folder / "jupbox.lock").read_bytes()
    (lab.folder / "jupbox.lock").unlink()
    said = refused(lab.laptop.jupbox("up", "--locked"), errors.LockError)
    assert said.wrong == "There is no lock for lab."
    assert not (lab.folder / "jupbox.lock").exists()
    (lab.folder / "jupbox.lock").write_bytes(kept)
    lab.write(image='extends = "minimal"\npython = ["six"]')
    said = refused(lab.laptop.jupbox("up", "--locked"), errors.LockError)
    assert "does not match the definition of lab" in said.wrong
    assert (lab.folder / "jupbox.lock").read_bytes() == kept


@pytest.mark.slow
def test_a_version_that_left_the_mirror_is_named_and_only_a_shipped_image_moves(
    lab: Team,
) -> None:
    lock = lock_of(lab)
    gone = replace(platform(lock).apt[0], version="0~gone", sha256=OTHER)
    old = with_platform(lock, replace(platform(lock), apt=(gone, *platform(lock).apt[1:])))
    write_lock(lab, old)
    said = refused(lab.laptop.jupbox("up"), errors.LockError)
    assert said.wrong == f"{gone.name} 0~gone is gone from the Debian mirror."
    assert "`jupbox lock --upgrade apt`" in said.remedy
    # the same lock under the name of a definition that ships
    (lab.folder / "jupbox.toml").write_text(
        f'[boxes.lab]\nhost = "{lab.job.box.name}"\nport = "auto"\n'
    )
    shared = load_lock(lab.job.lock.read_text(), source="").images["minimal"]
    shipped = replace(old, name="minimal", definition=shared.definition, system=shared.system)
    write_lock(lab, shipped)
    refused(lab.laptop.jupbox("up", "--locked"), errors.LockError)
    moved = lab.laptop.must("up")
    assert f"{gone.name} 0~gone is gone from the Debian mirror" in moved.stderr
    found = load_lock((lab.folder / "jupbox.lock").read_text(), source="").images["minimal"]
    assert {p.name for p in platform(found).apt} == {p.name for p in platform(shared).apt}
    assert "0~gone" not in {p.version for p in platform(found).apt}


class _Later(BaseHTTPRequestHandler):
    """The mirror of another year, and an archive that still has today's packages."""

    mirror = ""
    asked: list[str]

    def do_GET(self) -> None:
        archive = re.match(r"/archive/debian/(\d{8}T\d{6}Z)/(.*)", self.path)
        path = archive[2] if archive else self.path.removeprefix("/debian/")
        if archive:
            self.asked.append(path)
        else:
            # another release's signed lists: what the lock names is in none of them
            path = path.replace("dists/trixie/", "dists/bookworm/")
        gone = "security" in self.path
        self.send_response(404 if gone else 302)
        self.send_header("Location", f"{self.mirror}/{path}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def a_year_later(address: str) -> Iterator[tuple[str, list[str]]]:
    """Its address, and what the archive of old packages was asked for."""
    asked: list[str] = []
    handler = type("Later", (_Later,), {"mirror": debian_mirror(), "asked": asked})
    with ThreadingHTTPServer((address, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{address}:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def with_mirror(made: Team, url: str) -> Iterator[None]:
    """The box gets its Debian packages elsewhere."""
    box, sources = made.job.box, "/etc/apt/sources.list"
    kept = box.exec("cat", sources)
    line = f"deb [trusted=yes] {url}/debian trixie main\n"
    box.exec("sh", "-c", f"cat > {sources}", input=line)
    made.laptop.end_connections()
    try:
        yield
    finally:
        box.exec("sh", "-c", f"cat > {sources}", input=kept)
        made.laptop.end_connections()


@pytest.mark.slow
def test_in_a_year_packages_come_from_an_archive_of_old_ones(lab: Team, tmp_path: Path) -> None:
    lab.write(image='extends = "minimal"\napt = ["hello"]')
    lab.laptop.must("lock")
    locked = next(p for p in platform(lock_of(lab)).apt if p.name == "hello")
    assert (locked.layer, platform(lock_of(lab)).snapshot != "") == (2, True)
    settings = Path(lab.laptop.environ["XDG_CONFIG_HOME"], "jupbox", "config.toml")
    with a_year_later(gateway_of(lab.job.box)) as (url, asked), with_mirror(lab, url):
        said = refused(lab.laptop.jupbox("up"), errors.LockError)
        assert said.wrong == f"hello {locked.version} is gone from the Debian mirror."
        settings.parent.mkdir(parents=True, exist_ok=True)
        assert not settings.exists()
        try:
            settings.write_text(f'[network]\nsnapshots = "{url}/archive"\n')
            lab.laptop.must("up", "--locked")
        finally:
            settings.unlink()
    assert any("hello" in path for path in asked)
    assert lab.stack.exec("hello") == "Hello, world!\n"
