"""A project whose image is the shared `minimal` under another name, so that nothing is resolved."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from jupbox.host.outside import Elsewhere
from jupbox.lock import InterpreterLock, Lock, dump_lock, load_lock
from jupbox.project import parse_project, shipped_definitions
from jupbox.release import locking
from tests.integration.jupbox_command import Answer, Laptop, MainJob, StackOnBox


@dataclass(frozen=True, kw_only=True)
class Team:
    """A project's folder on a laptop, with one box.

    Attributes:
        name: of the image and of the box.
    """

    name: str
    job: MainJob
    laptop: Laptop

    @property
    def folder(self) -> Path:
        """Where jupbox.toml lies."""
        return self.laptop.folder

    @property
    def stack(self) -> StackOnBox:
        """What runs for it on the box."""
        return StackOnBox(box=self.job.box, name=f"jupbox-ada_{self.name}")

    def write(self, keys: str = "", image: str = 'extends = "minimal"', rest: str = "") -> None:
        """Write jupbox.toml; `keys` go into the box's table, `image` into the image's."""
        (self.folder / "jupbox.toml").write_text(
            f"[images.{self.name}]\n{image}\n\n[boxes.{self.name}]\n"
            f'host = "{self.job.box.name}"\nimage = "{self.name}"\nport = "auto"\n{keys}\n{rest}'
        )

    def lock_as_shared(self, interpreter: InterpreterLock | None = None) -> None:
        """Lock the image to what the shared `minimal` is locked to, possibly with a CPython."""
        shared = load_lock(self.job.lock.read_text(), source="shared").images["minimal"]
        definition = parse_project(
            (self.folder / "jupbox.toml").read_text(),
            source="",
            root=self.folder,
            user_text=None,
            user_source="",
            shipped=shipped_definitions(),
            outside=Elsewhere(
                root=self.folder, environ=self.laptop.environ, pinned=lambda image: ()
            ),
        ).image(self.name)
        mine = replace(
            shared.unrecorded(),
            name=self.name,
            definition=definition.digest,
            system=definition.system_digest,
        )
        mine = locking.completed(mine, definition)
        platforms = {
            name: replace(platform, interpreter=interpreter)
            for name, platform in mine.platforms.items()
        }
        mine = replace(mine, platforms=platforms)
        (self.folder / "jupbox.lock").write_text(dump_lock(Lock().with_image(mine)))

    def jupbox(self, verb: str, *arguments: str, input: str = "") -> Answer:
        """Run a verb on the box, which must succeed."""
        return self.laptop.must(verb, self.name, *arguments, input=input)


@contextmanager
def team(job: MainJob, laptop: Laptop, folder: Path, name: str, keys: str = "") -> Iterator[Team]:
    """A project in `folder` on `laptop`; what it left on the box goes at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Team(name=name, job=job, laptop=laptop.at(folder))
    made.write(keys)
    made.lock_as_shared()
    try:
        yield made
    finally:
        sweep(job, made.stack.name)
        shutil.rmtree(folder, ignore_errors=True)


def sweep(job: MainJob, stack: str) -> None:
    """Remove all of a stack, whatever state a failed test left it in."""
    label = f"label=dev.jupbox.stack={stack}"
    script = f"""
    docker ps -aq --filter label=com.docker.compose.project={stack} | xargs -r docker rm -fv
    docker ps -aq --filter {label} | xargs -r docker rm -fv
    docker network ls -q --filter label=com.docker.compose.project={stack} \
      | xargs -r docker network rm
    docker volume ls -q --filter {label} | xargs -r docker volume rm
    docker volume ls -q --filter label=com.docker.compose.project={stack} \
      | xargs -r docker volume rm
    docker images --filter {label} --format '{{{{.Repository}}}}:{{{{.Tag}}}}' \
      | xargs -r docker rmi -f
    docker images --quiet --filter label=com.docker.compose.project={stack} \
      | sort -u | xargs -r docker rmi -f
    """
    job.box.exec("sh", "-s", input=script, timeout=300)
