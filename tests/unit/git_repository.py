"""A git repository that a test makes; a unit test may where it may start processes."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ENVIRON: Final[Mapping[str, str]] = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}


@dataclass(frozen=True, kw_only=True)
class GitRepository:
    """A repository with one branch, `main`."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> GitRepository:
        """An empty repository in a new folder."""
        folder.mkdir(parents=True)
        made = cls(folder=folder)
        made.git("init", "--quiet", "--initial-branch=main")
        return made

    @property
    def url(self) -> str:
        """Where git finds it."""
        return f"file://{self.folder}"

    def git(self, *arguments: str) -> str:
        """What git said."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.folder, env=dict(ENVIRON), check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    def commit(self, **files: str) -> str:
        """The commit of some texts by name, in which `_` stands for a dot."""
        for name, text in files.items():
            (self.folder / name.replace("_", ".")).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=more")
        return self.git("rev-parse", "HEAD")
