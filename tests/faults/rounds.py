"""The bench: a box with work on it, what happens to it, and the looks afterwards."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.faults.injection import FaultyLaptop, Observed
from tests.faults.standin import BOX, PORT, SENT, write_project
from tests.integration.boxes.boxes import BoxUnderTest, wait_until
from tests.integration.jupbox_command import Answer, Laptop, StackOnBox, Visitor

KEPT_RELEASES = 3
# the one in use, and the one from before a restore
KEPT_HOMES = 2
NOTEBOOKS = "/home/ada/notebooks"

# work that a user has: in the folder on the host, and in the home directory's volume
_PLANT = r"""
set -e
cd "$1"
mkdir -p "deep/er folder"
printf '{"cells": [{"outputs": ["αβγ"]}], "nbformat": 4}' > study.ipynb
printf '{"cells": [' > .~study.ipynb
head -c 1000000 /dev/urandom > "deep/er folder/αβγ.bin"
: > empty
printf 'secret' > mine && chmod 600 mine
ln -sf study.ipynb link
chown -R -h 1500:1500 .
"""
_LIST = r"""
for folder in "$@"; do
    cd "$folder" || exit 1
    find . \( -path ./.ipynb_checkpoints -prune \) -o -printf "$folder %P %y %m %U:%G %l\n" | sort
    find . -type f -print0 | sort -z | xargs -0 sha256sum | sed "s|^|$folder |"
done
"""
_INVENTORY = r"""
docker ps --all --format 'container {{.Names}}'
docker volume ls --format 'volume {{.Name}}'
docker network ls --format 'network {{.Name}}'
docker image ls --format 'image {{.Repository}}:{{.Tag}}'
docker image ls --filter dangling=true --format 'image nameless {{.ID}}'
ls /home/ada/.local/state/jupbox | sed 's/^/file /'
for lock in /home/ada/.local/state/jupbox/*.lock; do
    [ ! -e "$lock" ] || flock --nonblock "$lock" true || echo "held $lock"
done
find /tmp /home/ada -maxdepth 1 -name '*jupbox*' -printf 'file %p\n'
"""
# numbers of generations and releases, and digests of locks
_NUMBER = re.compile(r"(?<=[-_])\d+$|[0-9a-f]{12,}")

# a seal that was put into the running server; the home volume before a restore; the last backup;
# an image that was sent, and stays while its release does
_OF_OTHER_VERBS = (":applied-N", "_home", "_home-N", ".backup", f"jupbox-env:{SENT}-N")


def _most(name: str) -> int:
    """How many of a name there may be: the last seal is kept beside those of releases."""
    if name.endswith(":seal-N"):
        return KEPT_RELEASES + 1
    return KEPT_HOMES if name.endswith("_home-N") else KEPT_RELEASES


@dataclass(kw_only=True)
class Bench:
    """A box with a running stand-in, and who changes and who watches it.

    Attributes:
        faulty: the laptop on which jupbox is ended.
        observer: another laptop, from which the server is looked at.
        password: of the server, now.
        clean: what the box has after an undisturbed `up`.
        change: what an undisturbed `up` with another image does.
    """

    box: BoxUnderTest
    host: str
    faulty: FaultyLaptop
    observer: Laptop
    stack: StackOnBox
    ca_pem: str = ""
    password: str = ""
    image: str = "a"
    clean: Counter[str] = field(default_factory=Counter)
    planted: frozenset[str] = frozenset()
    change: Observed | None = None
    _tunnel: subprocess.Popen[bytes] | None = None
    _port: int = 0

    @property
    def laptop(self) -> Laptop:
        """The laptop from which the box is changed."""
        return self.faulty.laptop

    # -- changes

    def want(self, image: str, keys: str = "") -> None:
        """Change what the project says."""
        self.image = image
        write_project(self.laptop, image, keys, host=self.host)

    def want_a_change(self) -> None:
        """Have the next `up` roll another image out."""
        self.want("b" if self.running_image() == "a" else "a")

    def up(self) -> Answer:
        """`up`, which must succeed without help; the seconds that it took are its caller's."""
        done = self.laptop.must("up", BOX)
        if done.password:
            self.password = done.password
        return done

    def running_image(self) -> str:
        """The image definition's name of what runs, empty for nothing."""
        names = self.stack.docker(
            "ps", "--filter", f"label=com.docker.compose.project={self.stack.name}",
            "--format", '{{.Label "dev.jupbox.image"}}',
        ).split()  # fmt: skip
        return names[0] if names else ""

    # -- looks

    def answers(self, *, password: str | None = None) -> bool:
        """Whether the server shows its certificate, and the password lets in, right now."""
        self._ensure_tunnel()
        visitor = Visitor(address="127.0.0.1", port=self._port, ca_pem=self.ca_pem)
        try:
            return visitor.log_in(password or self.password)
        except ssl.SSLCertVerificationError:
            raise
        except (OSError, KeyError, ValueError):
            return False

    def expired(self) -> bool:
        """Whether browsers refuse the server's certificate for its age."""
        try:
            self.answers()
        except ssl.SSLCertVerificationError as error:
            return "expired" in error.verify_message
        return False

    def learn_authority(self) -> None:
        """Trust the box's CA as it is now."""
        self.ca_pem = self.laptop.must("trust", BOX, "--print").stdout

    def wait_until_it_answers(self, *, within: float) -> float:
        """The seconds that it took; meanwhile its certificate may be one that has expired."""
        began = time.monotonic()
        wait_until(
            lambda: not self.expired() and self.answers(),
            "a login over verified HTTPS", timeout=within,
        )  # fmt: skip
        return time.monotonic() - began

    def plant(self) -> None:
        """Put work where a user's work is."""
        for folder in (NOTEBOOKS, f"{self.home()}/work"):
            self.box.exec("mkdir", "-p", folder)
            self.box.exec("sh", "-s", "--", folder, input=_PLANT)
        self.planted = self.work()

    def home(self) -> str:
        """Where the volume in use as the home directory lies on the box."""
        mounts = self.stack.inspect()["Mounts"]
        return next(str(m["Source"]) for m in mounts if m["Destination"] == "/home/ada")

    def work(self) -> frozenset[str]:
        """Each file of the user, with kind, mode, owner and hash, one to a line."""
        folders = (NOTEBOOKS, f"{self.home()}/work")
        said = self.box.exec("sh", "-s", "--", *folders, input=_LIST)
        return frozenset(re.sub(r"/var/lib/docker/volumes/\S+/_data", "HOME", said).splitlines())

    def lost(self) -> set[str]:
        """What was planted and is not there any more as it was."""
        return set(self.planted - self.work())

    def inventory(self) -> Counter[str]:
        """What is on the box, without numbers and digests."""
        lines = self.box.exec("sh", "-s", input=_INVENTORY).splitlines()
        return Counter(_NUMBER.sub("N", line) for line in lines)

    def left_over(self) -> list[str]:
        """What an undisturbed `up` does not leave."""
        found = []
        for name, number in self.inventory().items():
            may = self.clean[name] or name.endswith(_OF_OTHER_VERBS)
            most = max(self.clean[name], _most(name)) if may else 0
            if number > most:
                found.append(f"{number} of {name}")
        return found

    def assert_well(self) -> None:
        """It answers, nothing is lost, nothing is left over."""
        assert self.answers(), "no login over verified HTTPS"
        assert not self.lost(), self.lost()
        assert not (left := self.left_over()), left

    # -- the tunnel of the observer

    def _ensure_tunnel(self) -> None:
        if self._tunnel is not None and self._tunnel.poll() is None:
            return
        self._port = _free_port()
        self._tunnel = subprocess.Popen(
            ["ssh", "-N", "-o", "ExitOnForwardFailure=yes", "-o", "ConnectTimeout=10",
             "-o", "ServerAliveInterval=1",
             "-L", f"127.0.0.1:{self._port}:127.0.0.1:{PORT}", self.box.name],
            env=dict(self.observer.environ), stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        with contextlib.suppress(AssertionError):  # a box that is down
            wait_until(self._has_tunnel, "tunnel", timeout=60)

    def _has_tunnel(self) -> bool:
        assert self._tunnel is not None
        assert self._tunnel.poll() is None, "ssh has ended"
        return _listens(self._port)

    def close(self) -> None:
        """End the tunnel."""
        if self._tunnel is not None:
            self._tunnel.terminate()
            self._tunnel.wait()

    @contextmanager
    def watched(self) -> Iterator[Watch]:
        """Look each 100 ms whether the server answers over verified HTTPS."""
        self._ensure_tunnel()
        watch = Watch(port=self._port, ca_pem=self.ca_pem)
        watch.begin()
        try:
            yield watch
        finally:
            watch.end()


class Watch:
    """A look at a server each 100 ms, and the times at which it answered."""

    EVERY = 0.1

    def __init__(self, *, port: int, ca_pem: str) -> None:
        self._port = port
        self._trust = ssl.create_default_context(cadata=ca_pem)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._answered: list[float] = []

    def begin(self) -> None:
        """Begin to look."""
        self._answered.append(time.monotonic())
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join(10)
        self._answered.append(time.monotonic())

    @property
    def back(self) -> float:
        """When it answered again after the longest gap, in seconds since the first look."""
        return self._longest[1] - self._answered[0]

    @property
    def gap(self) -> float:
        """The longest time without an answer, in seconds."""
        last, again = self._longest
        return again - last

    @property
    def _longest(self) -> tuple[float, float]:
        """The two answers with the longest time between them."""
        return max(itertools.pairwise(self._answered), key=lambda pair: pair[1] - pair[0])

    def _look(self) -> None:
        while not self._over.wait(self.EVERY):
            if self._answers():
                self._answered.append(time.monotonic())

    def _answers(self) -> bool:
        try:
            with (
                socket.create_connection(("127.0.0.1", self._port), timeout=2) as plain,
                self._trust.wrap_socket(plain, server_hostname="localhost") as connection,
            ):
                connection.sendall(b"GET /login HTTP/1.1\r\nHost: localhost\r\n"
                                   b"Connection: close\r\n\r\n")  # fmt: skip
                return connection.recv(12) == b"HTTP/1.1 200"
        except OSError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
