"""An environment image from the laptop's engine to the box's: only the layers that it lacks.

They travel one by one, compressed, through the connection that stands already. What has arrived is
held there by a part image, so that a transfer that was cut off goes on with the next layer. Only
environment images travel: a sealed one never leaves the box that made it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jupbox import labels as label
from jupbox.console import Stage
from jupbox.errors import EngineError
from jupbox.host import images
from jupbox.host.inspected import Image
from jupbox.layers import Layer, Manifest, lacking_by_chain, lacking_by_content, part
from jupbox.release.sealing import stack_labels
from jupbox.site import Site


def send(site: Site, made: Site, image: Image, *, tag: str, stage: Stage) -> Image:
    """Have an environment image of another engine on the box.

    Args:
        site: the box.
        made: where the image is.
        image: which.
        tag: its name on both.
        stage: told what travels.

    Raises:
        EngineError: one of the engines refuses.
        HostError: the connection was lost; what arrived is not sent again.
        DiskFullError: the box has no room for it.
    """
    if image.labels.get(label.KIND) != "environment":
        raise ValueError("only environment images leave a machine")
    by_content = site.engine.keeps_content()
    with tempfile.TemporaryDirectory(prefix="jupbox-layers-") as name:
        folder = Path(name)
        stage.detail("looking which layers are there")
        held = _held(site, image, by_content=by_content)
        manifest = images.save(made.engine, image.id, folder, skip=held)
        transfer = _Transfer(
            site=site, manifest=manifest, folder=folder, tag=tag, by_content=by_content,
            lock=image.labels.get(label.LOCK, ""), stage=stage,
        )  # fmt: skip
        try:
            transfer.run(_lacking(site, manifest, held, by_content=by_content))
        except EngineError:
            # what holds no image together must not count as arrived
            for each in parts(site):
                _remove(site, each, but=())
            raise
    arrived = site.engine.image(tag)
    if arrived is None or arrived.id != images.id_of(manifest, by_content=by_content):
        raise EngineError(
            f"The image {tag} did not arrive whole on {site.machine.name}.",
            remedy="Run the same command again.",
        )
    return arrived


def parts(site: Site, *, of_all: bool = False) -> list[Image]:
    """The part images of the stack, or of every stack on the box."""
    mine = {} if of_all else {label.STACK: site.stack}
    return site.engine.images({label.KIND: "part", **mine})


def _held(site: Site, image: Image, *, by_content: bool) -> frozenset[str]:
    """Digests of stored layers that the box has."""
    if by_content:
        texts = (each.labels.get(label.BLOBS, "[]") for each in parts(site, of_all=True))
        return frozenset(blob for text in texts for blob in json.loads(text))
    lacking = lacking_by_chain(image.layers, [each.layers for each in site.engine.images({})])
    # by these names an engine with the same kind of store gives them out
    return frozenset(image.layers) - {image.layers[index] for index in lacking}


def _lacking(
    site: Site, manifest: Manifest, held: frozenset[str], *, by_content: bool
) -> tuple[int, ...]:
    layers = manifest.layers
    if by_content:
        return lacking_by_content([layer.blob for layer in layers], held)
    return tuple(n for n, layer in enumerate(layers) if layer.diff_id not in held)


@dataclass(frozen=True, kw_only=True)
class _Transfer:
    """One image on its way.

    Attributes:
        folder: where the layers that travel lie.
        tag: the image's.
        by_content: whether the box keeps layers as they came. Such an engine does not say which
            ones it has: there the last part image stays, and says it in its labels.
        lock: digest of the image's lock.
    """

    site: Site
    manifest: Manifest
    folder: Path
    tag: str
    by_content: bool
    lock: str
    stage: Stage

    def run(self, lacking: Sequence[int]) -> None:
        """Send the layers of these indexes, then the image itself."""
        layers = self.manifest.layers
        record = self._tag("sent", len(layers)) if self.by_content else None
        total = len(lacking)
        for number, index in enumerate(lacking, 1):
            what = f"sending layer {number} of {total}"
            if index + 1 == len(layers) and not record:
                self._load(self.manifest, [layers[index]], tag=self.tag, what=what)
            else:
                self._load_part(index + 1, [layers[index]], what=what)
        if record:
            self._load_part(len(layers), [], kind="sent")
        if record or len(layers) - 1 not in lacking:
            self._load(self.manifest, [], tag=self.tag)
        for each in parts(self.site):
            _remove(self.site, each, but=(record,))

    def _tag(self, kind: str, upto: int) -> str:
        return f"{self._tags(kind)}{upto}"

    def _tags(self, kind: str) -> str:
        """How the tags of this transfer's images begin."""
        short = images.id_of(self.manifest, by_content=False).partition(":")[2][:12]
        return f"{self.site.stack}:{kind}-{short}-"

    def _load_part(
        self, upto: int, layers: Sequence[Layer], *, what: str = "", kind: str = "part"
    ) -> None:
        labels = {
            **stack_labels(self.site, "part"),
            label.LOCK: self.lock,
            label.BLOBS: json.dumps([layer.blob for layer in self.manifest.layers[:upto]]),
        }
        older, tag = parts(self.site), self._tag(kind, upto)
        self._load(part(self.manifest, upto=upto, labels=labels), layers, tag=tag, what=what)
        for each in older:
            # one of another transfer may hold what this one needs
            if any(name.startswith(self._tags("part")) for name in each.tags):
                _remove(self.site, each, but=(tag,))

    def _load(self, image: Manifest, layers: Sequence[Layer], *, tag: str, what: str = "") -> None:
        packed = self.folder / "packed"
        size = images.pack(image, layers, self.folder, tag=tag, into=packed)
        if what:
            self.stage.detail(f"{what} ({_megabytes(size)})")
        self.site.engine.load(packed)


def _remove(site: Site, image: Image, *, but: Sequence[str | None]) -> None:
    for tag in image.tags or (image.id,):
        if tag not in but:
            site.engine.remove_image(tag)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
