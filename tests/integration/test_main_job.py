"""The main job on a remote box, as an ordinary user and with no project: issue's own words."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupbox import labels as label
from tests.integration.boxes.boxes import BoxUnderTest, wait_until
from tests.integration.jupbox_command import (
    Laptop,
    MainJob,
    StackOnBox,
    files_of_image,
)

VERBS = ("status", "logs", "down", "up")
HAPPENINGS = ("create", "start", "restart", "die", "stop", "kill", "destroy")
# All that a release says of itself on the box.
LABELS = {
    label.KIND, label.STACK, label.BOX, label.OWNER, label.IMAGE, label.LOCK, label.RECIPE,
    label.CONFIGURATION, label.GENERATION, label.FILES, label.EXPOSE, label.WHO, label.VERSION,
    label.SINCE, label.ACCOUNT,
}  # fmt: skip


def now_on(box: BoxUnderTest) -> str:
    return box.exec("date", "+%s.%N").strip()


def happenings(box: BoxUnderTest, since: str) -> list[str]:
    """What befell the box's containers since then; looking at them and health checks apart."""
    kinds = [word for kind in HAPPENINGS for word in ("--filter", f"event={kind}")]
    return box.exec(
        "docker", "events", "--since", since, "--until", now_on(box), "--filter", "type=container",
        "--format", "{{.Action}} {{.Actor.Attributes.name}}", *kinds,
    ).splitlines()  # fmt: skip


def image_ids(box: BoxUnderTest) -> list[str]:
    return sorted(box.exec("docker", "image", "ls", "--all", "--no-trunc", "--quiet").split())


# --- up, logs, status, down, up ---------------------------------------------------------------


@pytest.mark.slow
def test_a_cold_up_takes_one_login_and_shows_where_the_notebook_is(ada: MainJob) -> None:
    assert ada.logins == 1
    assert re.search(r"https://localhost:\d+/lab", ada.first.stdout)
    assert "workbox:/home/ada/notebooks" in ada.first.stdout
    assert "jupbox open workbox" in ada.first.stdout
    assert ada.first.password


@pytest.mark.slow
def test_down_and_up_keep_the_data_the_password_and_the_certificate(ada: MainJob) -> None:
    before = ada.status()
    ada.box.exec("su", "ada", "-c", "echo from the host > ~/notebooks/kept.txt")
    ada.stack.python("open('/home/ada/.kept', 'w').write('settings')")

    log = ada.jupbox("logs")
    assert "Serving" in log.stdout + log.stderr or "jupbox" in log.stdout + log.stderr
    assert "everything is kept" in ada.jupbox("down").stdout
    assert "Nothing to do" in ada.jupbox("down").stdout
    stopped = ada.jupbox("status", "--json").json
    assert (stopped["state"], stopped["health"]) == ("exited", "stopped")
    up = ada.jupbox("up")

    after = ada.status()
    assert up.password is None
    kept = ("url", "port", "certificate", "container", "lock", "generation", "files", "image")
    assert {key: before[key] for key in kept} == {key: after[key] for key in kept}
    assert after["state"] == "running"
    assert ada.stack.exec("cat", "/home/ada/notebooks/kept.txt") == "from the host\n"
    assert ada.stack.exec("cat", "/home/ada/.kept") == "settings"
    with ada.visitor() as visitor:
        assert visitor.fingerprint() == after["certificate"]["fingerprint"]
        assert visitor.log_in(ada.first.password or "")
        assert not visitor.log_in("not the password")


@pytest.mark.slow
def test_a_second_up_has_nothing_to_do_and_touches_nothing(ada: MainJob) -> None:
    identity, images, begun = ada.stack.identity(), image_ids(ada.box), now_on(ada.box)
    again = ada.jupbox("up")
    assert "Nothing to do" in again.stdout
    assert again.password is None
    assert (ada.stack.identity(), image_ids(ada.box)) == (identity, images)
    assert happenings(ada.box, begun) == []


# --- ssh logins, counted by the box -----------------------------------------------------------


@pytest.mark.slow
def test_a_command_soon_after_another_logs_in_no_more(ada: MainJob) -> None:
    ada.jupbox("status")
    counted = {}
    for verb in VERBS:
        before = ada.box.accepted()
        ada.jupbox(verb)
        counted[verb] = ada.box.accepted() - before
    assert counted == dict.fromkeys(VERBS, 0)


@pytest.mark.slow
def test_a_command_with_no_connection_left_logs_in_once(ada: MainJob) -> None:
    counted = {}
    for verb in VERBS:
        ada.laptop.end_connections()
        before = ada.box.accepted()
        ada.jupbox(verb)
        counted[verb] = ada.box.accepted() - before
    assert counted == dict.fromkeys(VERBS, 1)


@pytest.fixture
def lost_sockets(ada: MainJob) -> Iterator[None]:
    """The sockets of the laptop's connection go, as with a cleaned /tmp; the connection stays."""
    control = next(ada.laptop.runtime.rglob("*.ctl"))
    checked = ada.laptop.run("ssh", "-o", f"ControlPath={control}", "-O", "check", "workbox")
    pid = re.search(r"pid=(\d+)", checked.stderr + checked.stdout)
    assert pid, checked
    for path in list(ada.laptop.runtime.rglob("*")):
        if path.is_socket():
            path.unlink()
    yield
    os.kill(int(pid[1]), 15)


@pytest.mark.slow
def test_removed_sockets_cost_one_login(ada: MainJob, lost_sockets: None) -> None:
    before = ada.box.accepted()
    ada.jupbox("status")
    ada.jupbox("logs")
    assert ada.box.accepted() - before == 1


# --- what runs --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_container_is_closed_and_comes_back_by_itself(ada: MainJob) -> None:
    container = ada.stack.inspect()
    host = container["HostConfig"]
    assert host["RestartPolicy"]["Name"] == "always"
    assert host["ReadonlyRootfs"] is True
    assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], None)
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Privileged"] is False
    assert host["PidsLimit"] == 32_768
    assert host["Init"] is True
    assert host["LogConfig"] == {
        "Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"},
    }  # fmt: skip
    (binding,) = host["PortBindings"]["8888/tcp"]
    assert binding["HostIp"] == "127.0.0.1"
    memory = int(ada.box.exec("awk", "/^MemTotal/ {print $2}", "/proc/meminfo")) * 1024
    assert host["ShmSize"] == memory // 2
    assert container["Config"]["User"] == "1500:1500"
    assert host["GroupAdd"] == ["3000"]
    assert set(container["Config"]["Labels"]) >= LABELS
    assert not any(container["Config"]["Labels"][key] == "" for key in LABELS)


@pytest.mark.slow
def test_the_health_check_asks_over_https_and_is_content(ada: MainJob) -> None:
    wait_until(lambda: ada.stack.inspect()["State"]["Health"]["Status"] == "healthy", "health")
    assert ada.status()["health"] == "healthy"
    test = ada.stack.inspect()["Config"]["Healthcheck"]["Test"]
    assert test[-1] == "jupbox_server.health"


@pytest.mark.slow
def test_a_cell_can_write_to_the_folder_the_home_and_tmp_alone(ada: MainJob) -> None:
    written = ada.stack.python(
        "from pathlib import Path\n"
        "def can(path):\n"
        "    try: Path(path).write_text('x'); Path(path).unlink(); return True\n"
        "    except OSError: return False\n"
        "paths = ['/home/ada/notebooks/t', '/home/ada/t', '/tmp/t',\n"
        "         '/t', '/etc/t', '/opt/env/t', '/etc/jupbox/seal/t', '/etc/jupbox/seal/key.pem']\n"
        "print([can(path) for path in paths])\n"
    )
    assert written.split("\n")[0] == str([True, True, True, *[False] * 5])
    assert ada.stack.exec("stat", "--file-system", "--format", "%T", "/tmp").strip() != "tmpfs"
    assert ada.stack.exec("stat", "--file-system", "--format", "%T", "/dev/shm").strip() == "tmpfs"


@pytest.mark.slow
def test_status_counts_a_kernel_that_runs_without_a_browser(ada: MainJob) -> None:
    before = ada.status()["server"]["kernels"]
    kernel = ada.stack.start_kernel()
    try:
        ada.stack.run_in_kernel(kernel, "open('cell.txt', 'w').write('ran')")
        assert ada.status()["server"]["kernels"] == before + 1
    finally:
        ada.stack.end_kernel(kernel)
    assert ada.box.exec("cat", "/home/ada/notebooks/cell.txt") == "ran"
    owner = ada.box.exec("stat", "--format", "%U:%G", "/home/ada/notebooks/cell.txt").strip()
    assert owner == "ada:ada"


@pytest.mark.slow
def test_the_key_and_the_hash_in_the_sealed_image_are_the_servers_alone(ada: MainJob) -> None:
    image = str(ada.stack.inspect()["Config"]["Image"])
    files = files_of_image(ada.box, image, "/etc/jupbox/seal")
    for name in ("seal/key.pem", "seal/password.hash"):
        assert (files[name].mode, files[name].uid, files[name].gid) == (0o400, 1500, 1500)
    assert files["seal"].mode & 0o7777 == 0o700


# --- what outlasts what -----------------------------------------------------------------------


def fingerprint_and_login(job: MainJob) -> tuple[str, bool]:
    with job.visitor() as visitor:
        return visitor.fingerprint(), visitor.log_in(job.first.password or "")


@pytest.mark.slow
@pytest.mark.parametrize("container", ["the container stays", "the container goes too"])
def test_key_and_password_outlast_a_prune_of_every_image(ada: MainJob, container: str) -> None:
    ada.stack.python("open('/home/ada/.outlasts', 'w').write('settings')")
    before = ada.status()["certificate"]["fingerprint"]
    ada.jupbox("down")
    if container == "the container goes too":
        ada.stack.docker("rm", str(ada.stack.inspect()["Id"]))
    environments = set(ada.stack.docker("image", "ls", "--quiet", "jupbox-env").split())
    ada.stack.docker("image", "rm", "--force", *ada.stack.images(), *environments)
    assert ada.stack.images() == []

    up = ada.jupbox("up")

    assert up.password is None
    assert fingerprint_and_login(ada) == (before, True)
    assert ada.stack.exec("cat", "/home/ada/.outlasts") == "settings"


@pytest.mark.slow
def test_a_laptop_with_no_state_adopts_what_runs(ada: MainJob, other_laptop: Laptop) -> None:
    identity, images = ada.stack.identity(), image_ids(ada.box)
    status = other_laptop.must("status", "workbox", "--json").json
    assert (status["health"], status["container"]) == ("healthy", identity[0])
    assert other_laptop.must("logs", "workbox", "--tail", "1").code == 0
    up = other_laptop.must("up", "workbox")
    assert "Nothing to do" in up.stdout
    assert (ada.stack.identity(), image_ids(ada.box)) == (identity, images)
    assert other_laptop.must("trust", "workbox", "--print").stdout == ada.ca_pem


# --- the Docker context -----------------------------------------------------------------------


def context(laptop: Laptop) -> tuple[str, str]:
    """Endpoint and description of the context jupbox-workbox."""
    shown = laptop.run("docker", "context", "inspect", "jupbox-workbox").stdout
    found = json.loads(shown)[0]
    return found["Endpoints"]["docker"]["Host"], found["Metadata"].get("Description", "")


@pytest.mark.slow
def test_the_context_serves_the_users_own_docker_and_is_not_current(ada: MainJob) -> None:
    shown = ada.laptop.run("docker", "--context", "jupbox-workbox", "ps", "--format", "{{.Names}}")
    assert "jupbox-ada_workbox-notebook-1" in shown.stdout.split(), shown.stderr
    assert ada.laptop.run("docker", "context", "show").stdout.strip() == "default"


@pytest.mark.slow
def test_a_foreign_context_of_that_name_is_left_alone(ada: MainJob, other_laptop: Laptop) -> None:
    other_laptop.run(
        "docker", "context", "create", "jupbox-workbox", "--docker", "host=ssh://elsewhere"
    )
    other_laptop.must("up", "workbox")
    assert context(other_laptop) == ("ssh://elsewhere", "")


@pytest.mark.slow
def test_the_context_follows_the_boxs_host(
    ada: MainJob, other_laptop: Laptop, tmp_path: Path
) -> None:
    identity = ada.stack.identity()
    project = other_laptop.at(tmp_path)
    for host in ("workbox", "ada@workbox"):
        (tmp_path / "jupbox.toml").write_text(f'[boxes.workbox]\nhost = "{host}"\nport = "auto"\n')
        project.must("up")
        assert context(project)[0] == f"ssh://{host}"
    assert ada.stack.identity() == identity


# --- root -------------------------------------------------------------------------------------


def files_with(box: BoxUnderTest, text: str) -> list[str]:
    """The engine's own files that hold a text, read raw."""
    # merged/ shows what diff/ holds once more
    command = [
        *("docker", "exec", "-i", box.container, "grep", "-rlaF", "--exclude-dir=merged"),
        *("-f", "-", "/var/lib/docker"),
    ]
    done = subprocess.run(command, check=False, input=text, capture_output=True, text=True)
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def root_stack(workbox: BoxUnderTest) -> Iterator[StackOnBox]:
    """What root's main job makes; all of it goes at the end."""
    stack = StackOnBox(box=workbox, name="jupbox-root_workbox-root", user="1000:1000")
    yield stack
    stack.remove()


@pytest.fixture
def root_job(root_stack: StackOnBox, tmp_path: Path, ada: MainJob) -> MainJob:
    """The main job as the remote user root, beside ada's."""
    laptop = ada.laptop.at(tmp_path)
    first = laptop.must("up", "workbox-root")
    return MainJob(laptop=laptop, stack=root_stack, first=first, logins=0)


@pytest.mark.slow
def test_roots_notebook_runs_as_an_ordinary_user_who_owns_the_files(root_job: MainJob) -> None:
    stack = root_job.stack
    assert stack.inspect()["Config"]["User"] == "1000:1000"
    assert stack.exec("id", "--user", "--name").strip() == "jupyter"
    assert root_job.inspect_port() != "8888"
    kernel = stack.start_kernel()
    stack.run_in_kernel(kernel, "open('by-root.txt', 'w').write('here')")
    assert stack.box.exec("cat", "/root/notebooks/by-root.txt") == "here"
    owner = stack.box.exec("stat", "--format", "%u:%g", "/root/notebooks").strip()
    assert owner == "1000:1000"


@pytest.mark.slow
def test_the_key_is_in_no_build_cache_and_goes_with_its_stack(root_job: MainJob) -> None:
    stack = root_job.stack
    key = stack.exec("cat", "/etc/jupbox/seal/key.pem").splitlines()[2]
    seal = "etc/jupbox/seal/key.pem"
    volume = f"{stack.name}_seal-1/_data/key.pem"
    found = files_with(stack.box, key)
    assert found and all(path.endswith((seal, volume)) for path in found)
    assert any(path.endswith(volume) for path in found)
    assert any("/diff/" in path for path in found)
    stack.remove()
    assert files_with(stack.box, key) == []
