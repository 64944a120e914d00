"""The README's example: a PostgreSQL from Debian's packages beside the notebook."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupbox.errors import ConfigError
from tests.integration.errorbox import refused, unchanged
from tests.integration.jupbox_command import MainJob
from tests.integration.team import Team, team

pytestmark = [pytest.mark.box, pytest.mark.slow]

EXAMPLE = Path(__file__).parent / "sidecar"
ASK = """
import psycopg
with psycopg.connect() as session:
    session.execute("create table if not exists run (number int)")
    session.execute("insert into run values (42)")
    print(session.execute("select count(*), max(number) from run").fetchone())
"""


@pytest.fixture
def lab(ada_on_store: MainJob, tmp_path: Path) -> Iterator[Team]:
    """A team's project with the example beside its jupbox.toml."""
    with team(
        ada_on_store, ada_on_store.laptop, tmp_path / "team", "lab", 'files = "volume"'
    ) as made:
        shutil.copytree(EXAMPLE, made.folder, dirs_exist_ok=True)
        yield made


def db_of(made: Team) -> list[str]:
    """Container ID and start time of the database, if there is one."""
    project = f"label=com.docker.compose.project={made.stack.name}"
    service = "label=com.docker.compose.service=db"
    found = made.stack.docker("ps", "--quiet", "--filter", project, "--filter", service).split()
    inspect = ("inspect", "--format", "{{.Id}} {{.State.StartedAt}}")
    return made.stack.docker(*inspect, *found).split() if found else []


def test_a_database_runs_beside_the_notebook_and_changes_alone(lab: Team) -> None:
    lab.jupbox("up")
    stack, override = lab.stack, lab.folder / "compose.override.yaml"
    kernel = stack.start_kernel()
    lab.laptop.must("add", "psycopg[binary]", "--on", "lab")
    assert stack.run_in_kernel(kernel, ASK) == "(1, 42)\n"
    # what was added stays beside the image here: building it in is another test's
    lab.write('files = "volume"')
    lab.lock_as_shared()
    notebook, first = stack.identity(), db_of(lab)
    assert first

    text = override.read_text()
    override.write_text(text.replace("PGHOST: /tmp", "PGHOST: /tmp\n      PGTZ: UTC"))
    lab.jupbox("up")
    second = db_of(lab)
    assert second
    assert second != first
    assert stack.identity() == notebook
    assert stack.run_in_kernel(kernel, ASK) == "(2, 42)\n"
    assert "Nothing to do" in lab.jupbox("up").stdout
    assert db_of(lab) == second

    override.unlink()
    lab.jupbox("up")
    assert db_of(lab) == []
    assert f"{stack.name}_db" in stack.docker("volume", "ls", "--format", "{{.Name}}").split()
    assert "PGHOST" not in stack.python("import os; print(sorted(os.environ))")


@pytest.mark.parametrize(
    ("addition", "named"),
    [
        ("  notebook: {user: root}\n", "services.notebook.user"),
        ("  notebook: {ports: ['0.0.0.0:80:8888']}\n", "services.notebook.ports"),
        ("  db: {image: debian, volumes: ['./data:/data']}\n", "path of this machine"),
    ],
)
def test_what_would_break_the_stack_is_refused_and_nothing_changes(
    lab: Team, addition: str, named: str
) -> None:
    (lab.folder / "compose.override.yaml").write_text(f"services:\n{addition}")
    with unchanged(lab.job.box):
        said = refused(lab.laptop.jupbox("up", "lab"), ConfigError)
    assert named in said.wrong
