"""A base image: the engine's own, else pulled, else bootstrapped from Debian's packages."""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from jupbox import apt
from jupbox.errors import BaseImageError, HostError
from jupbox.host import facts as host_facts
from jupbox.host.engine import Engine
from jupbox.host.facts import HostFacts
from jupbox.host.files import write_atomic
from jupbox.host.inspected import Image
from jupbox.host.machine import LocalMachine, Machine
from jupbox.lock import BaseLock

LABEL: Final = "dev.jupbox.rootfs"
REFERENCE_LABEL: Final = "dev.jupbox.base"
"""What a bootstrapped base stands for."""
_PULL_SECONDS: Final = 120
_BOOTSTRAP_SECONDS: Final = 1200
_CACHE_SECONDS: Final = 7 * 86_400
_CACHED_BASES: Final = 3

# mmdebstrap is one Perl script: where the package is not installed, its file is fetched and
# run from a temporary folder, and nothing on the machine changes.
_SCRIPT: Final = r"""
set -eu
work=${TMPDIR:-/tmp}/jupbox-base.$1
# without root the system is made by a subordinate user, who must come through
mkdir -m 711 "$work"
echo $$ > "$work/pid"
keep=
trap '[ -n "$keep" ] || rm -rf "$work"' EXIT
cat > "$work/sources.list" <<'SOURCES'
@SOURCES@
SOURCES
# Documents and translations go, as in the slim images; mmdebstrap's own --dpkgopt for that needs
# a Python on the machine.
cat > "$work/slim" <<'SLIM'
#!/bin/sh
set -eu
cat > "$1/etc/dpkg/dpkg.cfg.d/jupbox-slim" <<'DPKG'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/lintian/*
path-exclude /usr/share/locale/*/LC_MESSAGES/*
path-exclude /usr/share/man/*
DPKG
rm -rf "$1"/usr/share/info/* "$1"/usr/share/lintian/* "$1"/usr/share/man/*
find "$1/usr/share/doc" ! -type d ! -name copyright -delete
find "$1/usr/share/doc" -mindepth 1 -type d -empty -delete
find "$1/usr/share/locale" -name LC_MESSAGES -prune -exec rm -rf {} +
SLIM
chmod +x "$work/slim"
# The digest is over what is in the archive: two versions of mmdebstrap write the same files in two
# kinds of tar.
cat > "$work/digest.pl" <<'PERL'
use strict;
use warnings;
use Digest::SHA qw(sha256_hex);
binmode STDIN;
my (%long, %next, @entries);
sub take { my $size = shift; my $got = ""; while (length $got < $size) {
    read(STDIN, $got, $size - length $got, length $got) or die "the archive is cut short\n" }
    return $got }
sub number { my $text = shift; $text =~ tr/0-7//cd; return oct($text || 0) }
while (1) {
    my $head = take(512);
    last if $head eq "\0" x 512;
    my ($name, $mode, $uid, $gid, $size, $mtime, $kind, $link, $magic, $major, $minor, $prefix)
        = unpack("Z100 a8 a8 a8 a12 a12 x8 a1 Z100 a6 x2 x64 a8 a8 Z155", $head);
    my %is = (mode => number($mode), uid => number($uid), gid => number($gid),
        mtime => number($mtime), linkpath => $link,
        path => $magic eq "ustar\0" && $prefix ne "" ? "$prefix/$name" : $name, %long, %next);
    $size = exists $next{size} ? $next{size} : number($size);
    my $body = substr(take(int(($size + 511) / 512) * 512), 0, $size);
    if ($kind eq "L" || $kind eq "K") {
        $body =~ s/\0.*//s;
        $long{$kind eq "L" ? "path" : "linkpath"} = $body;
        next;
    }
    if ($kind eq "x") {
        while ($body =~ s/^(\d+) //) {
            my $record = substr($body, 0, $1 - length($1) - 1, "");
            $next{$1} = $2 if $record =~ /^([^=]+)=(.*)\n\z/s;
        }
        next;
    }
    my %more = map { $_ => $next{$_} } grep { /^SCHILY\.xattr\./ } keys %next;
    (%long, %next) = ();
    next if $kind eq "g";
    $is{path} =~ s{^(\./)+|/+$}{}g;
    my $content = $kind eq "0" || $kind eq "\0" ? sha256_hex($body) : "";
    my $device = $kind =~ /[34]/ ? number($major) . ":" . number($minor) : "";
    push @entries, join("\0", $is{path}, $kind eq "\0" ? "0" : $kind, $is{mode} & 07777, $is{uid},
        $is{gid}, int $is{mtime}, $is{linkpath}, $content, $device,
        map { "$_=$more{$_}" } sort keys %more);
}
print sha256_hex(join("\n", sort @entries));
PERL
mmdebstrap=$(command -v mmdebstrap || true)
if [ -z "$mmdebstrap" ]; then
  cd "$work"
  mkdir -p lists/partial cache/archives/partial
  # lists of our own, so that this works without root and with stale ones
  apt="-o Dir::State::Lists=$work/lists -o Dir::Cache=$work/cache -o APT::Sandbox::User="
  apt-get -qq $apt update >&2
  if perl -MDigest::SHA -MPod::Usage -MFile::Find -MIO::Select -e 1 2>/dev/null; then
    apt-get -qq $apt download mmdebstrap >&2
    dpkg-deb -x mmdebstrap_*.deb unpacked
    mmdebstrap=$work/unpacked/usr/bin/mmdebstrap
  elif [ "$(id -u)" = 0 ]; then
    DEBIAN_FRONTEND=noninteractive apt-get -qq $apt install -y --no-install-recommends \
      mmdebstrap >&2 </dev/null
    mmdebstrap=/usr/bin/mmdebstrap
  else
    echo "neither mmdebstrap nor a complete perl is installed" >&2; exit 3
  fi
  cd /
fi
SOURCE_DATE_EPOCH=@EPOCH@ TMPDIR="$work" "$mmdebstrap" --quiet --variant=minbase \
  --customize-hook="$work/slim"' "$1"' \
  --customize-hook='grep -h -m1 "^Date: " "$1"/var/lib/apt/lists/*Release > '"$work/dates || true" \
  --customize-hook='rm -f "$1/etc/apt/sources.list" "$1/etc/resolv.conf" "$1/etc/hostname"' \
  --customize-hook='echo localhost > "$1/etc/hostname"' \
  @SUITE@ "$work/base.tar" - < "$work/sources.list" >&2
keep=yes
rm "$work/pid"
cat "$work/dates"
echo "$(perl "$work/digest.pl" < "$work/base.tar")  $work/base.tar"
"""

# Whatever still works in the folder (it was started as a group of its own) ends, then it goes.
_CLEAN: Final = r"""
work=${TMPDIR:-/tmp}/jupbox-base.$1
# /tmp is everybody's: only a folder that we made ourselves says what to end
[ -d "$work" ] && [ ! -L "$work" ] && [ -O "$work" ] || exit 0
if group=$(cat "$work/pid" 2>/dev/null); then
  works() { # a zombie does not: in a container nobody may fetch it
    for stat in /proc/[0-9]*/stat; do
      read -r line 2>/dev/null <"$stat" || continue
      set -- ${line##*) }
      [ "$3" = "$group" ] && [ "$1" != Z ] && return 0
    done
    return 1
  }
  # dash knows no `kill -TERM --`
  kill -s TERM -- "-$group" 2>/dev/null
  for _ in $(seq 100); do works || break; sleep 0.1; done
  kill -s KILL -- "-$group" 2>/dev/null
  for _ in $(seq 20); do works || break; sleep 0.1; done
fi
rm -rf --one-file-system "$work"
"""


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base that the engine has: how the lock names it, and how a Dockerfile does."""

    lock: BaseLock
    reference: str


def find(engine: Engine, lock: BaseLock) -> Base | None:
    """The locked base, if the engine has it."""
    if lock.kind == "registry":
        reference = _pinned(lock)
        return Base(lock=lock, reference=reference) if engine.image(reference) else None
    if _bootstrapped(engine, wanted := {LABEL: lock.digest, REFERENCE_LABEL: lock.reference}):
        return Base(lock=lock, reference=_bootstrapped(engine, wanted)[0].tags[0])
    local = engine.image(lock.reference)
    if local and not local.digests and _rootfs(local) == lock.digest:
        return Base(lock=lock, reference=lock.reference)
    return None


def locked(
    engine: Engine,
    lock: BaseLock,
    *,
    box: Machine,
    box_facts: HostFacts,
    archive: str | None,
    say: Callable[[str], None],
) -> Base | None:
    """The locked base: on the engine, pulled, or made from packages to the same bytes.

    Args:
        engine: where the base must be in the end.
        lock: which.
        box: the machine that the engine runs on.
        box_facts: that machine's facts.
        archive: address of an archive of old packages, None if none is known.
        say: told what happens.

    Returns:
        None when it can only be had with other bytes.
    """
    found = find(engine, lock)
    if found:
        return found
    if lock.kind == "registry":
        say(f"pulling {lock.reference}")
        return find(engine, lock) if engine.pull(_pinned(lock), timeout=_PULL_SECONDS) else None
    suite = apt.debian_suite(lock.reference)
    return (
        _remade(engine, lock, suite, box=box, box_facts=box_facts, archive=archive, say=say)
        if suite
        else None
    )


def _remade(
    engine: Engine,
    lock: BaseLock,
    suite: str,
    *,
    box: Machine,
    box_facts: HostFacts,
    archive: str | None,
    say: Callable[[str], None],
) -> Base | None:
    """A base made from packages to the locked bytes, or kept from when it was."""
    if cached := _cached(suite, box_facts.architecture, digest=lock.digest):
        return _build(engine, cached, lock=lock, suite=suite)
    made_of = _MadeOf(reference=lock.reference, suite=suite, epoch=lock.epoch or 0, wanted=lock)
    for sources in (None, *_snapshots(lock, suite, archive)) if lock.epoch is not None else ():
        with contextlib.suppress(BaseImageError):
            made = _bootstrap(
                engine, made_of, sources=sources, box=box, box_facts=box_facts, say=say
            )
            if made.lock.digest == lock.digest:
                return made
    return None


def _snapshots(lock: BaseLock, suite: str, archive: str | None) -> tuple[str, ...]:
    """What mmdebstrap makes the base of as it was then, if an archive of old packages is known."""
    if archive is None or not lock.snapshot:
        return ()
    return tuple(
        apt.snapshot_sources(archive, suite, moment) for moment in apt.moments(lock.snapshot)
    )


def resolve(
    engine: Engine,
    reference: str,
    *,
    box: Machine,
    box_facts: HostFacts,
    epoch: int,
    say: Callable[[str], None],
    anew: bool = False,
) -> Base:
    """Find or make a base for a new lock: on the engine, from a registry, from packages.

    Args:
        engine: where the base must be in the end.
        reference: as the definition names it, such as `debian:trixie-slim`.
        box: the machine that the engine runs on.
        box_facts: that machine's facts.
        epoch: seconds since 1970; no file of a bootstrapped base is younger.
        say: told what happens.
        anew: ask the registry, or make it, even if the engine has one.

    Raises:
        BaseImageError: every way failed; the message says which were tried.
    """
    found = None if anew else _on_engine(engine, reference)
    if found:
        return found
    say(f"pulling {reference}")
    if engine.pull(reference, timeout=_PULL_SECONDS):
        pulled = _on_engine(engine, reference)
        if pulled:
            return pulled
    suite = apt.debian_suite(reference)
    if suite is None:
        raise BaseImageError(
            f"{reference} is not on {engine.place}, and could not be pulled: no registry in reach, "
            "or none has it.",
            remedy="Check its name, give the box a way to a registry, `docker load` it there, "
            "or use a Debian base, which jupbox can make itself.",
        )
    cached = _cached(suite, box_facts.architecture, youngest=_CACHE_SECONDS)
    if cached and not anew:
        say(f"no registry in reach: taking {suite} as made from Debian's packages before")
        return _build(engine, cached, lock=_kept_lock(cached, reference), suite=suite)
    made_of = _MadeOf(reference=reference, suite=suite, epoch=epoch)
    return _bootstrap(engine, made_of, box=box, box_facts=box_facts, say=say)


# -- bases made here before: the next box gets the same bytes, and sooner


def _cache_folder() -> Path:
    return platformdirs.user_cache_path("jupbox") / "bases"


def _cached(
    suite: str, architecture: str, *, digest: str | None = None, youngest: float | None = None
) -> Path | None:
    """A root filesystem that was made here: of a digest, or one not older than some seconds."""
    wanted = digest.removeprefix("sha256:") if digest else "*"
    found = list(_cache_folder().glob(f"{suite}_{architecture}_{wanted}_*_*.tar"))
    if youngest is not None:
        found = [path for path in found if time.time() - path.stat().st_mtime < youngest]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _kept_lock(tar: Path, reference: str) -> BaseLock:
    """What the name of a root filesystem in the cache says of it."""
    _, _, digest, epoch, snapshot = tar.stem.split("_")
    return BaseLock(
        reference=reference, kind="rootfs", digest=f"sha256:{digest}", epoch=int(epoch),
        snapshot=snapshot or None,
    )  # fmt: skip


def _keep(tar: Path, *, suite: str, architecture: str, lock: BaseLock) -> Path:
    """Put a root filesystem into the cache, and let only the newest few stay there."""
    folder = _cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    digest = lock.digest.removeprefix("sha256:")
    name = f"{suite}_{architecture}_{digest}_{lock.epoch}_{lock.snapshot or ''}.tar"
    kept = folder / name
    shutil.move(tar, kept.with_suffix(".part"))
    kept.with_suffix(".part").replace(kept)
    by_age = sorted(folder.glob("*.tar"), key=lambda path: -path.stat().st_mtime)
    for old in by_age[_CACHED_BASES:]:
        old.unlink(missing_ok=True)
    return kept


def _on_engine(engine: Engine, reference: str) -> Base | None:
    image = engine.image(reference)
    if image is None:
        made = _bootstrapped(engine, {REFERENCE_LABEL: reference})
        known = [one for one in made if any(map(_TAGGED.fullmatch, one.tags))]
        return _made(reference, known[0]) if known else None
    for digest in image.digests:
        lock = BaseLock(reference=reference, kind="registry", digest=digest.partition("@")[2])
        if engine.image(_pinned(lock)):
            return Base(lock=lock, reference=_pinned(lock))
    return _of_rootfs(reference, _rootfs(image), called=reference)


def _bootstrapped(engine: Engine, labels: Mapping[str, str]) -> list[Image]:
    """The bases that `_bootstrap` made, among the images that carry the labels.

    Whatever is built on a base inherits its labels, sealed images with their keys included; a
    base itself is the one layer that its tar is. The newest comes first, as docker lists them.
    """
    found = [image for image in engine.images(labels) if len(image.layers) == 1]
    return found


def _made(reference: str, image: Image) -> Base:
    said = next(match for tag in image.tags if (match := _TAGGED.fullmatch(tag)))
    lock = BaseLock(
        reference=reference, kind="rootfs", digest=image.labels[LABEL], epoch=int(said["epoch"]),
        snapshot=said["snapshot"],
    )  # fmt: skip
    return Base(lock=lock, reference=said[0])


def _of_rootfs(reference: str, digest: str, *, called: str) -> Base:
    lock = BaseLock(reference=reference, kind="rootfs", digest=digest)
    return Base(lock=lock, reference=called)


def _rootfs(image: Image) -> str:
    """The root filesystem hash of an image that never saw a registry."""
    made = image.labels.get(LABEL) if len(image.layers) == 1 else None
    return made or "sha256:" + hashlib.sha256("\n".join(image.layers).encode()).hexdigest()


def _pinned(lock: BaseLock) -> str:
    name = lock.reference.partition("@")[0]
    head, _, tail = name.rpartition("/")
    repository = f"{head}/{tail.partition(':')[0]}" if head else tail.partition(":")[0]
    return f"{repository}@{lock.digest}"


@dataclass(frozen=True, kw_only=True)
class _MadeOf:
    """What a base is made of.

    Attributes:
        wanted: the lock that it shall come out as, None for a new one.
    """

    reference: str
    suite: str
    epoch: int
    wanted: BaseLock | None = None

    def lock(self, said: str) -> BaseLock:
        """The lock of what the script made; `said` ends in its hash, after the archive's dates."""
        *dates, last = said.strip().splitlines()
        digest = f"sha256:{last.split()[0]}"
        if self.wanted and self.wanted.digest == digest:
            return self.wanted  # the same bytes may come from an archive of another day
        return BaseLock(
            reference=self.reference, kind="rootfs", digest=digest, epoch=self.epoch,
            snapshot=apt.snapshot_time("\n".join(dates)) or None,
        )  # fmt: skip


def _bootstrap(
    engine: Engine,
    made_of: _MadeOf,
    *,
    box: Machine,
    box_facts: HostFacts,
    say: Callable[[str], None],
    sources: str | None = None,
) -> Base:
    """Make the base from packages: here if this is a Linux that can, else on the box.

    Args:
        engine: where it must be in the end.
        made_of: what it is made of.
        box: the machine that the engine runs on.
        box_facts: that machine's facts.
        say: told what happens.
        sources: where the packages come from; None is each machine's own mirror.
    """
    here = LocalMachine()
    mine = box_facts if box.is_local else host_facts.look(here)
    reasons: list[str] = []
    places: list[tuple[Machine, HostFacts]] = [(here, mine)]
    places += [] if box.is_local else [(box, box_facts)]
    for machine, its in places:
        mirror = apt.debian_mirror(its.apt_sources)
        if its.system != "Linux" or mirror is None:
            reasons.append(f"{machine.name} is no Debian")
            continue
        if its.architecture != box_facts.architecture:
            reasons.append(f"{machine.name} has another architecture than the box")
            continue
        suite = made_of.suite
        say(f"no registry in reach: making {suite} from Debian's packages on {machine.name}")
        text = sources or apt.debian_sources(mirror, suite)
        script = _SCRIPT.replace("@SOURCES@", text.strip())
        script = script.replace("@SUITE@", suite).replace("@EPOCH@", str(made_of.epoch))
        with _workshop(machine) as run:
            try:
                said = run(script)
            except HostError as error:
                reasons.append(error.message)
                continue
            path, lock = said.strip().splitlines()[-1].partition("  ")[2], made_of.lock(said)
            if machine.is_local:
                kept = _keep(Path(path), suite=suite, architecture=its.architecture, lock=lock)
                return _build(engine, kept, lock=lock, suite=suite)
            return _import(machine, box_facts, path, lock=lock, suite=suite)
    raise BaseImageError(
        f"No way to {made_of.reference}: no registry was reached, and it could not be made from "
        f"packages ({'; '.join(reasons)}).",
        remedy="Give the box a way to a registry, or `docker load` the image there.",
    )


@contextlib.contextmanager
def _workshop(machine: Machine) -> Iterator[Callable[[str], str]]:
    """Run a script in a folder of its own; at the end, however it comes, nothing is left of both.

    The end of the ssh client, or of the shell, ends nothing of what a script has started.
    """
    token = secrets.token_hex(6)

    def run(script: str) -> str:
        argv = ["setsid", "--wait", "sh", "-s", "--", token]
        done = machine.run(argv, input=script.encode(), timeout=_BOOTSTRAP_SECONDS, check=False)
        if done.returncode != 0:
            said = done.error.splitlines() or [f"exit code {done.returncode}"]
            raise HostError(
                f"mmdebstrap failed on {machine.name}: {said[-1].removeprefix('E: ')}",
                remedy="Run it there by hand to see more.",
            )
        return done.text

    try:
        yield run
    finally:
        with contextlib.suppress(HostError):
            machine.run(["sh", "-s", "--", token], input=_CLEAN.encode(), check=False)


def _labels(lock: BaseLock) -> dict[str, str]:
    return {LABEL: lock.digest, REFERENCE_LABEL: lock.reference}


# Not in labels, which the images built on it inherit: the same bytes may come from another day.
_TAGGED: Final = re.compile(
    r"jupbox-base:[a-z]+-[0-9a-f]{12}-(?P<epoch>\d+)(?:-(?P<snapshot>\d{8}T\d{6}Z))?"
)


def _tag(lock: BaseLock, suite: str) -> str:
    words = [suite, lock.digest.removeprefix("sha256:")[:12], str(lock.epoch or 0)]
    return f"jupbox-base:{'-'.join([*words, *([lock.snapshot] if lock.snapshot else [])])}"


def _build(engine: Engine, tar: Path, *, lock: BaseLock, suite: str) -> Base:
    """Make an image of a root filesystem that lies on this computer."""
    tag = _tag(lock, suite)
    with tempfile.TemporaryDirectory(prefix="jupbox-base-") as folder:
        context = Path(folder)
        try:
            (context / "base.tar").hardlink_to(tar)
        except OSError:  # another file system
            shutil.copyfile(tar, context / "base.tar")
        write_atomic(context / "Dockerfile", b"FROM scratch\nADD base.tar /\n", mode=0o644)
        engine.build(
            context, tag=tag, labels=_labels(lock), secrets={}, on_line=lambda line: None,
            epoch=lock.epoch or 0,
        )  # fmt: skip
    return Base(lock=lock, reference=tag)


def _import(machine: Machine, facts: HostFacts, path: str, *, lock: BaseLock, suite: str) -> Base:
    """Make an image of a root filesystem that lies on the box, with the box's own docker."""
    tag = _tag(lock, suite)
    change = "LABEL " + " ".join(f"{key}={value}" for key, value in _labels(lock).items())
    host = ["--host", f"unix://{facts.socket}"] if facts.socket else []
    machine.run(["docker", *host, "import", "--change", change, path, tag], timeout=300)
    return Base(lock=lock, reference=tag)
