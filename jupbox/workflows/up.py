"""`up`: make it so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from jupbox import pki, plan, render
from jupbox.console import Console
from jupbox.errors import ConfigError
from jupbox.host import records
from jupbox.host import stack as stacks
from jupbox.host import trust as trust_stores
from jupbox.host.inspected import Image
from jupbox.host.signals import uninterrupted
from jupbox.lock import ImageLock
from jupbox.plan import Action, Step
from jupbox.project import Box, ImageDefinition, Project
from jupbox.release import (
    attaching,
    building,
    deploying,
    inside,
    locking,
    placing,
    providing,
    rolling,
    sealing,
    sharing,
    sidecars,
    workshop,
)
from jupbox.release.building import Rules
from jupbox.render import Stack
from jupbox.secret import Secret
from jupbox.site import Site, Surroundings, load_project
from jupbox.workflows import rollout
from jupbox.workflows.found import Found, files_of, look, place, settled, url_of
from jupbox.workflows.guard import Consent, ensure_idle
from jupbox.workflows.preview import show, write
from jupbox.workflows.repository import Repository, read_repository
from jupbox.workflows.setup import setup_engine
from jupbox.workflows.turn import turn

CONTEXT: Final = "made by jupbox"


def up(
    box_name: str | None, *, around: Surroundings, console: Console, setup: bool, upgrade: bool,
    yes: bool, dry_run: bool, out: Path | None, locked: bool, allow_drift: bool,
    source: str | None, partial: bool, push: bool, consent: Consent, wait: bool,
) -> int:  # fmt: skip
    """Make the box run what the project says, or a repository; nothing where it already does.

    Args:
        locked: the lock file as it is, or an error.
        allow_drift: an image that is not the recorded one will do.
        consent: to the end of kernels, where a new container is needed.

    Returns:
        0; of a dry run 2 when there is something to do.
    """
    project = load_project(around)
    box = project.box(box_name)
    if push:
        sharing.registry_of(project.image(box.image))  # before minutes of building
    rules = Rules(locked=locked, allow_drift=allow_drift)
    repository = None
    if source is not None:
        _refuse_project(project, source)
        repository = read_repository(
            source, project=project, around=around, console=console, partial=partial
        )
    if dry_run:
        found = _approach(project, box, around, console, repository)
        return _preview(found, console, rules, upgrade=upgrade, out=out)
    if setup:
        setup_engine(box, around=around, console=console, yes=yes, consent=consent)
    console.standing = (
        f"What runs on {place(box)} was not touched; the same command goes on from here."
    )
    found = _approach(project, box, around, console, repository)
    site = found.site
    words = _words(upgrade=upgrade, push=push, allow_drift=allow_drift, source=source)
    with turn(site, "up", console=console, wait=wait, arguments=words) as mine:
        # anew under the lock: who held it may have changed everything
        found = settled(site)
        _name_lost_home(found, console)
        _refuse_early(found)
        target = _target(found, console, rules, upgrade=upgrade)
        target = _lock(found, target, console, rules, upgrade=upgrade)
        _ask_kernels(found, target, consent, console, wait=False)  # before minutes of building
        _prepare_host(found, target)
        target = _build(found, target, console, rules, upgrade=upgrade, push=push)
        prepared, sealed = _seal(found, target, console)
        try:
            _run(found, target, sealed, consent, console)
            authority = _wait(found, target, console)
            placed = _place(found, target, repository, console)
        except BaseException:
            # sealed already and shown nowhere else: not even an interruption may swallow it
            _show_password(prepared, console)
            raise
        _report_up(found, target, console, authority=authority, prepared=prepared, placed=placed)
        if not target.actions:
            mine.found_nothing()
    return 0


def _words(*, upgrade: bool, push: bool, allow_drift: bool, source: str | None) -> tuple[str, ...]:
    """The options that matter to whoever reads the audit."""
    given = {"--upgrade": upgrade, "--push": push, "--allow-drift": allow_drift}
    words = [word for word, is_given in given.items() if is_given]
    return (*words, *(("--from", source) if source else ()))


def _name_lost_home(found: Found, console: Console) -> None:
    """Say that a home volume went by other hands: nobody else would notice before they look."""
    site, state = found.site, found.state
    lost = state.container is None and state.home_volume not in state.volumes
    if lost and records.records(site.engine, site.stack):
        console.note(
            f"The home volume of {site.box.name} was removed by other hands; an empty one takes "
            f"its place. `jupbox restore{site.command} FILE` brings a backup back."
        )


def _refuse_project(project: Project, source: str) -> None:
    if project.root is not None:
        raise ConfigError(
            f"There is a jupbox.toml in {project.root}, which says what its boxes run.",
            remedy="Run it in a folder without one, or name the files there as `python` of an "
            f"image; `jupbox init --from {source}` writes such a jupbox.toml.",
        )


@dataclass(frozen=True, kw_only=True)
class Target:
    """What `up` is after, and what it takes.

    Attributes:
        locked: the lock, once there is one.
        fresh: the lock was resolved in this very run.
        environment: the environment image, once it is there.
    """

    definition: ImageDefinition
    locked: ImageLock | None
    fresh: bool
    stack: Stack
    environment: Image | None
    steps: tuple[Step, ...]

    @property
    def actions(self) -> frozenset[Action]:
        """What the steps do."""
        return frozenset(step.action for step in self.steps)

    @property
    def lock(self) -> ImageLock:
        """The lock; the plan's first step makes it where there is none."""
        assert self.locked is not None, "a plan without a lock begins with one"
        return self.locked


def _preview(
    found: Found, console: Console, rules: Rules, *, upgrade: bool, out: Path | None
) -> int:
    """Say what `up` would do, by the same function; 2 when that is anything."""
    site = found.site
    _refuse_early(found)
    target = _target(found, console, rules, upgrade=upgrade, look_only=True)
    lock = target.locked
    if out is not None:
        if lock is None:
            with console.stage(f"Locking {target.definition.name}") as stage:
                old = locking.usable_lock(site, target.definition)
                lock = locking.resolve_lock(
                    workshop.of(site), target.definition, stage=stage, old=old, record=False
                )
        write(found, target.stack, lock, target.definition, out)
        console.plain(f"Written to {out}: both images' build contexts and the compose file.")
    show(found, console, target.steps, lock=lock)
    return 2 if target.steps else 0


def _approach(
    project: Project, box: Box, around: Surroundings, console: Console,
    repository: Repository | None,
) -> Found:  # fmt: skip
    # not live: ssh may ask for a passphrase or a second factor on this terminal
    with console.stage(f"Connecting to {place(box)}", live=False):
        found = look(project, box, around)
        site = found.site
        site.engine.check_clients()
        if not site.machine.is_local:
            site.engine.ensure_context(
                f"jupbox-{site.box.name}", host=f"ssh://{box.host}", description=CONTEXT
            )
    if repository is None:
        return found
    if found.site.named:
        console.note(
            f"Your own configuration names {box.name}: `jupbox up {box.name}` without --from goes "
            f"back to its image {box.image}."
        )
    return _with_image(found, repository.definition(around))


def _with_image(found: Found, definition: ImageDefinition) -> Found:
    """The box with another image; all else of it stays as it is or runs."""
    site = found.site
    project = replace(site.project, images={**site.project.images, definition.name: definition})
    box = replace(site.box, image=definition.name)
    return replace(found, site=replace(site, project=project, box=box))


def _refuse_early(found: Found) -> None:
    """Say now what would stop the deployment anyhow after minutes of building."""
    site, container = found.site, found.state.container
    sealing.own_certificate(site)
    if container is None or not container.running:
        stack = deploying.stack_of(site, found.state)
        deploying.check_ports(site, found.state, stack)
        deploying.check_files(site, stack)


def _target(
    found: Found, console: Console, rules: Rules, *, upgrade: bool, lock: ImageLock | None = None,
    look_only: bool = False,
) -> Target:  # fmt: skip
    """What is wanted, what is there, and the steps between them.

    Args:
        lock: one that was resolved just now; None takes what is recorded.
        look_only: build nothing, even to look into a volume.
    """
    site, state = found.site, found.state
    definition = site.project.image(site.box.image)
    fresh, no_lock = lock is not None, ""
    if lock is None and rules.locked:
        lock = locking.locked(site, definition)
    elif lock is None:
        lock, no_lock = locking.recorded_lock(site, state, definition, record=not look_only)
    account = deploying.account_of(site, state)
    stack = deploying.stack_of(site, state, attaching.attachments(site, account))
    release = deploying.planned(site, stack, lock)
    text = deploying.compose_text(site, state, stack, sealed=release, definition=definition)
    with sidecars.merging(site, text, lock=lock, definition=definition) as merged:
        stack = replace(stack, override=merged.notebook if merged else "")
    target = Target(
        definition=definition,
        locked=lock,
        fresh=fresh,
        stack=stack,
        environment=building.environment_image(site, lock, newest_recipe=upgrade) if lock else None,
        steps=(plan.Step(action=Action.BUILD, why="nothing is left to look into the seal with"),),
    )
    lost = state.newest is None and state.seal_volume and target.environment is None
    if lost and lock and not look_only:
        # all images were pruned: one is needed to look into the seal volume with
        target = _build(found, target, console, rules, upgrade=upgrade)
    own = sealing.own_fingerprint(site, state)
    wanted = plan.Wanted(
        environment=target.lock.digest() if target.locked else None,
        no_lock=no_lock,
        configuration=stack.digest(),
        names=None if own else sealing.box_names(site),
        own_certificate=own,
        recipe=render.recipe() if upgrade else None,
        template=render.template_digest() if upgrade else None,
        limits=plan.Limits(memory=stack.memory, cpus=stack.cpus),
        beside=merged.digests if merged else {},
    )
    seen = deploying.observed(site, state, environment=target.environment)
    return replace(target, steps=plan.steps(wanted, seen, now=site.around.now()))


def _lock(found: Found, target: Target, console: Console, rules: Rules, *, upgrade: bool) -> Target:
    if Action.LOCK not in target.actions:
        return target
    with console.stage(f"Locking {target.definition.name}") as stage:
        old = locking.usable_lock(found.site, target.definition)
        lock = locking.resolve_lock(
            workshop.of(found.site), target.definition, stage=stage, old=old
        )
    return _target(found, console, rules, upgrade=upgrade, lock=lock)


def _ask_kernels(
    found: Found, target: Target, consent: Consent, console: Console, *, wait: bool
) -> None:
    if Action.DEPLOY in target.actions:
        ensure_idle(found, verb="up", consent=consent, console=console, wait=wait)


def _prepare_host(found: Found, target: Target) -> None:
    if target.actions & {Action.DEPLOY, Action.START}:
        deploying.check_ports(found.site, found.state, target.stack)
        deploying.ensure_files(found.site, target.stack)


def _build(
    found: Found,
    target: Target,
    console: Console,
    rules: Rules,
    *,
    upgrade: bool,
    push: bool = False,
) -> Target:
    site, lock, image = found.site, target.locked, target.environment
    if Action.BUILD in target.actions or (push and image is None):
        lock, image = providing.provide(
            site, target.definition, target.lock, fresh=target.fresh, rules=rules,
            upgrade=upgrade, console=console,
        )  # fmt: skip
    if push and lock and image:
        providing.push(site, target.definition, lock, image, console)
    return replace(target, locked=lock, environment=image)


def _seal(
    found: Found, target: Target, console: Console
) -> tuple[sealing.Prepared | None, stacks.Release | None]:
    """Seal if need be; what was prepared for it, and the sealed image to run."""
    site, state = found.site, found.state
    if Action.SEAL not in target.actions:
        return None, _sealed_again(found, target)
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


def _sealed_again(found: Found, target: Target) -> stacks.Release | None:
    """The newest sealed image; for a roll-out with a number of its own."""
    site, state = found.site, found.state
    if Action.DEPLOY not in target.actions or state.newest is None:
        return state.newest
    credentials = sealing.credentials_in_force(site, state)
    return sealing.seal_again(site, state, credentials, state.newest.image)


def _show_password(prepared: sealing.Prepared | None, console: Console) -> None:
    if prepared and prepared.password:
        console.facts([_password_row(prepared.password)])


def _run(
    found: Found, target: Target, sealed: stacks.Release | None, consent: Consent,
    console: Console,
) -> None:  # fmt: skip
    site, container = found.site, found.state.container
    if container and Action.UPDATE in target.actions:
        with console.stage("Changing the limits"):
            deploying.update_limits(site, container, target.stack)
    if target.actions & {Action.DEPLOY, Action.BESIDE}:
        _compose(found, target, sealed, consent, console)
    if container and Action.START in target.actions:
        with uninterrupted(), console.stage(f"Starting the server on {place(site.box)}"):
            site.engine.start(container.id, for_good=True)
            console.standing = rollout.started(site.box)


def _compose(
    found: Found, target: Target, sealed: stacks.Release | None, consent: Consent,
    console: Console,
) -> None:  # fmt: skip
    site, stack = found.site, target.stack
    release = sealed or deploying.planned(site, stack, target.lock)
    own = _text(found, target, release)
    merging = sidecars.merging(site, own, lock=target.lock, definition=target.definition)
    with merging as merged:
        if merged and merged.builds:
            with console.stage(f"Building {', '.join(merged.builds)}"):
                sidecars.build(site, merged)
        for name, port in merged.open_ports if merged else ():
            console.note(f"{name} publishes port {port} for whoever reaches {place(site.box)}.")
        text = merged.text if merged else own
        beside = tuple(merged.digests) if merged else ()
        if Action.DEPLOY in target.actions:
            rollout.roll_out(
                found, release, text, account=stack.account, console=console,
                ask=lambda: _ask_kernels(found, target, consent, console, wait=True),
            )  # fmt: skip
        elif beside:
            # seconds, and half of it is worse than a Ctrl-C that waits for its end
            title = f"Starting {', '.join(beside)} on {place(site.box)}"
            with uninterrupted(), console.stage(title):
                deploying.deploy(site, stack, text, services=beside)
        # not before: a Ctrl-C there would leave the old server without what it had beside it
        sidecars.remove_unwanted(site, merged)


def _text(found: Found, target: Target, release: stacks.Release) -> str:
    return deploying.compose_text(
        found.site, found.state, target.stack, sealed=release, definition=target.definition
    )


def _wait(found: Found, target: Target, console: Console) -> bytes:
    """Wait until the server answers over verified HTTPS; the CA that verified it."""
    site = found.site
    state = stacks.observe(site.engine, site.stack)
    image = target.environment.id if target.environment else None
    public = stacks.public_certificates(site.engine, state, image=image)
    assert public is not None, "it has just been sealed"
    if Action.DEPLOY not in target.actions:
        title = "Waiting for its answer over HTTPS" if target.actions else "Checking its answer"
        with console.stage(title):
            rollout.wait(found, state, public, port=target.stack.port, console=console)
    if target.actions & {Action.DEPLOY, Action.START}:
        _hand_over(found.site, target, console)
    _keep(found, target, state)
    return public.authority_pem


def _keep(found: Found, target: Target, state: stacks.State) -> None:
    """Keep what runs as a release, if a run that was cut off, or an older jupbox, did not."""
    site = found.site
    runs = next((r for r in state.releases if r.generation == records.runs_of(state)), None)
    kept = records.records(site.engine, site.stack)
    if runs is not None and runs.generation not in {each.number for each in kept}:
        own = _text(found, target, runs)
        merging = sidecars.merging(site, own, lock=target.locked, definition=target.definition)
        with merging as merged:
            composed = site.engine.composed(merged.text if merged else own)
        records.keep(site.engine, runs, composed, stack=site.stack)
    # one more than is kept: a password that was changed since
    few = len(kept) <= site.box.keep_releases and len(state.releases) <= len(kept) + 1
    as_it_should_be = runs and runs.proven and few
    if target.actions or not as_it_should_be:
        rolling.approve(site, state)


def _place(
    found: Found, target: Target, repository: Repository | None, console: Console
) -> str | None:
    """Put the repository's files where the notebooks are; where that is, for a person."""
    if repository is None:
        return None
    site, name = found.site, repository.name
    container = stacks.server_of(site.engine, site.stack)
    assert container is not None, "it has just answered"
    with console.stage(f"Copying the files of {name}"):
        copied = placing.place_files(
            site, container, target.stack.account, source=repository.folder, name=name
        )
    where = f"{files_of(site, target.stack.files)}/{name}" if target.stack.files else name
    if not copied:
        console.note(f"{where} is there already and was left as it is.")
    return where


def _hand_over(site: Site, target: Target, console: Console) -> None:
    container = stacks.server_of(site.engine, site.stack)
    assert container is not None, "it has just answered"
    trouble = inside.hand_over_network(site, container, target.stack.account, target.definition)
    if trouble:
        console.note(f"`%pip` will not know this network's index and CA: {trouble}")


def _report_up(
    found: Found, target: Target, console: Console, *, authority: bytes,
    prepared: sealing.Prepared | None, placed: str | None,
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
        *([("Repository", placed)] if placed else []),
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
