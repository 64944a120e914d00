"""What of the host a box attaches: folders, groups, GPUs. Looked up there before anything runs."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Final, Literal

from jupbox.errors import EngineError, FilesError
from jupbox.render import Account, Mount
from jupbox.site import Site
from jupbox.tables import MountText, split_mount

# Arguments: folders, `--`, groups. One line each: a folder's owner (or `-`), a group's number.
_LOOK: Final = """
for word
do shift; [ "$word" = -- ] && break
  stat -L -c %u -- "$word" 2>/dev/null || echo -
done
for word
do gid=$(getent group "$word" | cut -d: -f3); echo "${gid:--}"
done
"""


@dataclass(frozen=True, kw_only=True)
class Attachments:
    """What compose attaches, in the host's own numbers and paths."""

    mounts: tuple[Mount, ...] = ()
    groups: tuple[tuple[str, int], ...] = ()
    gpus: int | Literal["all"] | None = None


def attachments(site: Site, account: Account) -> Attachments:
    """Look up what a box's `mounts`, `group_add` and `gpus` mean on its host.

    Raises:
        FilesError: a path or a group is not there.
        EngineError: GPUs are asked for and the engine has no runtime for them.
    """
    mounts = [split_mount(text) for text in site.box.mounts]
    groups = site.box.group_add
    answers = _look(site, [on_host(site, each.source) for each in mounts], groups)
    owners, gids = answers[: len(mounts)], answers[len(mounts) :]
    return Attachments(
        mounts=tuple(
            _mount(site, each, owner, account) for each, owner in zip(mounts, owners, strict=True)
        ),
        groups=tuple(_group(site, name, gid) for name, gid in zip(groups, gids, strict=True)),
        gpus=_gpus(site),
    )


def _look(site: Site, folders: list[str], groups: tuple[str, ...]) -> list[str]:
    if not folders and not groups:
        return []
    command = ["sh", "-s", "--", *folders, "--", *groups]
    return site.machine.run(command, input=_LOOK.encode()).text.split()


def on_host(site: Site, path: str) -> str:
    """A path of the box's keys as the host has it; ~ is the remote user's home."""
    return posixpath.normpath(f"{site.facts.home}{path[1:]}" if path.startswith("~") else path)


def _mount(site: Site, text: MountText, owner: str, account: Account) -> Mount:
    source = on_host(site, text.source)
    if owner == "-":
        raise FilesError(
            f"The path {source} of `mounts` is not there on {site.machine.name}.",
            remedy="Make it there, or mend `mounts` in jupbox.toml.",
        )
    target = account.home + text.target[1:] if text.target.startswith("~") else text.target
    # somebody else's data is looked at, unless one says otherwise
    read_only = text.mode == "ro" or (text.mode is None and owner != str(account.uid))
    return Mount(source=source, target=posixpath.normpath(target), read_only=read_only)


def _group(site: Site, name: str, gid: str) -> tuple[str, int]:
    if not gid.isdigit():
        raise FilesError(
            f"No group on {site.machine.name} is called {name!r}.",
            remedy="`getent group` there lists them; mend `group_add` in jupbox.toml.",
        )
    return name, int(gid)


def _gpus(site: Site) -> int | Literal["all"] | None:
    wanted = site.box.gpus
    if wanted == "none":
        return None
    if "nvidia" in site.engine.runtimes():
        return "all" if wanted == "auto" else wanted
    if wanted == "auto":
        return None
    raise EngineError(
        f"The Docker engine on {site.machine.name} has no NVIDIA runtime, "
        f"and `gpus` asks for {wanted}.",
        remedy=f'`jupbox setup{site.command} --gpu` installs it, or set gpus = "auto".',
    )
