"""Other repositories' files, by commit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jupbox.errors import ClientError, RepositoryError
from jupbox.host.repositories import Blob, Repository
from tests.unit.git_repository import ENVIRON, GitRepository

pytestmark = pytest.mark.real_process


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "jupbox" / "git"


@pytest.fixture
def there(tmp_path: Path) -> GitRepository:
    return GitRepository.create(tmp_path / "there")


def seen(there: GitRepository, **environ: str) -> Repository:
    return Repository(url=there.url, environ={**ENVIRON, **environ})


def test_a_branch_is_its_newest_commit(there: GitRepository) -> None:
    first = there.commit(jupbox_toml="one")
    assert seen(there).newest("main") == first
    second = there.commit(jupbox_toml="two")
    assert seen(there).newest("main") == second
    assert seen(there).file(first, "jupbox.toml") == Blob(content=b"one", executable=False)
    assert seen(there).file(second, "jupbox.toml") == Blob(content=b"two", executable=False)


def test_a_tag_a_commit_and_its_short_name_are_revisions(there: GitRepository) -> None:
    first = there.commit(jupbox_toml="one")
    there.git("tag", "--annotate", "--message=first", "v1")
    there.commit(jupbox_toml="two")
    assert [seen(there).newest(name) for name in ("v1", first, first[:10])] == [first] * 3


def test_what_was_fetched_needs_no_repository_any_more(there: GitRepository) -> None:
    commit = there.commit(jupbox_toml="one")
    seen(there).newest("main")
    seen(there).file(commit, "jupbox.toml")
    shutil.rmtree(there.folder)
    seen(there).ensure(commit, revision="main")
    assert seen(there).file(commit, "jupbox.toml") == Blob(content=b"one", executable=False)
    assert seen(there).newest(commit) == commit


def test_a_pinned_commit_is_fetched_whatever_the_branch_says_now(there: GitRepository) -> None:
    first = there.commit(jupbox_toml="one")
    there.commit(jupbox_toml="two")
    seen(there).ensure(first, revision="main")
    assert seen(there).file(first, "jupbox.toml") == Blob(content=b"one", executable=False)


def test_an_executable_file_is_told_from_another(there: GitRepository) -> None:
    (there.folder / "run").write_text("#!/bin/sh\n")
    (there.folder / "run").chmod(0o755)
    (there.folder / "link").symlink_to("run")
    commit = there.commit()
    seen(there).newest("main")
    assert seen(there).file(commit, "run") == Blob(content=b"#!/bin/sh\n", executable=True)
    assert [seen(there).file(commit, name) for name in ("link", "ru", "nothing", "*")] == [None] * 4


def test_only_what_is_looked_at_is_kept(there: GitRepository, cache: Path) -> None:
    there.git("config", "uploadpack.allowFilter", "true")
    (there.folder / "data").write_bytes(bytes(range(256)) * 4096)
    commit = there.commit(jupbox_toml="one")
    seen(there).newest("main")
    assert seen(there).file(commit, "jupbox.toml") is not None
    assert sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) < 100_000


def test_a_repository_out_of_reach_is_an_error_with_gits_reason(there: GitRepository) -> None:
    gone = Repository(url=f"{there.url}-gone", environ=ENVIRON)
    with pytest.raises(RepositoryError, match="-gone cannot be fetched: ") as caught:
        gone.newest("main")
    assert "git ls-remote" in caught.value.remedy


def test_a_branch_that_was_seen_before_is_no_answer_without_the_repository(
    there: GitRepository,
) -> None:
    commit = there.commit(jupbox_toml="one")
    seen(there).newest(commit[:10])
    shutil.rmtree(there.folder)
    with pytest.raises(RepositoryError, match="cannot be fetched"):
        seen(there).newest("main")


def test_a_revision_that_is_not_there_is_an_error(there: GitRepository) -> None:
    there.commit(jupbox_toml="one")
    with pytest.raises(RepositoryError, match="has no revision v9"):
        seen(there).newest("v9")


def test_a_pinned_commit_that_is_gone_is_an_error_that_says_how_to_move(
    there: GitRepository,
) -> None:
    there.commit(jupbox_toml="one")
    with pytest.raises(RepositoryError, match=f"no commit {'a' * 12} any more") as caught:
        seen(there).ensure("a" * 40, revision="main")
    assert "jupbox lock" in caught.value.remedy


def test_without_git_it_is_named(there: GitRepository) -> None:
    with pytest.raises(ClientError, match="no git on this machine"):
        seen(there, PATH="/nonexistent").newest("main")


def test_the_repository_of_a_git_that_calls_us_is_left_alone(
    there: GitRepository, tmp_path: Path
) -> None:
    commit = there.commit(jupbox_toml="one")
    callers = GitRepository.create(tmp_path / "callers")
    callers.commit(x="x")
    before = callers.git("for-each-ref")
    environ = {"GIT_DIR": str(callers.folder / ".git"), "GIT_WORK_TREE": str(callers.folder)}
    assert seen(there, **environ).newest("main") == commit
    assert callers.git("for-each-ref") == before
