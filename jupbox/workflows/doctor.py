"""`doctor`: look at this machine, at the box and at its server, and say what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from jupbox import doctor as rules
from jupbox import labels as label
from jupbox import pki
from jupbox.console import Console
from jupbox.doctor import (
    BOX,
    LAPTOP,
    SERVER,
    Certificate,
    EngineSeen,
    Finding,
    Host,
    Locked,
    Reach,
    Server,
    Severity,
    Summary,
    Wish,
)
from jupbox.errors import (
    EngineError,
    EnginePermissionError,
    FilesError,
    HostError,
    JupboxError,
    PortTakenError,
)
from jupbox.host import diagnose
from jupbox.host import facts as host_facts
from jupbox.host import network as networks
from jupbox.host import setup as engine_setup
from jupbox.host import stack as stacks
from jupbox.host import trust as trust_stores
from jupbox.host.diagnose import Ways
from jupbox.host.facts import HostFacts
from jupbox.host.inspected import Container
from jupbox.host.machine import LocalMachine
from jupbox.host.network import Network
from jupbox.host.setup import EngineState
from jupbox.host.ssh import SshMachine
from jupbox.lock import is_stale
from jupbox.project import LOCAL, Box, Project
from jupbox.release import attaching, deploying, locking, sealing
from jupbox.site import (
    ARCHITECTURES,
    Site,
    Surroundings,
    load_project,
    machine_of,
    site_of,
    word_of,
)
from jupbox.tables import DEFAULT_BASE
from jupbox.workflows.found import Found, control, place, user_of

_Seen = TypeVar("_Seen")
_TITLES: Final = {LAPTOP: "This machine", SERVER: "Server"}


def doctor(box_name: str | None, *, around: Surroundings, console: Console, as_json: bool) -> int:
    """Look at everything that a server on a box needs; 0, with warnings 1, with errors 2."""
    project = load_project(around)
    box = project.box(box_name)
    # not live: ssh may ask for a passphrase or a second factor on this terminal
    with console.stage(f"Looking at this machine and {_other(box)}", live=False):
        findings = _examine(Patient(project=project, box=box, around=around))
    if as_json:
        console.json(
            {
                "box": box.name,
                "worst": rules.worst(findings).word,
                "findings": [finding.as_json() for finding in findings],
            }
        )
    else:
        _print(findings, box, console)
    return rules.exit_code(findings)


def _other(box: Box) -> str:
    return "its engine" if box.host == LOCAL else box.host


def _print(findings: list[Finding], box: Box, console: Console) -> None:
    titles = {**_TITLES, BOX: box.name}
    console.checklist(
        [
            (
                titles[area],
                [
                    (finding.severity.word, finding.name, finding.message, finding.remedy)
                    for finding in findings
                    if finding.area == area
                ],
            )
            for area in (LAPTOP, BOX, SERVER)
        ]
    )
    console.line(rules.summary(findings))


@dataclass(frozen=True, kw_only=True)
class Patient:
    """What is looked at; nothing of it is known to work."""

    project: Project
    box: Box
    around: Surroundings

    @property
    def word(self) -> str:
        """How a command line names the box, with a space before it."""
        return f" {word_of(self.project, self.box)}"


def _examine(patient: Patient) -> list[Finding]:
    around, root = patient.around, patient.project.root
    network, found = _network(patient, ())
    with ThreadPoolExecutor() as pool:
        here = pool.submit(
            diagnose.look_here,
            environ=around.environ,
            network=network,
            root=root,
            with_ssh=patient.box.host != LOCAL,
        )
        index = pool.submit(diagnose.index_address, environ=around.environ, cwd=root)
        # in this thread: ssh may ask its questions
        there = list(_of_box(patient, index=index, pool=pool))
        return [*rules.of_laptop(here.result()), *found, *there]


def _network(
    patient: Patient, hosts: tuple[HostFacts, ...]
) -> tuple[Network | None, list[Finding]]:
    """The way to packages, and what is wrong with its configuration."""
    base = DEFAULT_BASE
    # a personal box may name an image of another project, a definition one out of reach
    with suppress(JupboxError):
        base = patient.project.image(patient.box.image).base
    try:
        network = networks.look(
            environ=patient.around.environ,
            home=patient.around.home,
            root=patient.project.root,
            configured_bundle=patient.project.network.ca_bundle,
            base=base,
            hosts=hosts,
        )
    except JupboxError as error:
        return None, [rules.of_error(error, area=LAPTOP, name="ca-bundle")]
    return network, []


# -- the box


def _of_box(patient: Patient, *, index: Future[str], pool: ThreadPoolExecutor) -> Iterator[Finding]:
    try:
        machine = machine_of(patient.box)
        connection = diagnose.reach(machine)
        facts = _facts(machine)
    except JupboxError as error:
        yield rules.of_error(error, area=BOX, name="ssh")
        yield _not_looked_at("the box cannot be reached")
        return
    yield rules.of_connection(connection)
    asked = pool.submit(_setup_state, machine)
    engine = _engine(patient, machine, facts)
    if isinstance(engine, JupboxError):
        yield _engine_problem(engine, asked.result(), facts)
    healthy = None if isinstance(engine, JupboxError) else engine
    looking = pool.submit(
        _look,
        patient,
        machine,
        facts=facts,
        state=asked.result(),
        engine=healthy,
        index=index.result(),
    )
    seen, server = _server(healthy, index.result()) if healthy else (None, [])
    host = looking.result()
    if isinstance(host, JupboxError):
        yield rules.of_error(host, area=BOX, name="host")
    else:
        yield from rules.of_host(host, engine=seen, wish=_wish(patient.box))
    yield from server if healthy else [_not_looked_at("its engine cannot be used")]


def _not_looked_at(why: str) -> Finding:
    return Finding(
        area=SERVER,
        name="state",
        severity=Severity.NOTE,
        message=f"Not looked at: {why}.",
        remedy="Mend that first, then run this again.",
    )


def _facts(machine: LocalMachine | SshMachine) -> HostFacts:
    found = _understood(lambda: host_facts.look(machine))
    if found is None:
        raise HostError(
            f"{machine.name} answers in a way that cannot be read.",
            remedy=f"Look whether `ssh {machine.name} sh -c true` prints nothing and ends well.",
        )
    return found


def _setup_state(machine: LocalMachine | SshMachine) -> EngineState | None:
    """What `setup` sees of the engine; None where that fails: the rest is still worth telling."""
    try:
        return _understood(lambda: engine_setup.look(machine))
    except JupboxError:
        return None


def _understood(look: Callable[[], _Seen]) -> _Seen | None:
    """What was seen; None where the host's answer is none that the reader knows."""
    try:
        return look()
    except (LookupError, ValueError):
        return None


@dataclass(frozen=True, kw_only=True)
class _Engine:
    """An engine that answers, and where it keeps everything."""

    site: Site
    seen: EngineSeen
    root: str


def _engine(
    patient: Patient, machine: LocalMachine | SshMachine, facts: HostFacts
) -> _Engine | JupboxError:
    try:
        site = site_of(patient.project, patient.box, patient.around, machine=machine, facts=facts)
        seen, root = diagnose.look_at_engine(site.engine)
    except JupboxError as error:
        return error
    return _Engine(site=site, seen=seen, root=root)


def _engine_problem(error: JupboxError, state: EngineState | None, facts: HostFacts) -> Finding:
    if isinstance(error, EnginePermissionError):
        finding = rules.of_error(error, area=BOX, name="permission")
        if state and state.needs_new_login and "docker" not in facts.groups.values():
            return replace(
                finding,
                message=f"{state.user} is in the group docker, and this login is older than that.",
                remedy="End what keeps the connection (it ends by itself when unused for ten "
                "minutes), then try again.",
            )
        return finding
    return rules.of_error(error, area=BOX, name="engine")


def _look(
    patient: Patient,
    machine: LocalMachine | SshMachine,
    *,
    facts: HostFacts,
    state: EngineState | None,
    engine: _Engine | None,
    index: str,
) -> Host | JupboxError:
    try:
        return diagnose.look(
            machine,
            facts=facts,
            state=state,
            word=patient.word,
            files=patient.box.files,
            engine_root=engine.root if engine else "",
            ways=_ways(patient, facts, index),
            architectures=ARCHITECTURES,
        )
    except JupboxError as error:
        return error


def _ways(patient: Patient, facts: HostFacts, index: str) -> Ways:
    mine = () if patient.box.host == LOCAL else (_facts(LocalMachine()),)
    network, _ = _network(patient, (facts, *mine))
    return diagnose.ways_of(network, index=index)


def _wish(box: Box) -> Wish:
    port = None if box.port == "auto" else int(box.port)
    return Wish(expose=box.expose, port=port, memory=box.memory_bytes)


# -- the server


def _server(engine: _Engine, index: str) -> tuple[EngineSeen, list[Finding]]:
    """What the engine shows only with the stack in view, and the stack's findings."""
    site = engine.site
    try:
        found = Found(site=site, state=stacks.observe(site.engine, site.stack))
        seen = _with_account(engine.seen, found)
        container = found.state.container
        if container and container.running:
            seen = replace(seen, dns=_inside(found, container, index))
        return seen, list(_of_server(found))
    except JupboxError as error:
        return engine.seen, [rules.of_error(error, area=SERVER, name="state")]


def _with_account(seen: EngineSeen, found: Found) -> EngineSeen:
    site, account = found.site, deploying.account_of(found.site, found.state)
    inside = {account.gid, *(gid for _, gid in account.groups)}
    lacks = [
        name
        for gid, name in site.facts.groups.items()
        # the engine's group is no use without its socket
        if gid not in inside and name not in {"docker", *site.box.group_add}
    ]
    return replace(
        seen,
        account_uid=account.uid,
        account_lacks=() if site.facts.uid == 0 else tuple(lacks),
    )


def _inside(found: Found, container: Container, index: str) -> Reach | None:
    ways = diagnose.ways_of(None, index=index)
    return diagnose.resolves_inside(found.site.engine, container, ways)


def _of_server(found: Found) -> Iterator[Finding]:
    site, container = found.site, found.state.container
    yield from _of_wishes(found)
    if container is None:
        yield rules.of_no_server(place(site.box), site.command)
        return
    problems: list[Finding] = []
    certificate = _tolerated(lambda: _certificate(found), "certificate", problems)
    locked = _tolerated(lambda: _locked(site, container), "lock", problems)
    server = Server(
        word=site.command,
        state=container.state,
        health=container.health,
        exit_code=container.exit_code,
        restarts=container.restarts,
        port=container.published[1] if container.published else None,
        bindings=tuple(site.engine.bindings(container.id)),
        expose=site.box.expose,
        sealed=site.engine.image(container.image) is not None,
        locked=locked,
        certificate=certificate,
        summary=_summary(found, container),
    )
    yield from rules.of_server(server, now=site.around.now())
    yield from problems


def _of_wishes(found: Found) -> Iterator[Finding]:
    """What would stop the next `up`: mounts, groups, GPUs, the port."""
    site, state = found.site, found.state

    def attach() -> None:
        attaching.attachments(site, deploying.account_of(site, state))

    def port() -> None:
        deploying.check_ports(site, state, deploying.stack_of(site, state))

    for look in (attach, port):
        try:
            look()
        except JupboxError as error:
            name = _NAMES.get(type(error), "configuration")
            yield rules.of_error(error, area=BOX, name=name)


_NAMES: Final[Mapping[type[JupboxError], str]] = {
    PortTakenError: "port",
    FilesError: "mounts",
    EngineError: "gpu",
}


def _tolerated(look: Callable[[], _Seen], name: str, problems: list[Finding]) -> _Seen | None:
    try:
        return look()
    except JupboxError as error:
        problems.append(rules.of_error(error, area=SERVER, name=name))
        return None


def _certificate(found: Found) -> Certificate | None:
    site = found.site
    public = stacks.public_certificates(site.engine, found.state)
    if public is None:
        return None
    own = site.box.tls is not None
    if own:
        sealing.own_certificate(site)
    return Certificate(
        expires=pki.expires(public.leaf_pem),
        due=pki.needs_renewal(public.leaf_pem, now=site.around.now()),
        fits=own or pki.covers(public.authority_pem, sealing.box_names(site)),
        own=own,
        trusted=trust_stores.is_trusted(
            ca_pem=public.authority_pem,
            nickname=pki.authority_name(site.box.name),
            home=site.around.home,
        ),
    )


def _locked(site: Site, container: Container) -> Locked | None:
    image, deployed = container.labels.get(label.IMAGE), container.labels.get(label.LOCK)
    if not image or not deployed:
        return None
    lock = locking.read_lock(site).images.get(image)
    definition = None
    with suppress(JupboxError):
        definition = site.project.images.get(image)
    return Locked(
        image=image,
        deployed=deployed,
        project=lock.digest() if lock else None,
        stale=bool(lock and definition and is_stale(lock, definition)),
        by_hand=site.project.root is not None,
    )


def _summary(found: Found, container: Container) -> Summary | None:
    """The server's own answer; None where it gives none that can be read."""
    if not container.running:
        return None
    try:
        answer = control(found.site.engine, container, "summary", user=user_of(found))
        return rules.read_summary(answer)
    except (JupboxError, ValueError, LookupError, TypeError, AttributeError):
        return None
