"""Which layers an engine lacks, and images of the first few layers."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from jupbox import layers
from jupbox.layers import Manifest, archive, blob_path, digest_of, part, read_manifest


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([], (0, 1, 2)),
        ([["a"]], (1, 2)),
        ([["a", "b", "x"]], (2,)),
        ([["a", "b", "c", "d"]], ()),
        ([["x"], ["a"], ["a", "b"]], (2,)),
        ([["b", "c"]], (0, 1, 2)),  # the same layers, but on other ones
        ([["x", "b", "c"]], (0, 1, 2)),
        ([["a", "x", "c"]], (1, 2)),
    ],
)
def test_a_layer_on_disk_counts_where_all_below_it_are_the_same(
    there: list[Sequence[str]], expected: tuple[int, ...]
) -> None:
    assert layers.lacking_by_chain(["a", "b", "c"], there) == expected


@pytest.mark.parametrize(
    ("there", "expected"),
    [(set(), (0, 1, 2)), ({"b"}, (0, 2)), ({"a", "c", "x"}, (1,)), ({"a", "b", "c"}, ())],
)
def test_a_layer_as_it_came_counts_wherever_it_is(
    there: set[str], expected: tuple[int, ...]
) -> None:
    assert layers.lacking_by_content(["a", "b", "c"], there) == expected


def manifest(*blobs: str, labels: dict[str, str] | None = None) -> Manifest:
    """An image whose layers are compressed."""
    config = json.dumps(
        {
            "architecture": "arm64",
            "os": "linux",
            "config": {"Labels": labels or {}, "Env": ["A=b"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:tar-{blob}" for blob in blobs]},
        }
    ).encode()
    stored = [{"mediaType": "gz", "digest": f"sha256:{b}", "size": len(b)} for b in blobs]
    return read_manifest(json.dumps({"layers": stored}).encode(), config)


def test_a_manifest_says_how_each_layer_is_stored() -> None:
    (_, second) = manifest("one", "three").layers
    assert (second.diff_id, second.blob, second.size, second.media_type) == (
        "sha256:tar-three",
        "sha256:three",
        5,
        "gz",
    )


def test_a_manifest_of_another_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="other layers"):
        read_manifest(manifest("a").text, manifest("a", "b").config)


def test_a_part_has_the_first_layers_and_nothing_else_of_the_image() -> None:
    whole = manifest("a", "b", "c")
    first = part(whole, upto=2, labels={"k": "v"})
    assert first.layers == whole.layers[:2]
    config = json.loads(first.config)
    assert config["architecture"] == "arm64"
    assert config["config"] == {"Labels": {"k": "v"}}
    assert config["rootfs"]["diff_ids"] == ["sha256:tar-a", "sha256:tar-b"]
    assert read_manifest(first.text, first.config).layers == first.layers
    assert json.loads(first.text)["config"]["digest"] == digest_of(first.config)


def test_an_archive_names_its_parts_for_both_kinds_of_store() -> None:
    whole = manifest("a", "b")
    files = archive(whole, tag="jupbox-env:x-1")
    (legacy,) = json.loads(files["manifest.json"])
    assert legacy["RepoTags"] == ["jupbox-env:x-1"]
    assert files[legacy["Config"]] == whole.config
    assert legacy["Layers"] == ["blobs/sha256/a", "blobs/sha256/b"]
    (named,) = json.loads(files["index.json"])["manifests"]
    assert files[blob_path(named["digest"])] == whole.text
    assert named["annotations"]["io.containerd.image.name"] == ("docker.io/library/jupbox-env:x-1")
