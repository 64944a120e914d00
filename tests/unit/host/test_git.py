"""Repositories by git: this machine's own, of folders."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from jupbox.errors import ClientError, RepositoryError
from jupbox.host.git import clone

pytestmark = pytest.mark.real_process


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    who = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org"}
    who |= {"GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org"}
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **who}


@pytest.fixture
def remote(tmp_path: Path, environ: dict[str, str]) -> Path:
    """Two commits, the first of them tagged v1, and a branch."""
    folder = tmp_path / "remote"
    folder.mkdir()
    git(folder, environ, "init", "--quiet", "--initial-branch", "main")
    for name in ("first", "second"):
        (folder / name).write_text(name)
        git(folder, environ, "add", "--all")
        git(folder, environ, "commit", "--quiet", "--message", name)
        if name == "first":
            git(folder, environ, "tag", "--annotate", "v1", "--message", "v1")
            git(folder, environ, "branch", "old/one")
    return folder


def git(folder: Path, environ: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environ, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("revision", "names"),
    [
        (None, {"first", "second"}),
        ("main", {"first", "second"}),
        ("v1", {"first"}),
        ("old/one", {"first"}),
    ],
)
def test_a_branch_a_tag_or_neither_is_cloned_without_history(
    tmp_path: Path, remote: Path, environ: dict[str, str], revision: str | None, names: set[str]
) -> None:
    into = tmp_path / "clone"
    commit = clone(f"file://{remote}", revision, into, environ=environ)
    assert commit == git(remote, environ, "rev-parse", f"{revision or 'HEAD'}^{{commit}}")
    assert {path.name for path in into.iterdir()} == {*names, ".git"}
    assert git(into, environ, "rev-list", "--count", "HEAD") == "1"


def test_a_branch_can_be_pulled_afterwards(
    tmp_path: Path, remote: Path, environ: dict[str, str]
) -> None:
    into = tmp_path / "clone"
    clone(f"file://{remote}", None, into, environ=environ)
    (remote / "third").write_text("3")
    git(remote, environ, "add", "--all")
    git(remote, environ, "commit", "--quiet", "--message", "third")
    git(into, environ, "pull", "--quiet")
    assert (into / "third").is_file()


@pytest.mark.parametrize("length", [40, 8])
def test_a_commit_is_found_by_its_full_or_short_name(
    tmp_path: Path, remote: Path, environ: dict[str, str], length: int
) -> None:
    commit = git(remote, environ, "rev-parse", "v1^{commit}")
    into = tmp_path / "clone"
    assert clone(f"file://{remote}", commit[:length], into, environ=environ) == commit
    assert not (into / "second").exists()


@pytest.mark.parametrize("revision", ["v2", "0" * 40, "abcdef12"])
def test_a_revision_that_is_gone_is_named(
    tmp_path: Path, remote: Path, environ: dict[str, str], revision: str
) -> None:
    with pytest.raises(RepositoryError, match=f"has no revision {revision}"):
        clone(f"file://{remote}", revision, tmp_path / "clone", environ=environ)


def test_a_repository_out_of_reach_is_said_with_gits_own_words(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    with pytest.raises(RepositoryError, match="nothing cannot be had: ") as caught:
        clone(f"file://{tmp_path}/nothing", None, tmp_path / "clone", environ=environ)
    assert "git ls-remote" in caught.value.remedy
    assert not (tmp_path / "clone").exists()


def test_a_git_around_us_does_not_lead_ours_astray(
    tmp_path: Path, remote: Path, environ: dict[str, str]
) -> None:
    astray = {**environ, "GIT_DIR": str(tmp_path / "elsewhere")}
    commit = clone(f"file://{remote}", None, tmp_path / "clone", environ=astray)
    assert commit == git(remote, environ, "rev-parse", "HEAD")
    assert (tmp_path / "clone" / "second").is_file()


def test_without_git_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="no git"):
        clone("file:///x", None, tmp_path / "clone", environ={"PATH": str(tmp_path)})
