"""Where a repository comes from: a folder of this machine, or an address that git takes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from jupbox.errors import ConfigError

_SCHEMES: Final = frozenset({"https", "http", "ssh", "git", "file"})
# `git@host:team/repo`; a colon and a number is a port, of a host that ssh goes to
_SCP: Final = re.compile(
    r"(?P<place>(?:[\w.+-]+@)?[\w.-]+):(?P<path>(?!\d+(?:/|$))[\w~.][^\s:]*)", re.ASCII
)
_PLAIN: Final = re.compile(r"[!-~]+")
# neither an option nor git's own words for "some revisions before that one"
_REVISION: Final = re.compile(
    r"(?!.*(?:\.\.|//|/$|\.lock$))[A-Za-z0-9_][A-Za-z0-9._/+-]*", re.ASCII
)
_FOLDER_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class GitAddress:
    """A repository of elsewhere.

    Attributes:
        url: as git takes it; without a password.
        revision: a branch, a tag or a commit; None is the repository's own choice.
    """

    url: str
    revision: str | None

    @property
    def name(self) -> str:
        """The repository's own name: the last part of its address."""
        return re.split(r"[/:]", self.url.rstrip("/"))[-1].removesuffix(".git")

    def __str__(self) -> str:
        return self.url if self.revision is None else f"{self.url}@{self.revision}"


def is_address(word: str) -> bool:
    """Whether a word is a git address, not a folder or a box.

    `ssh://host` alone is where a box is; with a path it is a repository.
    """
    if word.startswith("git+"):
        return True
    scheme, separator, _ = word.partition("://")
    if separator:
        return scheme in _SCHEMES - {"ssh"} or bool(urlsplit(word).path.strip("/"))
    return _SCP.fullmatch(word) is not None and not word.startswith(("/", ".", "~"))


def is_repository(word: str, *, is_folder: bool) -> bool:
    """Whether a word names a repository, and not a box.

    Args:
        word: as the command line has it.
        is_folder: there is a folder of that name.
    """
    return (
        is_address(word)
        or is_folder
        or word.startswith(("./", "../", "/", "~"))
        or word in {".", ".."}
    )


def folder_name(name: str, *, otherwise: str) -> str:
    """What a repository's folder is called where the notebooks are."""
    return name if _FOLDER_NAME.fullmatch(name) else otherwise


def parse_address(word: str) -> GitAddress:
    """The repository of `https://…[@REV]`, `git@…`, `ssh://…/…` or `git+…`.

    Raises:
        ConfigError: it cannot be one, or it holds a password.
    """
    text = word.removeprefix("git+")
    if not _PLAIN.fullmatch(text) or not is_address(text) or text.startswith("-"):
        raise ConfigError(
            "That is no address of a git repository.",
            remedy="Write it as for `git clone`, perhaps with @REVISION after it.",
        )
    if "://" in text:
        parts = urlsplit(text)
        if parts.password is not None or (parts.username and parts.scheme in {"https", "http"}):
            raise ConfigError(
                "The repository's address holds credentials, which others would get to see.",
                remedy="Leave them out, and let git's own credential helper know them.",
            )
        head, path = text[: len(text) - len(parts.path)], parts.path
        if parts.query or parts.fragment:
            head, path = text.partition("?")[0].partition("#")[0], ""
    else:
        head, _, path = text.partition(":")
        head += ":"
    path, _, revision = path.partition("@")
    if "@" in revision or (revision and not _REVISION.fullmatch(revision)):
        raise ConfigError(
            "What stands after the @ is no revision that git could have.",
            remedy="Write a branch, a tag or a commit there.",
        )
    return GitAddress(url=head + path, revision=revision or None)
