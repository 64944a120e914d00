"""The stages of `up`: lock, build, certify, seal, deploy. Each takes the last one's result."""

from __future__ import annotations

import getpass
import platform
import posixpath
import re
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final, cast

from packaging.specifiers import SpecifierSet

from jupbox import labels as label
from jupbox import pki, plan, render
from jupbox.console import Console, Stage
from jupbox.errors import (
    BuildError,
    CertificateError,
    FilesError,
    JupboxError,
    LockError,
    PortTakenError,
    ResolveError,
    ServerError,
)
from jupbox.host import base as bases
from jupbox.host import facts as host_facts
from jupbox.host import network as networks
from jupbox.host import stack as stacks
from jupbox.host.base import Base
from jupbox.host.engine import Image
from jupbox.host.files import write_atomic
from jupbox.host.machine import LocalMachine
from jupbox.host.network import Network
from jupbox.host.probe import wait_https
from jupbox.host.resolve import resolve_python, resolve_uv
from jupbox.host.simulate import resolve_apt
from jupbox.host.ssh import SshMachine
from jupbox.host.stack import Credentials, State
from jupbox.lock import (
    RECIPE,
    Architecture,
    ImageLock,
    Lock,
    PlatformLock,
    dump_lock,
    is_stale,
    load_lock,
)
from jupbox.password import generate_password, hash_password
from jupbox.project import ImageDefinition
from jupbox.render import Account, Stack
from jupbox.secret import Secret
from jupbox.site import Site, lock_path

FIRST_PORT: Final = 8888
KEEP_RELEASES: Final = 3
_DAY: Final = 86_400
_WAIT_SECONDS: Final = 120
_ROOT_ACCOUNT: Final = Account(name="jupyter", uid=1000, gid=1000)

# -- lock


def network_of(site: Site, definition: ImageDefinition) -> Network:
    """The way from the box's builds to packages, by this user's settings."""
    mine = () if site.machine.is_local else (host_facts.look(LocalMachine()),)
    return networks.look(
        environ=site.around.environ,
        home=site.around.home,
        root=site.project.root,
        configured_bundle=site.project.network.ca_bundle,
        base=definition.base,
        hosts=(site.facts, *mine),
    )


def read_lock(site: Site) -> Lock:
    """The project's lock; an empty one if there is none yet."""
    path = lock_path(site.project, site.box)
    if not path.is_file():
        return Lock()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LockError(
            f"{path} cannot be read: {getattr(error, 'strerror', 'it is not UTF-8 text')}.",
            remedy="Mend its permissions, or get it anew from the team's repository.",
        ) from None
    return load_lock(text, source=path.name)


def write_lock(site: Site, image: ImageLock) -> None:
    """Put an image's part into the project's lock."""
    path = lock_path(site.project, site.box)
    with suppress(OSError):  # `write_atomic` says what is wrong with the folder
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, dump_lock(read_lock(site).with_image(image)).encode(), mode=0o644)


def usable_lock(site: Site, definition: ImageDefinition) -> ImageLock | None:
    """The image's lock, None if there is none; it may lack the box's architecture.

    Raises:
        LockError: it is stale, and a project's lock is not changed unasked.
    """
    image = read_lock(site).images.get(definition.name)
    if image is None:
        return None
    if is_stale(image, definition):
        if site.project.root is None:
            return None
        raise LockError(
            f"jupbox.lock does not match the definition of {definition.name} any more.",
            remedy=f"`jupbox lock {definition.name}` resolves it anew; then look at the change.",
        )
    return image


def adopted_lock(site: Site, state: State, definition: ImageDefinition) -> ImageLock | None:
    """The lock that the running stack's image was built from, for a laptop that has none.

    Without it a fresh laptop would resolve newer versions and replace a server that is well.
    """
    if definition.name in read_lock(site).images or state.container is None:
        return None
    wanted = {label.KIND: "environment", label.LOCK: state.container.labels.get(label.LOCK, "")}
    for image in site.engine.images(wanted):
        with site.engine.scratch(image.id) as container:
            files = site.engine.get(container, render.LOCK_IN_IMAGE)
        for content in files.values():
            lock = load_lock(content.decode(), source=f"the lock on {site.machine.name}")
            found = lock.images.get(definition.name)
            if found and not is_stale(found, definition):
                write_lock(site, found)
                return found
    return None


def resolve_lock(
    site: Site, definition: ImageDefinition, *, stage: Stage, keep: ImageLock | None = None
) -> ImageLock:
    """Resolve a definition on a box and record it.

    Args:
        site: the box whose engine is asked.
        definition: what to resolve.
        stage: told what happens.
        keep: a lock whose Python packages and epoch stay as they are.

    Raises:
        ResolveError: something cannot be resolved.
        BaseImageError: no way to the base.
    """
    network = network_of(site, definition)
    epoch = keep.epoch if keep else int(site.around.now().timestamp()) // _DAY * _DAY
    base = bases.resolve(
        site.engine,
        definition.base,
        box=site.machine,
        box_facts=site.facts,
        epoch=epoch,
        say=stage.detail,
    )
    stage.detail("asking apt for versions")
    simulated = resolve_apt(
        site.engine, base.reference, definition.apt, network, called=definition.base
    )
    _check_python(definition, simulated.python_version)
    architecture = cast(Architecture, site.facts.architecture)
    part = PlatformLock(
        architecture=architecture,
        base=base.lock,
        python_version=simulated.python_version,
        apt=simulated.packages,
    )
    if keep and _python_version(keep) == simulated.python_version:
        image = replace(keep, platforms={**keep.platforms, architecture: part})
    else:
        stage.detail("asking the Python index for versions")
        image = _resolve_python(site, definition, network, part, epoch=epoch)
    write_lock(site, image)
    return image


def _python_version(lock: ImageLock) -> str:
    return next(iter(lock.platforms.values())).python_version


def _resolve_python(
    site: Site, definition: ImageDefinition, network: Network, part: PlatformLock, *, epoch: int
) -> ImageLock:
    python = resolve_python(
        definition.python,
        python_version=part.python_version,
        environ=site.around.environ,
        ca_bundle=network.ca_bundle,
        cwd=site.project.root,
    )
    uv = resolve_uv(
        None,
        python_version=part.python_version,
        environ=site.around.environ,
        ca_bundle=network.ca_bundle,
        cwd=site.project.root,
    )
    return ImageLock(
        name=definition.name,
        definition=definition.digest,
        epoch=epoch,
        uv=uv,
        python=python,
        platforms={part.architecture: part},
    )


def _check_python(definition: ImageDefinition, found: str) -> None:
    wanted = definition.requires_python
    if wanted and f"{found}.0" not in SpecifierSet(wanted) and found not in SpecifierSet(wanted):
        raise ResolveError(
            f"{definition.base} has Python {found}; {definition.name} requires {wanted}.",
            remedy="Choose another `base`, or loosen `requires-python`.",
        )


# -- build


def environment_image(site: Site, lock: ImageLock, *, newest_recipe: bool = False) -> Image | None:
    """The environment image of a lock, if the engine has it; of any recipe unless told."""
    wanted = {label.KIND: "environment", label.LOCK: lock.digest()}
    if newest_recipe:
        wanted[label.RECIPE] = str(RECIPE)
    found = site.engine.images(wanted)
    return found[0] if found else None


def build(
    site: Site, definition: ImageDefinition, lock: ImageLock, *, fresh: bool, stage: Stage,
    note: Callable[[str], None],
) -> tuple[ImageLock, Image]:  # fmt: skip
    """Build the environment image of a lock on the box.

    The lock comes back as well: where its base cannot be had any more, or its apt versions are
    gone from the mirror and no team shares it, that part is resolved anew.

    Args:
        fresh: the lock was resolved in this very run.
        note: told of what the user should know.
    """
    wanted = lock.platforms[site.facts.architecture].base
    base = bases.locked(
        site.engine,
        wanted,
        box=site.machine,
        box_facts=site.facts,
        epoch=lock.epoch,
        say=stage.detail,
    )
    if base is None:
        if site.project.root is not None:
            raise LockError(
                f"The locked base {wanted.reference} ({wanted.digest[:19]}…) is out of reach for "
                f"{site.machine.name}.",
                remedy="`docker save` it on a machine that has it and load it there, or lock anew: "
                f"`jupbox lock {lock.name} --on {site.box.name}`.",
            )
        note(f"The locked base {definition.base} is out of reach; it was resolved anew.")
        return build(
            site, definition, resolve_lock(site, definition, stage=stage, keep=lock),
            fresh=True, stage=stage, note=note,
        )  # fmt: skip
    try:
        return lock, _build(site, definition, lock, base, stage)
    except BuildError:
        if fresh or site.project.root is not None:
            raise
        renewed = resolve_lock(site, definition, stage=stage, keep=lock)
        if renewed.platforms == lock.platforms:
            raise  # the mirror has what is locked; it failed for another reason
    note("The mirror has other versions than the lock; its apt part was resolved anew.")
    return build(site, definition, renewed, fresh=True, stage=stage, note=note)


def _build(
    site: Site, definition: ImageDefinition, lock: ImageLock, base: Base, stage: Stage
) -> Image:
    context = render.environment_context(
        lock, architecture=site.facts.architecture, base=base.reference
    )
    labels = {
        label.KIND: "environment",
        label.IMAGE: lock.name,
        label.LOCK: lock.digest(),
        label.RECIPE: str(RECIPE),
    }
    with networks.build_secrets(network_of(site, definition)) as secrets:
        return _build_context(
            site,
            context,
            tag=f"jupbox-env:{lock.name}-{lock.digest()[:12]}",
            labels=labels,
            secrets=secrets,
            stage=stage,
        )


def _build_context(
    site: Site, context: render.Context, *, tag: str, labels: Mapping[str, str],
    secrets: Mapping[str, Path], stage: Stage,
) -> Image:  # fmt: skip
    def on_line(line: str) -> None:
        stage.log(line)
        if step := build_step(line):
            stage.detail(step)

    with tempfile.TemporaryDirectory(prefix="jupbox-build-") as name:
        folder = Path(name)
        for path, content in context.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
            (folder / path).chmod(0o644)
        # whatever this machine's umask: the server's user must get in
        for inner in folder.rglob("*/"):
            inner.chmod(0o755)
        return site.engine.build(folder, tag=tag, labels=labels, secrets=secrets, on_line=on_line)


_STEP: Final = re.compile(r"^#\d+ \[(?:\S+ )?\s*(\d+)/(\d+)\] (.*)")
_STEPS: Final = {
    "/build/tools.sh": "getting uv",
    "/build/apt.sh": "installing Debian packages",
    "/build/python.sh": "installing Python packages",
    "/build/user.sh": "making the notebook's user",
}


def build_step(line: str) -> str | None:
    """What a line of BuildKit's plain progress says is done now, for a person; else None."""
    match = _STEP.match(line)
    return next((text for key, text in _STEPS.items() if match and key in match[3]), None)


# -- certify and seal

_BLOCK: Final = rb"-----BEGIN CERTIFICATE-----\n.*?-----END CERTIFICATE-----\n"


def box_names(site: Site) -> pki.Names:
    """What the box's certificate is for."""
    facts = site.facts
    machine_says = [facts.host, facts.fqdn or ""]
    if isinstance(site.machine, SshMachine):
        machine_says.append(site.machine.host_name)
    if site.box.expose == "public":
        machine_says += facts.addresses
    elif site.box.expose != "tunnel":
        machine_says.append(site.box.expose)
    told = pki.Names.of(machine_says, drop_invalid=True)
    added = pki.Names.of(site.box.names)
    return pki.Names(dns=told.dns + added.dns, ips=told.ips + added.ips)


def own_certificate(site: Site) -> tuple[bytes, Secret] | None:
    """The user's own certificate and key, looked through.

    Raises:
        CertificateError: they cannot be read or do not fit.
    """
    tls = site.box.tls
    if tls is None:
        return None
    try:
        certificate, key = tls.cert.expanduser().read_bytes(), tls.key.expanduser().read_bytes()
    except OSError as error:
        raise CertificateError(
            f"{error.filename} cannot be read: {error.strerror}",
            remedy="Mend tls.cert and tls.key in jupbox.toml.",
        ) from None
    pki.check_pair(certificate_pem=certificate, key_pem=key, now=site.around.now())
    return _blocks(certificate), Secret(key)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Credentials for the next seal.

    Attributes:
        password: in clear text, only when it was made now.
        new_authority: clients must trust anew.
    """

    credentials: Credentials
    password: Secret | None
    new_authority: bool


def prepare(site: Site, state: State, *, image: str, certify: bool) -> Prepared:
    """Take the last release's credentials over; make what is missing or must be new.

    Args:
        image: any image of the engine, to look into volumes with.
        certify: whether the certificate must be a new one.
    """
    last = stacks.read_credentials(site.engine, state, image=image)
    if state.container is None and state.seal_volume is None:
        # sealed by a run that ended before it could show the password to anybody
        last, certify = None, True
    if last and not certify:
        return Prepared(credentials=last, password=None, new_authority=False)
    password = None if last else generate_password()
    hashed = last.password_hash if last else hash_password(cast(Secret, password))
    own = own_certificate(site)
    if own:
        chain, key = own
        credentials = Credentials(
            leaf_pem=chain, authority_pem=_top(chain), key_pem=key, password_hash=hashed
        )
        return Prepared(credentials=credentials, password=password, new_authority=False)
    names = box_names(site)
    authority = stacks.read_authority(site.engine, state, image=image)
    now = site.around.now()
    fresh = (
        authority is None
        or not pki.covers(authority.certificate_pem, names)
        or pki.needs_renewal(authority.certificate_pem, now=now)
    )
    if authority is None or fresh:
        authority = pki.make_authority(box=site.box.name, names=names, now=now)
        stacks.write_authority(
            site.engine, site.stack, authority, image=image, labels=_mine(site, "volume")
        )
    leaf = pki.issue_leaf(authority=authority, names=names, now=now)
    credentials = Credentials(
        leaf_pem=leaf.certificate_pem,
        authority_pem=authority.certificate_pem,
        key_pem=leaf.key_pem,
        password_hash=hashed,
    )
    return Prepared(
        credentials=credentials, password=password, new_authority=fresh and last is not None
    )


def _blocks(chain: bytes) -> bytes:
    """The certificates of a file alone: no comments, each line ending as the seal's parts do."""
    lines = b"".join(line.strip() + b"\n" for line in chain.splitlines())
    return b"".join(re.findall(_BLOCK, lines, re.DOTALL))


def _top(chain: bytes) -> bytes:
    return cast(bytes, re.findall(_BLOCK, chain, re.DOTALL)[-1])


def _mine(site: Site, kind: str) -> dict[str, str]:
    return {
        label.KIND: kind,
        label.STACK: site.stack,
        label.BOX: site.box.name,
        label.OWNER: site.facts.owner,
    }


def seal(
    site: Site, state: State, credentials: Credentials, *, account: Account, lock: str,
    image_name: str, body: str, recipe: str,
) -> tuple[stacks.Release, bytes]:  # fmt: skip
    """Make the next sealed image of a body and these credentials; it, and the seal's tar.

    Args:
        body: image with the notebook's user and the server's files.
        lock: digest of the environment's lock.
        recipe: digest of the server's files in the body.
    """
    generation = state.next_generation
    files = stacks.seal_files(
        credentials, generation=generation, names=_names_in(credentials), account=account
    )
    labels = {
        **_mine(site, "sealed"),
        label.GENERATION: str(generation),
        label.LOCK: lock,
        label.IMAGE: image_name,
        label.RECIPE: recipe,
        label.BODY: body,
        label.ACCOUNT: stacks.account_text(account),
        label.SINCE: site.around.now().isoformat(timespec="seconds"),
        label.WHO: who(),
    }
    tag = f"{site.stack}:seal-{generation}"
    image = stacks.seal(
        site.engine, body=body, tag=tag, files=files, credentials=credentials, labels=labels
    )
    return stacks.Release(generation=generation, image=image), files


def _names_in(credentials: Credentials) -> tuple[str, ...]:
    names = pki.leaf_names(credentials.leaf_pem)
    return *names.dns, *names.ips


def seal_new(
    site: Site, state: State, credentials: Credentials, *, environment: Image, lock: ImageLock,
    account: Account, stage: Stage,
) -> stacks.Release:  # fmt: skip
    """Build the body on an environment image, and seal it."""
    recipe, digest = render.recipe(), lock.digest()
    context = render.sealed_context(
        stack=site.stack,
        environment=environment.tags[0] if environment.tags else environment.id,
        account=account,
    )
    body = f"{site.stack}:body-{digest[:12]}-{recipe[:14]}"
    labels = {**_mine(site, "body"), label.LOCK: digest, label.RECIPE: recipe}
    _build_context(site, context, tag=body, labels=labels, secrets={}, stage=stage)
    sealed, _ = seal(
        site, state, credentials, account=account, lock=digest, image_name=lock.name, body=body,
        recipe=recipe,
    )  # fmt: skip
    return sealed


def seal_live(site: Site, state: State, credentials: Credentials) -> None:
    """Change a running server's credentials: seal the next generation, then write the volume.

    Raises:
        ServerError: there is no sealed image to start from.
    """
    newest, account = state.newest, state.account
    if newest is None or account is None:
        raise ServerError(
            f"The sealed image of {site.stack} is gone.", remedy=f"Run `jupbox up{site.command}`."
        )
    labels = newest.image.labels
    body = labels.get(label.BODY, "")
    release, files = seal(
        site,
        state,
        credentials,
        account=account,
        lock=labels[label.LOCK],
        image_name=labels[label.IMAGE],
        body=body if body and site.engine.image(body) else newest.image.id,
        recipe=labels[label.RECIPE],
    )
    _write_live(site, state, release, files)
    stacks.prune(site.engine, stacks.observe(site.engine, site.stack), keep=KEEP_RELEASES)


def settle(site: Site, state: State) -> State:
    """Finish a live change that was cut off between its sealed image and the volume in use."""
    newest, container, account = state.newest, state.container, state.account
    if newest is None or container is None or account is None or state.seal_volume is None:
        return state
    deployed = int(container.labels.get(label.GENERATION, "0"))
    if newest.generation <= deployed or _applied(site, newest.generation) in newest.image.tags:
        return state
    credentials = stacks.read_credentials(site.engine, state, image=None)
    if credentials is None:
        return state
    files = stacks.seal_files(
        credentials,
        generation=newest.generation,
        names=_names_in(credentials),
        account=account,
    )
    _write_live(site, state, newest, files)
    return stacks.observe(site.engine, site.stack)


def _applied(site: Site, generation: int) -> str:
    """The tag by which a sealed image says that the volume in use has its seal."""
    return f"{site.stack}:applied-{generation}"


def _write_live(site: Site, state: State, release: stacks.Release, files: bytes) -> None:
    if state.seal_volume:
        stacks.write_live(
            site.engine, image=release.image.id, volume=state.seal_volume, files=files
        )
    site.engine.tag(release.image.id, _applied(site, release.generation))


def renew_if_due(site: Site, state: State, console: Console) -> State:
    """Renew a certificate of which a third of its life or less is left, with no restart.

    Whoever only wants to look is not stopped by a renewal that fails.
    """
    try:
        state = settle(site, state)
        public = stacks.public_certificates(site.engine, state)
        if public is None or not pki.needs_renewal(public.leaf_pem, now=site.around.now()):
            return state
        if site.box.tls is not None:
            console.note(
                f"tls.cert of {site.box.name} expires {pki.expires(public.leaf_pem):%Y-%m-%d}."
            )
            return state
        with console.stage("Renewing the certificate"), site.machine.exclusive(site.stack):
            _renew(site, state, public.leaf_pem)
        return stacks.observe(site.engine, site.stack)
    except JupboxError as error:
        console.note(f"The certificate is due and was not renewed: {error.message}")
        return state


def _renew(site: Site, state: State, leaf_pem: bytes) -> None:
    image = state.newest.image.id if state.newest else None
    last = stacks.read_credentials(site.engine, state, image=image)
    authority = stacks.read_authority(site.engine, state, image=image) if image else None
    if authority is None or last is None:
        raise CertificateError(
            "the box's CA is gone.", remedy=f"`jupbox up{site.command}` makes a new one."
        )
    leaf = pki.issue_leaf(
        authority=authority, names=pki.leaf_names(leaf_pem), now=site.around.now()
    )
    renewed = replace(last, leaf_pem=leaf.certificate_pem, key_pem=leaf.key_pem)
    seal_live(site, state, renewed)


def who() -> str:
    """Who changes something, as it is kept on the box."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{platform.node()}"


# -- deploy


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


def stack_of(site: Site, state: State) -> Stack:
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
        shared_memory=max(64 << 20, (box.memory_bytes or site.facts.memory) // 2),
        files=None if box.files == "volume" else _host_path(box.files, site.facts.home),
    )


def _host_path(path: str, home: str) -> str:
    return posixpath.normpath(f"{home}{path[1:]}" if path.startswith("~") else path)


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


def check_port(site: Site, state: State, port: int) -> None:
    """Look whether a port is free for the stack.

    Raises:
        PortTakenError: somebody else listens on it; the message says who.
    """
    mine = state.container
    if mine and mine.running and mine.published and mine.published[1] == port:
        return
    owner = site.engine.port_owner(port, except_stack=site.stack)
    if owner is None and port not in site.facts.listening:
        return
    raise _taken(site, port, f"container {owner}" if owner else _process_on(site, port))


def _taken(site: Site, port: int, by: str) -> PortTakenError:
    instead = "" if site.box.port == "auto" else ', or "auto",'
    return PortTakenError(
        f"Port {port} on {site.machine.name} is taken by {by}.",
        remedy=f"Stop that, or set another `port`{instead} for the box in jupbox.toml.",
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
# only a folder that was made just now is.
_MAKE_FILES: Final = """
made=
[ -d "$1" ] || { mkdir -p -- "$1" 2>/dev/null || exit 51; made=yes; }
[ -w "$1" ] || exit 52
[ "$(id -u)" = 0 ] || exit 0
case $1 in "$HOME"/?*) made=yes; chown -R --from=0:0 -- "$2:$3" "$1" || exit 53;; esac
[ -z "$made" ] || chown --from=0:0 -- "$2:$3" "$1" || exit 53
find "$1" -maxdepth 0 \\( -uid "$2" -o -gid "$3" -perm -020 -o -perm -002 \\) | grep -q . || exit 53
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


def deploy(site: Site, stack: Stack, *, sealed: Image, generation: int) -> None:
    """Run the stack with compose, made anew where it differs."""
    of_image = sealed.labels
    labels = {
        **_mine(site, "server"),
        label.LOCK: of_image[label.LOCK],
        label.IMAGE: of_image[label.IMAGE],
        label.RECIPE: of_image[label.RECIPE],
        label.CONFIGURATION: stack.digest(),
        label.GENERATION: str(generation),
        label.FILES: stack.files or "volume",
        label.EXPOSE: site.box.expose,
        label.WHO: who(),
        label.VERSION: version("jupbox"),
    }
    volume_labels = {
        **_mine(site, "volume"),
        label.ACCOUNT: stacks.account_text(stack.account),
    }
    text = render.compose_text(
        stack,
        image=sealed.tags[0] if sealed.tags else sealed.id,
        generation=generation,
        labels=labels,
        volume_labels=volume_labels,
    )
    with tempfile.TemporaryDirectory(prefix="jupbox-compose-") as folder:
        path = Path(folder) / "compose.yaml"
        path.write_text(text)
        try:
            site.engine.compose_up(path, project=stack.name)
        except PortTakenError:
            # somebody was quicker, since `check_port` looked
            owner = site.engine.port_owner(stack.port, except_stack=site.stack)
            by = f"container {owner}" if owner else _process_on(site, stack.port)
            raise _taken(site, stack.port, by) from None


def wait(site: Site, port: int, authority_pem: bytes, *, seconds: float = _WAIT_SECONDS) -> None:
    """Wait until the server answers over verified HTTPS, through the way that users take.

    Raises:
        ServerError: it ended, or did not answer in time; with its last log lines.
    """

    first: list[int] = []

    def alive() -> None:
        container = stacks.observe(site.engine, site.stack).container
        # the count is of the container's whole life; a crash of last week says nothing
        first.append(container.restarts if container else 0)
        if container is None or not container.running or container.restarts > first[0] + 1:
            raise ServerError(
                f"The notebook server ends right after its start: {_last_words(site)}",
                remedy=f"`jupbox logs{site.command}` shows the rest.",
            )

    with site.machine.tunnel(port) as here:
        wait_https(
            address=("127.0.0.1", here),
            server_name=_server_name(site),
            ca_pem=authority_pem,
            deadline_seconds=seconds,
            alive=alive,
        )


def _server_name(site: Site) -> str:
    """A name that the server's certificate is for; one of the user's own knows no localhost."""
    own = own_certificate(site)
    if own is None:
        return "localhost"
    names = pki.leaf_names(own[0])
    return (*names.dns, *names.ips)[0].replace("*", "jupbox")


def _last_words(site: Site) -> str:
    container = stacks.observe(site.engine, site.stack).container
    lines = site.engine.last_log_lines(container.id, 3) if container else []
    return " / ".join(line.strip() for line in lines if line.strip()) or "it wrote no log"


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
        )
    looking = environment.id if environment else None
    return plan.Observed(
        environment_image=environment is not None,
        certificates=stacks.public_certificates(site.engine, state, image=looking)
        if newest or state.seal_volume
        else None,
        sealed=sealed,
        container=running,
    )
