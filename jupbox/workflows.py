"""One function a verb, each a readable list of stages."""

from __future__ import annotations

import json
import time
import webbrowser
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from jupbox import labels as label
from jupbox import pki, plan, release, render
from jupbox.console import Console
from jupbox.errors import AuthError, HostError, JupboxError, NotRunningError, PasswordError, ServerError
from jupbox.host import setup as engine_setup
from jupbox.host import stack as stacks
from jupbox.host import trust as trust_stores
from jupbox.host.engine import Container, Engine
from jupbox.host.files import redirect_file, runtime_directory
from jupbox.host.machine import free_port
from jupbox.host.ssh import SshMachine
from jupbox.host.stack import State
from jupbox.password import check_password, generate_password, hash_password
from jupbox.plan import Action
from jupbox.project import Box, Project
from jupbox.secret import Secret
from jupbox.site import Site, Surroundings, connect, load_project, machine_of

_PYTHON: Final = "/opt/env/bin/python"
_RETRY_SECONDS: Final = (1, 2, 3, 5, 5, 10)
_REFUSED_LOGINS: Final = 2
_LOOK_SECONDS: Final = 2.0


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
    with console.stage(f"Connecting to {_place(box)}"):
        site = connect(project, box, around)
        site.engine.check_clients()
        state = stacks.observe(site.engine, site.stack)
        if not site.machine.is_local:
            site.engine.ensure_context(
                f"jupbox-{box.name}", host=f"ssh://{box.host}", description="made by jupbox"
            )
    lock = release.usable_lock(site, definition)
    fresh = lock is None
    if lock is None:
        with console.stage(f"Locking {definition.name}") as stage:
            lock = release.resolve_lock(site, definition, stage=stage)
    stack = release.stack_of(site, state)
    own = release.own_certificate(site)
    wanted = plan.Wanted(
        environment=lock.digest(),
        configuration=stack.digest(),
        names=None if own else release.box_names(site),
        own_certificate=pki.fingerprint(own[0]) if own else None,
        recipe=render.server_digest() if upgrade else None,
    )
    observed = release.observed(site, state, lock)
    steps = plan.steps(wanted, observed, now=around.now())
    actions = {step.action for step in steps}
    if Action.DEPLOY in actions or Action.START in actions:
        release.check_port(site, state, stack.port)
        release.ensure_files(site, stack)
    prepared = None
    sealed = state.newest
    if Action.BUILD in actions:
        with console.stage("Building the environment image") as stage:
            lock, _ = release.build(
                site, definition, lock, fresh=fresh, stage=stage, note=console.note
            )
    environment = release.environment_image(site, lock)
    if Action.SEAL in actions:
        looking = environment or (state.newest.image if state.newest else None)
        assert looking is not None
        with console.stage("Sealing it with key, certificate and password") as stage:
            prepared = release.prepare(
                site, state, image=looking.id, certify=Action.CERTIFY in actions
            )
            if Action.DEPLOY in actions and environment:
                body, recipe = release.build_body(
                    site, environment=environment.tags[0], lock=lock.digest(),
                    account=stack.account, stage=stage,
                )  # fmt: skip
                made = release.seal(
                    site, state, prepared.credentials, account=stack.account,
                    lock=lock.digest(), image_name=lock.name, body=body, recipe=recipe,
                )  # fmt: skip
                sealed = stacks.Release(generation=made.generation, image=made.image)
            else:
                release.seal_live(site, state, prepared.credentials)
    if Action.DEPLOY in actions:
        assert sealed is not None
        with console.stage(f"Starting the server on {_place(box)}"):
            release.deploy(
                site, state, stack, sealed=sealed.image, generation=sealed.generation
            )
    elif Action.START in actions and state.container:
        with console.stage(f"Starting the server on {_place(box)}"):
            site.engine.start(state.container.id)
    state = stacks.observe(site.engine, site.stack)
    public = stacks.public_certificates(site.engine, state)
    assert public is not None
    if steps:
        with console.stage("Waiting for its answer over HTTPS"):
            release.wait(site, stack.port, public[1])
        stacks.prune(
            site.engine, stacks.observe(site.engine, site.stack), keep=release.KEEP_RELEASES
        )
    else:
        release.wait(site, stack.port, public[1])
    _report_up(console, site, stack.port, prepared, changed=bool(steps), authority=public[1])


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
    console: Console, site: Site, port: int, prepared: release.Prepared | None, *,
    changed: bool, authority: bytes,
) -> None:  # fmt: skip
    box, word = site.box, site.command
    files = release.stack_of(site, stacks.observe(site.engine, site.stack)).files or "volume"
    console.line(
        f"JupyterLab runs on {_place(box)}."
        if changed
        else f"Nothing to do: JupyterLab runs on {_place(box)} as it should."
    )
    tunnelled = box.expose == "tunnel" and not site.machine.is_local
    rows = [
        ("URL", url_of(site, port) + (" (through the tunnel of `open`)" if tunnelled else "")),
        ("Files", _files_of(site, files)),
        ("Open", f"jupbox open{word}"),
    ]
    if prepared and prepared.password:
        rows.append(
            ("Password", f"{prepared.password.reveal()}  (shown this once; `jupbox password{word}` sets another)")
        )
    console.facts(rows)
    if prepared and prepared.new_authority:
        console.note(f"The box's names changed, so its CA is new: run `jupbox trust{word}` again.")
    elif not trust_stores.is_trusted(
        ca_pem=authority, nickname=pki.authority_name(box.name), home=site.around.home
    ):
        console.line(f"Browsers here do not know its certificate yet: `jupbox trust{word}`.")


# -- setup


def setup(
    box_name: str | None, *, around: Surroundings, console: Console, yes: bool
) -> None:
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
    with console.stage(f"Setting up the engine on {_place(box)}") as stage:
        engine_setup.setup(machine, say=stage.detail)
    if isinstance(machine, SshMachine):
        # a new group counts from the next login on
        machine.disconnect()


# -- what is there


@dataclass(frozen=True, kw_only=True)
class Found:
    """A connected box and its stack's state."""

    site: Site
    state: State


def _find(box_name: str | None, *, around: Surroundings, console: Console) -> Found:
    project = load_project(around)
    box = project.box(box_name)
    site = connect(project, box, around)
    state = stacks.observe(site.engine, site.stack)
    release.renew_if_due(site, state, console)
    return Found(site=site, state=state)


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
    command = [_PYTHON, "-m", "jupbox_server.control", *arguments]
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


def status(
    box_name: str | None, *, around: Surroundings, console: Console, as_json: bool
) -> int:
    """Show one box, or every box of the project; 0 when all that were asked for are healthy."""
    project = load_project(around)
    names = [box_name] if box_name or len(project.boxes) < 2 else sorted(project.boxes)
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
            "expires": _iso(pki.expires(public[0])),
            "fingerprint": pki.fingerprint(public[0]),
            "names": [*(names := pki.leaf_names(public[0])).dns, *names.ips],
            "trusted_here": trust_stores.is_trusted(
                ca_pem=public[1],
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
    where = report["box"] if report["box"] == report["host"] else f"{report['box']} ({report['host']})"
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
    return found.site.engine.logs(container.id, tail=tail, since=since, follow=follow)


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
    box_name: str | None, *, around: Surroundings, console: Console, text: Secret | None,
    generate: bool,
) -> None:  # fmt: skip
    """Set another password; the running server takes it at once, and old logins end."""
    if text is None and not generate:
        text = console.ask_secret("New password: ")
        check_password(text.reveal())
        if console.ask_secret("Once more: ") != text:
            raise PasswordError("The two passwords differ.", remedy="Run it again.")
    chosen = text or generate_password()
    check_password(chosen.reveal())
    found = _find(box_name, around=around, console=console)
    _container(found, running=False)
    with console.stage("Setting the password"):
        state = found.state
        image = state.newest.image.id if state.newest else None
        last = stacks.read_credentials(found.site.engine, state, image=image)
        if last is None:
            raise ServerError(
                f"The seal of {found.site.stack} is gone.",
                remedy=f"`jupbox up{found.site.command}` makes a new one.",
            )
        release.seal_live(found.site, state, replace(last, password_hash=hash_password(chosen)))
    console.line("The new password holds from now on; whoever was logged in must log in again.")
    if generate:
        console.facts([("Password", chosen.reveal())])


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
        console.line(public[1].decode().strip())
        return
    result = trust_stores.trust(
        ca_pem=public[1],
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
    local = free_port(port)
    first = True
    refused = 0
    while refused < _REFUSED_LOGINS:
        try:
            _forward(found, port, local, first=first, browser=browser, print_url=print_url,
                     console=console)  # fmt: skip
            refused = 0
            console.note(f"The connection to {site.box.host} was lost.")
        except AuthError:
            refused += 1
            if first or refused >= _REFUSED_LOGINS:
                raise
        except HostError:
            if first:
                raise
        first = False
        _reconnect(site.machine, console)


def _forward(
    found: Found, port: int, local: int, *, first: bool, browser: bool, print_url: bool,
    console: Console,
) -> None:  # fmt: skip
    """Forward until the connection drops."""
    machine = found.site.machine
    assert isinstance(machine, SshMachine)
    url = f"https://localhost:{local}/lab"
    with machine.tunnel(port, local_port=local):
        holding = machine.hold()
        try:
            if first and (browser or print_url):
                container = _container(found, running=True)
                _log_in(found, container, url, console=console, print_url=print_url)
            console.plain(
                f"{url} leads to {found.site.box.host} until Ctrl-C."
                if first
                else f"Connected again: {url}"
            )
            while holding.poll() is None:
                time.sleep(_LOOK_SECONDS / 4)
        finally:
            holding.terminate()
            holding.wait()


def _log_in(
    found: Found, container: Container, url: str, *, console: Console, print_url: bool
) -> None:
    path = control(found.site.engine, container, "login", user=_user(found))["path"]
    link = url.removesuffix("/lab") + str(path)
    if print_url:
        console.line(link)
        console.plain("The link logs in once, within a minute.")
        return
    page = redirect_file(runtime_directory(), link)
    if not webbrowser.open(page.as_uri()):
        console.note("No browser was found here; this link logs in once, within a minute:")
        console.line(link)
        page.unlink(missing_ok=True)


def _reconnect(machine: SshMachine, console: Console) -> None:
    """Try until the host answers again; a refused login is the caller's to count."""
    console.plain("Connecting again ...")
    attempt = 0
    while True:
        try:
            machine.connect()
        except AuthError:
            raise
        except HostError:
            time.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
            attempt += 1
        else:
            return


# -- lock


def lock(names: list[str], *, around: Surroundings, console: Console, on: str | None) -> None:
    """Resolve image definitions anew into the lock; all that boxes use, or the named."""
    project = load_project(around)
    box = project.box(on)
    with console.stage(f"Connecting to {_place(box)}"):
        site = connect(project, box, around)
    for name in names or sorted({b.image for b in project.boxes.values()} or {box.image}):
        definition = project.image(name)
        with console.stage(f"Locking {name}") as stage:
            image = release.resolve_lock(site, definition, stage=stage)
        packages = len(image.python) + sum(len(p.apt) for p in image.platforms.values())
        console.line(f"{name}: {packages} packages locked.")

