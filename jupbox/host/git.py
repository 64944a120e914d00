"""Repositories of elsewhere, by the user's own git: its keys, its credential store, its proxies."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from jupbox.errors import ClientError, LockError, RepositoryError
from jupbox.secret import without_credentials

_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# a server that says nothing for a minute is not there
_PATIENCE: Final = ("-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=60")
# by which a git that started us (a hook, an alias) would send ours to its own repository
_OF_CALLER: Final = frozenset(
    {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR",
     "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_SHALLOW_FILE",
     "GIT_CEILING_DIRECTORIES", "GIT_CONFIG", "GIT_GRAFT_FILE"}
)  # fmt: skip


def clone(url: str, revision: str | None, into: Path, *, environ: Mapping[str, str]) -> str:
    """Clone a repository as shallow as can be, and check a revision out.

    Args:
        url: as git takes it, without a password.
        revision: a branch, a tag or a commit; None is the repository's own choice.
        into: a folder that is not there yet.
        environ: the user's environment, in which git runs; it asks nothing.

    Returns:
        The commit's full name.

    Raises:
        ClientError: there is no git.
        RepositoryError: the repository is out of reach, or has no such revision.
    """
    git = Git(environ)
    refs = _refs(git, url)
    if revision is None or {f"refs/heads/{revision}", f"refs/tags/{revision}"} & refs:
        branch = () if revision is None else ("--branch", revision)
        done = git("clone", "--quiet", "--depth", "1", *branch, "--", url, str(into))
        if done.returncode != 0:
            raise _unreachable(url, done.stderr)
    else:
        _commit(git, url, revision, into)
    return git("-C", str(into), "rev-parse", "HEAD").stdout.decode().strip()


def show(folder: Path, revision: str, path: str, *, environ: Mapping[str, str]) -> str:
    """A file of a folder's repository as it was at a revision.

    Args:
        folder: in the work tree of a repository.
        revision: as `git rev-parse` takes it.
        path: relative to the folder.
        environ: the user's environment, in which git runs.

    Raises:
        LockError: there is no such revision, or no such file in it.
        ClientError: there is no git.
    """
    # a revision that begins with a minus would be an option
    named = f"{revision}:./{path}"
    done = Git(environ)("-C", str(folder), "show", "--end-of-options", named)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise LockError(
            f"git has no {path} at {revision!r}: {said[-1].removeprefix('fatal: ')}",
            remedy="Name a revision that holds it, such as HEAD or main.",
        )
    return done.stdout.decode("utf-8", "replace")


def revision(folder: Path, *, environ: Mapping[str, str]) -> str | None:
    """The commit that a folder's work tree is at, `-dirty` if tracked files differ from it.

    Args:
        folder: of a project.
        environ: the user's environment, in which git runs.

    Returns:
        Its short name; None where there is no repository, no commit, or no git.
    """
    folder = folder.absolute()
    if not any((above / ".git").exists() for above in (folder, *folder.parents)):
        return None
    try:
        # `*` excludes every tag: the name is always that of the commit
        done = Git(environ)(
            "-C", str(folder), "-c", "core.fsmonitor=false", "describe", "--always", "--dirty",
            "--exclude", "*", timeout=10,
        )  # fmt: skip
    except (ClientError, RepositoryError):
        return None
    return done.stdout.decode().strip() or None if done.returncode == 0 else None


def _refs(git: Git, url: str) -> set[str]:
    """All names of the repository; whether it can be reached at all shows here."""
    done = git("ls-remote", "--heads", "--tags", "--", url)
    if done.returncode != 0:
        raise _unreachable(url, done.stderr)
    return {line.partition("\t")[2] for line in done.stdout.decode().splitlines()}


def _commit(git: Git, url: str, revision: str, into: Path) -> None:
    if _COMMIT.fullmatch(revision):
        # most servers give out a commit alone
        here = ("-C", str(into))
        git("init", "--quiet", "--", str(into))
        git(*here, "remote", "add", "origin", url)
        fetched = git(*here, "fetch", "--quiet", "--depth", "1", "origin", revision)
        if fetched.returncode == 0:
            git(*here, "checkout", "--quiet", "--detach", "FETCH_HEAD")
            return
        shutil.rmtree(into)
    # a commit's short name, or one that the server gives out with its branches only
    done = git("clone", "--quiet", "--no-checkout", "--", url, str(into))
    if done.returncode != 0:
        raise _unreachable(url, done.stderr)
    name = f"{revision}^{{commit}}"
    known = git("-C", str(into), "rev-parse", "--quiet", "--verify", "--end-of-options", name)
    found = known.stdout.decode().strip()
    if known.returncode != 0 or not _COMMIT.fullmatch(found):
        raise RepositoryError(
            f"{without_credentials(url)} has no revision {revision}.",
            remedy="Look whether the branch, tag or commit was renamed or removed, and name "
            "another after the @.",
        )
    git("-C", str(into), "checkout", "--quiet", "--detach", found)


def _unreachable(url: str, stderr: bytes) -> RepositoryError:
    lines = [
        line.strip()
        for line in without_credentials(stderr.decode(errors="replace")).splitlines()
        if line.strip()
    ]
    # git's own first word on it; what follows are guesses
    said = next((line for line in lines if line.startswith("fatal: ")), (lines or ["?"])[-1])
    for again in (url, url.removeprefix("file://")):
        said = said.replace(f"'{again}'", "it")
    return RepositoryError(
        f"The repository {without_credentials(url)} cannot be had: "
        f"{said.removeprefix('fatal: ')[:100].rstrip('.')}.",
        remedy="Make `git ls-remote` of that address work without a question (address, network, "
        "key or credential helper).",
    )


class Git:
    """The user's git; it asks only where somebody sits at a terminal.

    Args:
        environ: the user's environment, in which it runs.

    Raises:
        ClientError: there is none.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        program = shutil.which("git", path=environ.get("PATH", os.defpath))
        if program is None:
            raise ClientError(
                "There is no git on this machine.",
                remedy="Install git with this machine's package manager.",
            )
        self._program = program
        self._environ = {
            **{name: value for name, value in environ.items() if name not in _OF_CALLER},
            "LC_ALL": "C",
        }
        if not (os.isatty(0) and os.isatty(2)):
            self._environ["GIT_TERMINAL_PROMPT"] = "0"

    def __call__(
        self, *arguments: str, timeout: float | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it to its end, whatever its exit code.

        Raises:
            RepositoryError: it has not ended within `timeout` seconds.
        """
        try:
            return subprocess.run(
                [self._program, *_PATIENCE, *arguments], env=self._environ,
                stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise RepositoryError(
                f"git got no answer within {timeout:.0f} s.",
                remedy="Make `git ls-remote` of that repository work first.",
            ) from None
