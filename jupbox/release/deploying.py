"""From a sealed image to a stack that answers: account, port, files, compose."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Final

from jupbox import labels as label
from jupbox import pki, plan, render
from jupbox.errors import (
    FilesError,
    PortTakenError,
    ServerError,
)
from jupbox.host import stack as stacks
from jupbox.host.inspected import Container, Image
from jupbox.host.probe import wait_https
from jupbox.host.stack import Release, State
from jupbox.lock import ImageLock
from jupbox.project import ImageDefinition, box_label, definition_label
from jupbox.release import sidecars
from jupbox.release.attaching import Attachments, on_host
from jupbox.release.sealing import own_fingerprint, stack_labels, who
from jupbox.render import Account, Stack
from jupbox.site import Site

FIRST_PORT: Final = 8888
_WAIT_SECONDS: Final = 120
_LOG_LINES: Final = 5
_LOG_WIDTH: Final = 200
_ROOT_ACCOUNT: Final = Account(name="jupyter", uid=1000, gid=1000)


def account_of(site: Site, state: State) -> Account:
    """The notebook's user: what the first seal fixed, else the remote user as they are."""
    if state.account:
        return state.account
    facts = site.facts
    if facts.uid == 0:
        return _ROOT_ACCOUNT
    name = re.sub(r"[^a-z0-9_-]", "-", facts.user.lower()).strip("-")
    own = {0, facts.gid}
    groups = tuple(
        (group, gid) for gid, group in sorted(facts.groups.items())
        # the engine's group is no use without its socket
        if gid not in own and group != "docker"
    )  # fmt: skip
    return Account(
        name=name if name and not name[0].isdigit() else f"u{facts.uid}",
        uid=facts.uid,
        gid=facts.gid,
        groups=groups,
    )


_NOTHING_ATTACHED: Final = Attachments()


def stack_of(site: Site, state: State, attached: Attachments = _NOTHING_ATTACHED) -> Stack:
    """What compose shall run, but for the seal."""
    box = site.box
    bind = {"tunnel": (), "public": ("",)}.get(box.expose, (box.expose,))
    if bind != ("",):
        # the tunnel ends there, whatever else is published
        bind = tuple(dict.fromkeys(("127.0.0.1", *bind)))
    return Stack(
        name=site.stack,
        hostname=box.name,
        account=account_of(site, state),
        bind=bind,
        port=_port(site, state),
        memory=box.memory_bytes,
        shared_memory=box.shared_memory_bytes
        or max(64 << 20, (box.memory_bytes or site.facts.memory) // 2),
        files=None if box.files == "volume" else on_host(site, box.files),
        cpus=box.cpus,
        fixed_shared_memory=box.shm_size is not None,
        cull_idle=box.cull_idle_seconds,
        forgets_output=not box.keep_output,
        gpus=attached.gpus,
        mounts=attached.mounts,
        env=box.env,
        ports=box.ports,
        groups=attached.groups,
        home_volume=None
        if state.home_volume == render.volume_names(site.stack, 0)["home"]
        else state.home_volume,
    )


def _port(site: Site, state: State) -> int:
    """The configured port; with `auto` the stack's own, else the next free one."""
    if site.box.port != "auto":
        return int(site.box.port)
    mine = state.container
    # one that never started holds a port that somebody else had
    if mine and mine.published and mine.started:
        return mine.published[1]
    taken = site.facts.listening | site.engine.published_ports()
    return next(port for port in range(FIRST_PORT, 65536) if port not in taken)


def check_ports(site: Site, state: State, stack: Stack) -> None:
    """Look whether the server's port and those of dashboards are free for the stack.

    Raises:
        PortTakenError: somebody else listens on one; the message says who.
    """
    for port in (stack.port, *stack.ports):
        _check_port(site, state, port)


def _check_port(site: Site, state: State, port: int) -> None:
    mine = state.container
    if mine and mine.running and port in mine.held_ports:
        return
    owner = site.engine.port_owner(port, except_stack=site.stack)
    if owner is None and port not in site.facts.listening:
        return
    raise _taken(site, port, f"container {owner}" if owner else _process_on(site, port))


def _taken(site: Site, port: int, by: str) -> PortTakenError:
    key, instead = ("ports", "") if port in site.box.ports else ("port", ', or "auto",')
    if site.box.port == "auto":
        instead = ""
    return PortTakenError(
        f"Port {port} on {site.machine.name} is taken by {by}.",
        remedy=f"Stop that, or set another `{key}`{instead} for the box in jupbox.toml.",
    )


def _process_on(site: Site, port: int) -> str:
    done = site.machine.run(["ss", "-Hltnp", f"sport = :{port}"], check=False)
    match = re.search(r'users:\(\("([^"]+)",pid=(\d+)', done.text)
    return f"process {match[1]} (pid {match[2]})" if match else "another user's program"


# Exit codes: 51 cannot be made, 52 cannot be written, 53 not by the notebook's user either.
_CHECK_FILES: Final = """
folder=$1
while [ ! -e "$folder" ]; do folder=$(dirname -- "$folder"); done
[ -d "$folder" ] && [ -w "$folder" ] && [ -x "$folder" ] && exit 0
[ "$folder" = "$1" ] && exit 52 || exit 51
"""
# What root has in its own home directory is the notebook user's from now on; elsewhere (/opt, /srv)
# only a folder that was made just now is. A link at home may lead elsewhere.
_MAKE_FILES: Final = """
made=
[ -d "$1" ] || { mkdir -p -- "$1" 2>/dev/null || exit 51; made=yes; }
[ -w "$1" ] || exit 52
[ "$(id -u)" = 0 ] || exit 0
folder=$(readlink -f -- "$1") && home=$(readlink -f -- "${HOME:-/root}") || exit 53
case $folder in "$home"/?*) chown -R --from=0:0 -- "$2:$3" "$folder" || exit 53;; esac
[ -z "$made" ] || chown --from=0:0 -- "$2:$3" "$folder" || exit 53
find "$folder" -maxdepth 0 \\( -uid "$2" -o -gid "$3" -perm -020 -o -perm -002 \\) |
  grep -q . || exit 53
"""
_NOT_FILES: Final = {
    51: "cannot be made by {user}",
    52: "cannot be written by {user}",
    53: "belongs to somebody else than the notebook's user (uid {uid})",
}


def check_files(site: Site, stack: Stack) -> None:
    """Look whether `ensure_files` can do it, and change nothing.

    Raises:
        FilesError: it cannot.
    """
    _in_files(site, stack, _CHECK_FILES)


def ensure_files(site: Site, stack: Stack) -> None:
    """Have the user's folder on the host, made by the user, writable for the notebook's user.

    Raises:
        FilesError: it cannot be made or written.
    """
    _in_files(site, stack, _MAKE_FILES)


def _in_files(site: Site, stack: Stack, script: str) -> None:
    if stack.files is None:
        return
    account = stack.account
    done = site.machine.run(
        ["sh", "-s", "--", stack.files, str(account.uid), str(account.gid)],
        input=script.encode(),
        check=False,
    )
    if done.returncode != 0:
        problem = _NOT_FILES.get(done.returncode, _NOT_FILES[52])
        raise FilesError(
            f"The folder {stack.files} on {site.machine.name} "
            f"{problem.format(user=site.facts.user, uid=account.uid)}.",
            remedy="Mend its owner or permissions there, or set another `files` in jupbox.toml.",
        )


def compose_text(
    site: Site, state: State, stack: Stack, *, sealed: Release, definition: ImageDefinition
) -> str:
    """The compose file of a stack on a sealed image, with the labels that say what it is."""
    of_image = sealed.image.labels
    labels = {
        **stack_labels(site, "server"),
        label.LOCK: of_image[label.LOCK],
        label.IMAGE: of_image[label.IMAGE],
        label.RECIPE: of_image[label.RECIPE],
        label.CONFIGURATION: stack.digest(),
        label.GENERATION: str(sealed.generation),
        label.TEMPLATE: render.template_digest(),
        label.DEFINITION: definition_label(definition),
        label.SETTINGS: box_label(site.box),
        **({label.OWN_CERTIFICATE: "yes"} if own_fingerprint(site, state) else {}),
        label.FILES: stack.files or "volume",
        label.HOME: state.home_volume,
        label.EXPOSE: site.box.expose,
        label.WHO: who(),
        label.SINCE: site.around.now().isoformat(timespec="seconds"),
        **({label.REVISION: site.revision} if site.revision else {}),
        label.VERSION: version("jupbox"),
    }
    return render.compose_text(
        stack,
        image=sealed.reference or sealed.image.tags[0],
        generation=sealed.generation,
        labels=labels,
        volume_labels=volume_labels(site, stack.account),
    )


def volume_labels(site: Site, account: Account) -> dict[str, str]:
    """The labels of a stack's volumes."""
    return {
        **stack_labels(site, "volume"),
        label.ACCOUNT: stacks.account_text(account),
    }


def planned(site: Site, stack: Stack, lock: ImageLock | None) -> Release:
    """A release as the next seal will make it, for a text that is not run."""
    of_image = {
        label.LOCK: lock.digest() if lock else "",
        label.IMAGE: site.box.image,
        label.RECIPE: render.recipe(),
    }
    image = Image(
        id="", tags=(f"{stack.name}:seal-next",), digests=(), layers=(), labels=of_image,
        architecture=site.facts.architecture, size=0,
    )  # fmt: skip
    return Release(generation=0, image=image)


def deploy(site: Site, stack: Stack, text: str, *, services: tuple[str, ...] = ()) -> None:
    """Run a compose file: what differs is made anew.

    Args:
        services: these alone; all of it without any.
    """
    home = render.volume_names(stack.name, 0, home=stack.home_volume)["home"]
    ensure_home(site, home, stack.account)
    try:
        site.engine.compose_up(text, project=stack.name, services=services)
    except PortTakenError:
        raise port_error(site, stack.port) from None


def ensure_home(site: Site, volume: str, account: Account) -> None:
    """Have the home volume: compose takes it as somebody else's, and wants it there."""
    site.engine.create_volume(volume, volume_labels(site, account))


def port_error(site: Site, port: int) -> PortTakenError:
    """The error for a port that somebody took since `check_ports` looked."""
    owner = site.engine.port_owner(port, except_stack=site.stack)
    return _taken(site, port, f"container {owner}" if owner else _process_on(site, port))


def update_limits(site: Site, container: Container, stack: Stack) -> None:
    """Change the memory and CPU limits of a container while it runs.

    The engine cannot take a limit off a running container: all that the host has is none.
    """
    site.engine.update(
        container.id,
        memory=stack.memory or (site.facts.memory if container.memory else None),
        cpus=stack.cpus or (float(site.facts.cpus) if container.cpus else None),
    )


def wait(
    site: Site, port: int, public: plan.Certificates, *, seconds: float = _WAIT_SECONDS
) -> None:
    """Wait until the server answers over verified HTTPS, through the way that users take.

    Raises:
        ServerError: it ended, or did not answer in time; with its last log lines.
    """

    first: list[int] = []

    def alive() -> None:
        container = stacks.server_of(site.engine, site.stack)
        # the count is of the container's whole life; a crash of last week says nothing
        first.append(container.restarts if container else 0)
        if container is None or not container.running or container.restarts > first[0] + 1:
            raise ServerError(
                "The notebook server ends right after its start.",
                remedy=f"`jupbox logs{site.command}` shows the rest.",
                details=log_lines(site, container) if container else (),
            )

    with site.machine.tunnel(port) as here:
        wait_https(
            address=("127.0.0.1", here),
            server_name=_server_name(public.leaf_pem),
            ca_pem=public.authority_pem,
            deadline_seconds=seconds,
            alive=alive,
        )


def _server_name(leaf_pem: bytes) -> str:
    """A name that the server's certificate is for; one of the user's own may know no localhost."""
    names = pki.leaf_names(leaf_pem)
    if "localhost" in names.dns:
        return "localhost"
    return str((*names.dns, *names.ips)[0]).replace("*", "jupbox")


def log_lines(site: Site, container: Container) -> tuple[str, ...]:
    """The last lines that a server wrote, as far as they fit."""
    lines = site.engine.last_log_lines(container.id, _LOG_LINES)
    told = [line.strip() for line in lines if line.strip()]
    return tuple(f"{line[:_LOG_WIDTH]}…" if len(line) > _LOG_WIDTH else line for line in told)


def limits_of(site: Site, container: Container) -> plan.Limits:
    """A container's limits; all that the host has is none."""
    memory, cpus = container.memory, container.cpus
    return plan.Limits(
        memory=None if memory is None or memory >= site.facts.memory > 0 else memory,
        cpus=None if cpus is None or cpus >= site.facts.cpus > 0 else cpus,
    )


def observed(site: Site, state: State, *, environment: Image | None) -> plan.Observed:
    """What is there, in the plan's words; `environment` is the image of the wanted lock."""
    container = state.container
    # a seal that no container ever used has a password that nobody was shown
    newest = state.newest if container or state.seal_volume else None
    sealed = running = None
    if newest:
        sealed = plan.Sealed(
            environment=newest.image.labels.get(label.LOCK, ""),
            recipe=newest.image.labels.get(label.RECIPE, ""),
        )
    if container:
        running = plan.Running(
            environment=container.labels.get(label.LOCK, ""),
            configuration=container.labels.get(label.CONFIGURATION, ""),
            running=container.running,
            sealed_image_present=site.engine.image(container.image) is not None,
            template=container.labels.get(label.TEMPLATE, ""),
            limits=limits_of(site, container),
            comes_back=container.restart != "no",
        )
    looking = environment.id if environment else None
    return plan.Observed(
        environment_image=environment is not None,
        certificates=stacks.public_certificates(site.engine, state, image=looking)
        if newest or state.seal_volume
        else None,
        sealed=sealed,
        container=running,
        beside={
            name: each.labels.get(label.CONFIGURATION, "")
            for name, each in sidecars.running(site).items()
            if each.running
        },
    )
