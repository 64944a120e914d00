"""Certificates, password and user on top of an environment image; changed live, too."""

from __future__ import annotations

import getpass
import platform
import re
from dataclasses import dataclass, replace
from typing import Final, cast

from jupbox import labels as label
from jupbox import pki, render
from jupbox.console import Stage
from jupbox.errors import (
    CertificateError,
    ServerError,
)
from jupbox.host import records
from jupbox.host import stack as stacks
from jupbox.host.inspected import Image
from jupbox.host.ssh import SshMachine
from jupbox.host.stack import Credentials, State
from jupbox.lock import (
    ImageLock,
)
from jupbox.password import generate_password, hash_password
from jupbox.release.building import build_context
from jupbox.render import Account
from jupbox.secret import Secret
from jupbox.site import Site

_BLOCK: Final = rb"-----BEGIN CERTIFICATE-----\n.*?-----END CERTIFICATE-----\n"


def box_names(site: Site) -> pki.Names:
    """What the box's certificate is for."""
    facts = site.facts
    machine_says = [facts.host, facts.fqdn or ""]
    if site.box.expose != "tunnel" and isinstance(site.machine, SshMachine):
        # what a laptop's ssh calls the host; through a tunnel nobody comes by that name, and two
        # laptops that call it differently must not take turns in making certificates
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


def own_fingerprint(site: Site, state: State) -> str | None:
    """The fingerprint of the certificate that is the user's own; None with the box's CA.

    A laptop that adopted the box has no such file; what was sealed last stays.
    """
    own = own_certificate(site)
    if own is not None:
        return pki.fingerprint(own[0])
    labels = state.container.labels if state.container else {}
    if not site.adopted or label.OWN_CERTIFICATE not in labels:
        return None
    public = stacks.public_certificates(site.engine, state)
    return pki.fingerprint(public.leaf_pem) if public else None


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
            site.engine, site.stack, authority, image=image, labels=stack_labels(site, "volume")
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


def stack_labels(site: Site, kind: str) -> dict[str, str]:
    """The labels that everything of a stack carries."""
    return {
        label.KIND: kind,
        label.STACK: site.stack,
        label.BOX: site.box.name,
        label.OWNER: site.facts.owner,
    }


def seal(
    site: Site, state: State, credentials: Credentials, *, account: Account, lock: str,
    image_name: str, body: str, recipe: str, purpose: str,
) -> tuple[stacks.Release, bytes]:  # fmt: skip
    """Make the next sealed image of a body and these credentials; it, and the seal's tar.

    Args:
        body: image with the notebook's user and the server's files.
        lock: digest of the environment's lock.
        recipe: digest of the server's files in the body.
        purpose: `stacks.ROLLED_OUT`, or `live`.
    """
    generation = state.next_generation
    files = stacks.seal_files(
        credentials, generation=generation, names=_names_in(credentials), account=account
    )
    labels = {
        **stack_labels(site, "sealed"),
        label.GENERATION: str(generation),
        label.LOCK: lock,
        label.IMAGE: image_name,
        label.RECIPE: recipe,
        label.BODY: body,
        label.ACCOUNT: stacks.account_text(account),
        label.SINCE: site.around.now().isoformat(timespec="seconds"),
        label.WHO: who(),
        label.SEAL: purpose,
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
    labels = {**stack_labels(site, "body"), label.LOCK: digest, label.RECIPE: recipe}
    build_context(site, context, tag=body, labels=labels, secrets={}, stage=stage)
    sealed, _ = seal(
        site, state, credentials, account=account, lock=digest, image_name=lock.name, body=body,
        recipe=recipe, purpose=stacks.ROLLED_OUT,
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
        purpose="live",
    )
    _write_live(site, state, release, files)
    records.prune(site.engine, stacks.observe(site.engine, site.stack), keep=site.box.keep_releases)


def seal_again(site: Site, state: State, credentials: Credentials, image: Image) -> stacks.Release:
    """Seal a release anew that was sealed before: each roll-out has a generation of its own.

    Args:
        credentials: those in force.
        image: a sealed image.

    Raises:
        ServerError: nothing says who the notebook's user is.
    """
    account, labels = state.account, image.labels
    if account is None:
        raise _seal_gone(site)
    body = labels.get(label.BODY, "")
    sealed, _ = seal(
        site, state, credentials, account=account, lock=labels[label.LOCK],
        image_name=labels[label.IMAGE], recipe=labels[label.RECIPE], purpose=stacks.ROLLED_OUT,
        body=body if body and site.engine.image(body) else image.id,
    )  # fmt: skip
    return sealed


def credentials_in_force(site: Site, state: State) -> Credentials:
    """What the running server has, or the last one had.

    Raises:
        ServerError: nothing is left of it.
    """
    image = state.newest.image.id if state.newest else None
    found = stacks.read_credentials(site.engine, state, image=image)
    if found is None:
        raise _seal_gone(site)
    return found


def _seal_gone(site: Site) -> ServerError:
    return ServerError(
        f"The seal of {site.stack} is gone.", remedy=f"`jupbox up{site.command}` makes a new one."
    )


def is_cut_off(site: Site, state: State) -> bool:
    """Whether a live change ended between its sealed image and the volume in use."""
    newest, container = state.newest, state.container
    if newest is None or container is None or state.seal_volume is None:
        return False
    deployed = int(container.labels.get(label.GENERATION, "0"))
    applied = _applied(site, newest.generation) in newest.image.tags
    return newest.generation > deployed and newest.is_live and not applied


def settle(site: Site, state: State) -> State:
    """Finish a live change that was cut off, and clear away a roll-out that was; the state then.

    Only for whoever holds the stack's lock.
    """
    site.engine.sweep(site.around.now())
    if records.sweep(site.engine, state):
        state = stacks.observe(site.engine, site.stack)
    if not is_cut_off(site, state) or state.newest is None or state.account is None:
        return state
    credentials = stacks.read_credentials(site.engine, state, image=None)
    if credentials is None:
        return state
    files = stacks.seal_files(
        credentials,
        generation=state.newest.generation,
        names=_names_in(credentials),
        account=state.account,
    )
    _write_live(site, state, state.newest, files)
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


def renew(site: Site, state: State, leaf_pem: bytes) -> None:
    """Have the box's CA sign a new certificate for the same names; the server takes it at once.

    Raises:
        CertificateError: there is no CA any more.
    """
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
