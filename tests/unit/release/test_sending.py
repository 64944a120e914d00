"""What travels from the laptop's engine to the box's, and what is left when it fails."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest
import zstandard

from jupbox import labels as label
from jupbox.console import Stage
from jupbox.errors import EngineError, HostError, JupboxError
from jupbox.host.engine import Engine
from jupbox.host.inspected import Image
from jupbox.layers import Manifest, archive, blob_path, digest_of, part, read_manifest
from jupbox.project import Box
from jupbox.release import sending, workshop
from jupbox.site import Site
from tests.unit.fakes import FakeEngine, FakeStage, image
from tests.unit.release.bench import FACTS, STACK, bench

TAG = "jupbox-env:far-1"
LABELS = {label.KIND: "environment", label.LOCK: "the lock"}


def made_of(*contents: bytes) -> Manifest:
    """An image of layers that are stored as they are."""
    diff_ids = [digest_of(content) for content in contents]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": LABELS},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    config_text = json.dumps(config).encode()
    text = {
        "config": {"digest": digest_of(config_text)},
        "layers": [
            {"mediaType": "tar", "digest": digest, "size": len(content)}
            for digest, content in zip(diff_ids, contents, strict=True)
        ],
    }
    return read_manifest(json.dumps(text).encode(), config_text)


def tarred(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@dataclass
class Source(FakeEngine):
    """Gives out one image."""

    contents: tuple[bytes, ...] = ()

    @contextmanager
    def saving(self, reference: str) -> Iterator[io.BytesIO]:
        files = {blob_path(digest_of(content)): content for content in self.contents}
        yield io.BytesIO(tarred(files | archive(made_of(*self.contents), tag=TAG)))


@dataclass
class Target(FakeEngine):
    """Takes in archives as an engine of one or the other kind of store does.

    Attributes:
        loads: tag and layers of each archive.
        fails: the error of the archive of that number, from 1.
    """

    by_content: bool = False
    loads: list[tuple[str, list[bytes]]] = field(default_factory=list)
    fails: dict[int, JupboxError] = field(default_factory=dict)

    def keeps_content(self) -> bool:
        return self.by_content

    def load(self, archive: Path) -> None:
        with (
            archive.open("rb") as file,
            zstandard.ZstdDecompressor().stream_reader(file) as plain,
            tarfile.open(fileobj=plain, mode="r|") as tar,
        ):
            files = {m.name: opened.read() for m in tar if (opened := tar.extractfile(m))}
        (legacy,) = json.loads(files["manifest.json"])
        config = json.loads(files[legacy["Config"]])
        came = [files[name] for name in legacy["Layers"] if name in files]
        tag = legacy["RepoTags"][0]
        if error := self.fails.get(len(self.loads) + 1):
            self.loads.append(("failed", came))
            raise error
        self.loads.append((tag, came))
        (named,) = json.loads(files["index.json"])["manifests"]
        identity = named["digest"] if self.by_content else digest_of(files[legacy["Config"]])
        # a tag moves to what came last
        self.remove_image(tag)
        if self.image(identity):
            self.tag(identity, tag)
            return
        labels, diff_ids = config["config"]["Labels"], tuple(config["rootfs"]["diff_ids"])
        self.all_images.append(image(tag, labels, id=identity, layers=diff_ids))


A, B, C = b"lowest" * 100, b"middle" * 100, b"top" * 100


@dataclass
class Way:
    """From one engine to the other."""

    target: Target
    stage: FakeStage = field(default_factory=FakeStage)

    @property
    def site(self) -> Site:
        return replace(bench().site, engine=cast(Engine, self.target))

    def send(self, *contents: bytes, labels: Mapping[str, str] = LABELS) -> Image:
        source = Source(contents=contents)
        built = image(TAG, labels, layers=tuple(digest_of(c) for c in contents))
        made = replace(bench().site, engine=cast(Engine, source))
        return sending.send(self.site, made, built, tag=TAG, stage=cast(Stage, self.stage))

    @property
    def travelled(self) -> list[list[bytes]]:
        return [came for _, came in self.target.loads]

    @property
    def tags(self) -> list[str]:
        return sorted(tag for each in self.target.all_images for tag in each.tags)


def test_layers_travel_one_by_one_and_no_part_is_left() -> None:
    way = Way(Target())
    arrived = way.send(A, B, C)
    assert way.travelled == [[A], [B], [C]]
    assert way.tags == [TAG]
    assert arrived.id == digest_of(made_of(A, B, C).config)
    assert [text.partition(" (")[0] for text in way.stage.details[1:]] == [
        f"sending layer {n} of 3" for n in (1, 2, 3)
    ]


def test_what_another_image_has_in_the_same_place_does_not_travel() -> None:
    way = Way(Target())
    other = image("other:1", layers=(digest_of(A), digest_of(B), "sha256:else"))
    way.target.all_images.append(other)
    way.send(A, B, C)
    assert way.travelled == [[C]]


def test_an_image_of_layers_that_are_all_there_is_sent_without_any() -> None:
    way = Way(Target())
    way.target.all_images.append(image("o:1", layers=(digest_of(A), digest_of(B), "sha256:x")))
    assert way.send(A, B).labels == LABELS
    assert way.travelled == [[]]


@pytest.mark.parametrize("by_content", [False, True])
def test_after_a_lost_connection_only_the_rest_travels(by_content: bool) -> None:
    way = Way(Target(by_content=by_content, fails={2: HostError("lost", remedy="again")}))
    with pytest.raises(HostError):
        way.send(A, B, C)
    assert [tag.partition(":")[2].partition("-")[0] for tag in way.tags] == ["part"]
    again = Way(replace(way.target, loads=[], fails={}))
    again.send(A, B, C)
    assert [came for came in again.travelled if came] == [[B], [C]]
    assert not [tag for tag in again.tags if ":part-" in tag]


@pytest.mark.parametrize("by_content", [False, True])
def test_an_archive_that_the_engine_refuses_takes_the_parts_with_it(by_content: bool) -> None:
    way = Way(Target(by_content=by_content, fails={2: EngineError("no", remedy="none")}))
    with pytest.raises(EngineError):
        way.send(A, B, C)
    assert way.tags == []


def test_a_store_that_does_not_say_what_it_has_keeps_a_record_of_it() -> None:
    way = Way(Target(by_content=True))
    # the tar of that layer is there, but perhaps stored in another way
    way.target.all_images.append(image("other:1", layers=(digest_of(A),)))
    way.send(A, B)
    assert [came for came in way.travelled if came] == [[A], [B]]
    (record,) = [tag for tag in way.tags if tag.startswith(f"{STACK}:sent-")]
    way.send(A, B, C)
    assert [came for came in way.travelled if came] == [[A], [B], [C]]
    assert record not in way.tags


def test_a_transfer_of_another_image_that_was_cut_off_helps_this_one() -> None:
    way = Way(Target(fails={2: HostError("lost", remedy="again")}))
    with pytest.raises(HostError):
        way.send(A, B)
    again = Way(replace(way.target, loads=[], fails={}))
    again.send(A, C)
    assert again.travelled == [[C]]
    assert again.tags == [TAG]


def test_an_image_that_is_no_environment_never_leaves() -> None:
    way = Way(Target())
    with pytest.raises(ValueError, match="environment"):
        way.send(A, labels={label.KIND: "sealed"})
    assert way.travelled == []


def test_a_part_names_its_stack_so_that_rm_finds_it() -> None:
    way = Way(Target(fails={2: HostError("lost", remedy="again")}))
    with pytest.raises(HostError):
        way.send(A, B)
    (left,) = way.target.all_images
    assert left.labels[label.STACK] == STACK
    assert left.tags[0].startswith(f"{STACK}:")


def test_a_part_is_the_same_however_often_it_is_made() -> None:
    whole = made_of(A, B)
    assert part(whole, upto=1, labels={}) == part(whole, upto=1, labels={})


# --- where it is built --------------------------------------------------------------------------


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """This machine's engine."""
    engine = FakeEngine(place="this machine")
    monkeypatch.setattr(workshop.host_facts, "look", lambda machine: FACTS)

    def site_of(project: object, box: Box, *_: object, facts: object, **__: object) -> Site:
        assert box.host == "local"
        return replace(bench().site, engine=cast(Engine, engine), facts=FACTS)

    monkeypatch.setattr(workshop, "site_of", site_of)
    return engine


def test_a_box_builds_by_itself_unless_told_otherwise(local: FakeEngine) -> None:
    site = bench().site
    assert workshop.of(site) is site


def test_here_is_this_machines_engine_for_the_same_box(local: FakeEngine) -> None:
    site = bench(box=Box(name="workbox", host="workbox", build="here")).site
    made = workshop.of(site)
    assert made.engine is cast(Engine, local)
    assert made.box == site.box


def test_this_machine_itself_is_both(local: FakeEngine) -> None:
    made = bench(box=Box(name="local", host="local", build="here"))
    made.machine.is_local = True
    assert workshop.of(made.site) is made.site


def test_another_architecture_is_an_error_that_names_both(local: FakeEngine) -> None:
    facts = replace(FACTS, architecture="arm64")
    site = bench(box=Box(name="workbox", host="workbox", build="here"), facts=facts).site
    with pytest.raises(EngineError, match="amd64 images, and workbox is arm64"):
        workshop.of(site)
