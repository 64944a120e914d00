"""`registry`: Debian's own docker-registry, on the box's loopback, open and with a login."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from jupbox import errors
from jupbox.lock import load_lock
from tests.integration.boxes.boxes import BoxUnderTest, Keyring, wait_until
from tests.integration.errorbox import refused
from tests.integration.jupbox_command import Answer, Laptop, StackOnBox, new_laptop
from tests.triggers import triggers

OPEN, CLOSED, NOBODY = 5000, 5001, 5009
USER, WORD = "ada", "notsecret"
# of that word, by htpasswd
ACCOUNT = "ada:$2y$05$/z/tzC3St0P8T14.NSCLK.WfhfasVX1aT.oqYvgKE6tiCSFVRpDx2"
SERVE = """version: 0.1
storage: {{filesystem: {{rootdirectory: /var/lib/registry-{port}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
LOGIN = "auth: {htpasswd: {realm: test, path: /etc/registry.htpasswd}}\n"
PROJECT = """
[images.shared]
extends = "minimal"
registry = "127.0.0.1:{place}"
[boxes.shared]
host = "workbox"
image = "shared"
port = "auto"
files = "volume"
"""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """A project whose image was built once and pushed; nothing of it is on the box any more.

    Attributes:
        built: the `up` that found no registry.
        pushed: the one that pushed what the first had built.
        tag: the image's at the registry.
    """

    laptop: Laptop
    box: BoxUnderTest
    built: Answer
    pushed: Answer
    tag: str


def at(laptop: Laptop, place: str) -> None:
    """Name a registry in the project."""
    (laptop.folder / "jupbox.toml").write_text(PROJECT.format(place=place))


@contextmanager
def logged_in(laptop: Laptop, port: int) -> Iterator[None]:
    """What `docker login` leaves behind."""
    auth = base64.b64encode(f"{USER}:{WORD}".encode()).decode()
    config = Path(laptop.environ["HOME"], ".docker", "config.json")
    config.parent.mkdir(exist_ok=True)
    config.write_text(json.dumps({"auths": {f"127.0.0.1:{port}": {"auth": auth}}}))
    yield
    config.unlink()


def serve(box: BoxUnderTest, port: int, *, more: str = "") -> None:
    name = f"/etc/registry-{port}.yml"
    box.exec("tee", name, input=SERVE.format(port=port) + more)
    command = f"setsid docker-registry serve {name} >/var/log/registry-{port}.log 2>&1 &"
    box.exec("sh", "-c", command)
    listens = ("sh", "-c", f"ss -Hltn 'sport = :{port}' | grep -q .")
    wait_until(lambda: box.succeeds(*listens), f"registry on {port}")


@pytest.fixture(scope="module")
def shared(
    workbox: BoxUnderTest, keyring: Keyring, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shared]:
    with ExitStack() as keep:
        install = "apt-get update -q && apt-get install -yq --no-install-recommends docker-registry"
        workbox.exec("sh", "-c", install, timeout=300)
        keep.callback(workbox.succeeds, "pkill", "--exact", "docker-registry")
        workbox.exec("tee", "/etc/registry.htpasswd", input=f"{ACCOUNT}\n")
        serve(workbox, OPEN)
        serve(workbox, CLOSED, more=LOGIN)
        folder = tmp_path_factory.mktemp("shared")
        laptop = keep.enter_context(new_laptop(folder, keyring))
        (folder / "project").mkdir()
        laptop = laptop.at(folder / "project")
        keep.callback(StackOnBox(box=workbox, name="jupbox-ada_shared").remove)
        at(laptop, f"{NOBODY}/team/shared")
        built = laptop.must("up")
        at(laptop, f"{CLOSED}/team/shared")
        with logged_in(laptop, CLOSED):
            pushed = laptop.must("up", "--push")
        laptop.must("rm", "--yes")
        folders = f"/var/lib/registry-{CLOSED}/docker/registry/v2/repositories/team/shared"
        (tag,) = workbox.exec("ls", f"{folders}/_manifests/tags").split()
        yield Shared(laptop=laptop, box=workbox, built=built, pushed=pushed, tag=tag)


def environments(box: BoxUnderTest) -> list[str]:
    """Names of the images that came, or were built."""
    listed = box.exec("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}")
    return [name for name in listed.split() if "shared" in name and "seal-" not in name]


@pytest.mark.slow
def test_a_registry_out_of_reach_is_said_and_the_image_is_built(shared: Shared) -> None:
    said = shared.built.stderr
    assert f"127.0.0.1:{NOBODY} is out of reach for workbox; the image is built." in said
    assert "Building the environment image" in said


@pytest.mark.slow
def test_what_is_there_is_pushed_and_the_server_left_alone(shared: Shared) -> None:
    assert "Nothing to do" in shared.pushed.stdout
    assert (
        f"Pushing the environment image to 127.0.0.1:{CLOSED}/team/shared" in shared.pushed.stderr
    )
    assert re.fullmatch("[0-9a-f]{32}-amd64", shared.tag)


@pytest.mark.slow
def test_an_image_of_the_lock_is_pulled_and_nothing_is_built(shared: Shared) -> None:
    at(shared.laptop, f"{CLOSED}/team/shared")
    try:
        with logged_in(shared.laptop, CLOSED):
            said = shared.laptop.must("up").stderr
        assert "pulling it to workbox" in said
        assert "Building" not in said
        names = {name.partition(":")[0] for name in environments(shared.box)}
        assert names == {"jupbox-ada_shared", "jupbox-env"}
    finally:
        shared.laptop.must("rm", "--yes")
    assert environments(shared.box) == []


@pytest.mark.slow
@triggers(errors.RegistryError)
def test_a_registry_that_wants_a_login_is_an_error(shared: Shared) -> None:
    at(shared.laptop, f"{CLOSED}/team/shared")
    said = refused(shared.laptop.jupbox("up"), errors.RegistryError)
    assert said.wrong == f"127.0.0.1:{CLOSED} wants a login."
    assert f"docker login 127.0.0.1:{CLOSED}" in said.remedy


@pytest.mark.slow
@triggers(errors.RegistryError)
def test_another_image_than_the_locks_is_an_error_and_does_not_stay(shared: Shared) -> None:
    at(shared.laptop, f"{OPEN}/team/wrong")
    name = f"127.0.0.1:{OPEN}/team/wrong:{shared.tag}"
    labels = f"--label dev.jupbox.kind=environment --label dev.jupbox.lock={digest_of(shared)}"
    context = "printf 'FROM scratch\\nCOPY passwd /opt/env/image.lock\\n'"
    build = f"docker buildx build -q {labels} -t {name} -f - /etc"
    shared.box.exec("sh", "-c", f"{context} | {build} && docker push -q {name}")
    shared.box.exec("docker", "image", "rm", name)
    said = refused(shared.laptop.jupbox("up"), errors.RegistryError)
    assert said.wrong == f"{name} is another image than the one of the lock."
    assert environments(shared.box) == []


def digest_of(shared: Shared) -> str:
    """The digest of the lock."""
    lock = load_lock((shared.laptop.folder / "jupbox.lock").read_text(), source="jupbox.lock")
    return lock.images["shared"].digest()
