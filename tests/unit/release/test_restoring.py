"""Fresh home volumes: in use when they are whole, and gone when they are not."""

from __future__ import annotations

import pytest

from jupbox import labels as label
from jupbox.release import restoring
from tests.unit.fakes import container
from tests.unit.release.bench import Bench, bench


@pytest.fixture
def made() -> Bench:
    return bench()


def volumes(made: Bench, *names: str) -> None:
    stack = made.site.stack
    mine = {label.STACK: stack, label.KIND: "volume"}
    made.engine.all_volumes = {f"{stack}_{name}": mine for name in names}


def left(made: Bench) -> set[str]:
    return {name.removeprefix(f"{made.site.stack}_") for name in made.engine.all_volumes}


def test_a_fresh_volume_is_the_stacks_from_its_end_on(made: Bench) -> None:
    volumes(made, "home", "home-3", "tmp")
    with restoring.fresh_volume(made.site, made.state) as volume:
        assert volume == f"{made.site.stack}_home-4"
        assert left(made) == {"home", "home-3", "tmp", "home-4", "restoring-4"}
        assert made.state.home_volume == f"{made.site.stack}_home-3"
    assert left(made) == {"home", "home-3", "tmp", "home-4"}
    assert made.state.home_volume == volume


def test_a_fresh_volume_that_fails_is_taken_away(made: Bench) -> None:
    volumes(made, "home")
    with pytest.raises(KeyboardInterrupt), restoring.fresh_volume(made.site, made.state):
        raise KeyboardInterrupt
    assert left(made) == {"home"}


def test_what_a_restore_left_that_was_cut_off_goes(made: Bench) -> None:
    volumes(made, "home", "home-1", "restoring-1", "restoring-2")
    state = restoring.settle(made.site, made.state)
    assert left(made) == {"home"}
    assert state.home_volume == f"{made.site.stack}_home"


def test_what_compose_made_half_of_a_swap_that_was_cut_off_goes(made: Bench) -> None:
    volumes(made, "home", "home-1", "restoring-1")
    kinds = {label.STACK: made.site.stack, label.KIND: "server"}
    old, new = ({"/home/ada": f"{made.site.stack}_{name}"} for name in ("home", "home-1"))
    made.engine.all_containers = [
        container("0a1b_notebook", kinds, volumes=new, state="created", started=None),
        container("notebook", kinds, volumes=old, state="exited"),
    ]
    restoring.settle(made.site, made.state)
    assert [each.name for each in made.engine.all_containers] == ["notebook"]
    assert left(made) == {"home"}


def test_a_restore_that_was_cut_off_after_its_swap_stays(made: Bench) -> None:
    volumes(made, "home", "home-1", "restoring-1")
    kinds = {label.STACK: made.site.stack, label.KIND: "server"}
    mounts = {"/home/ada": f"{made.site.stack}_home-1"}
    made.engine.all_containers = [container("notebook", kinds, volumes=mounts)]
    state = restoring.settle(made.site, made.state)
    assert left(made) == {"home", "home-1"}
    assert state.home_volume == f"{made.site.stack}_home-1"
    assert restoring.kept_before(state) == (f"{made.site.stack}_home",)


def test_nothing_is_kept_of_a_box_that_was_never_restored(made: Bench) -> None:
    volumes(made, "home", "tmp", "seal-1")
    assert restoring.kept_before(made.state) == ()
