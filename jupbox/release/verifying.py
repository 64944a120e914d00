"""Whether an environment image is, to the byte, what a lock says."""

from __future__ import annotations

import gzip
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from jupbox import render
from jupbox.contents import Entry, parse_contents
from jupbox.errors import DriftError
from jupbox.host.inspected import Image
from jupbox.lock import RECIPE, ImageLock
from jupbox.release.locking import write_lock
from jupbox.site import Site

_MEASURED: Final = re.compile(rf"{render.ENVIRONMENT}:sha256-([0-9a-f]{{64}})")


def measure(site: Site, image: str, *, tools: str) -> str:
    """The environment digest of an image: over every path, mode, owner, time and content.

    Args:
        site: where the image is.
        image: a tag of it.
        tools: an image whose shell and coreutils do the hashing; the base that it was built on.
    """
    with _measured(site, image, tools=tools, target="digest") as folder:
        return _digest(folder)


def contents(site: Site, image: str, *, tools: str) -> tuple[str, Mapping[str, Entry]]:
    """The environment digest of an image, and all that it is of."""
    with _measured(site, image, tools=tools, target="contents") as folder:
        listed = gzip.decompress((folder / "contents.gz").read_bytes())
        return _digest(folder), parse_contents(listed)


def _digest(folder: Path) -> str:
    return (folder / "digest").read_text(encoding="utf-8").strip()


@contextmanager
def _measured(site: Site, image: str, *, tools: str, target: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="jupbox-measure-") as name:
        context, out = Path(name, "context"), Path(name, "out")
        context.mkdir()
        for path, content in render.digest_context(image=image, tools=tools).items():
            (context / path).write_bytes(content)
        site.engine.build_files(context, target=target, out=out)
        yield out


def known_digest(image: Image) -> str | None:
    """The digest that an image was found to have: a tag says it, and goes with the image."""
    found = [match[1] for tag in image.tags if (match := _MEASURED.fullmatch(tag))]
    return f"sha256:{found[0]}" if found else None


def note_digest(site: Site, image: Image, digest: str) -> None:
    """Have an image's digest stand on the box, for `status` and the next `up`."""
    site.engine.tag(image.id, f"{render.ENVIRONMENT}:{digest.replace(':', '-')}")


def promises_nothing(lock: ImageLock) -> str:
    """What is said wherever the digest of an image is that need not be the same elsewhere."""
    return f"{lock.name} is not reproducible (`reproducible = false`), so it promises no bytes"


def settle(
    site: Site, lock: ImageLock, image: Image, digest: str, *, allow_drift: bool,
    note: Callable[[str], None],
) -> ImageLock:  # fmt: skip
    """Compare what was built with what the lock records, or record it.

    Of a lock that is not reproducible neither: the next build may give another image.

    Returns:
        The lock, with the digest.

    Raises:
        DriftError: it is another one, and that is not allowed.
    """
    if not lock.reproducible:
        note(f"{promises_nothing(lock)}: its digest is not recorded.")
        note_digest(site, image, digest)
        return lock
    recorded = lock.recorded(site.facts.architecture)
    if recorded is not None and recorded != digest:
        if not allow_drift:
            for tag in image.tags:
                site.engine.remove_image(tag)
            raise DriftError(
                f"The image that was built from the lock is not the one that it records "
                f"({digest[:19]}…, not {recorded[:19]}…).",
                remedy=f"`jupbox verify {lock.name} --rebuild` looks whether builds differ here; "
                "`--allow-drift` takes this one.",
            )
        note("The image is not the one that the lock records; taken all the same.")
    note_digest(site, image, digest)
    if recorded is None and lock.recipe == RECIPE:
        lock = lock.with_recorded(site.facts.architecture, digest)
        write_lock(site, lock)
    return lock
