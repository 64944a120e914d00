"""The small stand-in for a team's image, on a box of its own, with work that must not be lost.

One image is built by jupbox itself, and kept outside the repository for later runs. Its variants
differ by what a lock has beside packages; their locks are derived and their images made by hand, so
that to roll one out is to seal and to deploy it, and a round takes seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from jupbox import labels as label
from jupbox import render
from jupbox.host.outside import Elsewhere
from jupbox.lock import ImageLock, Lock, dump_lock, load_lock
from jupbox.project import parse_project, shipped_definitions
from jupbox.release import locking
from tests.integration.boxes.boxes import BoxUnderTest
from tests.integration.boxes.images import cache_directory, one_at_a_time
from tests.integration.jupbox_command import Laptop

BOX = "fault"
PORT = 8899
HOST = "faultbox"
# what goes wrong in the server of a variant, by the variable FAULT (see broken.py)
BROKEN = ("exits", "hangs", "plain", "kernel")
ON_THE_BOX = ("b", *BROKEN)
# its image is made on the laptop, and has a layer that takes a while to send
SENT = "sent"
VARIANTS = (*ON_THE_BOX, SENT)
BALLAST = 80_000_000
_SITE = "/opt/env/lib/python3.13/site-packages"
_BROKEN_SOURCE = Path(__file__).with_name("broken.py")

_IMAGES = """
[images.a]
python = ["jupyterlab>=4.4", "jupyter-server>=2.20", "ipykernel"]
env = { FAULT = "none" }
"""
_VARIANT = """
[images.{name}]
extends = "a"
env = {{ FAULT = "{name}" }}
"""
_BOX = """
[boxes.{box}]
host = "{host}"
image = "{image}"
port = {port}
{keys}
"""


def project_text(image: str, keys: str = "", *, host: str = HOST) -> str:
    """The jupbox.toml in which the box has that image."""
    images = _IMAGES + "".join(_VARIANT.format(name=name) for name in VARIANTS)
    return images + _BOX.format(box=BOX, host=host, image=image, port=PORT, keys=keys)


def write_project(laptop: Laptop, image: str, keys: str = "", *, host: str = HOST) -> None:
    """Have the box's image be another one."""
    (laptop.folder / "jupbox.toml").write_text(project_text(image, keys, host=host))


def ensure_images(box: BoxUnderTest, laptop: Laptop, host: str) -> None:
    """Have the stand-in and its variants on the box, and their locks in the project."""
    write_project(laptop, "a", host=host)
    with one_at_a_time("standin"):
        kept = cache_directory() / f"standin-{_fingerprint()}"
        if (kept / "jupbox.lock").exists():
            (laptop.folder / "jupbox.lock").write_text((kept / "jupbox.lock").read_text())
            _load(box, kept / "images.tar")
        else:
            laptop.must("lock", "a", "--on", BOX)
            laptop.must("up")
            kept.mkdir(exist_ok=True)
            _save(box, kept / "images.tar")
            # last: it says that the rest is whole
            (kept / "jupbox.lock").write_text((laptop.folder / "jupbox.lock").read_text())
    _derive(box, laptop)


@contextmanager
def image_here(laptop: Laptop) -> Iterator[None]:
    """Have the image of `SENT` on this machine's own engine, and on no box."""
    before = _images_here(laptop)
    with one_at_a_time("standin"):
        archive = cache_directory() / f"standin-{_fingerprint()}" / "images.tar"
        _here(laptop, "load", "--quiet", "--input", str(archive))
    try:
        locks = load_lock((laptop.folder / "jupbox.lock").read_text(), source="jupbox.lock")
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "ballast").write_bytes(os.urandom(BALLAST))
            Path(folder, "Dockerfile").write_text(
                _dockerfile(locks, SENT) + "COPY ballast /opt/ballast\n"
            )
            tag = render.environment_tag(locks.images[SENT])
            _here(laptop, "buildx", "build", "--quiet", "--provenance=false", "--tag", tag, folder)
        yield
    finally:
        if made := _images_here(laptop) - before:
            _here(laptop, "image", "rm", "--force", *made)


def _here(laptop: Laptop, *arguments: str) -> str:
    done = laptop.run("docker", *arguments, timeout=300)
    assert done.code == 0, done.stderr
    return done.stdout


def _images_here(laptop: Laptop) -> set[str]:
    names = _here(laptop, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
    ours = ("jupbox-env:a-", f"jupbox-env:{SENT}-", "jupbox-base:")
    return {name for name in names if name.startswith(ours)}


def _fingerprint() -> str:
    root = Path(__file__).resolve().parents[2]
    parts = [_IMAGES]
    parts += [path.read_text() for path in sorted((root / "images").glob("build/*.sh"))]
    parts += [(root / "images" / "Dockerfile.j2").read_text()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _save(box: BoxUnderTest, archive: Path) -> None:
    names = box.exec("docker", "images", "--format", "{{.Repository}}:{{.Tag}}").split()
    wanted = [name for name in names if name.startswith(("jupbox-env:a-", "jupbox-base:"))]
    with archive.open("wb") as file:
        subprocess.run(["docker", "exec", box.container, "docker", "save", *wanted],
                       check=True, stdout=file, timeout=300)  # fmt: skip


def _load(box: BoxUnderTest, archive: Path) -> None:
    with archive.open("rb") as file:
        subprocess.run(["docker", "exec", "-i", box.container, "docker", "load", "--quiet"],
                       check=True, stdin=file, stdout=subprocess.DEVNULL, timeout=300)  # fmt: skip


def _derive(box: BoxUnderTest, laptop: Laptop) -> None:
    path = laptop.folder / "jupbox.lock"
    locks = load_lock(path.read_text(), source=path.name)
    first = locks.images["a"]
    context = "/root/variants"
    box.exec("mkdir", "-p", context)
    box.exec("tee", f"{context}/broken.py", input=_BROKEN_SOURCE.read_text())
    box.exec("tee", f"{context}/broken.pth", input="import broken\n")
    for name in VARIANTS:
        mine = _lock_of(laptop, first, name)
        locks = locks.with_image(mine)
        if name in ON_THE_BOX:
            copied = f"COPY broken.py broken.pth {_SITE}/\n"
            box.exec("docker", "buildx", "build", "--quiet", "--provenance=false", "--tag",
                     render.environment_tag(mine), "--file", "-", context,
                     input=_dockerfile(locks, name) + copied)  # fmt: skip
    path.write_text(dump_lock(locks))


def _dockerfile(locks: Lock, name: str) -> str:
    """How the image of a variant is made of the first one."""
    mine = locks.images[name]
    labels = {label.KIND: "environment", label.IMAGE: name, label.LOCK: mine.digest()}
    lines = [f"FROM {render.environment_tag(locks.images['a'])}", f"ENV FAULT={name}"]
    lines += [f"LABEL {key}={json.dumps(value)}" for key, value in labels.items()]
    return "\n".join(lines) + "\n"


def _lock_of(laptop: Laptop, first: ImageLock, name: str) -> ImageLock:
    definition = parse_project(
        (laptop.folder / "jupbox.toml").read_text(),
        source="",
        root=laptop.folder,
        user_text=None,
        user_source="",
        shipped=shipped_definitions(),
        outside=Elsewhere(root=laptop.folder, environ=laptop.environ, pinned=lambda image: ()),
    ).image(name)
    mine = replace(
        first.unrecorded(),
        name=name,
        definition=definition.digest,
        system=definition.system_digest,
    )
    return locking.completed(mine, definition)


__all__ = [
    "BOX",
    "BROKEN",
    "HOST",
    "PORT",
    "ensure_images",
    "project_text",
    "write_project",
]
