"""Images as archives of layers: which layers an engine lacks, and what stands beside a layer.

An engine takes in (`docker load`) an archive from which layers are left out that it has already;
an archive of the first few layers of an image is a part image, which holds them there until the
rest has come.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_INDEX: Final = "application/vnd.oci.image.index.v1+json"
# what says of a reference which registry it is of, and Docker's own takes for granted
_HUB: Final = "docker.io/library/"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of an image.

    Attributes:
        diff_id: digest of its tar.
        blob: digest of the tar as it is stored, perhaps compressed.
        size: of what is stored, in bytes.
        media_type: of what is stored.
    """

    diff_id: str
    blob: str
    size: int
    media_type: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """An image but for its layers' contents; the bytes are what its ID is made of.

    Attributes:
        config: the configuration (OCI image specification).
        text: the manifest.
    """

    config: bytes
    text: bytes
    layers: tuple[Layer, ...]


def lacking_by_chain(layers: Sequence[str], there: Iterable[Sequence[str]]) -> tuple[int, ...]:
    """Which layers an engine lacks that has a layer only on top of the same ones (overlay2).

    Args:
        layers: the image's, by the digests of their tars, the lowest first.
        there: the same of each image of the engine.

    Returns:
        Their indexes.
    """
    held = max((_shared(layers, other) for other in there), default=0)
    return tuple(range(held, len(layers)))


def _shared(first: Sequence[str], second: Sequence[str]) -> int:
    """How many layers two images have in common, from the lowest on."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(first), len(second)))


def lacking_by_content(blobs: Sequence[str], there: Collection[str]) -> tuple[int, ...]:
    """Which layers an engine lacks that keeps them as they came (the containerd image store).

    Args:
        blobs: the image's, by the digests of what is stored.
        there: those that the engine has.

    Returns:
        Their indexes.
    """
    return tuple(index for index, blob in enumerate(blobs) if blob not in there)


def read_manifest(text: bytes, config: bytes) -> Manifest:
    """The manifest of an image with what it names.

    Raises:
        ValueError: not a manifest of that configuration.
    """
    stored = json.loads(text).get("layers", [])
    diff_ids = json.loads(config)["rootfs"]["diff_ids"]
    if len(stored) != len(diff_ids):
        raise ValueError("a manifest and a configuration with other layers")
    layers = tuple(
        Layer(
            diff_id=diff_id,
            blob=each["digest"],
            size=each["size"],
            media_type=each["mediaType"],
        )
        for diff_id, each in zip(diff_ids, stored, strict=True)
    )
    return Manifest(config=config, text=text, layers=layers)


def part(whole: Manifest, *, upto: int, labels: Mapping[str, str]) -> Manifest:
    """An image of the first `upto` layers of another, with labels of its own."""
    of = json.loads(whole.config)
    config = _json(
        {
            "architecture": of["architecture"],
            "os": of["os"],
            "config": {"Labels": dict(labels)},
            "rootfs": {
                "type": "layers",
                "diff_ids": [layer.diff_id for layer in whole.layers[:upto]],
            },
        }
    )
    text = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [
                {"mediaType": layer.media_type, "size": layer.size, "digest": layer.blob}
                for layer in whole.layers[:upto]
            ],
        }
    )
    return Manifest(config=config, text=text, layers=whole.layers[:upto])


def archive(image: Manifest, *, tag: str) -> dict[str, bytes]:
    """What an archive of an image holds beside its layers, by path.

    Args:
        image: what it is of.
        tag: its name on the engine, `repository:tag`.
    """
    name, _, short = tag.rpartition(":")
    manifest: dict[str, Any] = {
        **_descriptor(_MANIFEST, image.text),
        "annotations": {
            "io.containerd.image.name": f"{_HUB}{name}:{short}",
            "org.opencontainers.image.ref.name": short,
        },
    }
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [manifest]}
    # the overlay2 store reads this one
    legacy = {
        "Config": blob_path(digest_of(image.config)),
        "RepoTags": [tag],
        "Layers": [blob_path(layer.blob) for layer in image.layers],
    }
    return {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        blob_path(digest_of(image.config)): image.config,
        blob_path(digest_of(image.text)): image.text,
        "index.json": _json(index),
        "manifest.json": _json([legacy]),
    }


def blob_path(digest: str) -> str:
    """Where an archive has a blob."""
    return f"blobs/{digest.replace(':', '/')}"


def digest_of(content: bytes) -> str:
    """The SHA-256 of a blob as images name it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
