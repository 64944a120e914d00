"""Releases as a box keeps them, and what of them goes."""

from __future__ import annotations

from typing import Any, cast

import pytest

from jupbox import composed as files
from jupbox import labels as label
from jupbox.host import records as room
from jupbox.host import stack as stacks
from jupbox.host.engine import Engine
from jupbox.host.stack import PROVEN, ROLLED_OUT, SEAL, Release, State
from tests.unit.fakes import FakeEngine, container, image, sealed_image

NAME = "jupbox-alice_workbox"
MINE = {label.STACK: NAME, label.KIND: "volume"}


@pytest.fixture
def fake() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def engine(fake: FakeEngine) -> Engine:
    return cast(Engine, fake)


def state(fake: FakeEngine) -> State:
    return stacks.observe(cast(Engine, fake), NAME)


def composed(number: int, **labels: str) -> dict[str, Any]:
    values = {label.GENERATION: str(number), label.WHO: "ada@laptop", **labels}
    service = {"image": f"{NAME}:seal-{number}", "labels": values}
    return {"name": NAME, "services": {"notebook": service}}


def release(fake: FakeEngine, number: int, *, proven: bool = True, **labels: str) -> Release:
    """A sealed image for a roll-out, with its volume."""
    made = sealed_image(NAME, number, **{label.SEAL: ROLLED_OUT, **labels})
    fake.all_images.append(made)
    if proven:
        fake.tag(made.id, f"{NAME}:{PROVEN}-{number}")
    fake.all_volumes[f"{NAME}_seal-{number}"] = MINE
    found = fake.image(made.id)
    assert found is not None
    return Release(generation=number, image=found)


def keep(fake: FakeEngine, number: int, *, proven: bool = True, **labels: str) -> None:
    """A release that is kept."""
    kept = release(fake, number, proven=proven, **labels)
    room.keep(cast(Engine, fake), kept, composed(number, **labels), stack=NAME)


def runs(fake: FakeEngine, number: int) -> None:
    """The stack's container is of that release."""
    labels = {label.STACK: NAME, label.KIND: "server", label.GENERATION: str(number)}
    volumes = {SEAL: f"{NAME}_seal-{number}"}
    fake.all_containers.append(container("c", labels, volumes=volumes))


def numbers(fake: FakeEngine) -> list[int]:
    return [each.number for each in room.records(cast(Engine, fake), NAME)]


def seals(fake: FakeEngine) -> set[int]:
    return {int(i.labels[label.GENERATION]) for i in fake.images({label.KIND: "sealed"})}


def test_a_release_comes_back_as_it_was_kept(fake: FakeEngine, engine: Engine) -> None:
    keep(fake, 4, **{label.REVISION: "abc1234"})
    (found,) = room.records(engine, NAME)
    assert (found.number, found.origin, found.image) == (4, 4, f"sha256:{NAME}:seal-4")
    assert found.composed == composed(4, **{label.REVISION: "abc1234"})
    assert (found.labels[label.WHO], found.labels[label.REVISION]) == ("ada@laptop", "abc1234")


def test_what_stands_for_a_release_is_no_server(fake: FakeEngine) -> None:
    keep(fake, 4)
    assert state(fake).container is None


def test_a_release_is_kept_once(fake: FakeEngine, engine: Engine) -> None:
    keep(fake, 4)
    room.keep(engine, state(fake).releases[0], composed(4), stack=NAME)
    assert numbers(fake) == [4]


def test_a_record_that_nobody_can_read_is_no_release(fake: FakeEngine) -> None:
    labels = {label.STACK: NAME, label.KIND: "release", label.GENERATION: "3"}
    fake.all_containers += [
        container("a", labels),
        container("b", {**labels, label.COMPOSE: "AAAA"}),
        container("c", {**labels, label.COMPOSE: files.packed({"services": {}})}),
    ]
    assert numbers(fake) == []


def test_the_newest_releases_stay_with_all_that_they_need(fake: FakeEngine, engine: Engine) -> None:
    for number in range(1, 7):
        keep(fake, number)
    fake.all_images.append(image("jupbox-env:minimal"))
    fake.all_volumes |= {f"{NAME}_home": MINE, f"{NAME}_authority": MINE}
    runs(fake, 6)
    room.prune(engine, state(fake), keep=3)
    assert numbers(fake) == [6, 5, 4]
    assert seals(fake) == {4, 5, 6}
    assert fake.image("jupbox-env:minimal")
    assert set(fake.all_volumes) == {
        f"{NAME}_{name}" for name in ("seal-4", "seal-5", "seal-6", "home", "authority")
    }


def test_changed_passwords_push_no_release_out(fake: FakeEngine, engine: Engine) -> None:
    keep(fake, 1)
    keep(fake, 2)
    runs(fake, 2)
    for number in range(3, 9):
        fake.all_images.append(sealed_image(NAME, number, **{label.SEAL: "live"}))
    room.prune(engine, state(fake), keep=3)
    assert numbers(fake) == [2, 1]
    assert seals(fake) == {1, 2, 8}  # what the next start has, and nothing between


def test_the_release_that_runs_stays_whatever_is_newer(fake: FakeEngine, engine: Engine) -> None:
    for number in (1, 2, 3):
        keep(fake, number)
    runs(fake, 1)
    room.prune(engine, state(fake), keep=2)
    assert numbers(fake) == [3, 1]


def test_a_rollback_stands_in_place_of_what_it_brought_back(
    fake: FakeEngine, engine: Engine
) -> None:
    for number in (1, 2, 3):
        keep(fake, number)
    keep(fake, 4, **{label.ORIGIN: "2"})
    runs(fake, 4)
    room.prune(engine, state(fake), keep=3)
    assert [(r.number, r.origin) for r in room.records(engine, NAME)] == [(4, 2), (3, 3), (1, 1)]


def test_what_a_roll_out_left_that_was_cut_off_goes(fake: FakeEngine, engine: Engine) -> None:
    keep(fake, 1)
    runs(fake, 1)
    keep(fake, 2, proven=False)
    labels = {label.STACK: NAME, label.KIND: "candidate"}
    fake.all_containers.append(container("candidate", labels))
    before = state(fake)
    assert before.newest is not None
    assert before.newest.generation == 1, "nothing counts of what never ran"
    assert room.sweep(engine, before)
    assert (numbers(fake), seals(fake)) == ([1], {1})
    assert not fake.containers({label.KIND: "candidate"})
    assert f"{NAME}_seal-2" not in fake.all_volumes
    assert not room.sweep(engine, state(fake))


def test_of_a_roll_out_that_was_cut_off_goes_the_body_too_that_no_other_has(
    fake: FakeEngine, engine: Engine
) -> None:
    old, new = f"{NAME}:body-old", f"{NAME}:body-new"
    fake.all_images += [image(tag, {label.KIND: "body", label.STACK: NAME}) for tag in (old, new)]
    keep(fake, 1, **{label.BODY: old})
    runs(fake, 1)
    keep(fake, 2, proven=False, **{label.BODY: new})
    keep(fake, 3, proven=False, **{label.BODY: old})
    assert room.sweep(engine, state(fake))
    assert {tag for each in fake.all_images for tag in each.tags if ":body-" in tag} == {old}


def test_the_seal_of_a_stack_without_a_container_is_never_abandoned(
    fake: FakeEngine, engine: Engine
) -> None:
    release(fake, 1, proven=False)
    assert not room.sweep(engine, state(fake))
    assert seals(fake) == {1}


def test_a_live_change_after_a_cut_off_roll_out_counts(fake: FakeEngine) -> None:
    keep(fake, 1)
    runs(fake, 1)
    release(fake, 2, proven=False)
    fake.all_images.append(sealed_image(NAME, 3, **{label.SEAL: "live"}))
    newest = state(fake).newest
    assert newest is not None
    assert newest.generation == 3


def test_bodies_of_releases_that_are_gone_go_too(fake: FakeEngine, engine: Engine) -> None:
    fake.all_images.append(sealed_image(NAME, 2, **{label.BODY: f"{NAME}:body-new"}))
    fake.all_images += [
        image(f"{NAME}:body-{age}", {label.STACK: NAME, label.KIND: "body"})
        for age in ("old", "new")
    ]
    room.prune(engine, state(fake), keep=3)
    kept = {image.tags[0] for image in fake.all_images}
    assert kept == {f"{NAME}:seal-2", f"{NAME}:body-new"}


def test_environments_of_old_releases_go_unless_somebody_uses_them(
    fake: FakeEngine, engine: Engine
) -> None:
    for number, lock in enumerate(("gone", "shared", "kept", "kept", "new"), start=1):
        keep(fake, number, **{label.LOCK: lock})
    runs(fake, 5)
    fake.all_images.append(sealed_image("jupbox-bob_workbox", 1, **{label.LOCK: "shared"}))
    for lock in ("gone", "shared", "kept", "new", "somebody-builds-it-now"):
        fake.all_images.append(
            image(f"jupbox-env:{lock}", {label.KIND: "environment", label.LOCK: lock})
        )
    room.prune(engine, state(fake), keep=3)
    left = {tag for i in fake.all_images for tag in i.tags if tag.startswith("jupbox-env:")}
    names = ("shared", "kept", "new", "somebody-builds-it-now")
    assert left == {f"jupbox-env:{name}" for name in names}


def test_what_is_left_of_transfers_goes_unless_it_says_what_is_there(
    fake: FakeEngine, engine: Engine
) -> None:
    fake.all_images.append(sealed_image(NAME, 1, **{label.LOCK: "in use"}))
    parts = {"part-a-1": "in use", "sent-a-2": "in use", "sent-b-2": "gone"}
    for tag, lock in parts.items():
        labels = {label.STACK: NAME, label.KIND: "part", label.LOCK: lock}
        fake.all_images.append(image(f"{NAME}:{tag}", labels))
    room.prune(engine, state(fake), keep=3)
    assert {i.tags[0] for i in fake.all_images} == {f"{NAME}:seal-1", f"{NAME}:sent-a-2"}
