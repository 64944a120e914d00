"""What definitions name beyond their own file, from where it lies: repositories, files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jupbox.errors import ConfigError, RepositoryError
from jupbox.host.repositories import Blob, Repository
from jupbox.project import CopiedFile, Foreign
from jupbox.repository import GitReference, GitSource

_FILE: Final = "jupbox.toml"
# what is larger belongs among the notebooks, or is mounted
_LARGEST: Final = 100 * 2**20


def read_file(
    path: str, *, source: GitSource | None, root: Path | None, environ: Mapping[str, str]
) -> Blob | None:
    """A file of a project's folder; None if it is not there.

    Args:
        path: from the folder; no .. in it.
        source: the repository whose folder that is; None is the project's own.
        root: the project's own folder.
        environ: git's environment.

    Raises:
        RepositoryError: the repository is out of reach, or has the commit no more.
        ConfigError: the file cannot be read, or is too large for an image.
    """
    if source:
        repository = Repository(url=source.url, environ=environ)
        repository.ensure(source.commit, revision=source.revision)
        return repository.file(source.commit, path)
    if root is None or not (root / path).is_file():
        return None
    file = (root / path).resolve()
    if not file.is_relative_to(root.resolve()):
        raise ConfigError(
            f"{path} is a link that leads out of the project's folder.",
            remedy="Copy the file itself into the project: whoever clones it needs it too.",
        )
    try:
        status = file.stat()
        if status.st_size > _LARGEST:
            raise ConfigError(
                f"{path} has more than {_LARGEST >> 20} MB, too many for an image.",
                remedy="Put it among the notebooks, or where `mounts` of the box finds it.",
            )
        return Blob(content=file.read_bytes(), executable=bool(status.st_mode & 0o100))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.", remedy="Mend its permissions."
        ) from None


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """`project.Outside` by this machine's git and files.

    Attributes:
        root: the project's folder; None without one.
        environ: git's environment.
        pinned: what an image's lock says of repositories, by the image's name.
    """

    root: Path | None
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

    def file(self, path: str, *, target: str, source: GitSource | None) -> CopiedFile | None:
        """See `project.Outside.file`.

        Raises:
            RepositoryError: the repository is out of reach.
            ConfigError: the file cannot be read, or is too large for an image.
        """
        blob = read_file(path, source=source, root=self.root, environ=self.environ)
        if blob is None:
            return None
        return CopiedFile(
            target=target,
            path=path,
            sha256=hashlib.sha256(blob.content).hexdigest(),
            executable=blob.executable,
            source=source,
        )

    def text(self, path: str, *, source: GitSource) -> str | None:
        """See `project.Outside.text`.

        Raises:
            RepositoryError: the repository is out of reach.
        """
        blob = read_file(path, source=source, root=self.root, environ=self.environ)
        return blob.content.decode(errors="replace") if blob else None

    def _commit(self, repository: Repository, reference: GitReference, image: str) -> str:
        key = (reference.url, reference.revision)
        for source in self.pinned(image):
            if (source.url, source.revision) == key:
                repository.ensure(source.commit, revision=source.revision)
                return source.commit
        if key not in self._newest:  # one answer a command, whatever happens there meanwhile
            self._newest[key] = repository.newest(reference.revision)
        return self._newest[key]
