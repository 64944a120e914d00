"""What the verbs share: a connected box with its state, its container, its places."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from jupbox import labels as label
from jupbox.console import Console
from jupbox.errors import ConfigError, NotRunningError, ServerError, UnknownNameError
from jupbox.host import stack as stacks
from jupbox.host.engine import Engine
from jupbox.host.inspected import Container
from jupbox.host.ssh import SshMachine
from jupbox.host.stack import State
from jupbox.project import LOCAL, Box, Project, box_name, read_box, read_definition
from jupbox.release import deploying, inside, restoring, sealing
from jupbox.site import Site, Surroundings, connect, load_project
from jupbox.tables import size_text
from jupbox.workflows.renewal import renew_if_due


@dataclass(frozen=True, kw_only=True)
class Found:
    """A connected box and its stack's state."""

    site: Site
    state: State


def find(name: str | None, *, around: Surroundings, console: Console) -> Found:
    """Connect to a box and look; a certificate that is due is renewed on the way."""
    project = load_project(around)
    found = look(project, project.box(name), around)
    return replace(found, state=renew_if_due(found.site, found.state, console))


def look(project: Project, box: Box, around: Surroundings) -> Found:
    """Connect to a box and look what is there; where no file names the box, it is adopted."""
    site = connect(project, box, around)
    found = Found(site=site, state=stacks.observe(site.engine, site.stack))
    return found if site.named else _adopted(_renamed(found))


def settled(site: Site) -> Found:
    """The box, cleared of what changes left that were cut off; for whoever holds its lock."""
    state = sealing.settle(site, stacks.observe(site.engine, site.stack))
    return Found(site=site, state=restoring.settle(site, state))


def _renamed(found: Found) -> Found:
    """The owner's only stack on that host, where no other is called as the command line says.

    Raises:
        UnknownNameError: there are several.
    """
    site = found.site
    if found.state.container or site.box.host == LOCAL or site.box.name != box_name(site.box.host):
        return found
    mine = {label.KIND: "server", label.OWNER: site.facts.owner}
    names = {c.labels[label.BOX] for c in site.engine.containers(mine) if label.BOX in c.labels}
    if len(names) > 1:
        raise UnknownNameError(
            f"{site.machine.name} runs several boxes of yours, and none is called {site.box.name}.",
            remedy=f"Name one: {', '.join(f'{site.box.host}/{name}' for name in sorted(names))}.",
        )
    if not names:
        return found
    site = replace(site, box=replace(site.box, name=names.pop()))
    return Found(site=site, state=stacks.observe(site.engine, site.stack))


def _adopted(found: Found) -> Found:
    """The box and its image as what runs there says: a laptop without files changes nothing.

    Raises:
        ConfigError: a newer jupbox deployed it, with settings that this one does not know.
    """
    site, container = found.site, found.state.container
    definition = container.labels.get(label.DEFINITION) if container else None
    try:
        box = running_box(found)
        if box is None or definition is None:
            return found
        image = read_definition(definition)
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"What runs on {site.machine.name} has settings that this jupbox does not know.",
            remedy="Update jupbox on this machine.",
        ) from None
    project = site.project.with_image(image)
    return replace(found, site=replace(site, project=project, box=box, adopted=True))


def running_box(found: Found) -> Box | None:
    """The box's keys as the running container has them; None when it does not say.

    Raises:
        ValueError: not in words that this jupbox knows.
    """
    site, container = found.site, found.state.container
    settings = container.labels.get(label.SETTINGS) if container else None
    if container is None or settings is None:
        return None
    box = read_box(settings, name=site.box.name, host=site.box.host)
    # labels are those of the deployment; the limits may have been changed since
    limits = deploying.limits_of(site, container)
    memory = None if limits.memory is None else size_text(limits.memory)
    return replace(box, memory=memory, cpus=limits.cpus)


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
    command = inside.room("control", *arguments)
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
