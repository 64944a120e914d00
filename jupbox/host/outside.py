"""What definitions name beyond their own file, from where it lies: other repositories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from jupbox.errors import RepositoryError
from jupbox.host.git import Repository
from jupbox.project import Foreign
from jupbox.repository import GitReference, GitSource

_FILE: Final = "jupbox.toml"


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """`project.Outside` by this machine's git.

    Attributes:
        environ: git's environment.
        pinned: what an image's lock says of repositories, by the image's name.
    """

    environ: Mapping[str, str]
    pinned: Callable[[str], Sequence[GitSource]]
    _newest: dict[tuple[str, str], str] = field(default_factory=dict)

    def definitions(self, reference: GitReference, *, image: str) -> Foreign:
        """See `project.Outside.definitions`: at the locked commit, else at the newest.

        Raises:
            RepositoryError: the repository is out of reach, or has not what is wanted of it.
            ClientError: git is not installed.
            LockError: the lock cannot be read.
        """
        repository = Repository(url=reference.url, environ=self.environ)
        commit = self._commit(repository, reference, image)
        found = repository.file(commit, _FILE)
        if found is None:
            raise RepositoryError(
                f"{reference.url} has no {_FILE} at {reference.revision} ({commit[:12]}).",
                remedy="Name a revision that has one in the repository's uppermost folder.",
            )
        try:
            text = found.content.decode()
        except UnicodeDecodeError:
            raise RepositoryError(
                f"The {_FILE} of {reference.url} at {reference.revision} is not UTF-8 text.",
                remedy="Name another revision, or have it mended there.",
            ) from None
        return Foreign(text=text, commit=commit)

    def _commit(self, repository: Repository, reference: GitReference, image: str) -> str:
        key = (reference.url, reference.revision)
        for source in self.pinned(image):
            if (source.url, source.revision) == key:
                repository.ensure(source.commit, revision=source.revision)
                return source.commit
        if key not in self._newest:  # one answer a command, whatever happens there meanwhile
            self._newest[key] = repository.newest(reference.revision)
        return self._newest[key]
