"""One function a verb, each a readable list of stages."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
import webbrowser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from jupbox import labels as label
from jupbox import pki, plan, render
from jupbox.console import Console
from jupbox.errors import (
    AuthError,
    HostError,
    HostKeyError,
    JupboxError,
    NotRunningError,
    PasswordError,
    ServerError,
)
from jupbox.host import setup as engine_setup
from jupbox.host import stack as stacks
from jupbox.host import trust as trust_stores
from jupbox.host.engine import Container, Engine, Image, uninterrupted
from jupbox.host.files import redirect_file, runtime_directory
from jupbox.host.machine import free_port
from jupbox.host.ssh import SshMachine
from jupbox.host.stack import State
from jupbox.lock import ImageLock
from jupbox.password import check_password, generate_password, hash_password
from jupbox.plan import Action
from jupbox.project import Box, ImageDefinition, Project
from jupbox.release import building, deploying, locking, sealing
from jupbox.render import Stack
from jupbox.secret import Secret
from jupbox.site import Site, Surroundings, connect, load_project, machine_of

_PYTHON: Final = "/opt/env/bin/python"
_RETRY_SECONDS: Final = (1, 2, 3, 5, 5, 10)
_REFUSED_LOGINS: Final = 2
_CONTEXT: Final = "made by jupbox"


# -- up


def up(
    box_name: str | None, *, around: Surroundings, console: Console, setup: bool, upgrade: bool,
    yes: bool,
) -> None:  # fmt: skip
    """Make the box run what the project says; nothing where it already does."""
    project = load_project(around)
    box = project.box(box_name)
    definition = project.image(box.image)
    if setup:
        _setup(box, console=console, yes=yes)
    console.standing = (
        f"What runs on {_place(box)} was not touched; the same command goes on from here."
    )
    site = _approach(project, box, around, console)
    with site.machine.exclusive(site.stack):
        state = sealing.settle(site, stacks.observe(site.engine, site.stack))
        found = Found(site=site, state=state)
        _refuse_early(found)
        lock = _locked(found, definition, console)
        target = _target(found, definition, lock, console, upgrade=upgrade)
        _prepare_host(found, target)
        target = _build(found, definition, target, console)
        prepared, sealed = _seal(found, target, console)
        try:
            _run(found, target, sealed, console)
            authority = _wait(found, target, console)
        except BaseException:
            # sealed already and shown nowhere else: not even an interruption may swallow it
            _show_password(prepared, console)
            raise
        _report_up(found, target, console, authority=authority, prepared=prepared)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A connected box and its stack's state."""

    site: Site
    state: State


@dataclass(frozen=True, kw_only=True)
class Target:
    """What `up` is after, and what it takes.

    Attributes:
        fresh: the lock was resolved in this very run.
        environment: the environment image, once it is there.
    """

    lock: ImageLock
    fresh: bool
    stack: Stack
    environment: Image | None
    actions: frozenset[Action]


def _approach(project: Project, box: Box, around: Surroundings, console: Console) -> Site:
    # not live: ssh may ask for a passphrase or a second factor on this terminal
    with console.stage(f"Connecting to {_place(box)}", live=False):
        site = connect(project, box, around)
        site.engine.check_clients()
        if not site.machine.is_local:
            site.engine.ensure_context(
                f"jupbox-{box.name}", host=f"ssh://{box.host}", description=_CONTEXT
            )
    return site


def _refuse_early(found: Found) -> None:
    """Say now what would stop the deployment anyhow after minutes of building."""
    site, container = found.site, found.state.container
    sealing.own_certificate(site)
    if container is None or not container.running:
        stack = deploying.stack_of(site, found.state)
        deploying.check_port(site, found.state, stack.port)
        deploying.check_files(site, stack)


def _locked(found: Found, definition: ImageDefinition, console: Console) -> tuple[ImageLock, bool]:
    """The lock, and whether it was resolved just now."""
    lock = locking.usable_lock(found.site, definition)
    if lock is None:
        lock = locking.adopted_lock(found.site, found.state, definition)
    if lock is not None and found.site.facts.architecture in lock.platforms:
        return lock, False
    with console.stage(f"Locking {definition.name}") as stage:
        return locking.resolve_lock(found.site, definition, stage=stage, keep=lock), True


def _target(
    found: Found, definition: ImageDefinition, locked: tuple[ImageLock, bool], console: Console, *,
    upgrade: bool,
) -> Target:  # fmt: skip
    site, (lock, fresh) = found.site, locked
    stack = deploying.stack_of(site, found.state)
    own = sealing.own_certificate(site)
    wanted = plan.Wanted(
        environment=lock.digest(),
        configuration=stack.digest(),
        names=None if own else sealing.box_names(site),
        own_certificate=pki.fingerprint(own[0]) if own else None,
        recipe=render.recipe() if upgrade else None,
    )
    target = Target(
        lock=lock,
        fresh=fresh,
        stack=stack,
        environment=building.environment_image(site, lock, newest_recipe=upgrade),
        actions=frozenset({Action.BUILD}),
    )
    if found.state.newest is None and found.state.seal_volume and target.environment is None:
        # all images were pruned: one is needed to look into the seal volume with
        target = _build(found, definition, target, console)
        wanted = replace(wanted, environment=target.lock.digest())
    seen = deploying.observed(site, found.state, environment=target.environment)
    steps = plan.steps(wanted, seen, now=site.around.now())
    return replace(target, actions=frozenset(step.action for step in steps))


def _prepare_host(found: Found, target: Target) -> None:
    if target.actions & {Action.DEPLOY, Action.START}:
        deploying.check_port(found.site, found.state, target.stack.port)
        deploying.ensure_files(found.site, target.stack)


def _build(found: Found, definition: ImageDefinition, target: Target, console: Console) -> Target:
    if Action.BUILD not in target.actions:
        return target
    with console.stage("Building the environment image") as stage:
        lock, image = building.build(
            found.site, definition, target.lock, fresh=target.fresh, stage=stage,
            note=console.note,
        )  # fmt: skip
    return replace(target, lock=lock, environment=image)


def _seal(
    found: Found, target: Target, console: Console
) -> tuple[sealing.Prepared | None, stacks.Release | None]:
    """Seal if need be; what was prepared for it, and the sealed image to run."""
    site, state = found.site, found.state
    if Action.SEAL not in target.actions:
        return None, state.newest
    looking = target.environment or (state.newest.image if state.newest else None)
    assert looking is not None, "a plan that seals has built, or has a sealed image"
    prepared = None
    try:
        with console.stage("Sealing it with key, certificate and password") as stage:
            prepared = sealing.prepare(
                site, state, image=looking.id, certify=Action.CERTIFY in target.actions
            )
            if Action.DEPLOY not in target.actions or target.environment is None:
                sealing.seal_live(site, state, prepared.credentials)
                return prepared, stacks.observe(site.engine, site.stack).newest
            sealed = sealing.seal_new(
                site, state, prepared.credentials, environment=target.environment,
                lock=target.lock, account=target.stack.account, stage=stage,
            )  # fmt: skip
    except KeyboardInterrupt:
        # the image may be there already; if it is not, the next `up` shows another
        _show_password(prepared, console)
        raise
    return prepared, sealed


def _show_password(prepared: sealing.Prepared | None, console: Console) -> None:
    if prepared and prepared.password:
        console.facts([_password_row(prepared.password)])


def _run(found: Found, target: Target, sealed: stacks.Release | None, console: Console) -> None:
    site, container = found.site, found.state.container
    if not target.actions & {Action.DEPLOY, Action.START}:
        return
    # seconds, and half of it is worse than a Ctrl-C that waits for its end
    with console.stage(f"Starting the server on {_place(site.box)}"), uninterrupted():
        if Action.DEPLOY in target.actions and sealed:
            deploying.deploy(site, target.stack, sealed=sealed.image, generation=sealed.generation)
        elif container:
            site.engine.start(container.id)
        console.standing = (
            f"The server on {_place(site.box)} was started; "
            "the same command looks whether it answers."
        )


def _wait(found: Found, target: Target, console: Console) -> bytes:
    """Wait until the server answers over verified HTTPS; the CA that verified it."""
    site = found.site
    state = stacks.observe(site.engine, site.stack)
    image = target.environment.id if target.environment else None
    public = stacks.public_certificates(site.engine, state, image=image)
    assert public is not None, "it has just been sealed"
    title = "Waiting for its answer over HTTPS" if target.actions else "Checking its answer"
    with console.stage(title):
        deploying.wait(site, target.stack.port, public.authority_pem)
    if target.actions:
        stacks.prune(site.engine, state, keep=sealing.KEEP_RELEASES)
    return public.authority_pem


def _place(box: Box) -> str:
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


def _files_of(site: Site, folder: str) -> str:
    if folder == "volume":
        return "in the home volume on the box"
    return folder if site.machine.is_local else f"{site.box.host}:{folder}"


def _report_up(
    found: Found, target: Target, console: Console, *, authority: bytes,
    prepared: sealing.Prepared | None,
) -> None:  # fmt: skip
    site, word = found.site, found.site.command
    box = site.box
    console.line(
        f"JupyterLab runs on {_place(box)}."
        if target.actions
        else f"Nothing to do: JupyterLab runs on {_place(box)} as it should."
    )
    tunnelled = box.expose == "tunnel" and not site.machine.is_local
    url = url_of(site, target.stack.port) + (" (through the tunnel of `open`)" if tunnelled else "")
    rows = [
        ("URL", url),
        ("Files", _files_of(site, target.stack.files or "volume")),
        ("Open", f"jupbox open{word}"),
    ]
    if prepared and prepared.password:
        rows.append(_password_row(prepared.password))
    console.facts(rows)
    nickname = pki.authority_name(box.name)
    if prepared and prepared.new_authority:
        console.note(f"The box's names changed, so its CA is new: run `jupbox trust{word}` again.")
    elif not trust_stores.is_trusted(ca_pem=authority, nickname=nickname, home=site.around.home):
        console.line(f"Browsers here do not know its certificate yet: `jupbox trust{word}`.")


def _password_row(chosen: Secret) -> tuple[str, str]:
    return "Password", f"{chosen.reveal()} (shown this once)"


# -- setup


def setup(box_name: str | None, *, around: Surroundings, console: Console, yes: bool) -> None:
    """Put an engine on a host that has none."""
    box = load_project(around).box(box_name)
    _setup(box, console=console, yes=yes)


def _setup(box: Box, *, console: Console, yes: bool) -> None:
    machine = machine_of(box)
    steps = engine_setup.plan_setup(engine_setup.look(machine), clients=machine.is_local)
    if not steps:
        console.plain(f"The Docker engine on {_place(box)} is ready; nothing to set up.")
        return
    for step in steps:
        console.plain(f"- {step.title}: {step.why}")
    console.confirm(f"Do this on {_place(box)}?", yes=yes)
    said: list[str] = []
    with console.stage(f"Setting up the engine on {_place(box)}") as stage:

        def say(text: str) -> None:
            stage.detail(text)
            said.append(text)

        engine_setup.setup(machine, say=say)
    titles = tuple(step.title for step in steps)
    for text in said:
        if not text.startswith(titles):
            console.note(text)
    if isinstance(machine, SshMachine):
        # a new group counts from the next login on
        machine.disconnect()


# -- what is there


def _find(box_name: str | None, *, around: Surroundings, console: Console) -> Found:
    project = load_project(around)
    box = project.box(box_name)
    site = connect(project, box, around)
    state = stacks.observe(site.engine, site.stack)
    return Found(site=site, state=sealing.renew_if_due(site, state, console))


def _container(found: Found, *, running: bool) -> Container:
    container = found.state.container
    where, word = _place(found.site.box), found.site.command
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


def _user(found: Found) -> str:
    account = found.state.account
    return f"{account.uid}:{account.gid}" if account else ""


# -- status


def status(box_name: str | None, *, around: Surroundings, console: Console, as_json: bool) -> int:
    """Show one box, or every box of the project; 0 when all that were asked for are healthy."""
    project = load_project(around)
    names = [box_name] if box_name or len(project.boxes) < 2 else sorted(project.boxes)
    if len(names) == 1 and not as_json:
        found = _find(names[0], around=around, console=console)
        _print_status(console, _status(found, around.now()))
        return 0
    reports = [_status_or_error(name, project, around, console) for name in names]
    if as_json:
        console.json(reports[0] if box_name or len(reports) == 1 else reports)
    else:
        for report in reports:
            _print_status(console, report)
    errors = [report["error"] for report in reports if report.get("error")]
    if errors and len(reports) == 1:
        return int(errors[0]["exit_code"])
    return 0


def _status_or_error(
    name: str | None, project: Project, around: Surroundings, console: Console
) -> dict[str, Any]:
    box = project.box(name)
    try:
        return _status(_find(name, around=around, console=console), around.now())
    except JupboxError as error:
        return {
            "box": box.name,
            "host": box.host,
            "state": "unknown",
            "error": {
                "exit_code": error.exit_code,
                "message": error.message,
                "remedy": error.remedy,
            },
        }


def _status(found: Found, now: datetime) -> dict[str, Any]:
    site, state = found.site, found.state
    container = state.container
    report: dict[str, Any] = {"box": site.box.name, "host": site.box.host, "stack": site.stack}
    if container is None:
        return {**report, "state": "absent"}
    labels = container.labels
    port = container.published[1] if container.published else None
    public = stacks.public_certificates(site.engine, state)
    report |= {
        "state": container.state,
        "health": container.health if container.running else "stopped",
        "url": url_of(site, port) if port else None,
        "port": port,
        "expose": labels.get(label.EXPOSE),
        "files": _files_of(site, labels.get(label.FILES, "volume")),
        "started": _iso(container.started) if container.running else None,
        "uptime_seconds": _seconds(container.started, now) if container.running else None,
        "restarts": container.restarts,
        "container": container.id,
        "image": labels.get(label.IMAGE),
        "lock": labels.get(label.LOCK),
        "generation": int(labels.get(label.GENERATION, "0")),
        "deployed_by": labels.get(label.WHO),
        "jupbox": labels.get(label.VERSION),
    }
    if public:
        report["certificate"] = {
            "expires": _iso(pki.expires(public.leaf_pem)),
            "fingerprint": pki.fingerprint(public.leaf_pem),
            "names": [*(names := pki.leaf_names(public.leaf_pem)).dns, *names.ips],
            "trusted_here": trust_stores.is_trusted(
                ca_pem=public.authority_pem,
                nickname=pki.authority_name(site.box.name),
                home=site.around.home,
            ),
        }
    if container.running:
        try:
            report["server"] = control(site.engine, container, "summary", user=_user(found))
        except ServerError as error:
            report["server"] = None
            report["note"] = error.message
    return report


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None


def _seconds(since: datetime | None, now: datetime) -> int | None:
    return int((now - since).total_seconds()) if since else None


def _print_status(console: Console, report: dict[str, Any]) -> None:
    where = (
        report["box"] if report["box"] == report["host"] else f"{report['box']} ({report['host']})"
    )
    if error := report.get("error"):
        console.line(f"{where}: unknown")
        console.facts([("Problem", error["message"]), ("Remedy", error["remedy"])])
        return
    if report["state"] == "absent":
        console.line(f"{where}: no notebook server")
        return
    console.line(f"{where}: {report['health'] or report['state']}")
    rows = [("URL", report["url"] or "none"), ("Files", report["files"])]
    if report["uptime_seconds"] is not None:
        rows.append(("Up for", _duration(report["uptime_seconds"])))
    rows.append(("Image", f"{report['image']} (lock {report['lock'][:12]})"))
    if server := report.get("server"):
        busy = f", {server['busy']} busy" if server["kernels"] else ""
        terminals = f", {server['terminals']} terminals" if server["terminals"] else ""
        rows.append(("Kernels", f"{server['kernels']} running{busy}{terminals}"))
        limit = server["memory_limit_bytes"]
        memory = _size(server["memory_bytes"]) + (f" of {_size(limit)}" if limit else "")
        rows.append(("Memory", memory))
        if report["uptime_seconds"]:
            share = server["cpu_usec"] / 1e6 / report["uptime_seconds"]
            rows.append(("CPU", f"{share:.2f} cores on average since the start"))
    elif report.get("note"):
        rows.append(("Server", report["note"]))
    if certificate := report.get("certificate"):
        known = "trusted here" if certificate["trusted_here"] else "not trusted here yet"
        rows.append(("Certificate", f"until {certificate['expires'][:10]}, {known}"))
    console.facts(rows)


def _duration(seconds: int) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds} s"


def _size(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 2**20:.0f} MiB"


# -- logs, down


def logs(
    box_name: str | None, *, around: Surroundings, console: Console, follow: bool,
    since: str | None, tail: str,
) -> int:  # fmt: skip
    """Show the server's log."""
    found = _find(box_name, around=around, console=console)
    container = _container(found, running=False)
    try:
        return found.site.engine.logs(container.id, tail=tail, since=since, follow=follow)
    except KeyboardInterrupt:
        return 0  # how one ends a log that is followed


def down(box_name: str | None, *, around: Surroundings, console: Console) -> None:
    """Stop the server and keep everything."""
    project = load_project(around)
    site = connect(project, project.box(box_name), around)
    found = Found(site=site, state=stacks.observe(site.engine, site.stack))
    container = _container(found, running=False)
    if not container.running:
        console.line(f"Nothing to do: the server on {_place(found.site.box)} is stopped already.")
        return
    with console.stage(f"Stopping the server on {_place(found.site.box)}"):
        found.site.engine.stop(container.id)
    console.line(f"Stopped; everything is kept. `jupbox up{found.site.command}` starts it again.")


# -- password


def password(
    box_name: str | None, *, around: Surroundings, console: Console, stdin: bool, generate: bool,
) -> None:  # fmt: skip
    """Set another password; the running server takes it at once, and old logins end."""
    if generate:
        chosen = generate_password()
    elif stdin:
        chosen = console.read_secret()
        check_password(chosen.reveal())
    else:
        chosen = _asked_password(console)
    found = _find(box_name, around=around, console=console)
    _container(found, running=False)
    try:
        with (
            console.stage("Setting the password"),
            found.site.machine.exclusive(found.site.stack),
        ):
            _set_password(found.site, chosen)
    finally:
        # also when it was cut off: it may hold already, or from the next command on
        if generate:
            console.facts([("Password", chosen.reveal())])
    console.line("The new password holds from now on; whoever was logged in must log in again.")


def _set_password(site: Site, chosen: Secret) -> None:
    state = stacks.observe(site.engine, site.stack)
    image = state.newest.image.id if state.newest else None
    last = stacks.read_credentials(site.engine, state, image=image)
    if last is None:
        raise ServerError(
            f"The seal of {site.stack} is gone.",
            remedy=f"`jupbox up{site.command}` makes a new one.",
        )
    sealing.seal_live(site, state, replace(last, password_hash=hash_password(chosen)))


def _asked_password(console: Console) -> Secret:
    chosen = console.ask_secret("New password: ")
    check_password(chosen.reveal())
    if console.ask_secret("Once more: ") != chosen:
        raise PasswordError(
            "The two passwords differ.", remedy="Nothing was changed; run it again."
        )
    return chosen


# -- trust


def trust(
    box_name: str | None, *, around: Surroundings, console: Console, print_only: bool
) -> None:
    """Have this user's browsers trust the box's certificate."""
    found = _find(box_name, around=around, console=console)
    public = stacks.public_certificates(found.site.engine, found.state)
    if public is None:
        raise NotRunningError(
            f"There is no certificate on {_place(found.site.box)} yet.",
            remedy=f"`jupbox up{found.site.command}` makes one.",
        )
    if print_only:
        console.line(public.authority_pem.decode().strip())
        return
    result = trust_stores.trust(
        ca_pem=public.authority_pem,
        nickname=pki.authority_name(found.site.box.name),
        home=around.home,
        system=True,
    )
    for store in result.added:
        console.line(f"Trusted from now on in {store.location} ({store.kind}).")
    for store in result.already:
        console.line(f"Trusted already in {store.location} ({store.kind}).")
    for store, reason in result.skipped:
        console.note(f"{store.location} ({store.kind}) was left alone: {reason}.")


# -- open


def open_box(
    box_name: str | None, *, around: Surroundings, console: Console, browser: bool,
    print_url: bool,
) -> None:  # fmt: skip
    """Bring the box's server to this machine and log the browser in."""
    found = _find(box_name, around=around, console=console)
    container = _container(found, running=True)
    assert container.published is not None
    port = container.published[1]
    site = found.site
    if not isinstance(site.machine, SshMachine):
        if browser or print_url:
            _log_in(found, container, url_of(site, port), console=console, print_url=print_url)
        else:
            console.line(url_of(site, port))
        return
    machine, local = site.machine, free_port(port)
    with suppress(KeyboardInterrupt):
        with _forwarded(machine, port, local) as forward, ExitStack() as pages:
            if browser or print_url:
                page = _log_in(found, container, forward.url, console=console, print_url=print_url)
                if page:
                    pages.callback(page.unlink, missing_ok=True)
            console.plain(f"{forward.url} leads to {site.box.host} until Ctrl-C.")
            forward.session.wait()
        while True:
            console.note(f"The connection to {site.box.host} was lost. Connecting again ...")
            with ExitStack() as opened:
                forward = _forwarded_again(opened, machine, port, local)
                console.plain(f"Connected again: {forward.url}")
                forward.session.wait()
    console.plain(f"Closed; the server on {site.box.host} runs on.")


@dataclass(frozen=True, kw_only=True)
class _Forward:
    """A port of this machine that leads to the box's server.

    Attributes:
        session: ends when the connection does.
    """

    url: str
    session: subprocess.Popen[bytes]


@contextmanager
def _forwarded(machine: SshMachine, port: int, local: int) -> Iterator[_Forward]:
    with machine.tunnel(port, local_port=local) as here:
        session = machine.hold()
        try:
            yield _Forward(url=f"https://localhost:{here}/lab", session=session)
        finally:
            session.terminate()
            session.wait()


def _forwarded_again(opened: ExitStack, machine: SshMachine, port: int, local: int) -> _Forward:
    """Forward as soon as the host answers again; `opened` ends it.

    Raises:
        AuthError: it refused two logins; a host that boots may refuse one.
        HostKeyError: another host answers.
    """
    refused = 0
    pauses = itertools.chain(_RETRY_SECONDS, itertools.repeat(_RETRY_SECONDS[-1]))
    while True:
        try:
            return opened.enter_context(_forwarded(machine, port, local))
        except HostKeyError:
            raise
        except AuthError:
            refused += 1
            if refused == _REFUSED_LOGINS:
                raise
        except HostError:
            pass  # it is still away
        time.sleep(next(pauses))


def _log_in(
    found: Found, container: Container, url: str, *, console: Console, print_url: bool
) -> Path | None:
    """Print the link of a control login, or send the browser there by a page, which is returned."""
    path = control(found.site.engine, container, "login", user=_user(found))["path"]
    link = url.removesuffix("/lab") + str(path)
    if print_url:
        console.line(link)
        console.plain("The link logs in once, within a minute.")
        return None
    page = redirect_file(runtime_directory(), link)
    if webbrowser.open(page.as_uri()):
        return page
    page.unlink(missing_ok=True)
    console.note("No browser was found here; this link logs in once, within a minute:")
    console.line(link)
    return None


# -- lock


def lock(names: list[str], *, around: Surroundings, console: Console, on: str | None) -> None:
    """Resolve image definitions anew into the lock; all that boxes use, or the named."""
    project = load_project(around)
    box = project.box(on)
    with console.stage(f"Connecting to {_place(box)}", live=False):
        site = connect(project, box, around)
    for name in names or sorted({b.image for b in project.boxes.values()} or {box.image}):
        definition = project.image(name)
        with console.stage(f"Locking {name}") as stage:
            image = locking.resolve_lock(site, definition, stage=stage)
        packages = len(image.python) + sum(len(p.apt) for p in image.platforms.values())
        console.line(f"{name}: {packages} packages locked.")
