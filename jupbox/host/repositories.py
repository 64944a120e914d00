"""Single files of other repositories, fetched by the user's own git and kept by commit.

How a repository is reached (credentials, proxies, ssh) is the user's git configuration. What was
fetched once needs no network again.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from jupbox.errors import RepositoryError
from jupbox.host.git import Git
from jupbox.repository import COMMIT
from jupbox.secret import without_credentials

_FETCH_SECONDS: Final = 300
_LOOK_SECONDS: Final = 60
_EVERYTHING: Final = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
_FILES: Final = {"100644": False, "100755": True}


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A file of a commit."""

    content: bytes
    executable: bool


@dataclass(frozen=True, kw_only=True)
class Repository:
    """Another repository, with what was fetched of it kept on this machine.

    Attributes:
        url: as git takes it, without credentials.
        environ: git's environment.
    """

    url: str
    environ: Mapping[str, str]

    @property
    def _folder(self) -> Path:
        name = hashlib.sha256(self.url.encode()).hexdigest()[:32]
        return platformdirs.user_cache_path("jupbox") / "git" / name

    def newest(self, revision: str) -> str:
        """The commit that a revision stands for now; it is fetched.

        Raises:
            RepositoryError: the repository is out of reach, or has no such revision.
            ClientError: git is not installed.
        """
        with self._exclusive():
            if COMMIT.fullmatch(revision) and self._has(revision):
                return revision
            return self._fetched(revision) or self._fetched_whole(revision)

    def ensure(self, commit: str, *, revision: str) -> None:
        """Have a commit here; no network is needed where it is already.

        Args:
            commit: which.
            revision: what it was found by, should its name alone not be enough.

        Raises:
            RepositoryError: the repository is out of reach, or has the commit no more.
            ClientError: git is not installed.
        """
        with self._exclusive():
            if self._has(commit) or self._fetched(commit) == commit:
                return
            try:
                self._fetched_whole(commit)
            except RepositoryError:
                if not self._reached():
                    raise
                raise RepositoryError(
                    f"{self.url} has no commit {commit[:12]} any more, which jupbox.lock holds "
                    f"for {revision}.",
                    remedy="`jupbox lock` takes what that revision is now; look at what changes.",
                ) from None

    def file(self, commit: str, path: str) -> Blob | None:
        """A file of a commit that is here; None if it has none of that name.

        Raises:
            RepositoryError: its content cannot be had.
        """
        listed = self._git("ls-tree", commit, "--", path).stdout.decode(errors="replace")
        mode, _, rest = listed.partition(" ")
        if mode not in _FILES or rest.partition("\t")[2].rstrip("\n") != path:
            return None
        name = rest.partition("\t")[0].split()[1]
        done = self._git("cat-file", "blob", name, timeout=_FETCH_SECONDS)
        if done.returncode != 0:
            raise self._unreached(done)
        return Blob(content=done.stdout, executable=_FILES[mode])

    def _has(self, commit: str) -> bool:
        if not (self._folder / "HEAD").is_file():
            return False
        reference = f"refs/jupbox/{commit}"
        return self._git("show-ref", "--verify", "--quiet", reference).returncode == 0

    def _fetched(self, revision: str) -> str | None:
        """The commit of a revision that the server takes by this name; None if it does not."""
        # its files are fetched one by one, when they are looked at
        done = self._git(
            "fetch", "--quiet", "--no-tags", "--depth=1", "--filter=blob:none",
            "origin", revision, timeout=_FETCH_SECONDS,
        )  # fmt: skip
        return self._keep("FETCH_HEAD") if done.returncode == 0 else None

    def _fetched_whole(self, revision: str) -> str:
        """The commit of a revision that only the whole history knows, such as a short name.

        Raises:
            RepositoryError: the repository is out of reach, or has no such revision.
        """
        done = self._git(
            "fetch", "--quiet", "--prune", "--force", "--depth=2147483647",
            "--filter=blob:none", "origin", *_EVERYTHING, timeout=_FETCH_SECONDS,
        )  # fmt: skip
        if done.returncode != 0:
            raise self._unreached(done)
        if commit := self._keep(revision):
            return commit
        raise RepositoryError(
            f"{self.url} has no revision {revision}.",
            remedy=f"Look at what there is: `git ls-remote {self.url}`.",
        )

    def _keep(self, word: str) -> str | None:
        """The commit that a word stands for here, kept from git's own tidying."""
        done = self._git("rev-parse", "--verify", "--quiet", f"{word}^{{commit}}")
        commit = done.stdout.decode().strip()
        if done.returncode != 0 or COMMIT.fullmatch(commit) is None:
            return None
        self._git("update-ref", f"refs/jupbox/{commit}", commit)
        return commit

    def _reached(self) -> bool:
        asked = self._git("ls-remote", "--quiet", "origin", "HEAD", timeout=_LOOK_SECONDS)
        return asked.returncode == 0

    def _unreached(self, done: subprocess.CompletedProcess[bytes]) -> RepositoryError:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = next(
            (line for line in said if line.startswith("fatal:")), (said or ["no reason"])[-1]
        )
        return RepositoryError(
            f"{self.url} cannot be fetched: {without_credentials(why.removeprefix('fatal: '))}",
            remedy=f"Make this work first: `git ls-remote {self.url}`.",
        )

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """The kept repository, made if it is not there; one process at a time changes it."""
        folder = self._folder
        # what is in it may be no matter of other users of this machine
        folder.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if not (folder / "HEAD").is_file():
                Git(self.environ)("init", "--quiet", "--bare", str(folder), timeout=_LOOK_SECONDS)
                self._git("config", "remote.origin.url", self.url)
            yield

    def _git(
        self, *arguments: str, timeout: float = _LOOK_SECONDS
    ) -> subprocess.CompletedProcess[bytes]:
        return Git(self.environ)(f"--git-dir={self._folder}", *arguments, timeout=timeout)
