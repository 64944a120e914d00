"""What `up` has to do: a pure function of what is wanted and what is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from jupbox import pki


class Action(Enum):
    """The steps that `up` is made of, in the order in which they run."""

    LOCK = "lock the image's packages"
    BUILD = "build the environment image"
    CERTIFY = "make a certificate"
    SEAL = "seal the image"
    DEPLOY = "deploy the stack"
    BESIDE = "change what runs beside it"
    UPDATE = "change the limits, with no restart"
    START = "start the stopped stack"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One action and why it is needed."""

    action: Action
    why: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the engine can change in a running container: bytes, processors; None is no limit."""

    memory: int | None = None
    cpus: float | None = None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What shall run.

    Attributes:
        environment: digest of the image's lock; None while there is none.
        no_lock: why there is none.
        configuration: digest of the stack's values.
        names: what the certificate must be for; None with a certificate of the user's own.
        own_certificate: fingerprint of the user's own certificate, None without one.
        recipe: digest of what jupbox itself puts into a sealed image; None: any will do.
        template: digest of jupbox's own compose template; None: any will do.
        beside: services beside the notebook, name to digest.
    """

    environment: str | None
    configuration: str
    names: pki.Names | None
    own_certificate: str | None
    recipe: str | None
    no_lock: str = "there is none yet"
    template: str | None = None
    limits: Limits = Limits()
    beside: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """The certificates of the last seal: in its image, or in its volume if that was pruned.

    Attributes:
        leaf_pem: the server's.
        authority_pem: what clients trust.
    """

    leaf_pem: bytes
    authority_pem: bytes


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """The newest sealed image."""

    environment: str
    recipe: str


@dataclass(frozen=True, kw_only=True)
class Running:
    """The stack's container, running or stopped.

    Attributes:
        comes_back: the engine starts it again after a crash and at boot.
    """

    environment: str
    configuration: str
    running: bool
    sealed_image_present: bool
    template: str = ""
    limits: Limits = Limits()
    comes_back: bool = True


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What is there.

    Attributes:
        beside: services that run beside the notebook, name to digest.
    """

    environment_image: bool
    certificates: Certificates | None
    sealed: Sealed | None
    container: Running | None
    beside: Mapping[str, str] = field(default_factory=dict)


def steps(wanted: Wanted, observed: Observed, *, now: datetime) -> tuple[Step, ...]:
    """The steps from what is there to what is wanted; empty when there is nothing to do."""
    certify = _why_certify(wanted, observed.certificates, now=now)
    seal = _why_seal(wanted, observed.sealed)
    deploy = _why_deploy(wanted, observed.container) or (seal and "the sealed image is new")
    found: list[Step] = []
    if wanted.environment is None:
        found.append(Step(action=Action.LOCK, why=wanted.no_lock))
    if seal and not observed.environment_image:
        found.append(Step(action=Action.BUILD, why="the box has no image of this lock"))
    if certify:
        found.append(Step(action=Action.CERTIFY, why=certify))
    if seal or certify:
        found.append(Step(action=Action.SEAL, why=seal or "the certificate is new"))
    if deploy:
        found.append(Step(action=Action.DEPLOY, why=deploy))
    if beside := _why_beside(wanted.beside, observed.beside):
        found.append(Step(action=Action.BESIDE, why=beside))
    if observed.container and not deploy:
        if wanted.limits != observed.container.limits:
            found.append(Step(action=Action.UPDATE, why="they are others"))
        if not observed.container.running:
            found.append(Step(action=Action.START, why="it is stopped"))
        elif not observed.container.comes_back:
            found.append(Step(action=Action.START, why="it would not start again by itself"))
    return tuple(found)


def _why_certify(wanted: Wanted, certificates: Certificates | None, *, now: datetime) -> str | None:
    if certificates is None:
        return "there is none yet"
    if wanted.own_certificate is not None:
        same = pki.fingerprint(certificates.leaf_pem) == wanted.own_certificate
        return None if same else "tls.cert is another one"
    if wanted.names is None or not pki.covers(certificates.authority_pem, wanted.names):
        return "the box's names are others"
    authority_due = pki.needs_renewal(certificates.authority_pem, now=now)
    if authority_due or pki.needs_renewal(certificates.leaf_pem, now=now):
        return "a third of its life or less is left"
    return None


def _why_seal(wanted: Wanted, sealed: Sealed | None) -> str | None:
    if sealed is None:
        return "there is none yet"
    if sealed.environment != wanted.environment:
        return "the lock changed" if wanted.environment else "the lock will be new"
    if wanted.recipe is not None and sealed.recipe != wanted.recipe:
        return "jupbox's own files changed"
    return None


def _why_beside(wanted: Mapping[str, str], there: Mapping[str, str]) -> str | None:
    missing = sorted(wanted.keys() - there.keys())
    gone = sorted(there.keys() - wanted.keys())
    other = sorted(n for n in wanted.keys() & there.keys() if wanted[n] != there[n])
    parts = [("does not run", missing), ("is not wanted any more", gone), ("changed", other)]
    return "; ".join(f"{', '.join(names)} {what}" for what, names in parts if names) or None


def _why_deploy(wanted: Wanted, container: Running | None) -> str | None:
    if container is None:
        return "nothing runs yet"
    if container.environment != wanted.environment:
        return "it runs another lock"
    if container.configuration != wanted.configuration:
        return "its configuration changed"
    if wanted.template is not None and container.template != wanted.template:
        return "jupbox's own compose template changed"
    if not container.sealed_image_present and not container.running:
        return "its image is gone"
    return None
