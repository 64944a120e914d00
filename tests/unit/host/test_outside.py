"""Other repositories' definitions, as a project finds them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from jupbox.errors import ConfigError, RepositoryError
from jupbox.host.outside import read_file
from jupbox.host.repositories import Blob
from jupbox.lock import Lock, dump_lock
from jupbox.site import Surroundings, load_project
from tests.unit.git_repository import ENVIRON, GitRepository
from tests.unit.test_lock import IMAGE

pytestmark = pytest.mark.real_process

THEIRS = '[images.theirs]\nextends = "minimal"\npython = ["{}"]\n'


@pytest.fixture
def there(tmp_path: Path) -> GitRepository:
    return GitRepository.create(tmp_path / "there")


@pytest.fixture
def around(tmp_path: Path, there: GitRepository, monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    here = tmp_path / "here"
    here.mkdir()
    extends = f'extends = "git+{there.url}@main#images.theirs"'
    (here / "jupbox.toml").write_text(f'[images.ours]\n{extends}\n[boxes.b]\nimage = "ours"\n')
    return Surroundings(cwd=here, home=tmp_path, environ=ENVIRON)


def test_without_a_lock_the_newest_holds(around: Surroundings, there: GitRepository) -> None:
    for name in ("one", "two"):
        commit = there.commit(jupbox_toml=THEIRS.format(name))
        image = load_project(around).image("ours")
        assert (name in image.python, [s.commit for s in image.sources]) == (True, [commit])


def test_the_locked_commit_holds_even_without_the_repository(
    around: Surroundings, there: GitRepository
) -> None:
    there.commit(jupbox_toml=THEIRS.format("one"))
    first = load_project(around).image("ours")
    lock = replace(IMAGE, name="ours", definition=first.digest, sources=first.sources)
    (around.cwd / "jupbox.lock").write_text(dump_lock(Lock().with_image(lock)))
    there.commit(jupbox_toml=THEIRS.format("two"))
    assert load_project(around).image("ours") == first
    assert "two" in load_project(around, pinned=False).image("ours").python
    shutil.rmtree(there.folder)
    assert load_project(around).image("ours") == first


def test_a_personal_image_is_pinned_by_the_lock_of_a_box_that_has_it(
    around: Surroundings, there: GitRepository, tmp_path: Path
) -> None:
    around.user_file.parent.mkdir(parents=True)
    (around.cwd / "jupbox.toml").rename(around.user_file)
    there.commit(jupbox_toml=THEIRS.format("one"))
    first = load_project(around).image("ours")
    lock = replace(IMAGE, name="ours", definition=first.digest, sources=first.sources)
    (tmp_path / "DATA" / "jupbox").mkdir(parents=True)
    (tmp_path / "DATA" / "jupbox" / "b.lock").write_text(dump_lock(Lock().with_image(lock)))
    there.commit(jupbox_toml=THEIRS.format("two"))
    assert load_project(around).image("ours") == first


def test_a_repository_without_definitions_is_named_with_its_commit(
    around: Surroundings, there: GitRepository
) -> None:
    commit = there.commit(README_md="no definitions")
    with pytest.raises(RepositoryError, match=f"has no jupbox.toml at main .{commit[:12]}"):
        load_project(around).image("ours")


def test_what_is_no_text_is_refused(around: Surroundings, there: GitRepository) -> None:
    (there.folder / "jupbox.toml").write_bytes(b"\xff\xfe")
    there.commit()
    with pytest.raises(RepositoryError, match="is not UTF-8"):
        load_project(around).image("ours")


# --- files ------------------------------------------------------------------------------------


def own(path: str, root: Path | None) -> Blob | None:
    return read_file(path, source=None, root=root, environ=ENVIRON)


def test_a_file_of_the_project_is_read_with_its_mode(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a b").write_bytes(b"x")
    (tmp_path / "tool").write_bytes(b"y")
    (tmp_path / "tool").chmod(0o750)
    assert own("data/a b", tmp_path) == Blob(content=b"x", executable=False)
    assert own("tool", tmp_path) == Blob(content=b"y", executable=True)


def test_what_is_no_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    assert [own(name, tmp_path) for name in ("folder", "dangling", "no")] == [None] * 3
    assert own("data", None) is None


def test_a_link_out_of_the_project_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("k7mw")
    root = tmp_path / "root"
    root.mkdir()
    (root / "inner").write_text("x")
    (root / "fine").symlink_to("inner")
    (root / "out").symlink_to("../secret")
    assert own("fine", root) == Blob(content=b"x", executable=False)
    with pytest.raises(ConfigError, match="leads out of the project"):
        own("out", root)


def test_a_large_file_belongs_elsewhere(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(101 * 2**20)
    with pytest.raises(ConfigError, match="more than 100 MB") as caught:
        own("large", tmp_path)
    assert "mounts" in caught.value.remedy


def test_files_of_another_repository_come_at_the_commit_of_its_definition(
    around: Surroundings, there: GitRepository
) -> None:
    text = THEIRS.format("one") + 'files = { "/opt/a" = "data.csv", "/opt/b" = "tool" }\n'
    (there.folder / "tool").write_text("#!/bin/sh\n")
    (there.folder / "tool").chmod(0o755)
    there.commit(jupbox_toml=text, data_csv="one")
    image = load_project(around).image("ours")
    assert [(f.target, f.executable) for f in image.files] == [("/opt/a", False), ("/opt/b", True)]
    there.commit(data_csv="two")
    first = image.files[0]
    blob = read_file(first.path, source=first.source, root=around.cwd, environ=ENVIRON)
    assert blob == Blob(content=b"one", executable=False)
