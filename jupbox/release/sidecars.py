"""What a project runs beside the notebook: its `compose.override.yaml`, merged and checked."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jupbox import labels as label
from jupbox import override, render
from jupbox.errors import ConfigError
from jupbox.host import base as bases
from jupbox.host import network as networks
from jupbox.host.inspected import Container
from jupbox.lock import ImageLock
from jupbox.project import ImageDefinition
from jupbox.release.locking import network_of
from jupbox.release.sealing import stack_labels
from jupbox.site import Site

_SECRETS: Final = ("network", "ca", "sources", "uv", "netrc")


@dataclass(frozen=True, kw_only=True)
class Merged:
    """A stack's file with the project's merged into it.

    Attributes:
        text: the final file, labels and all.
        notebook: hash over what is added to the notebook; empty for nothing.
        digests: hash over each service beside it.
        builds: those of them that are built.
        open_ports: (service, port) of what they publish on more than the loopback.
    """

    text: str
    notebook: str
    digests: Mapping[str, str]
    builds: tuple[str, ...]
    open_ports: tuple[tuple[str, str], ...]


def override_file(site: Site) -> Path | None:
    """The project's file, which holds for the project's own boxes."""
    root = site.project.root
    if root is None or site.box.name not in site.project.boxes:
        return None
    path = root / override.FILE
    return path if site.box.name not in site.project.personal and path.is_file() else None


@contextmanager
def merging(
    site: Site, text: str, *, lock: ImageLock | None, definition: ImageDefinition
) -> Iterator[Merged | None]:
    """Merge the project's file into a stack's, for as long as a build of it may need its secrets.

    In it `${JUPBOX_BASE}` and `${JUPBOX_IMAGE}` name the notebook's base and environment image,
    and `${JUPBOX_NETWORK}` a folder of files by which a build reaches packages: those that the
    notebook's own build gets as secrets.

    Args:
        text: the stack's own compose file.
        lock: that of the environment image; None while there is none.

    Yields:
        None where the project has no such file.

    Raises:
        ConfigError: the file is no compose file, or touches what is the stack's.
    """
    file = override_file(site)
    if file is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="jupbox-compose-") as name:
        folder = Path(name)
        (folder / "compose.yaml").write_text(text)
        variables = {**_images(site, lock), "JUPBOX_NETWORK": str(folder / "network")}
        _network_files(site, definition, folder / "network")
        root = file.parent
        ours = site.engine.compose_config([folder / "compose.yaml"], root=root, variables=variables)
        both = [folder / "compose.yaml", file]
        merged = site.engine.compose_config(both, root=root, variables=variables)
        override.check(ours, merged, root=str(root), remote=not site.machine.is_local)
        digests = override.sidecar_digests(merged, contexts=_contexts(merged), passing=name)
        final = override.labelled(merged, digests=digests, labels=stack_labels(site, "sidecar"))
        yield Merged(
            text=json.dumps(final, indent=1),
            notebook=override.notebook_digest(ours, merged),
            digests=digests,
            builds=tuple(n for n in digests if "build" in merged["services"][n]),
            open_ports=override.open_ports(merged),
        )


def _images(site: Site, lock: ImageLock | None) -> dict[str, str]:
    if lock is None or site.facts.architecture not in lock.platforms:
        return {"JUPBOX_BASE": "", "JUPBOX_IMAGE": ""}
    base = bases.find(site.engine, lock.platforms[site.facts.architecture].base)
    return {
        "JUPBOX_BASE": base.reference if base else "",
        "JUPBOX_IMAGE": render.environment_tag(lock),
    }


def _network_files(site: Site, definition: ImageDefinition, folder: Path) -> None:
    """The secrets of builds as files, each there, possibly empty: Compose wants them all."""
    folder.mkdir(mode=0o700)
    with networks.build_secrets(network_of(site, definition)) as secrets:
        for name in _SECRETS:
            path = folder / name
            path.touch(mode=0o600)
            path.write_bytes(secrets[name].read_bytes() if name in secrets else b"")


def _contexts(merged: Mapping[str, Any]) -> dict[str, str]:
    """A hash over the files of each build context."""
    found = {}
    for name, service in merged["services"].items():
        context = (service.get("build") or {}).get("context")
        if context is None or "://" in context:
            continue
        if not Path(context).is_dir():
            raise ConfigError(
                f"{override.FILE}: services.{name}.build.context is no folder: {context}.",
                remedy="Name one, relative to jupbox.toml.",
            )
        found[name] = _of_files(Path(context))
    return found


def _of_files(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_mode:o}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def running(site: Site) -> dict[str, Container]:
    """The containers beside the notebook, by service."""
    mine = {label.STACK: site.stack, label.KIND: "sidecar"}
    return {
        container.labels.get("com.docker.compose.service", container.name): container
        for container in site.engine.containers(mine)
    }


def build(site: Site, merged: Merged) -> None:
    """Build the images of what is built."""
    if merged.builds:
        site.engine.compose_build(merged.text, project=site.stack, services=merged.builds)


def remove_unwanted(site: Site, merged: Merged | None) -> None:
    """Stop and remove what the project does not name any more; its volumes stay."""
    for name, container in running(site).items():
        if merged is None or name not in merged.digests:
            site.engine.remove_container(container.id)
