"""The definitions that ship."""

from __future__ import annotations

import itertools

import pytest

from jupbox.project import DEFAULT_BASE, DEFAULT_IMAGE, Project, parse_project, shipped_definitions


@pytest.fixture(scope="module")
def project() -> Project:
    return parse_project(
        None,
        source="jupbox.toml",
        root=None,
        user_text=None,
        user_source="config.toml",
        shipped=shipped_definitions(),
    )


def _names(requirements: tuple[str, ...]) -> set[str]:
    return {item.split(">=")[0] for item in requirements}


def test_minimal_scipy_and_r_ship(project: Project) -> None:
    assert set(project.images) == {"minimal", "scipy", "r"}
    assert all(image.shipped for image in project.images.values())


def test_the_default_image_ships(project: Project) -> None:
    assert project.image(DEFAULT_IMAGE).name == DEFAULT_IMAGE


def test_minimal_holds_a_server_a_kernel_and_what_a_terminal_needs(project: Project) -> None:
    minimal = project.image("minimal")
    assert {"jupyterlab", "jupyter-server", "ipykernel"} <= _names(minimal.python)
    assert {"git", "ca-certificates", "openssh-client", "less", "procps"} <= set(minimal.apt)


def test_every_image_keeps_the_floor_of_jupyter_server(project: Project) -> None:
    for image in project.images.values():
        assert "jupyter-server>=2.20" in image.python


def test_scipy_is_minimal_and_the_scientific_stack(project: Project) -> None:
    scipy = project.image("scipy")
    stack = {"numpy", "scipy", "pandas", "matplotlib", "scikit-learn", "ipywidgets"}
    assert [layer.name for layer in scipy.layers] == ["minimal", "scipy"]
    assert _names(scipy.layers[1].python) == stack
    assert scipy.base == project.image("minimal").base == DEFAULT_BASE


def test_r_is_minimal_with_r_and_its_kernel_from_debian(project: Project) -> None:
    image = project.image("r")
    assert [layer.name for layer in image.layers] == ["minimal", "r"]
    assert {"r-base-core", "r-cran-irkernel", "r-recommended"} <= set(image.apt)
    assert image.layers[1].python == ()


@pytest.mark.parametrize("name", sorted(shipped_definitions()))
def test_a_definition_gives_a_reason_for_each_package(name: str) -> None:
    lines = shipped_definitions()[name].splitlines()
    for before, line in itertools.pairwise(lines):
        if line.startswith('    "'):
            assert "#" in line or before.strip().startswith("#"), line


@pytest.mark.parametrize("name", sorted(shipped_definitions()))
def test_a_definition_says_what_it_is(name: str) -> None:
    assert shipped_definitions()[name].startswith('description = "')
