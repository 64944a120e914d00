"""`%pip install` in a notebook on the read-only image: at once, for good, and seen by `status`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.jupbox_command import MainJob

pytestmark = [pytest.mark.box, pytest.mark.slow]

SIDE = "/home/ada/.local/share/jupbox/side/"


@pytest.fixture
def kernel(ada: MainJob) -> Iterator[str]:
    """A kernel on ada's box; what was installed beside the image goes at the end."""
    found = ada.stack.start_kernel()
    yield found
    ada.ensure_running()
    pip = "/opt/env/bin/python -P -m jupbox_server.run -- python -m pip"
    ada.stack.exec("sh", "-c", f"{pip} uninstall -q -y iniconfig packaging pyparsing || true")


def side(ada: MainJob) -> dict[str, str]:
    """What `status --json` says is installed beside the image."""
    (env,) = [e for e in ada.status()["server"]["side"]["envs"] if e["env"] == "default"]
    return {package["name"]: package["version"] for package in env["packages"]}


def test_a_package_is_there_at_once_and_after_a_restart(ada: MainJob, kernel: str) -> None:
    assert side(ada) == {}
    ada.stack.run_in_kernel(kernel, "%pip install -q iniconfig==2.0.0")
    ada.stack.run_in_kernel(kernel, f"import iniconfig; assert {SIDE!r} in iniconfig.__file__")
    assert side(ada) == {"iniconfig": "2.0.0"}
    shown = ada.jupbox("status").stdout
    assert "iniconfig 2.0.0 beside the image; `jupbox add` keeps it" in shown
    ada.jupbox("down")
    ada.jupbox("up")
    again = ada.stack.start_kernel()
    ada.stack.run_in_kernel(again, "import iniconfig")
    assert side(ada) == {"iniconfig": "2.0.0"}


def test_what_it_breaks_is_named_and_the_image_is_whole_beneath(ada: MainJob, kernel: str) -> None:
    # jupyter_server itself wants packaging>=22
    ada.stack.run_in_kernel(kernel, "%pip install -q packaging==21.3")
    shown = ada.jupbox("status").stdout
    clashes = [line for line in shown.splitlines() if line.strip().startswith("Clash")]
    assert clashes
    assert all("packaging 21.3 on the side, which hides the image's" in line for line in clashes)
    doctor = ada.laptop.jupbox("doctor", ada.box.name).stdout
    assert "packaging 21.3" in doctor
    # the server does not import from there
    ada.jupbox("down")
    ada.jupbox("up")
    again = ada.stack.start_kernel()
    ada.stack.run_in_kernel(again, "%pip uninstall -q -y packaging pyparsing")
    assert side(ada) == {}
    assert "Clash" not in ada.jupbox("status").stdout
    # the kernel itself had imported it
    fresh = ada.stack.start_kernel()
    ada.stack.run_in_kernel(fresh, "import packaging; assert '/opt/env/' in packaging.__file__")
