"""A repository's files into a folder: the script and the archive, on this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

import pytest

from jupbox.errors import FilesError
from jupbox.host.engine import Engine
from jupbox.release.placing import place_files
from jupbox.render import Account
from jupbox.site import Site
from tests.unit.fakes import container
from tests.unit.release.bench import bench

pytestmark = pytest.mark.real_process


@dataclass
class Here:
    """An engine whose containers are this machine."""

    cut: int | None = None

    def send(
        self, _container: str, command: Sequence[str], *, user: str,
        write: Callable[[IO[bytes]], None],
    ) -> subprocess.CompletedProcess[bytes]:  # fmt: skip
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as client:
            assert client.stdin is not None
            assert client.stderr is not None
            try:
                with client.stdin:
                    write(cast(IO[bytes], Cut(client.stdin, self.cut)))
            except BrokenPipeError:
                pass
            said = client.stderr.read()
        return subprocess.CompletedProcess(command, client.returncode, b"", said)

    def unreachable(self) -> None:
        return None


class Cut:
    """A pipe that ends after some bytes."""

    def __init__(self, pipe: IO[bytes], left: int | None) -> None:
        self.pipe, self.left = pipe, left

    def write(self, data: bytes) -> Any:
        if self.left is not None:
            data, self.left = data[: self.left], max(0, self.left - len(data))
        return self.pipe.write(data)


@dataclass(frozen=True)
class Desk:
    """A user's home and a repository."""

    home: Path
    source: Path
    engine: Here

    @property
    def notebooks(self) -> Path:
        return self.home / "notebooks"

    def place(self, name: str = "repo") -> bool:
        site = replace(bench().site, engine=cast(Engine, self.engine))
        # whose home directory is below /home
        account = Account(name=f"..{self.home}", uid=1, gid=1)
        return place_files(
            cast(Site, site), container("server", {}), account, source=self.source, name=name
        )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    source = tmp_path / "source"
    (source / ".git").mkdir(parents=True)
    (source / ".git" / "HEAD").write_text("ref")
    (source / "run.sh").write_text("true")
    (source / "run.sh").chmod(0o755)
    (source / "link").symlink_to("run.sh")
    (source / "big").write_bytes(bytes(300_000))
    (tmp_path / "home" / "notebooks").mkdir(parents=True)
    return Desk(home=tmp_path / "home", source=source, engine=Here())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_all_files_come_with_their_modes_and_links(desk: Desk) -> None:
    assert desk.place()
    assert names(desk.notebooks) == ["repo"]
    there = desk.notebooks / "repo"
    assert names(there) == [".git", "big", "link", "run.sh"]
    assert (there / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (there / "link").is_symlink()
    assert (there / ".git" / "HEAD").read_text() == "ref"
    assert there.stat().st_mode & 0o700 == 0o700


@pytest.mark.parametrize("kind", ["folder", "file", "dead link"])
def test_what_is_there_is_left_alone(desk: Desk, kind: str) -> None:
    there = desk.notebooks / "repo"
    if kind == "folder":
        there.mkdir()
    elif kind == "file":
        there.write_text("mine")
    else:
        there.symlink_to("nowhere")
    assert not desk.place()
    assert names(desk.notebooks) == ["repo"]
    assert kind != "folder" or names(there) == []
    assert kind != "file" or there.read_text() == "mine"


@pytest.mark.parametrize("cut", [0, 1536, 10_000, 200_000])
def test_half_of_the_files_are_none(desk: Desk, cut: int) -> None:
    desk.engine.cut = cut
    with pytest.raises(FilesError, match="could not be copied"):
        desk.place()
    assert names(desk.notebooks) == []


def test_a_folder_that_cannot_be_written_is_an_error(desk: Desk) -> None:
    desk.notebooks.rmdir()
    with pytest.raises(FilesError, match="could not be copied to"):
        desk.place()
