"""Packages come into `jupbox.toml` and nothing else of it changes."""

from __future__ import annotations

import tomllib

import pytest

from jupbox.editing import add_packages, own_image
from jupbox.errors import ConfigError

TEXT = """\
# the team's
[images.own]   # ours
extends = "minimal"
python = [
    "numpy",   # arrays
    "Pandas_X>=2",
]

[images.own.kernels.old]
python = []

[boxes.w]
image = "own"
"""


def test_a_package_is_added_and_every_comment_stays() -> None:
    assert add_packages(TEXT, image="own", python=["polars>=1"]) == TEXT.replace(
        '    "Pandas_X>=2",\n', '    "Pandas_X>=2",\n    "polars>=1",\n'
    )


def test_another_version_replaces_the_first_where_it_stands() -> None:
    changed = add_packages(TEXT, image="own", python=["pandas-x<3", "numpy>=2"])
    assert changed == TEXT.replace('"Pandas_X>=2"', '"pandas-x<3"').replace('"numpy"', '"numpy>=2"')


def test_a_list_that_is_not_there_is_made() -> None:
    changed = add_packages(TEXT, image="own", apt=["ffmpeg"])
    assert 'apt = ["ffmpeg"]\n' in changed
    assert changed.replace('apt = ["ffmpeg"]\n', "") == TEXT


def test_a_kernels_own_environment_gets_it() -> None:
    changed = add_packages(TEXT, image="own", python=["six"], kernel="old")
    assert changed == TEXT.replace("python = []", 'python = ["six"]')


@pytest.mark.parametrize(
    ("image", "kernel", "words"),
    [("minimal", None, "no image 'minimal'"), ("own", "new", "no kernel 'new'")],
)
def test_what_is_not_there_cannot_be_added_to(image: str, kernel: str | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        add_packages(TEXT, image=image, python=["six"], kernel=kernel)
    assert "[images." in caught.value.remedy


def test_a_name_twice_is_there_once() -> None:
    twice = add_packages(TEXT, image="own", python=["six", "six>=1"])
    assert twice.count("six") == 1


def test_a_box_with_an_image_that_ships_gets_one_of_its_own() -> None:
    text = '# ours\n[boxes.w]\nhost = "h" # there\n'
    changed, name = own_image(text, box="w", extends="minimal")
    assert name == "w"
    assert tomllib.loads(changed) == {
        "boxes": {"w": {"host": "h", "image": "w"}},
        "images": {"w": {"extends": "minimal", "python": []}},
    }
    assert changed.startswith('# ours\n[boxes.w]\nhost = "h" # there\n')


def test_the_name_of_an_image_that_is_there_is_left_alone() -> None:
    _, name = own_image('[images.w]\nextends="scipy"\n[boxes.w]\n', box="w", extends="minimal")
    assert name == "w-image"


def test_a_box_of_another_file_cannot_get_one() -> None:
    with pytest.raises(ConfigError, match="The box mine is not in"):
        own_image("", box="mine", extends="minimal")
