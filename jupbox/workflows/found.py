"""What the verbs share: a connected box with its state, its container, its places."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from jupbox.console import Console
from jupbox.errors import (
    NotRunningError,
    ServerError,
)
from jupbox.host import stack as stacks
from jupbox.host.engine import Container, Engine
from jupbox.host.ssh import SshMachine
from jupbox.host.stack import State
from jupbox.project import Box
from jupbox.release import sealing
from jupbox.site import Site, Surroundings, connect, load_project

_PYTHON: Final = "/opt/env/bin/python"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A connected box and its stack's state."""

    site: Site
    state: State


def find(box_name: str | None, *, around: Surroundings, console: Console) -> Found:
    """Connect to a box and look; a certificate that is due is renewed on the way."""
    project = load_project(around)
    box = project.box(box_name)
    site = connect(project, box, around)
    state = stacks.observe(site.engine, site.stack)
    return Found(site=site, state=sealing.renew_if_due(site, state, console))


def container_of(found: Found, *, running: bool) -> Container:
    """The stack's container.

    Raises:
        NotRunningError: there is none, or it is stopped and `running` is asked for.
    """
    container = found.state.container
    where, word = place(found.site.box), found.site.command
    if container is None:
        raise NotRunningError(
            f"There is no notebook server on {where}.", remedy=f"`jupbox up{word}` makes one."
        )
    if running and not container.running:
        raise NotRunningError(
            f"The notebook server on {where} is stopped.", remedy=f"`jupbox up{word}` starts it."
        )
    return container


def control(engine: Engine, container: Container, *arguments: str, user: str) -> dict[str, Any]:
    """Ask the server over its control socket, as its owner.

    Raises:
        ServerError: it does not answer there.
    """
    command = [_PYTHON, "-P", "-m", "jupbox_server.control", *arguments]
    done = engine.execute(container.id, command, user=user)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ServerError(
            f"The notebook server does not answer: {said[-1] if said else 'no reason given'}",
            remedy="`jupbox logs` shows what it says; it may still be starting.",
        )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def user_of(found: Found) -> str:
    """The notebook's user as `docker exec --user` takes it."""
    account = found.state.account
    return f"{account.uid}:{account.gid}" if account else ""


def place(box: Box) -> str:
    """How a sentence calls the box's machine."""
    return "this machine" if box.host == "local" else box.host


def url_of(site: Site, port: int) -> str:
    """Where a browser finds the server: through the tunnel, or at the host's own name."""
    host = "localhost"
    if site.box.expose == "public":
        host = site.box.names[0] if site.box.names else _public_name(site)
    elif site.box.expose != "tunnel":
        host = site.box.expose
    return f"https://{f'[{host}]' if ':' in host else host}:{port}/lab"


def _public_name(site: Site) -> str:
    if isinstance(site.machine, SshMachine):
        return site.machine.host_name
    return site.facts.fqdn or site.facts.host


def files_of(site: Site, folder: str) -> str:
    """Where the notebooks are, as a person would look for them."""
    if folder == "volume":
        return "in the home volume on the box"
    return folder if site.machine.is_local else f"{site.box.host}:{folder}"
