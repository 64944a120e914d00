"""What of a host a box attaches: folders, groups, GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest

from jupbox.errors import EngineError, FilesError
from jupbox.release.attaching import Attachments, attachments
from jupbox.render import Account, Mount
from tests.unit.fakes import FakeMachine
from tests.unit.release.bench import FACTS, Bench, bench, with_box

ALICE = Account(name="alice", uid=1234, gid=1235)
# what `stat` and `getent` say of each word; a dash for what is not there
OWNERS = {"/data": "0", f"{FACTS.home}/models": "1234", "/gone": "-"}
GROUPS = {"lab": "700", "none": "-"}


def host(argv: Sequence[str]) -> tuple[int, str]:
    words = list(argv[3:])
    cut = words.index("--")
    said = [OWNERS[path] for path in words[:cut]] + [GROUPS[name] for name in words[cut + 1 :]]
    return 0, "\n".join(said)


def attached(made: Bench | None = None, **keys: Any) -> Attachments:
    made = made or bench(machine=FakeMachine(answer=host))
    return attachments(with_box(made, **keys), ALICE)


def test_a_box_without_such_keys_asks_the_host_nothing() -> None:
    made = bench(machine=FakeMachine(answer=host))
    assert attached(made) == Attachments()
    assert made.machine.calls == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data:/data", Mount(source="/data", target="/data", read_only=True)),
        ("/data:/data/:rw", Mount(source="/data", target="/data", read_only=False)),
        (
            "~/models:~/models",
            Mount(source=f"{FACTS.home}/models", target="/home/alice/models", read_only=False),
        ),
        (
            "~/models:/m:ro",
            Mount(source=f"{FACTS.home}/models", target="/m", read_only=True),
        ),
    ],
)
def test_somebody_elses_folder_is_read_only_unless_one_says_otherwise(
    text: str, expected: Mount
) -> None:
    assert attached(mounts=(text,)).mounts == (expected,)


def test_a_path_that_is_not_there_is_an_error_before_anything_runs() -> None:
    with pytest.raises(FilesError, match="/gone of `mounts` is not there on workbox"):
        attached(mounts=("/data:/data", "/gone:/gone"))


def test_a_group_is_looked_up_by_its_name() -> None:
    assert attached(group_add=("lab",)).groups == (("lab", 700),)
    with pytest.raises(FilesError, match="No group on workbox is called 'none'"):
        attached(mounts=("/data:/data",), group_add=("lab", "none"))


@pytest.mark.parametrize(
    ("runtimes", "wanted", "expected"),
    [
        ({"runc"}, "auto", None),
        ({"runc", "nvidia"}, "auto", "all"),
        ({"runc", "nvidia"}, "all", "all"),
        ({"runc", "nvidia"}, 2, 2),
        ({"runc", "nvidia"}, "none", None),
    ],
)
def test_gpus_are_there_when_the_engine_has_the_runtime(
    runtimes: set[str], wanted: int | str, expected: int | Literal["all"] | None
) -> None:
    made = bench()
    made.engine.all_runtimes = frozenset(runtimes)
    assert attached(made, gpus=wanted).gpus == expected


def test_gpus_that_are_asked_for_and_cannot_be_are_an_error() -> None:
    with pytest.raises(EngineError, match="no NVIDIA runtime") as caught:
        attached(gpus=1)
    assert "setup workbox --gpu" in caught.value.remedy
