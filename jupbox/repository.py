"""Definitions of other repositories: how one is named, and what a lock says of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_WORD: Final = re.compile(r"git\+(?P<url>[a-z]+://[^#]*?)@(?P<revision>[^@#]*)#(?P<fragment>.*)")
_USER: Final = r"(?P<user>[^@/]*@)?"
_PLACE: Final = r"(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?"
_PATH: Final = r"(?:/[A-Za-z0-9._~%+-]+)+/?"
_URLS: Final = re.compile(rf"(?:(?:https|ssh)://{_USER}{_PLACE}|file://){_PATH}", re.ASCII)
# neither an option nor any of git's own words for "some revisions before that one"
_REVISION: Final = re.compile(
    r"(?!.*(?:\.\.|//|/$|\.lock$))[A-Za-z0-9_][A-Za-z0-9._/+-]*", re.ASCII
)
_FRAGMENT: Final = re.compile(r"images\.(?P<image>[a-z0-9][a-z0-9_-]{0,39})")
COMMIT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
"""A full commit's name, SHA-1 or SHA-256."""

PREFIX: Final = "git+"


class ReferenceProblem(ValueError):
    """Why a text names no definition of a repository; empty for its form."""


@dataclass(frozen=True, kw_only=True)
class GitReference:
    """A definition of another repository's `jupbox.toml`.

    Attributes:
        url: as git takes it; it holds no credentials.
        revision: a branch, a tag or a commit.
        image: the definition's name there.
    """

    url: str
    revision: str
    image: str

    def __str__(self) -> str:
        return f"{PREFIX}{self.url}@{self.revision}#images.{self.image}"


@dataclass(frozen=True, kw_only=True)
class GitSource:
    """What a lock says of a repository: which commit a revision stood for.

    Attributes:
        commit: 40 or 64 hex digits.
    """

    url: str
    revision: str
    commit: str

    @property
    def name(self) -> str:
        """The repository's own name: the last part of its address."""
        return self.url.rstrip("/").rpartition("/")[2].removesuffix(".git")


def is_git(text: str) -> bool:
    """Whether a text that `extends` names means another repository."""
    return text.startswith(PREFIX)


def parse_reference(text: str) -> GitReference:
    """The definition that `git+https://host/team/repo@revision#images.name` names.

    Raises:
        ReferenceProblem: it names none.
    """
    match = _WORD.fullmatch(text)
    if match is None:
        raise ReferenceProblem
    url = match["url"]
    place, fragment = _URLS.fullmatch(url), _FRAGMENT.fullmatch(match["fragment"])
    if place and _has_credentials(url, place["user"]):
        raise ReferenceProblem(
            "must hold no credentials, which would be shared with it: "
            "leave them to git's own credential helper"
        )
    if place is None or fragment is None or ".." in url.split("/"):
        raise ReferenceProblem
    if _REVISION.fullmatch(match["revision"]) is None:
        raise ReferenceProblem("names no revision that git could have: a branch, a tag or a commit")
    return GitReference(url=url, revision=match["revision"], image=fragment["image"])


def _has_credentials(url: str, user: str | None) -> bool:
    # ssh's user is a name; what stands there for https is a password or a token
    return bool(user) and (url.startswith("https:") or ":" in (user or ""))
