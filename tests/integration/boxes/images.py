"""The boxes' images, made without a registry: mmdebstrap, then `FROM scratch` and `ADD`.

The bootstrapped system is kept outside the repository, by suite and month, and the image on the
engine, by all that went into it: only the first run pays.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# what a freshly installed Debian server has and minbase has not
PACKAGES = ("ca-certificates", "iproute2", "openssh-server", "procps", "sudo")


@dataclass(frozen=True, kw_only=True)
class BoxImage:
    """One image: which stage of the Dockerfile on which Debian."""

    suite: str
    target: str
    ada_is_admin: bool


# by the variable of docker-compose.yml that names the image
IMAGES = {
    "BOX_IMAGE_ENGINE13": BoxImage(suite="trixie", target="engine", ada_is_admin=False),
    "BOX_IMAGE_BARE13": BoxImage(suite="trixie", target="bare", ada_is_admin=True),
    "BOX_IMAGE_BARE12": BoxImage(suite="bookworm", target="bare", ada_is_admin=True),
    "BOX_IMAGE_SYSTEMD12": BoxImage(suite="bookworm", target="systemd", ada_is_admin=True),
}


def cache_directory() -> Path:
    """Where bootstrapped systems are kept between runs."""
    named = os.environ.get("JUPBOX_TEST_CACHE")
    path = Path(named) if named else Path.home() / ".cache" / "jupbox-tests"
    path.mkdir(parents=True, exist_ok=True)
    return path


def ensure_image(image: BoxImage) -> str:
    """Build the image where the engine lacks it; returns its tag."""
    with one_at_a_time("images"):
        context = ensure_base(image.suite)
        tag = f"jupbox-test/{image.target}-{image.suite}:{_fingerprint(image, context)}"
        if not _is_on_engine(tag):
            _build(image, context, tag)
    return tag


def ensure_base(suite: str) -> Path:
    """A directory that holds `base.tar`, the bootstrapped system of this month."""
    month = f"{datetime.now(UTC):%Y-%m}"
    recipe = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:8]
    directory = cache_directory() / f"{suite}-{month}-{recipe}"
    directory.mkdir(parents=True, exist_ok=True)
    tar = directory / "base.tar"
    if not tar.exists():
        unfinished = directory / "unfinished.tar"
        source = f"deb [signed-by={DEBIAN_KEYRING}] {debian_mirror()} {suite} main"
        run(
            "mmdebstrap",
            "--variant=minbase",
            f"--include={','.join(PACKAGES)}",
            suite,
            str(unfinished),
            source,
        )
        unfinished.rename(tar)
    return directory


def debian_mirror() -> str:
    """The Debian mirror that this machine's own apt uses."""
    listing = run(
        *("apt-get", "indextargets", "--no-release-info", "--format", "$(RELEASE) $(REPO_URI)"),
        *("Created-By: Packages", "Component: main"),
    )
    sources = (line.split(" ", 1) for line in listing.splitlines())
    # other vendors' repositories have another component or add to the release's name
    own = {platform.freedesktop_os_release().get("VERSION_CODENAME"), "stable"}
    mirrors = [uri.rstrip("/") for release, uri in sources if release in own]
    if not mirrors:
        raise RuntimeError("the boxes need a Debian mirror in this machine's apt configuration")
    return mirrors[0]


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Hold a lock that the workers of all test runs share."""
    with (cache_directory() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(*argv: str, timeout: float = 600) -> str:
    """Run a program that must succeed; returns what it printed."""
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: exit code {done.returncode}\n{done.stderr[-4000:]}")
    return done.stdout


def _is_on_engine(tag: str) -> bool:
    command = ["docker", "image", "inspect", tag]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _fingerprint(image: BoxImage, context: Path) -> str:
    made = (context / "base.tar").stat()
    parts = [repr(image), context.name, f"{made.st_size} {made.st_mtime_ns}"]
    parts += [(HERE / name).read_text() for name in ("Dockerfile", "entrypoint.sh")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _build(image: BoxImage, context: Path, tag: str) -> None:
    run(
        *("docker", "buildx", "build", "--builder", "default", "--load", "--provenance=false"),
        *("--file", str(HERE / "Dockerfile"), "--target", image.target, "--tag", tag),
        *("--build-context", f"boxes={HERE}"),
        *("--build-arg", f"ADA_IS_ADMIN={'yes' if image.ada_is_admin else 'no'}"),
        str(context),
    )
