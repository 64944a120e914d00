"""Passing containers: whose they are."""

from __future__ import annotations

import os

from jupbox.host import passing as room


def test_what_this_process_made_is_at_work() -> None:
    name = room.new_name()
    assert room.is_passing(name)
    assert not room.left_behind(name, age_seconds=1e6)


def test_what_a_process_of_this_machine_made_that_is_gone_is_left_behind() -> None:
    never = 2**22 + 1  # the most that a kernel gives is 2^22
    name = room.new_name().replace(f"-{os.getpid()}-", f"-{never}-")
    assert room.left_behind(name, age_seconds=0)


def test_what_another_machine_made_is_given_a_while() -> None:
    name = "jupbox-passing-0123abcd-1-ffff"
    assert not room.left_behind(name, age_seconds=600)
    assert room.left_behind(name, age_seconds=4000)
    assert room.left_behind("jupbox-passing-ffff", age_seconds=4000), "of an older jupbox"
