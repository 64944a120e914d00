"""A box's stack on its engine: what is there, and how a seal gets onto it.

The truth lies on the box: labels on containers, images and volumes. What is secret passes
through this process's memory on its way from one release to the next, and through nothing else.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Final, TypeVar

from jupbox import labels as label
from jupbox.host.engine import COMPOSE_PROJECT, Engine, tar
from jupbox.host.inspected import Container, Image
from jupbox.host.passing import is_passing
from jupbox.pki import Authority
from jupbox.plan import Certificates
from jupbox.render import ENVIRONMENT, Account, volume_names
from jupbox.secret import Secret

_Seen = TypeVar("_Seen")

SEAL: Final = "/etc/jupbox/seal"
_VOLUME: Final = "/volume"
_SEALED_FILES: Final = {"cert.pem", "key.pem", "password.hash", "seal.json"}
_BASE: Final = "jupbox-base"
PROVEN: Final = "proven"
"""`<stack>:proven-<generation>`: the tag of a sealed image that served."""
ROLLED_OUT: Final = "release"
AUTHORITY_LABEL: Final = "dev.jupbox.authority"
LEAF_LABEL: Final = "dev.jupbox.leaf"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a seal holds.

    Attributes:
        leaf_pem: the server's certificate, with intermediates if there are any.
        authority_pem: the certificate that clients trust.
    """

    leaf_pem: bytes
    authority_pem: bytes
    key_pem: Secret
    password_hash: Secret


@dataclass(frozen=True, kw_only=True)
class Release:
    """A sealed image."""

    generation: int
    image: Image

    @property
    def reference(self) -> str:
        """How the engine is told which image: the seal's own tag, else the ID."""
        own = (tag for tag in self.image.tags if tag.endswith(f":seal-{self.generation}"))
        return next(own, self.image.id)

    @property
    def proven(self) -> bool:
        """Whether it once answered as the stack's server."""
        return any(tag.endswith(f":{PROVEN}-{self.generation}") for tag in self.image.tags)

    @property
    def is_live(self) -> bool:
        """Whether it was sealed for a server that ran on; nothing ever ran from it then."""
        return self.image.labels.get(label.SEAL) != ROLLED_OUT


@dataclass(frozen=True, kw_only=True)
class State:
    """What the engine has of one stack.

    Attributes:
        releases: sealed images, newest first.
        volumes: names to labels.
    """

    name: str
    container: Container | None
    releases: tuple[Release, ...]
    volumes: Mapping[str, Mapping[str, str]]

    @property
    def abandoned(self) -> tuple[Release, ...]:
        """Sealed images for a roll-out that did not come to its end: nothing counts of them."""
        if self.container is None:
            return ()
        runs = int(self.container.labels.get(label.GENERATION, "0"))
        return tuple(
            release
            for release in self.releases
            if release.generation > runs and not release.proven and not release.is_live
        )

    @property
    def newest(self) -> Release | None:
        """The newest sealed image that counts."""
        return next((each for each in self.releases if each not in self.abandoned), None)

    @property
    def next_generation(self) -> int:
        """A number that no seal of the stack had."""
        of_volumes = [generation_of(name) for name in self.volumes]
        return max([0, *of_volumes, *(release.generation for release in self.releases)]) + 1

    @property
    def seal_volume(self) -> str | None:
        """The seal volume in use, else the newest that there is."""
        if self.container and SEAL in self.container.volumes:
            return self.container.volumes[SEAL]
        found = [name for name in self.volumes if generation_of(name)]
        return max(found, key=generation_of, default=None)

    @property
    def home_volume(self) -> str:
        """The home directory's: the container's, else the newest that was restored to its end."""
        mounted = self.container.volumes.values() if self.container else ()
        found = [name for name in mounted if self.home_number(name) is not None]
        if not found:
            found = [
                name for name in self.volumes
                if (number := self.home_number(name)) is not None
                and restoring_name(self.name, number) not in self.volumes
            ]  # fmt: skip
        first = volume_names(self.name, 0)["home"]
        return max(found, key=lambda name: self.home_number(name) or 0, default=first)

    def home_number(self, volume: str) -> int | None:
        """How many restores made a home volume, 0 for the first; None for any other volume."""
        first = volume_names(self.name, 0)["home"]
        return 0 if volume == first else _number(volume, f"{first}-")

    def restoring_number(self, volume: str) -> int | None:
        """Of which home volume this says that it is not whole, or not in use yet; else None."""
        return _number(volume, restoring_name(self.name, 0)[:-1])

    @property
    def account(self) -> Account | None:
        """The notebook's user that the first seal fixed."""
        texts = [release.image.labels.get(label.ACCOUNT) for release in self.releases]
        texts += [labels.get(label.ACCOUNT) for labels in self.volumes.values()]
        return next((read_account(text) for text in texts if text), None)


def _number(volume: str, prefix: str) -> int | None:
    number = volume.removeprefix(prefix)
    return int(number) if number != volume and number.isdigit() else None


def home_name(stack: str, number: int) -> str:
    """The home volume that the restore of that number makes."""
    return f"{volume_names(stack, 0)['home']}-{number}"


def restoring_name(stack: str, number: int) -> str:
    """An empty volume that says: the home volume of that number is not whole, or not in use yet."""
    return f"{stack}_restoring-{number}"


def generation_of(volume: str) -> int:
    """The generation of a seal volume's name; 0 for another volume."""
    _, separator, number = volume.rpartition("_seal-")
    return int(number) if separator and number.isdigit() else 0


def account_text(account: Account) -> str:
    """The account as a label's value."""
    return json.dumps(asdict(account), sort_keys=True)


def read_account(text: str) -> Account:
    """The account of a label's value."""
    fields = json.loads(text)
    groups = tuple((str(name), int(gid)) for name, gid in fields["groups"])
    return Account(name=fields["name"], uid=fields["uid"], gid=fields["gid"], groups=groups)


def server_of(engine: Engine, name: str) -> Container | None:
    """The container of a stack's notebook server."""
    containers = engine.containers({label.STACK: name, label.KIND: "server"})
    # a leftover of an interrupted compose run has a temporary name and was never started
    return max(containers, key=lambda c: (c.running, c.started is not None), default=None)


def _begin(look: Callable[[], _Seen]) -> Future[_Seen]:
    """Look in another thread, which nobody waits for after a Ctrl-C, as an executor's would be."""
    seen: Future[_Seen] = Future()

    def run() -> None:
        try:
            seen.set_result(look())
        except BaseException as error:
            seen.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return seen


def observe(engine: Engine, name: str) -> State:
    """Look what the engine has of a stack."""
    mine = {label.STACK: name}
    # at once: a far box takes a round trip for each
    server = _begin(lambda: server_of(engine, name))
    sealed = _begin(lambda: engine.images({**mine, label.KIND: "sealed"}))
    volumes = _begin(lambda: engine.volumes(mine))
    releases = [
        Release(generation=int(image.labels.get(label.GENERATION, "0")), image=image)
        for image in sealed.result()
    ]
    return State(
        name=name,
        container=server.result(),
        releases=tuple(sorted(releases, key=lambda release: -release.generation)),
        volumes=volumes.result(),
    )


@dataclass(frozen=True, kw_only=True)
class Belongings:
    """All that a stack has on its engine, half of it or whole; names, in the order of removal.

    Attributes:
        containers: name to state, sidecars' too.
        images: tags of its own images, an ID where one has none.
        environments: tags of environment images that it alone uses, and then of bootstrapped
            bases if no environment is left.
        shared: tags of environment images that it uses, to a stack that uses it too.
        secrets: volumes that mean nothing without the stack.
        data: the home volume, and all volumes of sidecars.
    """

    containers: Mapping[str, str]
    networks: tuple[str, ...]
    images: tuple[str, ...]
    environments: tuple[str, ...]
    shared: Mapping[str, str]
    secrets: tuple[str, ...]
    data: tuple[str, ...]

    @property
    def has_own(self) -> bool:
        """Whether there is anything of the stack's own but data."""
        return any((self.containers, self.networks, self.images, self.secrets))


def belongings(engine: Engine, name: str) -> Belongings:
    """Look for all that a stack has, by its labels and by compose's."""
    mine = ({label.STACK: name}, {COMPOSE_PROJECT: name})
    # by compose's label alone: somebody's own container of a sealed image has the image's labels
    containers = engine.containers({COMPOSE_PROJECT: name})
    containers += [
        c
        for c in engine.containers({label.STACK: name})
        if is_passing(c.name) or c.labels.get(label.KIND) in {"candidate", "release"}
    ]
    containers = list({c.id: c for c in containers}.values())
    images = engine.images({label.STACK: name})
    labels = [c.labels for c in containers] + [i.labels for i in images]
    locks = {each[label.LOCK] for each in labels if label.LOCK in each}
    anonymous = engine.volumes({"com.docker.volume.anonymous": ""})
    volumes = {volume for labels in mine for volume in engine.volumes(labels)}
    volumes |= {v for c in containers for v in c.volumes.values() if v in anonymous}
    fixed = volume_names(name, 0)
    secret = {fixed["tmp"], fixed["authority"], *(v for v in volumes if generation_of(v))}
    secret |= {v for v in volumes if v.startswith(restoring_name(name, 0)[:-1])}
    environments, shared = _environments(engine, name, locks)
    return Belongings(
        containers={c.name: c.state for c in containers},
        networks=tuple(sorted({n for labels in mine for n in engine.networks(labels)})),
        images=tuple(
            sorted(
                [tag for image in images for tag in _names(image, name)]
                # compose built them for services beside the notebook
                + [
                    tag
                    for image in engine.images({COMPOSE_PROJECT: name})
                    for tag in image.tags
                    if tag.startswith(f"{name}-")
                ]
            )
        ),
        environments=environments,
        shared=shared,
        secrets=tuple(sorted(volumes & secret)),
        data=tuple(sorted(volumes - secret)),
    )


def _environments(
    engine: Engine, name: str, locks: set[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The environment images that go with a stack, and those that stay for another one."""
    users = {
        each.get(label.LOCK, ""): each[label.STACK]
        for each in _users_of_locks(engine)
        if each.get(label.STACK, name) != name
    }
    every = engine.images({label.KIND: "environment"})
    used = [image for image in every if image.labels.get(label.LOCK, "") in locks]
    going = [image for image in used if image.labels[label.LOCK] not in users]
    bases = engine.tagged(_BASE) if going and len(going) == len(every) else []
    names = [tag for image in going for tag in _names(image, ENVIRONMENT)]
    names += [tag for image in bases for tag in _names(image, _BASE)]
    shared = {
        tag: users[image.labels[label.LOCK]]
        for image in used
        if image not in going
        for tag in _names(image, ENVIRONMENT)
    }
    return tuple(names), shared


def _users_of_locks(engine: Engine) -> list[Mapping[str, str]]:
    """The labels of all that needs an environment image, of every stack on the engine."""
    labels = [c.labels for c in engine.containers({label.KIND: "server"})]
    kinds = ("sealed", "body")
    return labels + [i.labels for kind in kinds for i in engine.images({label.KIND: kind})]


def _names(image: Image, repository: str) -> list[str]:
    """An image's tags that are jupbox's, its ID without any; other tags are a person's."""
    if not image.tags:
        return [image.id]
    return [tag for tag in image.tags if tag.startswith(f"{repository}:")]


def certificates_of(image: Image) -> Certificates | None:
    """The certificates of a sealed image, from its labels."""
    labels = image.labels
    if AUTHORITY_LABEL not in labels:
        return None
    return Certificates(
        leaf_pem=base64.b64decode(labels[LEAF_LABEL]),
        authority_pem=base64.b64decode(labels[AUTHORITY_LABEL]),
    )


def public_certificates(
    engine: Engine, state: State, *, image: str | None = None
) -> Certificates | None:
    """The certificates of the newest seal, from its labels, else from the seal volume.

    Args:
        engine: the box's engine.
        state: what is there of the stack.
        image: any image of the engine, to look into a volume with; None: the container's.
    """
    public = certificates_of(state.newest.image) if state.newest else None
    if public is not None:
        return public
    found = read_credentials(engine, state, image=image)
    if found is None:
        return None
    return Certificates(leaf_pem=found.leaf_pem, authority_pem=found.authority_pem)


def read_credentials(engine: Engine, state: State, *, image: str | None) -> Credentials | None:
    """The credentials of the last seal: of its image or of its volume, whichever is younger.

    After a live change nothing runs from the newest image, so that somebody's `image prune`
    takes it; the volume in use then knows better than the image that is left.

    Args:
        engine: the box's engine.
        state: what is there of the stack.
        image: any image of the engine, to look into a volume with; None: the container's.
    """
    newest = state.newest.image.id if state.newest else None
    look_with = newest or image or (state.container.image if state.container else None)
    if look_with is None:
        return None
    volumes = {state.seal_volume: _VOLUME} if state.seal_volume else {}
    with engine.scratch(look_with, volumes=volumes) as container:
        found = [engine.get(container, SEAL)] if newest else []
        found += [engine.get(container, _VOLUME)] if volumes else []
    whole = [files for files in found if files.keys() >= _SEALED_FILES]
    if not whole:
        return None
    files = max(whole, key=_sealed_generation)
    leaf, authority = _split_chain(files["cert.pem"])
    return Credentials(
        leaf_pem=leaf,
        authority_pem=authority,
        key_pem=Secret(files["key.pem"]),
        password_hash=Secret(files["password.hash"].strip()),
    )


def _sealed_generation(files: Mapping[str, bytes]) -> int:
    return int(json.loads(files["seal.json"])["generation"])


def _split_chain(pem: bytes) -> tuple[bytes, bytes]:
    end = b"-----END CERTIFICATE-----\n"
    parts = [part + end for part in pem.split(end) if part.strip()]
    return b"".join(parts[:-1]) or parts[0], parts[-1]


def seal_files(
    credentials: Credentials, *, generation: int, names: tuple[str, ...], account: Account
) -> bytes:
    """The seal as a tar, readable by the server's user alone."""
    about = {"generation": generation, "id": secrets.token_hex(8), "names": list(names)}
    chain = credentials.leaf_pem
    if credentials.authority_pem not in chain:
        chain += credentials.authority_pem
    files = {
        "cert.pem": (chain, 0o400),
        "key.pem": (credentials.key_pem.reveal().encode(), 0o400),
        "password.hash": (credentials.password_hash.reveal().encode() + b"\n", 0o400),
        "seal.json": (json.dumps(about).encode() + b"\n", 0o400),
    }
    return tar(files, uid=account.uid, gid=account.gid)


def seal(
    engine: Engine, *, body: str, tag: str, files: bytes, credentials: Credentials,
    labels: Mapping[str, str],
) -> Image:  # fmt: skip
    """Put a seal on a body and make the sealed image of it; no build cache sees the key."""
    public = {
        LEAF_LABEL: base64.b64encode(credentials.leaf_pem).decode(),
        AUTHORITY_LABEL: base64.b64encode(credentials.authority_pem).decode(),
    }
    with engine.scratch(body, labels={**labels, **public}) as container:
        engine.put(container, SEAL, files)
        return engine.commit(container, tag)


def write_live(engine: Engine, *, image: str, volume: str, files: bytes) -> None:
    """Put a seal into the volume that a running server reads."""
    with engine.scratch(image, volumes={volume: SEAL}) as container:
        engine.put(container, SEAL, files)


def read_authority(engine: Engine, state: State, *, image: str) -> Authority | None:
    """The CA, key included, from where only the engine reaches."""
    volume = volume_names(state.name, 0)["authority"]
    if volume not in state.volumes:
        return None
    with engine.scratch(image, volumes={volume: "/authority"}) as container:
        files = engine.get(container, "/authority")
    if not {"ca.pem", "ca.key"} <= files.keys():
        return None
    return Authority(certificate_pem=files["ca.pem"], key_pem=Secret(files["ca.key"]))


def write_authority(
    engine: Engine, name: str, authority: Authority, *, image: str, labels: Mapping[str, str]
) -> None:
    """Keep the CA on the box, in a volume that no server mounts."""
    volume = volume_names(name, 0)["authority"]
    engine.create_volume(volume, labels)
    files = {
        "ca.pem": (authority.certificate_pem, 0o444),
        "ca.key": (authority.key_pem.reveal().encode(), 0o400),
    }
    with engine.scratch(image, volumes={volume: "/authority"}) as container:
        engine.put(container, "/authority", tar(files, uid=0, gid=0))


def remove_unused(engine: Engine, locks: set[str | None]) -> None:
    """Remove the environment images of locks that nothing on the engine uses any more."""
    used = {each.get(label.LOCK) for each in _users_of_locks(engine)}
    for image in engine.images({label.KIND: "environment"}):
        if image.labels.get(label.LOCK) in locks - used:
            for tag in _names(image, ENVIRONMENT):
                engine.remove_image(tag)
