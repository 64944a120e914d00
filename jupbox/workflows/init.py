"""`init`: a new project, from nothing or from what runs on a box."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from jupbox import labels as label
from jupbox import reference, tables
from jupbox.console import Console
from jupbox.errors import ConfigError, UnknownNameError
from jupbox.host.files import write_atomic
from jupbox.host.ssh_config import host_names
from jupbox.lock import ImageLock, Lock, dump_lock
from jupbox.origin import is_repository
from jupbox.project import Box, ImageDefinition, Project, Recorded, box_name, box_table
from jupbox.release import building, locking
from jupbox.site import LOCK_FILE, PROJECT_FILE, Site, Surroundings, project_of
from jupbox.workflows.found import Found, container_of, look, place
from jupbox.workflows.repository import (
    Repository,
    image_name,
    read_repository,
    tables_beside,
)


@dataclass(frozen=True, kw_only=True)
class _File:
    """A file that the definition copies into its image, by its path from the project's folder."""

    path: str
    content: bytes
    executable: bool


@dataclass(frozen=True, kw_only=True)
class _Written:
    """What a new project's files hold.

    Attributes:
        box: the only box.
        said: what its user is told of it.
    """

    box: Box
    text: str
    said: str
    lock: Lock | None = None
    files: tuple[_File, ...] = ()


def init(
    word: str | None,
    *,
    around: Surroundings,
    console: Console,
    host: str | None,
    image: str | None,
    source: str | None,
    partial: bool = False,
    yes: bool,
) -> None:
    """Write jupbox.toml (and with a box as `source` jupbox.lock) into the current folder."""
    _refuse_existing(around.cwd, PROJECT_FILE)
    personal = project_of(None, None, around)
    if source is not None and _is_repository(source, around.cwd):
        repository = read_repository(
            source, project=personal, around=around, console=console, partial=partial
        )
        box = _box(personal, word, host, around=around, console=console, yes=yes)
        written = _of_repository(box, repository, _extended(image, personal), around.cwd)
    elif source is None:
        box = _box(personal, word, host, around=around, console=console, yes=yes)
        written = _new(box, image_name(around.cwd.name, personal), _extended(image, personal))
    else:
        if word or host or image or partial:
            raise ConfigError(
                f"{source} is a box, and --from takes all from what runs there.",
                remedy=f"Leave the rest out, or write ./{source} if a folder is meant.",
            )
        _refuse_existing(around.cwd, LOCK_FILE)
        written = _read_back(personal, personal.box(source), around, console)
    _write(written, around.cwd)
    console.line(f"{PROJECT_FILE} is written: {written.said}.")
    console.facts(_next(written))


def _refuse_existing(folder: Path, name: str) -> None:
    if (folder / name).exists():
        raise ConfigError(
            f"There is a {name} in this folder already.",
            remedy="Edit that one, or make the project in another folder.",
        )


# --- from nothing -----------------------------------------------------------------------------


def _box(
    personal: Project, word: str | None, host: str | None, *, around: Surroundings,
    console: Console, yes: bool,
) -> Box:  # fmt: skip
    """The new box: what was named, and the host asked for where that says none."""
    if host is None and word is None:
        host = _ask_host(host_names(around.home), console, yes=yes)
    if host is None or word is None:
        return personal.box(host or word)
    if tables.NAME.fullmatch(word) is None:
        raise ConfigError(
            f"{word!r} is no name for a box.",
            remedy=f"Use a-z, 0-9, - and _, such as {box_name(word)}.",
        )
    return replace(personal.box(host), name=word)


def _ask_host(names: tuple[str, ...], console: Console, *, yes: bool) -> str:
    usable = [name for name in names if tables.is_destination(name)]
    default = usable[0] if len(usable) == 1 else ""
    if yes and default:
        return default
    remedy = "Name the host: `jupbox init HOST`, or `jupbox init local` for this machine."
    how = "a number, or as in `ssh NAME`" if usable else "as in `ssh NAME`"
    question = f"Which machine shall the notebook run on ({how})"
    while True:
        host = console.choose(question, usable, default=default, remedy=remedy)
        if tables.is_destination(host):
            return host
        console.note(f"{host} is no place that ssh could go to.")


def _extended(image: str | None, personal: Project) -> str:
    """The shipped image to start from; a personal one is on nobody else's machine."""
    shipped = personal.shipped
    if image is None or image in shipped:
        return image or tables.DEFAULT_IMAGE
    raise UnknownNameError(
        f"No image that ships is called {image!r}.",
        remedy=tables.did_you_mean(image, shipped, kind="Images"),
    )


def _new(box: Box, image: str, extends: str) -> _Written:
    text = reference.commented_toml(
        box=box.name,
        host=box.host,
        images={image: {"extends": extends}},
        settings={"image": image},
    )
    return _Written(
        box=box,
        text=text,
        said=f"box {box.name} on {place(box)}, image {image} on top of {extends}",
    )


# --- from a repository ------------------------------------------------------------------------


def _is_repository(source: str, folder: Path) -> bool:
    return is_repository(source, is_folder=(folder / source).is_dir())


def _of_repository(box: Box, repository: Repository, extends: str, folder: Path) -> _Written:
    text = reference.commented_toml(
        box=box.name,
        host=box.host,
        images={repository.image: tables_beside(repository, extends, folder)},
        settings={"image": repository.image},
    )
    return _Written(
        box=box,
        text=text,
        said=f"box {box.name} on {place(box)}, image {repository.image} from {repository.said}",
    )


# --- from a box -------------------------------------------------------------------------------


def _read_back(personal: Project, box: Box, around: Surroundings, console: Console) -> _Written:
    """What the server on a box was built from, as that server's own labels and image say.

    Raises:
        NotRunningError: there is none.
        ConfigError: it was started by a jupbox that did not write it down.
    """
    with console.stage(f"Connecting to {place(box)}", live=False):
        found = look(replace(personal, boxes={}), box, around)
    container = container_of(found, running=False)
    if not found.site.adopted:
        raise ConfigError(
            f"What runs on {place(box)} does not say what it was built from.",
            remedy=f"`jupbox up{found.site.command} --upgrade` writes that down, then try again.",
        )
    with console.stage("Reading the definition and the lock"):
        definition = found.site.project.image(found.site.box.image)
        written = _from_release(found, definition, personal, around)
    if written.lock is None:
        console.note("Its environment image is gone, and the lock with it: `jupbox lock` anew.")
    if missing := {file.path for file in definition.files} - {f.path for f in written.files}:
        console.note(
            f"Put into this folder what the image has of it: {', '.join(sorted(missing))}."
        )
    if container.labels.get(label.OWN_CERTIFICATE) == "yes":
        console.note("Its certificate is one of your own: name the files under `tls` again.")
    return written


def _from_release(
    found: Found, definition: ImageDefinition, personal: Project, around: Surroundings
) -> _Written:
    box = found.site.box
    definition = _with_own_paths(definition)
    recorded = Recorded(files={file.target: file for file in definition.files})
    read = partial(project_of, root=around.cwd, around=around, outside=recorded)
    text = _text(box, definition, reference.own_images(definition, personal.shipped_images))
    parsed = read(text).images[definition.name]
    if parsed.digest != definition.digest:  # what it extended does not ship any more
        text = _text(box, definition, reference.own_images(definition, {}))
        parsed = read(text).images[definition.name]
    lock = locking.running_lock(found.site, found.state)
    return _Written(
        files=_files(found.site, definition, lock),
        box=box,
        text=text,
        lock=_lock_of(lock, definition, parsed) if lock and lock.name == parsed.name else None,
        said=f"box {box.name} on {place(box)}, image {definition.name}, as it runs there",
    )


def _with_own_paths(definition: ImageDefinition) -> ImageDefinition:
    """The definition with each file at a path of its own; two repositories may use the same."""
    taken: dict[str, str] = {}
    files = []
    for file in definition.files:
        path = file.path
        if taken.setdefault(path, file.sha256) != file.sha256:
            path = file.target.removeprefix("/")
            taken[path] = file.sha256
        files.append(replace(file, path=path))
    return replace(definition, files=tuple(files))


def _files(site: Site, definition: ImageDefinition, lock: ImageLock | None) -> tuple[_File, ...]:
    contents = building.files_in(site, lock) if lock else {}
    files = tuple(
        _File(path=file.path, content=contents[file.target], executable=file.executable)
        for file in definition.files
        if file.target in contents
    )
    for file in files:
        _refuse_existing(site.around.cwd, file.path)
    return files


def _text(box: Box, definition: ImageDefinition, images: Mapping[str, Mapping[str, Any]]) -> str:
    return reference.commented_toml(
        box=box.name,
        host=box.host,
        images=images,
        settings={**box_table(box), "image": definition.name},
    )


def _lock_of(lock: ImageLock, definition: ImageDefinition, parsed: ImageDefinition) -> Lock:
    """A lock that was of the definition is one of what was written for it."""
    if lock.definition == definition.digest:
        lock = replace(lock, definition=parsed.digest)
    return Lock().with_image(lock)


# --- onto the disk ----------------------------------------------------------------------------


def _write(written: _Written, folder: Path) -> None:
    for file in written.files:
        with suppress(OSError):  # `write_atomic` says what is wrong with the folder
            (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / file.path, file.content, mode=0o755 if file.executable else 0o644)
    if written.lock is not None:
        write_atomic(folder / LOCK_FILE, dump_lock(written.lock).encode(), mode=0o644)
    write_atomic(folder / PROJECT_FILE, written.text.encode(), mode=0o644)


def _next(written: _Written) -> list[tuple[str, str]]:
    name = written.box.name
    if written.lock is not None:
        share = "commit all files" if written.files else "commit both files"
        return [("Compare", f"jupbox status {name}"), ("Share", share)]
    return [
        ("Look", f"at {PROJECT_FILE}: packages, memory, folders"),
        ("Start", f"jupbox up {name}"),
        ("Share", f"commit {PROJECT_FILE} and {LOCK_FILE}"),
    ]
