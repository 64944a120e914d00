"""A fresh laptop, a colleague, another version: what runs is taken over as it is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import jupbox
from jupbox.errors import UnknownNameError
from tests.integration.jupbox_command import Laptop, MainJob
from tests.integration.team import Team, sweep, team
from tests.integration.test_clients import opened

pytestmark = [pytest.mark.box, pytest.mark.slow]

KEYS = """
files = "volume"
memory = "600m"
cpus = 1.5
shm_size = "100m"
ports = [18501]
env = { GREETING = "a $HOME" }
"""


@pytest.fixture
def gpu(ada: MainJob, tmp_path: Path) -> Iterator[Team]:
    """A team's second box on the same host, with keys that zero configuration knows nothing of."""
    with team(ada, ada.laptop, tmp_path / "team", "gpu", KEYS) as made:
        made.jupbox("up")
        yield made


def test_a_fresh_laptop_adopts_what_runs_and_changes_nothing(
    gpu: Team, other_laptop: Laptop, tmp_path: Path
) -> None:
    before = gpu.stack.identity()
    host = gpu.job.box.name
    assert other_laptop.must("status", f"{host}/gpu", "--json").json["image"] == "gpu"
    dry = other_laptop.jupbox("up", f"{host}/gpu", "--dry-run")
    assert (dry.code, dry.stdout) == (0, ""), dry.stderr
    other_laptop.must("up", f"{host}/gpu")
    changed = other_laptop.must("password", f"{host}/gpu", "--generate")
    assert changed.password
    with opened(other_laptop, f"{host}/gpu", tmp_path) as (url, token):
        assert url.startswith("https://localhost:")
        assert token
    assert gpu.stack.identity() == before
    limits = gpu.stack.inspect()["HostConfig"]
    assert (limits["Memory"], limits["NanoCpus"]) == (600 << 20, 1_500_000_000)


def test_the_limits_of_a_live_change_are_adopted_too(gpu: Team, other_laptop: Laptop) -> None:
    before = gpu.stack.identity()
    gpu.write(KEYS.replace("600m", "700m").replace("1.5", "1"))
    assert "with no restart" in gpu.laptop.jupbox("up", "gpu", "--dry-run").stdout
    gpu.jupbox("up")
    limits = gpu.stack.inspect()["HostConfig"]
    assert (limits["Memory"], limits["NanoCpus"]) == (700 << 20, 1_000_000_000)
    dry = other_laptop.jupbox("up", f"{gpu.job.box.name}/gpu", "--dry-run")
    assert (dry.code, dry.stdout) == (0, ""), dry.stderr
    gpu.write(KEYS.replace('memory = "600m"\ncpus = 1.5\n', ""))
    gpu.jupbox("up")
    assert gpu.laptop.jupbox("up", "gpu", "--dry-run").code == 0
    assert gpu.stack.identity() == before


def test_a_dry_run_says_each_step_and_what_differs(gpu: Team) -> None:
    before = gpu.stack.identity()
    gpu.write(KEYS.replace("18501", "18502"))
    lock = gpu.folder / "jupbox.lock"
    lock.write_text(
        lock.read_text().replace('name = "pip", version = "', 'name = "pip", version = "0.')
    )
    dry = gpu.laptop.jupbox("up", "gpu", "--dry-run", "--out", "seen")
    assert dry.code == 2
    assert "build the environment image" in dry.stdout
    assert "ports: [18501] -> [18502]" in dry.stdout
    assert [line for line in dry.stdout.splitlines() if line.strip().startswith("~ pip ")]
    seen = gpu.folder / "seen"
    assert (seen / "environment" / "Dockerfile").is_file()
    assert (seen / "body" / "Dockerfile").is_file()
    assert "18502" in (seen / "compose.yaml").read_text()
    everything = "".join(p.read_text() for p in seen.rglob("*") if p.is_file())
    assert "PRIVATE KEY" not in everything
    assert "argon2id$v=" not in everything
    assert gpu.stack.identity() == before


def test_a_dry_run_before_the_first_up_changes_nothing_anywhere(
    ada: MainJob, tmp_path: Path
) -> None:
    with team(ada, ada.laptop, tmp_path / "team", "later") as made:
        (made.folder / "jupbox.lock").unlink()
        dry = made.laptop.jupbox("up", "later", "--dry-run")
        assert dry.code == 2
        steps = ["lock", "build", "make a certificate", "seal", "deploy"]
        assert [step for step in steps if f"  {step} " in dry.stdout] == steps
        assert sorted(p.name for p in made.folder.iterdir()) == ["jupbox.toml"]
        assert ada.box.exec("docker", "volume", "ls", "-q").count("ada_later") == 0


def test_another_version_of_jupbox_restarts_nothing_unless_told_to(
    gpu: Team, tmp_path: Path
) -> None:
    newer = tmp_path / "newer"
    source = Path(jupbox.__file__).resolve().parents[1]
    for name in ("jupbox", "images", "compose"):
        shutil.copytree(source / name, newer / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ("compose/compose.yaml.j2", "images/server/jupbox_server/health.py"):
        with (newer / path).open("a") as file:
            file.write("\n# newer\n")
    minimal = newer / "images" / "minimal" / "image.toml"
    minimal.write_text(minimal.read_text().replace('"ipykernel",', '"ipykernel", "six",'))
    other = gpu.laptop.at(gpu.folder, PYTHONPATH=str(newer), PYTHONSAFEPATH="1")
    where = other.run("python", "-c", "import jupbox; print(jupbox.__file__)").stdout
    assert where.startswith(str(newer))
    same = other.jupbox("up", "gpu", "--dry-run")
    assert (same.code, same.stdout) == (0, ""), same.stderr
    moved = other.jupbox("up", "gpu", "--dry-run", "--upgrade")
    assert moved.code == 2
    assert "jupbox's own files changed" in moved.stdout
    before = gpu.stack.identity()
    other.must("up", "gpu", "--upgrade")
    assert gpu.stack.identity() != before
    # and the older one leaves the newer one's server alone
    back = gpu.laptop.jupbox("up", "gpu", "--dry-run")
    assert (back.code, back.stdout) == (0, ""), back.stderr


def call_it(laptop: Laptop, job: MainJob, alias: str) -> None:
    """Give a laptop a name of its own for the box's host."""
    first = job.box.ssh_config.read_text().partition("Host ")[2].partition("Host ")[0]
    config = Path(laptop.environ["HOME"]) / ".ssh" / "config"
    config.write_text(f"Host {alias}\n{first.partition(chr(10))[2]}{config.read_text()}")


def test_another_name_for_the_host_leads_to_the_owners_box(
    ada: MainJob, gpu: Team, other_laptop: Laptop
) -> None:
    call_it(other_laptop, ada, "desk")
    # two of hers run there, and neither is called so
    several = other_laptop.jupbox("status", "desk")
    assert several.code == UnknownNameError.exit_code
    assert "desk/gpu, desk/workbox" in several.stderr
    sweep(ada, gpu.stack.name)
    found = other_laptop.must("status", "desk", "--json").json
    assert found["stack"] == ada.stack.name
    dry = other_laptop.jupbox("up", "desk", "--dry-run")
    assert (dry.code, dry.stdout) == (0, ""), dry.stderr
