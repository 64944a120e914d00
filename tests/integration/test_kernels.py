"""A second Python environment in the same image: its own kernel, its own packages beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.jupbox_command import MainJob
from tests.integration.team import Team, team

pytestmark = [pytest.mark.box, pytest.mark.slow]

# `packaging` is in `minimal` anyhow, so that but for the kernel the image is the shared one
IMAGE = """\
extends = "minimal"

[images.two.kernels.old]
display-name = "Python (old)"
python = ["packaging<24"]
"""
VERSION = "import packaging; print(packaging.__version__)"


@pytest.fixture
def two(ada: MainJob, tmp_path: Path) -> Iterator[Team]:
    """A team whose image has a kernel `old` with an older `packaging`."""
    with team(ada, ada.laptop, tmp_path / "team", "two", 'files = "volume"') as made:
        made.write('files = "volume"', image=IMAGE)
        made.laptop.must("lock", "two", "--on", "two")
        made.jupbox("up")
        yield made


def test_a_further_kernel_has_its_own_versions_and_its_own_side(two: Team) -> None:
    stack = two.stack
    specs = stack.control("GET", "/api/kernelspecs")
    names = {name: each["spec"]["display_name"] for name, each in specs["kernelspecs"].items()}
    assert names == {"python3": "Python 3 (ipykernel)", "old": "Python (old)"}
    assert specs["default"] == "python3"

    main, old = stack.start_kernel(), stack.start_kernel("old")
    assert int(stack.run_in_kernel(main, VERSION).split(".")[0]) >= 24
    assert stack.run_in_kernel(old, VERSION).startswith("23.")

    # %pip in each goes to a side of its own
    stack.run_in_kernel(main, "%pip install -q humanize==4.9.0")
    with_main = "import humanize; print(humanize.__version__, humanize.__file__)"
    assert stack.run_in_kernel(main, with_main).startswith("4.9.0 ")
    absent = "import importlib.util as u; print(u.find_spec('humanize'))"
    assert stack.run_in_kernel(old, absent) == "None\n"
    two.laptop.must("add", "humanize<4", "--kernel", "old")
    assert "/side/old-" in stack.run_in_kernel(old, with_main)
    assert stack.run_in_kernel(old, with_main).startswith("3.")
    assert stack.run_in_kernel(main, with_main).startswith("4.9.0 ")
    assert stack.run_in_kernel(old, VERSION).startswith("23.")
