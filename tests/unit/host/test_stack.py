"""A stack's state as it is read from labels, and its seals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from jupbox import labels as label
from jupbox import pki
from jupbox.host import stack as room
from jupbox.host.engine import COMPOSE_PROJECT, Engine
from jupbox.host.inspected import Image
from jupbox.host.stack import SEAL, Credentials, State
from jupbox.plan import Certificates
from jupbox.render import Account
from jupbox.secret import Secret
from tests.unit.fakes import FakeEngine, container, image, members, sealed_image, unpacked

NAME = "jupbox-alice_workbox"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = pki.Names.of(["workbox"])
MINE = {label.STACK: NAME, label.KIND: "volume"}
ALICE = Account(name="alice", uid=1234, gid=1235, groups=(("domain users", 3000), ("gpu", 44)))


def make(password: str = "$argon2id$hash") -> tuple[Credentials, pki.Authority]:
    authority = pki.make_authority(box="workbox", names=NAMES, now=NOW)
    leaf = pki.issue_leaf(authority=authority, names=NAMES, now=NOW)
    return Credentials(
        leaf_pem=leaf.certificate_pem,
        authority_pem=authority.certificate_pem,
        key_pem=leaf.key_pem,
        password_hash=Secret(password),
    ), authority


CREDENTIALS, AUTHORITY = make()
OTHER, _ = make("$argon2id$another")


@pytest.fixture
def fake() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def engine(fake: FakeEngine) -> Engine:
    return cast(Engine, fake)


def files(
    credentials: Credentials = CREDENTIALS, *, generation: int = 1, account: Account = ALICE
) -> bytes:
    return room.seal_files(
        credentials, generation=generation, names=("workbox", "127.0.0.1"), account=account
    )


def state(fake: FakeEngine) -> State:
    return room.observe(cast(Engine, fake), NAME)


def volume(fake: FakeEngine, generation: int, credentials: Credentials | None = None) -> str:
    name = f"{NAME}_seal-{generation}"
    fake.all_volumes[name] = MINE
    if credentials:
        fake.in_volumes[name] = unpacked(files(credentials, generation=generation))
    return name


def seal(engine: Engine, generation: int, credentials: Credentials = CREDENTIALS) -> None:
    room.seal(
        engine,
        body="body",
        tag=f"{NAME}:seal-{generation}",
        files=files(credentials, generation=generation),
        credentials=credentials,
        labels={
            label.STACK: NAME,
            label.KIND: "sealed",
            label.GENERATION: str(generation),
            label.ACCOUNT: room.account_text(ALICE),
        },
    )


# --- what is there ----------------------------------------------------------------------------


@pytest.mark.real_process
def test_a_ctrl_c_does_not_wait_for_an_engine_that_says_nothing(tmp_path: Path) -> None:
    program = tmp_path / "silent.py"
    program.write_text(
        "import os, threading\n"
        "from jupbox.host import stack\n"
        "class Silent:\n"
        "    def containers(self, labels):\n"
        "        os.write(1, b'asked\\n')\n"
        "        threading.Event().wait()\n"
        "    images = volumes = containers\n"
        "stack.observe(Silent(), 'name')\n"
    )
    argv = [sys.executable, str(program)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == b"asked\n"
            running.send_signal(signal.SIGINT)
            assert running.wait(20) == -signal.SIGINT
        finally:
            running.kill()


def test_an_engine_without_the_stack_has_nothing_of_it(fake: FakeEngine) -> None:
    fake.all_images.append(sealed_image("jupbox-bob-workbox", 4))
    found = state(fake)
    assert (found.container, found.newest, found.seal_volume, found.account) == (None,) * 4
    assert found.next_generation == 1


def test_releases_come_newest_first_and_by_number(fake: FakeEngine) -> None:
    fake.all_images += [sealed_image(NAME, number) for number in (2, 10, 9)]
    assert [release.generation for release in state(fake).releases] == [10, 9, 2]


@pytest.mark.parametrize(
    ("images", "volumes", "expected"),
    [((), (), 1), ((1,), (), 2), ((), (3,), 4), ((10, 9), (2,), 11), ((1,), (7,), 8)],
)
def test_the_next_generation_was_never_used(
    fake: FakeEngine, images: tuple[int, ...], volumes: tuple[int, ...], expected: int
) -> None:
    fake.all_images += [sealed_image(NAME, number) for number in images]
    for number in volumes:
        volume(fake, number)
    assert state(fake).next_generation == expected


def test_other_volumes_have_no_generation(fake: FakeEngine) -> None:
    for name in ("_home", "_tmp", "_authority", "_seal-", "_seal-x"):
        fake.all_volumes[NAME + name] = MINE
    found = state(fake)
    assert (found.next_generation, found.seal_volume) == (1, None)


def test_the_seal_volume_is_the_one_in_use_else_the_newest(fake: FakeEngine) -> None:
    volume(fake, 2)
    volume(fake, 10)
    assert state(fake).seal_volume == f"{NAME}_seal-10"
    labels = {label.STACK: NAME, label.KIND: "server"}
    fake.all_containers.append(container("c", labels, volumes={SEAL: f"{NAME}_seal-2"}))
    assert state(fake).seal_volume == f"{NAME}_seal-2"


def test_a_leftover_of_an_interrupted_deploy_is_not_the_container(fake: FakeEngine) -> None:
    labels = {label.STACK: NAME, label.KIND: "server"}
    never = container("new", labels, state="created", started=None)
    stopped = container("old", labels, state="exited")
    for order in ([never, stopped], [stopped, never]):
        fake.all_containers = order
        assert state(fake).container == stopped


# --- the account ------------------------------------------------------------------------------


def test_an_account_comes_back_from_its_label() -> None:
    assert room.read_account(room.account_text(ALICE)) == ALICE


def test_the_account_is_what_the_seals_say_else_the_volumes(fake: FakeEngine) -> None:
    bob = replace(ALICE, name="bob")
    fake.all_volumes[f"{NAME}_home"] = {**MINE, label.ACCOUNT: room.account_text(bob)}
    assert state(fake).account == bob
    fake.all_images.append(sealed_image(NAME, 1, **{label.ACCOUNT: room.account_text(ALICE)}))
    assert state(fake).account == ALICE


# --- seals ------------------------------------------------------------------------------------


def test_a_seal_is_readable_by_the_servers_user_alone() -> None:
    found = members(files())
    assert {member.name for member in found} == {
        "cert.pem",
        "key.pem",
        "password.hash",
        "seal.json",
    }
    for member in found:
        assert (member.mode, member.uid, member.gid) == (0o400, 1234, 1235)
        assert member.isfile()


def test_a_seal_names_its_generation_and_its_names() -> None:
    about = json.loads(unpacked(files(generation=7))["seal.json"])
    assert (about["generation"], about["names"]) == (7, ["workbox", "127.0.0.1"])


def test_two_seals_of_the_same_are_told_apart() -> None:
    ids = {json.loads(unpacked(files())["seal.json"])["id"] for _ in range(2)}
    assert len(ids) == 2


def test_the_chain_holds_the_leaf_first_and_each_certificate_once() -> None:
    chain = unpacked(files())["cert.pem"]
    assert chain == CREDENTIALS.leaf_pem + CREDENTIALS.authority_pem
    alone = replace(CREDENTIALS, authority_pem=CREDENTIALS.leaf_pem)
    assert unpacked(files(alone))["cert.pem"] == CREDENTIALS.leaf_pem


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        (("leaf", "root"), (("leaf",), "root")),
        (("leaf", "middle", "root"), (("leaf", "middle"), "root")),
        (("self-signed",), (("self-signed",), "self-signed")),
    ],
)
def test_a_chain_is_split_at_what_clients_trust(
    chain: tuple[str, ...], expected: tuple[tuple[str, ...], str]
) -> None:
    def pem(*names: str) -> bytes:
        return "".join(
            f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n" for name in names
        ).encode()

    assert room._split_chain(pem(*chain)) == (pem(*expected[0]), pem(expected[1]))


def test_a_sealed_image_shows_certificates_and_no_secret_in_its_labels(
    fake: FakeEngine, engine: Engine
) -> None:
    seal(engine, 1)
    (made,) = fake.all_images
    shown = json.dumps(dict(made.labels))
    assert CREDENTIALS.key_pem.reveal() not in shown
    assert "argon2" not in shown
    assert room.public_certificates(engine, state(fake)) == Certificates(
        leaf_pem=CREDENTIALS.leaf_pem, authority_pem=CREDENTIALS.authority_pem
    )


def test_credentials_come_back_from_the_newest_image(fake: FakeEngine, engine: Engine) -> None:
    seal(engine, 1, OTHER)
    seal(engine, 2)
    assert room.read_credentials(engine, state(fake), image=None) == CREDENTIALS


def test_credentials_come_back_from_the_volume_if_the_images_were_pruned(
    fake: FakeEngine, engine: Engine
) -> None:
    volume(fake, 2, CREDENTIALS)
    assert room.read_credentials(engine, state(fake), image=None) is None
    assert room.read_credentials(engine, state(fake), image="sha256:any") == CREDENTIALS
    found = room.public_certificates(engine, state(fake), image="sha256:any")
    assert found is not None
    assert found.leaf_pem == CREDENTIALS.leaf_pem


def test_the_younger_of_image_and_volume_counts(fake: FakeEngine, engine: Engine) -> None:
    seal(engine, 1, OTHER)
    name = volume(fake, 1)
    # a live change wrote the second seal, and a prune took its image
    fake.in_volumes[name] = unpacked(files(CREDENTIALS, generation=2))
    assert room.read_credentials(engine, state(fake), image=None) == CREDENTIALS
    seal(engine, 3, OTHER)
    assert room.read_credentials(engine, state(fake), image=None) == OTHER


def test_half_a_seal_is_none(fake: FakeEngine, engine: Engine) -> None:
    name = volume(fake, 1, CREDENTIALS)
    del fake.in_volumes[name]["key.pem"]
    assert room.read_credentials(engine, state(fake), image="sha256:any") is None


def test_no_secret_shows_when_credentials_are_printed() -> None:
    shown = f"{CREDENTIALS!r} {CREDENTIALS}"
    assert "PRIVATE" not in shown
    assert "argon2" not in shown


def test_a_live_change_writes_the_same_seal_into_the_volume(
    fake: FakeEngine, engine: Engine
) -> None:
    name = volume(fake, 1, OTHER)
    text = files(CREDENTIALS, generation=2)
    room.write_live(engine, image="sha256:any", volume=name, files=text)
    assert fake.in_volumes[name] == unpacked(text)


# --- the CA -----------------------------------------------------------------------------------


def test_the_authority_lies_in_a_volume_of_its_own(fake: FakeEngine, engine: Engine) -> None:
    assert room.read_authority(engine, state(fake), image="any") is None
    room.write_authority(engine, NAME, AUTHORITY, image="any", labels=MINE)
    assert set(fake.all_volumes) == {f"{NAME}_authority"}
    assert room.read_authority(engine, state(fake), image="any") == AUTHORITY
    modes = {member.name: (member.mode, member.uid) for member in members(fake.tars[-1])}
    assert modes == {"ca.pem": (0o444, 0), "ca.key": (0o400, 0)}


# --- pruning ----------------------------------------------------------------------------------


# --- all that there is of it ------------------------------------------------------------------

BOBS = "jupbox-bob_workbox"
COMPOSED = {COMPOSE_PROJECT: NAME}


def environment(digest: str, *tags: str) -> Image:
    labels = {label.KIND: "environment", label.LOCK: digest}
    return image(tags[0], labels, tags=tags)


def belongings(fake: FakeEngine) -> room.Belongings:
    return room.belongings(cast(Engine, fake), NAME)


def test_of_an_empty_engine_nothing_belongs_to_a_stack() -> None:
    found = belongings(FakeEngine())
    assert (found.has_own, found.data) == (False, ())


def test_a_whole_stack_with_a_sidecar() -> None:
    fake = FakeEngine(
        all_containers=[
            container("notebook-1", {**COMPOSED, label.STACK: NAME, label.KIND: "server"}),
            container("db-1", COMPOSED, state="exited", volumes={"/var/lib": "0a1b", "/x": "mine"}),
        ],
        all_images=[sealed_image(NAME, 2, **{label.LOCK: "one"}), sealed_image(BOBS, 1)],
        all_networks={f"{NAME}_default": COMPOSED, "bridge": {}},
        all_volumes={
            **dict.fromkeys((f"{NAME}_seal-2", f"{NAME}_tmp", f"{NAME}_home"), MINE),
            f"{NAME}_authority": MINE,
            f"{NAME}_db": COMPOSED,
            "0a1b": {"com.docker.volume.anonymous": ""},
            "mine": {},
        },
    )
    found = belongings(fake)
    assert found.containers == {"notebook-1": "running", "db-1": "exited"}
    assert found.networks == (f"{NAME}_default",)
    assert found.images == (f"{NAME}:seal-2",)
    assert found.secrets == (f"{NAME}_authority", f"{NAME}_seal-2", f"{NAME}_tmp")
    # a volume that somebody made and gave a sidecar is theirs
    assert found.data == ("0a1b", f"{NAME}_db", f"{NAME}_home")


def test_a_home_volume_alone_is_data_and_nothing_else() -> None:
    found = belongings(FakeEngine(all_volumes={f"{NAME}_home": MINE}))
    assert (found.has_own, found.data) == (False, (f"{NAME}_home",))


def test_what_a_person_made_of_a_sealed_image_is_theirs() -> None:
    labels = {label.STACK: NAME, label.KIND: "sealed"}
    fake = FakeEngine(
        all_containers=[container("try", labels), container("jupbox-passing-0", labels)],
        all_images=[image("alices:own", labels), image("sha256:1", labels, tags=())],
    )
    found = belongings(fake)
    assert tuple(found.containers) == ("jupbox-passing-0",)
    assert found.images == ("sha256:sha256:1",)


def test_an_environment_that_nobody_else_uses_goes_and_with_the_last_the_base() -> None:
    mine = sealed_image(NAME, 1, **{label.LOCK: "one"})
    ours = environment("one", "jupbox-env:minimal-one", "registry.lab/env:1")
    base = image("jupbox-base:trixie-0")
    alone = belongings(FakeEngine(all_images=[mine, ours, base]))
    assert alone.environments == ("jupbox-env:minimal-one", "jupbox-base:trixie-0")
    another = environment("two", "jupbox-env:scipy-two")
    beside = belongings(FakeEngine(all_images=[mine, ours, base, another]))
    assert beside.environments == ("jupbox-env:minimal-one",)


@pytest.mark.parametrize("kind", ["sealed", "server"])
def test_an_environment_that_another_stack_uses_stays(kind: str) -> None:
    labels = {label.STACK: BOBS, label.KIND: kind, label.LOCK: "one"}
    theirs = {
        "all_containers": [container("theirs", labels)] if kind == "server" else [],
        "all_images": [
            sealed_image(NAME, 1, **{label.LOCK: "one"}),
            environment("one", "jupbox-env:minimal-one"),
            image("jupbox-base:trixie-0"),
            *([image("theirs", labels)] if kind == "sealed" else []),
        ],
    }
    found = belongings(FakeEngine(**theirs))  # type: ignore[arg-type]
    assert found.environments == ()
    assert found.shared == {"jupbox-env:minimal-one": BOBS}


def test_what_compose_built_for_a_sidecar_is_the_stacks() -> None:
    project = {"com.docker.compose.project": NAME}
    mine = image(f"{NAME}-db:latest", project)
    theirs = image("their/db:latest", project)
    assert belongings(FakeEngine(all_images=[mine, theirs])).images == (f"{NAME}-db:latest",)


def home_of(fake: FakeEngine, *volumes: str) -> str:
    fake.all_volumes = {f"{NAME}_{volume}": MINE for volume in volumes}
    return state(fake).home_volume.removeprefix(f"{NAME}_")


def test_the_home_volume_is_the_first_one_or_the_newest_that_was_restored(
    fake: FakeEngine,
) -> None:
    assert home_of(fake) == "home"
    assert home_of(fake, "home", "seal-7", "tmp") == "home"
    assert home_of(fake, "home", "home-9", "home-10", "home-x") == "home-10"


def test_a_home_volume_that_was_not_restored_to_its_end_is_not_used(fake: FakeEngine) -> None:
    assert home_of(fake, "home", "home-1", "home-2", "restoring-2") == "home-1"


def test_the_home_volume_in_use_stays_the_one_whatever_else_there_is(fake: FakeEngine) -> None:
    mounts = {"/home/alice": f"{NAME}_home", "/tmp": f"{NAME}_tmp"}
    kinds = {label.STACK: NAME, label.KIND: "server"}
    fake.all_containers = [container("notebook", kinds, volumes=mounts)]
    assert home_of(fake, "home", "home-1") == "home"


def test_what_marks_a_restore_is_no_data(fake: FakeEngine, engine: Engine) -> None:
    fake.all_volumes = {f"{NAME}_{name}": MINE for name in ("home", "home-1", "restoring-1")}
    seen = room.belongings(engine, NAME)
    assert seen.secrets == (f"{NAME}_restoring-1",)
    assert seen.data == (f"{NAME}_home", f"{NAME}_home-1")
