"""What `up` does, for what is wanted and what is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from jupbox import pki
from jupbox.plan import (
    Action,
    Certificates,
    Limits,
    Observed,
    Running,
    Sealed,
    Wanted,
    steps,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = pki.Names.of(["workbox", "192.0.2.7"])
LOCK, BUILD, CERTIFY, SEAL, DEPLOY, BESIDE, UPDATE, START = Action


@dataclass(frozen=True, kw_only=True)
class Given:
    """A box that is as it should be, and the moment."""

    wanted: Wanted
    observed: Observed
    now: datetime = NOW


def issue(names: pki.Names) -> Certificates:
    authority = pki.make_authority(box="workbox", names=names, now=NOW)
    leaf = pki.issue_leaf(authority=authority, names=names, now=NOW)
    return Certificates(leaf_pem=leaf.certificate_pem, authority_pem=authority.certificate_pem)


CERTIFICATES = issue(NAMES)
OTHERS = issue(pki.Names.of(["elsewhere"]))
FINE = Given(
    wanted=Wanted(
        environment="lock-1",
        configuration="values-1",
        names=NAMES,
        own_certificate=None,
        recipe=None,
    ),
    observed=Observed(
        environment_image=True,
        certificates=CERTIFICATES,
        sealed=Sealed(environment="lock-1", recipe="recipe-1"),
        container=Running(
            environment="lock-1",
            configuration="values-1",
            running=True,
            sealed_image_present=True,
        ),
    ),
)


def wanting(given: Given = FINE, **changes: object) -> Given:
    return replace(given, wanted=replace(given.wanted, **changes))  # type: ignore[arg-type]


def seeing(given: Given = FINE, **changes: object) -> Given:
    return replace(given, observed=replace(given.observed, **changes))  # type: ignore[arg-type]


def running(given: Given = FINE, **changes: object) -> Given:
    container = given.observed.container
    assert container is not None
    return seeing(given, container=replace(container, **changes))  # type: ignore[arg-type]


def sealed(given: Given = FINE, **changes: object) -> Given:
    seal = given.observed.sealed
    assert seal is not None
    return seeing(given, sealed=replace(seal, **changes))  # type: ignore[arg-type]


def why(given: Given) -> dict[Action, str]:
    return {step.action: step.why for step in steps(given.wanted, given.observed, now=given.now)}


def at(moment: datetime, given: Given = FINE) -> Given:
    return replace(given, now=moment)


LEAF = pki.expires(CERTIFICATES.leaf_pem)
OWN = pki.fingerprint(OTHERS.leaf_pem)
NOTHING = Observed(environment_image=False, certificates=None, sealed=None, container=None)

TABLE: list[tuple[str, Given, dict[Action, str]]] = [
    ("all is well", FINE, {}),
    (
        "nothing is there",
        replace(FINE, observed=NOTHING),
        {
            BUILD: "the box has no image of this lock",
            CERTIFY: "there is none yet",
            SEAL: "there is none yet",
            DEPLOY: "nothing runs yet",
        },
    ),
    (
        "only the environment image is there",
        replace(FINE, observed=replace(NOTHING, environment_image=True)),
        {
            CERTIFY: "there is none yet",
            SEAL: "there is none yet",
            DEPLOY: "nothing runs yet",
        },
    ),
    ("sealed, but nothing runs", seeing(container=None), {DEPLOY: "nothing runs yet"}),
    ("stopped", running(running=False), {START: "it is stopped"}),
    (
        "another lock, image there",
        wanting(environment="lock-2"),
        {SEAL: "the lock changed", DEPLOY: "it runs another lock"},
    ),
    (
        "another lock, image not there",
        seeing(wanting(environment="lock-2"), environment_image=False),
        {
            BUILD: "the box has no image of this lock",
            SEAL: "the lock changed",
            DEPLOY: "it runs another lock",
        },
    ),
    (
        "the lock is sealed already, but the old one runs",
        running(environment="lock-0"),
        {DEPLOY: "it runs another lock"},
    ),
    (
        "the lock was sealed once, and another one since",
        sealed(environment="lock-2"),
        {SEAL: "the lock changed", DEPLOY: "the sealed image is new"},
    ),
    ("the environment image was pruned", seeing(environment_image=False), {}),
    (
        "other values",
        wanting(configuration="values-2"),
        {DEPLOY: "its configuration changed"},
    ),
    (
        "other values, and stopped",
        running(wanting(configuration="values-2"), running=False),
        {DEPLOY: "its configuration changed"},
    ),
    ("jupbox is newer, and nobody asked for it", sealed(recipe="recipe-0"), {}),
    (
        "jupbox is newer, and its files are asked for",
        sealed(wanting(recipe="recipe-1"), recipe="recipe-0"),
        {SEAL: "jupbox's own files changed", DEPLOY: "the sealed image is new"},
    ),
    ("jupbox's files are asked for and there", wanting(recipe="recipe-1"), {}),
    (
        "the sealed image is gone, but its container runs",
        running(sealed_image_present=False),
        {},
    ),
    (
        "the sealed image is gone, and its container is stopped",
        running(sealed_image_present=False, running=False),
        {DEPLOY: "its image is gone"},
    ),
    (
        "every sealed image is gone, the volume is not",
        seeing(sealed=None),
        {SEAL: "there is none yet", DEPLOY: "the sealed image is new"},
    ),
    (
        "another name",
        wanting(names=pki.Names.of(["workbox", "workbox.example.org"])),
        {CERTIFY: "the box's names are others", SEAL: "the certificate is new"},
    ),
    (
        "a third of the certificate's life is left",
        at(LEAF - timedelta(days=121)),
        {CERTIFY: "a third of its life or less is left", SEAL: "the certificate is new"},
    ),
    ("more than a third is left", at(LEAF - timedelta(days=123)), {}),
    (
        "expired",
        at(LEAF + timedelta(days=1)),
        {CERTIFY: "a third of its life or less is left", SEAL: "the certificate is new"},
    ),
    (
        "the user's own certificate is new",
        wanting(names=None, own_certificate=OWN),
        {CERTIFY: "tls.cert is another one", SEAL: "the certificate is new"},
    ),
    (
        "the user's own certificate is in place",
        seeing(wanting(names=None, own_certificate=OWN), certificates=OTHERS),
        {},
    ),
    (
        "the user's own certificate ages: it is not ours to renew",
        at(
            LEAF - timedelta(days=3),
            seeing(wanting(names=None, own_certificate=OWN), certificates=OTHERS),
        ),
        {},
    ),
    (
        "the user's own certificate is taken back",
        seeing(certificates=OTHERS),
        {CERTIFY: "the box's names are others", SEAL: "the certificate is new"},
    ),
    (
        "another name, and stopped",
        running(wanting(names=pki.Names.of(["new"])), running=False),
        {
            CERTIFY: "the box's names are others",
            SEAL: "the certificate is new",
            START: "it is stopped",
        },
    ),
    (
        "another lock and another name",
        wanting(environment="lock-2", names=pki.Names.of(["new"])),
        {
            CERTIFY: "the box's names are others",
            SEAL: "the lock changed",
            DEPLOY: "it runs another lock",
        },
    ),
]


@pytest.mark.parametrize(("given", "expected"), [pytest.param(g, e, id=n) for n, g, e in TABLE])
def test_what_is_done_and_why(given: Given, expected: dict[Action, str]) -> None:
    assert why(given) == expected


def test_nothing_to_do_is_empty() -> None:
    assert steps(FINE.wanted, FINE.observed, now=NOW) == ()


@pytest.mark.parametrize(
    "given",
    [
        wanting(names=pki.Names.of(["new"])),
        wanting(names=None, own_certificate=OWN),
        at(LEAF),
    ],
)
def test_a_new_certificate_reaches_a_running_server_without_a_restart(given: Given) -> None:
    assert set(why(given)) == {CERTIFY, SEAL}


# --- whatever the combination -----------------------------------------------------------------


def every_combination() -> Iterator[Given]:
    seals = [None, Sealed(environment="lock-1", recipe="r-1"), Sealed(environment="x", recipe="x")]
    containers = [
        None,
        *(
            Running(environment=lock, configuration=values, running=up, sealed_image_present=there)
            for lock, values, up, there in product(
                ("lock-1", "x"), ("values-1", "x"), (True, False), (True, False)
            )
        ),
    ]
    for image, certificates, seal, container, recipe, own, now in product(
        (True, False),
        (None, CERTIFICATES, OTHERS),
        seals,
        containers,
        (None, "r-1"),
        (None, OWN),
        (NOW, LEAF),
    ):
        yield Given(
            wanted=replace(
                FINE.wanted,
                recipe=recipe,
                own_certificate=own,
                names=None if own else NAMES,
            ),
            observed=Observed(
                environment_image=image,
                certificates=certificates,
                sealed=seal,
                container=container,
            ),
            now=now,
        )


def test_the_steps_come_in_the_order_in_which_they_run() -> None:
    order = list(Action)
    for given in every_combination():
        found = [order.index(action) for action in why(given)]
        assert found == sorted(found)


def test_every_step_has_a_reason() -> None:
    assert all(all(why(given).values()) for given in every_combination())


def test_what_cannot_be_is_never_planned() -> None:
    for given in every_combination():
        done = set(why(given))
        there = given.observed
        # a certificate is nowhere until it is sealed, and an image is built to be sealed
        assert CERTIFY not in done or SEAL in done
        assert BUILD not in done or (SEAL in done and DEPLOY in done)
        # what is deployed is started
        assert not {START, DEPLOY} <= done
        # afterwards something is sealed and something runs
        assert there.sealed or SEAL in done
        assert (there.container and there.container.running) or done & {START, DEPLOY}
        assert there.certificates or CERTIFY in done


def test_a_server_that_is_right_but_for_its_certificate_is_never_restarted() -> None:
    right = FINE.observed.container
    for given in every_combination():
        there = given.observed
        if there.container == right and there.sealed == Sealed(environment="lock-1", recipe="r-1"):
            assert not set(why(given)) & {BUILD, DEPLOY, START}


# --- limits, templates, a lock that is still to be made -----------------------------------------


def test_other_limits_are_changed_with_no_restart() -> None:
    assert why(wanting(limits=Limits(memory=1 << 30))) == {UPDATE: "they are others"}


def test_a_deployment_brings_its_limits_along() -> None:
    given = wanting(limits=Limits(cpus=2.0), configuration="values-2")
    assert why(given) == {DEPLOY: "its configuration changed"}


def test_a_stopped_server_gets_its_limits_before_it_starts() -> None:
    given = running(wanting(limits=Limits(cpus=2.0)), running=False)
    assert list(why(given)) == [UPDATE, START]


def test_a_newer_template_alone_restarts_nothing_unless_asked_for() -> None:
    assert why(running(template="old")) == {}
    assert why(wanting(running(template="old"), template="new")) == {
        DEPLOY: "jupbox's own compose template changed"
    }


def test_without_a_lock_one_is_made_first() -> None:
    given = seeing(wanting(environment=None, no_lock="none"), environment_image=False)
    assert list(why(given)) == [LOCK, BUILD, SEAL, DEPLOY]
    assert why(given)[LOCK] == "none"


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        ({}, "db does not run"),
        ({"db": "2"}, "db changed"),
        ({"db": "1", "old": "1"}, "old is not wanted any more"),
        ({"old": "1"}, "db does not run; old is not wanted any more"),
    ],
)
def test_what_runs_beside_the_notebook_changes_alone(there: dict[str, str], reason: str) -> None:
    assert why(seeing(wanting(beside={"db": "1"}), beside=there)) == {BESIDE: reason}


def test_what_runs_beside_it_as_wanted_is_left_alone() -> None:
    assert why(seeing(wanting(beside={"db": "1"}), beside={"db": "1"})) == {}
