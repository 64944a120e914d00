"""The labels' names: what runs on boxes is found by them, so they stay what they are."""

from __future__ import annotations

import re

from jupbox import labels


def names() -> dict[str, str]:
    return {name: value for name, value in vars(labels).items() if name.isupper()}


def test_each_label_has_a_name_of_its_own_below_jupboxs() -> None:
    values = list(names().values())
    assert len(set(values)) == len(values)
    assert all(re.fullmatch(r"dev\.jupbox\.[a-z-]+", value) for value in values)


def test_a_label_is_called_in_the_code_as_it_is_on_the_box() -> None:
    for name, value in names().items():
        assert value.rpartition(".")[2].replace("-", "_").upper() == name


def test_the_labels_by_which_a_running_stack_is_found_again_never_change() -> None:
    found = (labels.KIND, labels.STACK, labels.GENERATION, labels.LOCK, labels.ACCOUNT)
    assert found == tuple(
        f"dev.jupbox.{name}" for name in ("kind", "stack", "generation", "lock", "account")
    )
