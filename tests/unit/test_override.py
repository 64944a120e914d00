"""What `compose.override.yaml` may add to a stack, and what is told apart by hashes."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from jupbox import labels as label
from jupbox import override
from jupbox.errors import ConfigError

OURS: dict[str, Any] = {
    "name": "jupbox-ada_workbox",
    "services": {
        "notebook": {
            "image": "jupbox-ada_workbox:seal-1",
            "user": "1000:1000",
            "environment": {"A": "1"},
            "networks": {"default": None},
            "ports": [{"target": 8888, "published": "8888", "host_ip": "127.0.0.1"}],
            "volumes": [{"type": "volume", "source": "home", "target": "/home/ada"}],
        }
    },
    "volumes": {
        "home": {"name": "jupbox-ada_workbox_home"},
        "seal": {"name": "jupbox-ada_workbox_seal-1"},
    },
}
DB: dict[str, Any] = {"image": "db", "volumes": [{"type": "volume", "source": "db"}]}


def merged(db: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    both = deepcopy(OURS)
    both["services"]["db"] = {**DB, **(db or {})}
    both["volumes"]["db"] = {"name": "jupbox-ada_workbox_db"}
    both["services"]["notebook"] |= changes
    return both


def check(both: dict[str, Any], *, remote: bool = True) -> None:
    override.check(OURS, both, root="/team/project", remote=remote)


def problem(both: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        check(both)
    assert caught.value.remedy
    return caught.value.message


def test_a_service_beside_the_notebook_is_fine() -> None:
    check(merged())


def test_the_notebook_may_get_more_variables_volumes_and_networks() -> None:
    more = {"type": "volume", "source": "db", "target": "/db", "read_only": True}
    check(
        merged(
            environment={"A": "1", "PGHOST": "db"},
            volumes=[*OURS["services"]["notebook"]["volumes"], more],
            networks={"default": None, "lab": None},
            depends_on={"db": {"condition": "service_started"}},
        )
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"user": "0:0"},
        {"image": "other"},
        {"privileged": True},
        {"command": ["sh"]},
        {"cap_add": ["SYS_ADMIN"]},
        {"ports": []},
        {"container_name": "mine"},
        {"environment": {"A": "2"}},
        {"volumes": []},
        {"networks": {}},
    ],
)
def test_what_confines_or_reaches_the_notebook_is_not_the_projects(changed: Any) -> None:
    assert f"services.notebook.{next(iter(changed))} is jupbox's own" in problem(merged(**changed))


def test_the_stacks_name_stays() -> None:
    assert "`name`" in problem({**merged(), "name": "other"})


def test_the_stacks_volumes_stay() -> None:
    both = merged()
    both["volumes"]["home"] = {"name": "elsewhere"}
    assert "volumes.home is the stack's own" in problem(both)


@pytest.mark.parametrize("name", ["jupbox-ada_workbox_home", "jupbox-ada_workbox_seal-7"])
def test_no_volume_takes_the_name_of_one_of_the_stacks(name: str) -> None:
    both = merged()
    both["volumes"]["db"] = {"name": name}
    assert "volumes.db has the name" in problem(both)


@pytest.mark.parametrize(
    ("db", "words"),
    [
        ({"container_name": "db"}, "container_name would be the same for everybody"),
        ({"ports": [{"target": 1, "published": "8888"}]}, "publishes port 8888"),
        ({"volumes": [{"type": "volume", "source": "seal"}]}, "the server's keys"),
        ({"volumes": [{"type": "bind", "source": "/team/project/x"}]}, "a path of this machine"),
    ],
)
def test_a_service_that_breaks_the_stack_is_refused(db: dict[str, Any], words: str) -> None:
    assert words in problem(merged(db))


def test_a_path_of_this_machine_is_fine_where_the_engine_is_this_machines() -> None:
    check(merged({"volumes": [{"type": "bind", "source": "/team/project/x"}]}), remote=False)


def test_what_is_published_to_everybody_is_told() -> None:
    ports = [{"published": "5432"}, {"published": "81", "host_ip": "127.0.0.1"}, {"target": 9}]
    assert override.open_ports(merged({"ports": ports})) == (("db", "5432"),)


# --- hashes -------------------------------------------------------------------------------------


def digests(both: dict[str, Any], **given: Any) -> dict[str, str]:
    return override.sidecar_digests(both, **{"contexts": {}, "passing": "/tmp/x1", **given})


def test_what_the_notebook_gets_has_a_hash_and_nothing_has_none() -> None:
    assert override.notebook_digest(OURS, merged()) == ""
    one = override.notebook_digest(OURS, merged(environment={"A": "1", "B": "1"}))
    two = override.notebook_digest(OURS, merged(environment={"A": "1", "B": "2"}))
    assert one
    assert one != two


def test_another_image_or_build_context_is_another_service() -> None:
    same = digests(merged())
    assert same == digests(merged())
    assert same != digests(merged({"image": "newer"}))
    assert same != digests(merged(), contexts={"db": "changed"})


def test_the_folder_of_a_run_is_no_change() -> None:
    one = digests(merged({"secrets": [{"file": "/tmp/x1/ca"}]}), passing="/tmp/x1")
    two = digests(merged({"secrets": [{"file": "/tmp/x2/ca"}]}), passing="/tmp/x2")
    assert one == two


def test_the_final_file_says_whose_a_service_is_and_leaves_the_notebook_alone() -> None:
    both = merged({"labels": {"mine": "1"}})
    final = override.labelled(both, digests={"db": "d"}, labels={label.STACK: "s"})
    assert final["services"]["notebook"] == both["services"]["notebook"]
    assert final["services"]["db"]["labels"] == {
        "mine": "1", label.STACK: "s", label.KIND: "sidecar", label.CONFIGURATION: "d",
    }  # fmt: skip
    assert final["services"]["db"]["restart"] == "unless-stopped"


def test_a_service_keeps_its_own_restart_policy() -> None:
    final = override.labelled(merged({"restart": "no"}), digests={"db": "d"}, labels={})
    assert final["services"]["db"]["restart"] == "no"
