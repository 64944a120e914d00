"""A repository as it stands: its files on this machine, and the environment that it asks for."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from jupbox.binder import Binder, read_binder
from jupbox.console import Console
from jupbox.errors import ConfigError
from jupbox.host import git
from jupbox.origin import folder_name, is_address, parse_address
from jupbox.project import ImageDefinition, Project, box_name
from jupbox.site import Surroundings, project_of, reader_of
from jupbox.tables import DEFAULT_IMAGE
from jupbox.tomltext import dotted, quote


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository that was read.

    Attributes:
        folder: where its files lie on this machine.
        name: what its folder is called where the notebooks are.
        image: the name of its image definition.
        said: where it is from, for a person; with the commit if git has it.
    """

    folder: Path
    name: str
    image: str
    binder: Binder
    said: str

    def definition(self, around: Surroundings) -> ImageDefinition:
        """What its environment holds, with no file left to read.

        Raises:
            ConfigError: something of it cannot be used.
        """
        table = self.binder.table(extends=DEFAULT_IMAGE)
        text = f"[{dotted(('images', self.image))}]\n" + "".join(
            f"{key} = {_value(value)}\n" for key, value in table.items()
        )
        return project_of(text, None, around).images[self.image]


def _value(value: Any) -> str:
    return quote(value) if isinstance(value, str) else f"[{', '.join(map(quote, value))}]"


def read_repository(
    word: str, *, project: Project, around: Surroundings, console: Console, partial: bool
) -> Repository:
    """The repository that a path or a git address names.

    Args:
        word: `PATH`, or `URL[@REV]`.
        project: whose shipped images' names are taken.
        partial: go on without what cannot be honoured.

    Raises:
        ConfigError: it is not there, or asks for what cannot be honoured.
        RepositoryError: git does not get it.
    """
    if is_address(word):
        folder, name, said = _cloned(word, around, console)
    else:
        folder = (around.cwd / Path(word).expanduser()).resolve()
        if not folder.is_dir():
            raise ConfigError(
                f"There is no folder {word}.",
                remedy="Name a folder of this machine, or a git address such as "
                "https://example.org/team/repository.",
            )
        name, said = folder.name, str(folder)
    image = image_name(name, project)
    binder = read_binder(reader_of(folder), folders=_folders(folder))
    _refuse(binder, name or said, console, partial=partial)
    return Repository(
        folder=folder, name=folder_name(name, otherwise=image), image=image, binder=binder,
        said=said,
    )  # fmt: skip


def _folders(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_dir()]


def image_name(name: str, project: Project) -> str:
    """A repository's name as that of an image; one that ships would not be an addition to it."""
    image = box_name(name or "notebooks")
    taken = {shipped for shipped, one in project.images.items() if one.shipped}
    return box_name(f"my-{image}") if image in taken else image


def _cloned(word: str, around: Surroundings, console: Console) -> tuple[Path, str, str]:
    """The clone's folder, the repository's name, and where it is from."""
    address = parse_address(word)
    kept = platformdirs.user_cache_path("jupbox") / "repositories"
    # what is in it may be no matter of this machine's other users
    kept.mkdir(parents=True, mode=0o700, exist_ok=True)
    with console.stage(f"Fetching {address}", live=False):
        # beside its place: another jupbox may be reading the last one
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=kept))
        try:
            commit = git.clone(address.url, address.revision, fresh / "all", environ=around.environ)
            whence = hashlib.sha256(str(address).encode()).hexdigest()[:8]
            folder = kept / f"{box_name(address.name)}-{commit[:12]}-{whence}"
            with suppress(OSError):  # it is there already
                (fresh / "all").rename(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return folder, address.name, f"{address.url} at {commit[:12]}"


def _refuse(binder: Binder, name: str, console: Console, *, partial: bool) -> None:
    """Stop at what cannot be honoured, or say what is left out."""
    for note in binder.notes:
        console.note(note)
    problems = binder.problems
    if not problems:
        return
    if partial or len(problems) > 1:
        for problem in problems:
            console.note(f"{problem}{' (left out)' if partial else ''}")
    if partial:
        return
    first, *others = problems
    more = f" (and {len(others)} more, named above)" if others else ""
    remedy = "" if others or first.remedy.startswith("`--partial`") else f"{first.remedy} Or: "
    raise ConfigError(
        f"{name} asks for what cannot be honoured: {first}{more}.",
        remedy=f"{remedy}`--partial` goes on without {'them' if others else 'it'}.",
    )


def tables_beside(repository: Repository, extends: str, folder: Path) -> Mapping[str, Any]:
    """The `[images.*]` table for a `jupbox.toml` in `folder`; its own files go by their names."""
    same = repository.folder == folder.resolve()
    # what a file asks for in vain would stop whoever names it
    return repository.binder.table(extends=extends, files=same and not repository.binder.problems)
