"""An engine and a machine that live in memory, for rooms that are told which one to use."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from jupbox import labels as label
from jupbox.audit import Change, Ended
from jupbox.errors import HostError
from jupbox.host.exclusion import Hold, busy
from jupbox.host.inspected import Container, Image
from jupbox.host.machine import Completed

Files = dict[str, bytes]


def image(tag: str, labels: Mapping[str, str] | None = None, **changes: Any) -> Image:
    given: dict[str, Any] = {
        "id": f"sha256:{tag}",
        "tags": (tag,),
        "digests": (),
        "layers": ("sha256:layer",),
        "labels": labels or {},
        "architecture": "amd64",
        "size": 1,
    }
    return Image(**(given | changes))


def container(name: str, labels: Mapping[str, str] | None = None, **changes: Any) -> Container:
    given: dict[str, Any] = {
        "id": f"id-of-{name}",
        "name": name,
        "image": "sha256:gone",
        "state": "running",
        "health": "healthy",
        "exit_code": 0,
        "started": datetime(2026, 1, 1, tzinfo=UTC),
        "restarts": 0,
        "labels": labels or {},
        "volumes": {},
        "published": None,
        "ports": {},
        "memory": None,
        "cpus": None,
    }
    return Container(**(given | changes))


def sealed_image(stack: str, generation: int, **labels: str) -> Image:
    kinds = {
        label.STACK: stack,
        label.KIND: "sealed",
        label.GENERATION: str(generation),
        **labels,
    }
    return image(f"{stack}:seal-{generation}", kinds)


@dataclass
class _Scratch:
    files: Files
    mounts: dict[str, str]
    labels: Mapping[str, str]


@dataclass
class FakeEngine:
    """Holds what it is given; says what an engine would say."""

    place: str = "workbox"
    all_images: list[Image] = field(default_factory=list)
    all_containers: list[Container] = field(default_factory=list)
    all_volumes: dict[str, Mapping[str, str]] = field(default_factory=dict)
    all_networks: dict[str, Mapping[str, str]] = field(default_factory=dict)
    in_images: dict[str, Files] = field(default_factory=dict)
    in_volumes: dict[str, Files] = field(default_factory=dict)
    tars: list[bytes] = field(default_factory=list)
    all_runtimes: frozenset[str] = frozenset({"runc"})
    heir: int | None = None
    updates: list[tuple[str, int | None, float | None]] = field(default_factory=list)
    _scratches: dict[str, _Scratch] = field(default_factory=dict)

    def runtimes(self) -> frozenset[str]:
        return self.all_runtimes

    def update(self, container: str, *, memory: int | None, cpus: float | None) -> None:
        self.updates.append((container, memory, cpus))

    def containers(self, labels: Mapping[str, str]) -> list[Container]:
        return [c for c in self.all_containers if labels.items() <= c.labels.items()]

    def images(self, labels: Mapping[str, str]) -> list[Image]:
        return [i for i in self.all_images if labels.items() <= i.labels.items()]

    def tagged(self, repository: str) -> list[Image]:
        return [i for i in self.all_images if any(t.startswith(f"{repository}:") for t in i.tags)]

    def networks(self, labels: Mapping[str, str]) -> list[str]:
        return [n for n, ls in self.all_networks.items() if labels.items() <= ls.items()]

    def volumes(self, labels: Mapping[str, str]) -> dict[str, Mapping[str, str]]:
        return {n: ls for n, ls in self.all_volumes.items() if labels.items() <= ls.items()}

    def image(self, reference: str) -> Image | None:
        return next((i for i in self.all_images if reference in {i.id, *i.tags}), None)

    def published_ports(self) -> frozenset[int]:
        return frozenset(c.published[1] for c in self.all_containers if c.published)

    def port_owner(self, port: int, *, except_stack: str) -> str | None:
        return next(
            (
                c.name
                for c in self.all_containers
                if c.running
                and c.published
                and c.published[1] == port
                and c.labels.get(label.STACK) != except_stack
            ),
            None,
        )

    @contextmanager
    def scratch(
        self, image: str, *, volumes: Mapping[str, str] | None = None, **options: Any
    ) -> Iterator[str]:
        name = f"scratch-{len(self._scratches)}"
        mounts = {path: volume for volume, path in (volumes or {}).items()}
        files = dict(self.in_images.get(image, {}))
        self._scratches[name] = _Scratch(files, mounts, options.get("labels", {}))
        try:
            yield name
        finally:
            del self._scratches[name]

    def get(self, container: str, path: str) -> Files:
        scratch = self._scratches[container]
        if path in scratch.mounts:
            return dict(self.in_volumes.get(scratch.mounts[path], {}))
        prefix = f"{path}/"
        return {n.removeprefix(prefix): c for n, c in scratch.files.items() if n.startswith(prefix)}

    def put(self, container: str, folder: str, files: bytes) -> None:
        self.tars.append(files)
        scratch = self._scratches[container]
        if folder in scratch.mounts:
            self.in_volumes.setdefault(scratch.mounts[folder], {}).update(unpacked(files))
        else:
            scratch.files |= {f"{folder}/{name}": text for name, text in unpacked(files).items()}

    def commit(self, container: str, tag: str) -> Image:
        scratch = self._scratches[container]
        made = image(tag, dict(scratch.labels))
        self.all_images.append(made)
        self.in_images[made.id] = scratch.files
        return made

    def create_volume(self, name: str, labels: Mapping[str, str]) -> None:
        self.all_volumes.setdefault(name, labels)

    def tag(self, reference: str, name: str) -> None:
        self.all_images = [
            replace(i, tags=(*i.tags, name)) if reference in {i.id, *i.tags} else i
            for i in self.all_images
        ]

    def remove_image(self, reference: str) -> None:
        """A tag goes, and with its last one the image; by its ID it goes with all of them."""
        left = [
            replace(i, tags=tuple(tag for tag in i.tags if tag != reference))
            for i in self.all_images
            if i.id != reference
        ]
        gone = {i.id for i in self.all_images if i.tags == (reference,)}
        self.all_images = [i for i in left if i.id not in gone]

    def remove(self, kind: str, name: str) -> str:
        assert kind == "volume"
        self.remove_volume(name)
        return ""

    def remove_volume(self, name: str) -> None:
        self.all_volumes.pop(name, None)

    def sweep(self, now: datetime) -> None:
        """Nothing passes here."""

    def container_exists(self, name: str) -> bool:
        return any(name in {c.id, c.name} for c in self.all_containers)

    def create_kept(self, name: str, image: str, labels: Mapping[str, str]) -> None:
        found = self.image(image)
        assert found is not None
        given = {**found.labels, **labels}
        self.all_containers.append(
            container(name, given, image=found.id, state="created", started=None)
        )

    def remove_container(self, container: str, *, anonymous_volumes: bool = False) -> None:
        self.all_containers = [c for c in self.all_containers if container not in {c.id, c.name}]

    def last_log_lines(self, container: str, count: int) -> list[str]:
        return ["one", "two"][-count:]


def members(tar: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return archive.getmembers()


def unpacked(tar: bytes) -> Files:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {m.name: f.read() for m in archive if (f := archive.extractfile(m))}


@dataclass
class FakeHold:
    """A lock that is never lost, unless it is told so."""

    left: Change | None = None
    ended: Ended | None = None
    descriptor: int = 0
    trouble: HostError | None = None

    def check(self) -> None:
        if self.trouble:
            raise self.trouble


def _done(argv: Sequence[str]) -> tuple[int, str]:
    return 0, ""


@dataclass
class FakeMachine:
    """Answers commands as it is told."""

    name: str = "workbox"
    is_local: bool = False
    answer: Callable[[Sequence[str]], tuple[int, str]] = _done
    calls: list[tuple[list[str], bytes]] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    record: list[Change | Ended] = field(default_factory=list)

    def run(
        self, argv: Sequence[str], *, input: bytes = b"", timeout: float = 60.0, check: bool = True
    ) -> Completed:
        self.calls.append((list(argv), input))
        code, text = self.answer(argv)
        return Completed(argv=tuple(argv), returncode=code, stdout=text.encode(), stderr=b"")

    @contextmanager
    def exclusive(self, name: str, change: Change, *, record: bool = True) -> Iterator[Hold]:
        if name in self.held:
            raise busy(self.name, None)
        self.held.append(name)
        self.record += [change] if record else []
        hold = FakeHold()
        try:
            yield hold
        finally:
            self.held.remove(name)
            self.record += [hold.ended] if record and hold.ended else []

    @contextmanager
    def tunnel(self, port: int, *, local_port: int = 0) -> Iterator[int]:
        yield port


@dataclass
class FakeStage:
    """Keeps what it is told."""

    details: list[str] = field(default_factory=list)

    def detail(self, text: str) -> None:
        self.details.append(text)

    def log(self, line: str) -> None:
        pass
