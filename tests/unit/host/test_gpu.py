"""What `setup --gpu` makes of what it sees: nothing runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jupbox.errors import SetupError
from jupbox.host.gpu import GpuState, plan_gpu
from tests.unit.host.test_setup import BARE, READY, variables

BARE_CARD = GpuState(has_driver=True, has_toolkit=False, has_runtime=False)
INSTALL, CONFIGURE = "Install NVIDIA's container toolkit", "Give the engine NVIDIA's runtime"


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [
        pytest.param(BARE_CARD, [INSTALL, CONFIGURE], id="a card"),
        pytest.param(replace(BARE_CARD, has_toolkit=True), [CONFIGURE], id="not configured"),
        pytest.param(replace(BARE_CARD, has_runtime=True), [], id="ready"),
        pytest.param(
            GpuState(has_driver=False, has_toolkit=True, has_runtime=True), [], id="ready, no card"
        ),
    ],
)
def test_only_what_is_missing_is_done(gpu: GpuState, expected: list[str]) -> None:
    assert [step.title for step in plan_gpu(READY, gpu, name="workbox")] == expected


def test_that_kernels_end_is_said_beforehand() -> None:
    configure = plan_gpu(READY, BARE_CARD, name="workbox")[-1]
    assert "kernels on this host end" in configure.why
    assert "restart=yes\n" in configure.script


def test_a_host_with_no_card_is_refused() -> None:
    with pytest.raises(SetupError, match="workbox has no NVIDIA GPU") as caught:
        plan_gpu(BARE, replace(BARE_CARD, has_driver=False), name="workbox")
    assert "nvidia-smi" in caught.value.remedy


def test_who_may_not_change_the_system_is_refused() -> None:
    with pytest.raises(SetupError, match="ada may not"):
        plan_gpu(replace(READY, has_sudo=False), BARE_CARD, name="workbox")


def test_packages_are_those_of_the_hosts_architecture() -> None:
    install = plan_gpu(replace(READY, architecture="arm64"), BARE_CARD, name="workbox")[0]
    assert variables(install)["architecture"] == "arm64"
