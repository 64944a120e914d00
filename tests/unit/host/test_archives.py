"""Backups as files: packed, whole or not at all."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import pytest
import zstandard

from jupbox.errors import BackupError
from jupbox.host import archives

CONTENT = b"".join(f"{n * n} ".encode() for n in range(20_000))


@pytest.fixture
def packed() -> bytes:
    out = io.BytesIO()
    with archives.packing(out) as write:
        for start in range(0, len(CONTENT), 777):
            write(CONTENT[start : start + 777])
    return out.getvalue()


def unpacked(packed: bytes, size: int = 4096) -> bytes:
    read = archives.unpacking(io.BytesIO(packed), "x.tar.zst")
    return b"".join(iter(lambda: read(size), b""))


def test_what_was_packed_comes_out_and_zstds_own_reader_takes_it(packed: bytes) -> None:
    assert unpacked(packed) == unpacked(packed, 1) == CONTENT
    assert zstandard.ZstdDecompressor().decompressobj().decompress(packed) == CONTENT


def test_a_file_that_was_cut_off_anywhere_is_refused(packed: bytes) -> None:
    cuts = {*range(0, len(packed), 61), *range(len(packed) - 16, len(packed))}
    for cut in sorted(cuts):
        with pytest.raises(BackupError, match=r"^x\.tar\.zst is no whole backup: it ends"):
            unpacked(packed[:cut])


def test_a_file_with_a_byte_changed_or_added_is_refused_or_has_the_same_content(
    packed: bytes,
) -> None:
    """A flag that nothing depends on is all that may differ."""
    for at in range(0, len(packed), 23):
        changed = bytearray(packed)
        changed[at] ^= 0x10
        try:
            assert unpacked(bytes(changed)) == CONTENT
        except BackupError:
            continue
    for more in (b"x", packed):
        with pytest.raises(BackupError):
            unpacked(packed + more)


def test_zeros_are_unpacked_in_small_pieces() -> None:
    out, size = io.BytesIO(), 256 << 20
    with archives.packing(out) as write:
        for _ in range(size >> 20):
            write(bytes(1 << 20))
    read, found, most = archives.unpacking(io.BytesIO(out.getvalue()), "x"), 0, 0
    while part := read(1 << 20):
        found, most = found + len(part), max(most, len(part))
    assert (found, most) == (size, 1 << 20)


def test_a_new_file_is_there_when_it_is_whole_and_nobody_elses_to_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.zst"
    path.write_text("old")
    path.chmod(0o644)
    with archives.new_file(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
        (half,) = [each for each in tmp_path.iterdir() if each != path]
        assert stat.S_IMODE(half.stat().st_mode) == 0o600
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_half_a_file_is_none(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "x.tar.zst"
    with pytest.raises((KeyboardInterrupt, BackupError)), archives.new_file(path) as file:
        file.write(b"half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_made_or_read_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(BackupError, match="none/x cannot be written: No such file"),
        archives.new_file(tmp_path / "none" / "x"),
    ):
        pass
    for path, why in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "Is a directory"),
        (Path("/dev/null"), "it is no file"),
    ):
        with pytest.raises(BackupError, match=why), archives.opened(path):
            pass
