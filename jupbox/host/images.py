"""Images from one engine to another: out as layers in a folder, in as compressed archives."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from jupbox.errors import EngineError
from jupbox.host.engine import Engine
from jupbox.layers import Layer, Manifest, archive, blob_path, digest_of, read_manifest

# Of an environment image of 433 MB 2 cores make 133 MB in 7 s at level 3, 110 MB in 19 s at level
# 9 (gzip: 142 MB); the lower one is sooner there on any link above 15 Mbit/s.
_LEVEL: Final = 3
_BLOCK: Final = 1 << 20


def save(engine: Engine, reference: str, folder: Path, *, skip: Collection[str]) -> Manifest:
    """Take an image out of an engine; its layers lie in the folder afterwards (`layer_file`).

    Args:
        engine: whose image.
        reference: tag or ID.
        folder: an empty one.
        skip: digests of layers (as stored) that are not needed.

    Raises:
        EngineError: the engine refuses, or gives no archive that can be read.
    """
    with engine.saving(reference) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                small = _unpack(tar, folder, skip=skip)
            return _manifest(folder, json.loads(small["index.json"]))
        except (tarfile.TarError, KeyError, ValueError):
            raise EngineError(
                f"The image {reference} on {engine.place} could not be read out.",
                remedy="Look whether `docker save` of it works there.",
            ) from None


def _unpack(tar: tarfile.TarFile, folder: Path, *, skip: Collection[str]) -> dict[str, bytes]:
    """Put the blobs of an archive into a folder, but for those to skip; the other files' texts."""
    unwanted = {blob_path(digest) for digest in skip}
    small = {}
    for member in tar:
        content = tar.extractfile(member) if member.isfile() else None
        if content is None or member.name in unwanted:
            continue
        *above, name = member.name.split("/")
        if above == ["blobs", "sha256"]:
            with (folder / name).open("wb") as file:
                shutil.copyfileobj(content, file, _BLOCK)
        elif not above:
            small[name] = content.read()
    return small


def _manifest(folder: Path, index: dict[str, list[dict[str, str]]]) -> Manifest:
    (only,) = index["manifests"]
    text = _file(folder, only["digest"]).read_bytes()
    config = _file(folder, json.loads(text)["config"]["digest"]).read_bytes()
    return read_manifest(text, config)


def _file(folder: Path, digest: str) -> Path:
    return folder / digest.partition(":")[2]


def layer_file(folder: Path, layer: Layer) -> Path:
    """Where a folder that `save` has filled has a layer."""
    return _file(folder, layer.blob)


def pack(image: Manifest, layers: Sequence[Layer], folder: Path, *, tag: str, into: Path) -> int:
    """Write a compressed archive of an image with those of its layers that are to travel.

    Args:
        image: what it is of.
        layers: what travels.
        folder: where they lie.
        tag: the image's name on the engine.
        into: the file.

    Returns:
        Its size in bytes.
    """
    import zstandard  # noqa: PLC0415  # costs every command that sends nothing

    compressor = zstandard.ZstdCompressor(level=_LEVEL, threads=-1)
    with (
        into.open("wb") as file,
        compressor.stream_writer(file, closefd=False) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        for layer in layers:
            with layer_file(folder, layer).open("rb") as content:
                _add(tar, blob_path(layer.blob), content, size=layer.size)
        for name, text in archive(image, tag=tag).items():
            _add(tar, name, io.BytesIO(text), size=len(text))
    return into.stat().st_size


def _add(tar: tarfile.TarFile, name: str, content: io.BufferedIOBase, *, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    tar.addfile(member, content)


def id_of(image: Manifest, *, by_content: bool) -> str:
    """The ID that an image has on an engine; `by_content`: with the containerd image store."""
    return digest_of(image.text if by_content else image.config)
