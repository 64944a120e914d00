"""Which release `rollback` brings back."""

from __future__ import annotations

from typing import Any, cast

import pytest

from jupbox import labels as label
from jupbox.errors import RolloutError, UnknownNameError
from jupbox.host import records
from jupbox.host import stack as stacks
from jupbox.host.engine import Engine
from jupbox.host.stack import PROVEN, ROLLED_OUT, SEAL, Release
from jupbox.workflows import rollback as room
from tests.unit.fakes import container, sealed_image
from tests.unit.release.bench import STACK, Bench, bench


def kept(made: Bench, number: int, **labels: str) -> None:
    """A release that is kept and has served."""
    image = sealed_image(STACK, number, **{label.SEAL: ROLLED_OUT})
    made.engine.all_images.append(image)
    made.engine.tag(image.id, f"{STACK}:{PROVEN}-{number}")
    values = {label.GENERATION: str(number), **labels}
    composed: dict[str, Any] = {
        "services": {"notebook": {"image": f"{STACK}:seal-{number}", "labels": values}}
    }
    release = Release(generation=number, image=image)
    records.keep(cast(Engine, made.engine), release, composed, stack=STACK)


def runs(made: Bench, number: int) -> None:
    labels = {label.STACK: STACK, label.KIND: "server", label.GENERATION: str(number)}
    volumes = {SEAL: f"{STACK}_seal-{number}"}
    made.engine.all_containers.append(container("server", labels, volumes=volumes))


def chosen(made: Bench, number: int | None = None) -> int:
    state = stacks.observe(cast(Engine, made.engine), STACK)
    return room._chosen(made.site, state, number).number


@pytest.fixture
def made() -> Bench:
    return bench()


def test_the_one_before_what_runs(made: Bench) -> None:
    for number in (1, 3, 7):
        kept(made, number)
    runs(made, 7)
    assert chosen(made) == 3


def test_a_second_time_goes_further_back_and_not_to_what_was_left(made: Bench) -> None:
    for number in (1, 3, 7):
        kept(made, number)
    kept(made, 8, **{label.ORIGIN: "3"})
    runs(made, 8)
    assert chosen(made) == 1


def test_any_that_is_kept_by_its_number(made: Bench) -> None:
    for number in (1, 3, 7):
        kept(made, number)
    runs(made, 3)
    assert chosen(made, 7) == 7


def test_one_that_is_not_kept_is_an_error_that_names_those_that_are(made: Bench) -> None:
    for number in (1, 3, 7):
        kept(made, number)
    runs(made, 7)
    with pytest.raises(UnknownNameError) as caught:
        chosen(made, 5)
    assert caught.value.remedy == "There are: 3, 1."


def test_there_may_be_none(made: Bench) -> None:
    kept(made, 1)
    runs(made, 1)
    with pytest.raises(RolloutError):
        chosen(made)
