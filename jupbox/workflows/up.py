"""`up`: make it so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from jupbox import pki, plan, render
from jupbox.console import Console
from jupbox.host import stack as stacks
from jupbox.host import trust as trust_stores
from jupbox.host.engine import Image, uninterrupted
from jupbox.lock import ImageLock
from jupbox.plan import Action
from jupbox.project import Box, ImageDefinition, Project
from jupbox.release import building, deploying, locking, sealing
from jupbox.render import Stack
from jupbox.secret import Secret
from jupbox.site import Site, Surroundings, connect, load_project
from jupbox.workflows.found import Found, files_of, place, url_of
from jupbox.workflows.setup import setup_engine

_CONTEXT: Final = "made by jupbox"


def up(
    box_name: str | None, *, around: Surroundings, console: Console, setup: bool, upgrade: bool,
    yes: bool,
) -> None:  # fmt: skip
    """Make the box run what the project says; nothing where it already does."""
    project = load_project(around)
    box = project.box(box_name)
    definition = project.image(box.image)
    if setup:
        setup_engine(box, console=console, yes=yes)
    console.standing = (
        f"What runs on {place(box)} was not touched; the same command goes on from here."
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
    with console.stage(f"Connecting to {place(box)}", live=False):
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
    with console.stage(f"Starting the server on {place(site.box)}"), uninterrupted():
        if Action.DEPLOY in target.actions and sealed:
            deploying.deploy(site, target.stack, sealed=sealed.image, generation=sealed.generation)
        elif container:
            site.engine.start(container.id)
        console.standing = (
            f"The server on {place(site.box)} was started; "
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


def _report_up(
    found: Found, target: Target, console: Console, *, authority: bytes,
    prepared: sealing.Prepared | None,
) -> None:  # fmt: skip
    site, word = found.site, found.site.command
    box = site.box
    console.line(
        f"JupyterLab runs on {place(box)}."
        if target.actions
        else f"Nothing to do: JupyterLab runs on {place(box)} as it should."
    )
    tunnelled = box.expose == "tunnel" and not site.machine.is_local
    url = url_of(site, target.stack.port) + (" (through the tunnel of `open`)" if tunnelled else "")
    rows = [
        ("URL", url),
        ("Files", files_of(site, target.stack.files or "volume")),
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
