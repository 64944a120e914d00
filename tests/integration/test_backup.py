"""`backup` and `restore`: what comes back is what was there, and nothing else is touched."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jupbox import errors
from tests.integration.boxes.boxes import wait_until
from tests.integration.jupbox_command import Laptop, MainJob, StackOnBox
from tests.triggers import triggers

pytestmark = pytest.mark.slow

_STACK = "jupbox-ada_vault"
_PROJECT = """\
[boxes.vault]
host = "workbox"
port = "auto"
files = "volume"
"""

_FILL = r"""
import json, os, pathlib
home = pathlib.Path.home()
room = home / "notebooks" / "o\ndd ü 📓"
room.mkdir(parents=True)
(room / "a.ipynb").write_text(json.dumps({"cells": [], "metadata": {}}))
(room / "a.ipynb").chmod(0o640)
os.link(room / "a.ipynb", room / "hard")
(room / "link").symlink_to("/opt/env")
os.close(os.open(os.fsencode(home) + b"/bad\xff", os.O_CREAT | os.O_WRONLY))
with (home / "sparse").open("wb") as file:
    file.truncate(50 << 20)
os.utime(room, ns=(0, 1_500_000_000_123_456_789))
"""

# all but what a server writes when it starts
_HASHES = r"""
import hashlib, os, pathlib
home = pathlib.Path.home()
for top in (home / "notebooks", home / "sparse", home / "more"):
    for path in sorted([top, *top.rglob("*")]) if top.exists() else []:
        s = path.lstat()
        content = path.readlink() if path.is_symlink() else (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        print(ascii(str(path)), oct(s.st_mode), s.st_uid, s.st_mtime_ns, s.st_nlink, content)
"""

_SAVE = r"""
import json, pathlib, shutil, time
home = pathlib.Path.home() / "notebooks"
while True:
    for name in ("x", "y"):
        path, copy = home / f"{name}.ipynb", home / f".~{name}.ipynb"
        number = json.loads(path.read_text())["n"] + 1 if path.exists() else 0
        if path.exists():
            shutil.copyfile(path, copy)
        text = json.dumps({"n": number, "cells": ["x" * 3000] * 100, "again": number})
        with path.open("w") as file:
            for start in range(0, len(text), 30000):
                file.write(text[start:start + 30000]); file.flush()
        copy.unlink(missing_ok=True)
        # a file that is never at rest is taken as it is, and named
        time.sleep(0.05)
"""


@dataclass(frozen=True, kw_only=True)
class Vault:
    """A box of a project, with its notebooks in its home volume."""

    laptop: Laptop
    stack: StackOnBox

    def backup(self, name: str = "backup.tar.zst") -> Path:
        self.laptop.must("backup", "vault", name)
        return self.laptop.folder / name

    def homes(self) -> set[str]:
        return {name for name in self.stack.volumes() if "_home" in name or "_restoring" in name}

    def seen(self) -> tuple[object, ...]:
        """What a refused restore must leave as it is."""
        return self.stack.identity(), self.homes(), self.stack.python(_HASHES)


@pytest.fixture
def vault(ada: MainJob, tmp_path: Path) -> Iterator[Vault]:
    """Up in seconds: it has the lock of what runs on the box already."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "jupbox.toml").write_text(_PROJECT)
    shutil.copy(ada.lock, project / "jupbox.lock")
    stack = StackOnBox(box=ada.box, name=_STACK)
    laptop = ada.laptop.at(project)
    try:
        laptop.must("up", "vault")
        stack.python(_FILL)
        yield Vault(laptop=laptop, stack=stack)
    finally:
        stack.remove()


def members(laptop: Laptop, archive: Path) -> dict[str, bytes]:
    """A backup's files as plain tar unpacks them."""
    into = laptop.folder.parent / f"by-hand-{archive.name}"
    into.mkdir()
    done = laptop.run("tar", "--zstd", "-xf", str(archive), "-C", str(into))
    assert done.code == 0, done.stderr
    found = {}
    for path in into.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found[str(path.relative_to(into))] = path.read_bytes()
    return found


@triggers(errors.BackupError)
def test_a_backup_comes_back_and_no_other_file_does(vault: Vault, ada: MainJob) -> None:
    laptop, stack = vault.laptop, vault.stack
    assert laptop.must("status", "vault", "--json").json["backup"] is None
    before = stack.python(_HASHES)
    archive = vault.backup()
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert archive.stat().st_size < 5 << 20
    last = laptop.must("status", "vault", "--json").json["backup"]
    assert 0 <= last["age_seconds"] < 300

    # by hand, with no jupbox at all
    by_hand = members(laptop, archive)
    manifest = [json.loads(line) for line in by_hand["jupbox-manifest.jsonl"].splitlines()]
    assert manifest[-1]["entries"] == len(manifest) - 1
    for entry in manifest[:-1]:
        if entry["type"] == "file" and "\udcff" not in entry["path"]:
            assert hashlib.sha256(by_hand[entry["path"]]).hexdigest() == entry["sha256"]

    # damaged ones, and another box's, touch nothing
    whole, seen = archive.read_bytes(), vault.seen()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (b"", whole[: len(whole) // 2], whole[:-1], whole + b"x", bytes(flipped)):
        (laptop.folder / "damaged").write_bytes(damaged)
        assert laptop.jupbox("restore", "vault", "damaged").code == 41
    refused = ada.laptop.jupbox("restore", "workbox", str(archive))
    assert (refused.code, "--from-other" in refused.stderr) == (41, True)
    assert laptop.jupbox("restore", "vault", "none").code == 41
    assert laptop.jupbox("restore", "vault", "--undo").code == 41
    assert vault.seen() == seen

    # lost work comes back
    # not the folder itself: it is where programs of the container start
    stack.exec("sh", "-c", "find ~/notebooks -mindepth 1 -delete; mkdir ~/more")
    stack.exec("sh", "-c", "echo later > ~/more/later")
    later = stack.python(_HASHES)
    certificate = laptop.must("status", "vault", "--json").json["certificate"]
    laptop.must("restore", "vault", archive.name)
    assert stack.python(_HASHES) == before
    assert vault.homes() == {f"{_STACK}_home", f"{_STACK}_home-1"}
    assert laptop.must("status", "vault", "--json").json["certificate"] == certificate
    assert "Nothing to do" in laptop.must("up", "vault").stdout

    # and what was there before that
    laptop.must("restore", "vault", "--undo")
    assert stack.python(_HASHES) == later
    assert vault.homes() == {f"{_STACK}_home-1", f"{_STACK}_home-2"}

    # once more, which takes what was kept
    assert laptop.jupbox("restore", "vault", archive.name).code == 37
    laptop.must("restore", "vault", archive.name, "--yes")
    assert stack.python(_HASHES) == before
    assert vault.homes() == {f"{_STACK}_home-2", f"{_STACK}_home-3"}


def test_notebooks_that_are_saved_meanwhile_are_whole_in_a_backup(vault: Vault) -> None:
    container = str(vault.stack.inspect()["Id"])
    vault.stack.docker(
        "exec", "--detach", "--user", vault.stack.user, container,
        "/opt/env/bin/python", "-c", _SAVE,
    )  # fmt: skip
    looks = "import pathlib; print((pathlib.Path.home() / 'notebooks/y.ipynb').exists())"
    wait_until(lambda: "True" in vault.stack.python(looks), "the first notebooks")
    numbers = []
    for turn in range(3):
        found = members(vault.laptop, vault.backup(f"{turn}.tar.zst"))
        for name in ("x", "y"):
            notebook = json.loads(found[f"home/notebooks/{name}.ipynb"])
            assert notebook["n"] == notebook["again"]
            numbers.append(notebook["n"])
    assert len(set(numbers)) > 2, "nobody wrote"


def test_a_box_with_nothing_left_but_an_image_takes_a_backup(vault: Vault) -> None:
    """As after a `docker compose down --volumes` that somebody typed there."""
    stack, before = vault.stack, vault.stack.python(_HASHES)
    archive = vault.backup()
    stack.docker("rm", "--force", str(stack.inspect()["Id"]))
    stack.docker("volume", "rm", f"{_STACK}_home")
    done = vault.laptop.must("restore", "vault", archive.name)
    assert "`jupbox up vault` starts a server with it." in done.stdout
    vault.laptop.must("up", "vault")
    assert stack.python(_HASHES) == before
    assert vault.homes() == {f"{_STACK}_home-1"}
    # by hand and for good, but for what rm itself took
    removed = vault.laptop.must("rm", "vault", "--data", input="vault\n")
    (kept,) = vault.laptop.folder.glob("vault-*.tar.zst")
    assert str(kept) in removed.stdout
    assert vault.homes() == set()
