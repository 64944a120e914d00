"""What makes a release a good one."""

from __future__ import annotations

from typing import cast

import pytest

from jupbox import labels as label
from jupbox.host import records
from jupbox.host.engine import Engine
from jupbox.host.stack import PROVEN, ROLLED_OUT, SEAL, Release
from jupbox.release import rolling
from tests.unit.fakes import container, sealed_image
from tests.unit.release.bench import MINE, STACK, Bench, bench


@pytest.fixture
def made() -> Bench:
    """Four releases are kept, of which three have served and the fourth runs."""
    bench_ = bench()
    for number in range(1, 5):
        image = sealed_image(STACK, number, **{label.SEAL: ROLLED_OUT})
        bench_.engine.all_images.append(image)
        bench_.engine.all_volumes[f"{STACK}_seal-{number}"] = {label.STACK: STACK}
        labels = {label.GENERATION: str(number)}
        composed = {"services": {"notebook": {"image": image.tags[0], "labels": labels}}}
        release = Release(generation=number, image=image)
        records.keep(cast(Engine, bench_.engine), release, composed, stack=STACK)
        if number < 4:
            bench_.engine.tag(image.id, f"{STACK}:{PROVEN}-{number}")
    volumes = {SEAL: f"{STACK}_seal-4"}
    labels = {**MINE, label.GENERATION: "4"}
    bench_.engine.all_containers.append(container("server", labels, volumes=volumes))
    return bench_


def proven(made: Bench) -> set[int]:
    return {release.generation for release in made.state.releases if release.proven}


def test_what_answered_is_noted_and_the_oldest_goes(made: Bench) -> None:
    rolling.approve(made.site, made.state)
    assert proven(made) == {2, 3, 4}
    kept = records.records(cast(Engine, made.engine), STACK)
    assert [record.number for record in kept] == [4, 3, 2]
    assert f"{STACK}_seal-1" not in made.engine.all_volumes


def test_one_whose_older_ones_did_not_all_go_is_not_noted_yet(
    made: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(reference: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(made.engine, "remove_image", cut_off)
    with pytest.raises(KeyboardInterrupt):
        rolling.approve(made.site, made.state)
    assert proven(made) == {1, 2, 3}, "the next command does it again"
