"""The environment variables of kernels, terminals and `jupbox exec`.

`python -m jupbox_server.environment` prints them as lines for a login shell to evaluate, since
Debian's /etc/profile starts PATH afresh.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, MutableMapping
from pathlib import Path

from .overlay import Side, image_root, root_in, sides, usable
from .paths import CONTROL_SOCKET, runtime_in

#: What programs read the file with the network's certificate authorities from.
TRUST = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")

#: Where Jupyter keeps its kernels' connection files, and what tells it.
RUNTIME = runtime_in(CONTROL_SOCKET.parent)
RUNTIME_VARIABLE = "JUPYTER_RUNTIME_DIR"


def authorities_in(home: Path) -> Path:
    """Where jupbox leaves the certificate authorities of the box's network, if it has any."""
    return home / ".config" / "jupbox" / "ca.pem"


def trust(environ: MutableMapping[str, str], home: Path) -> None:
    """Have programs trust the network's authorities while the file is there.

    A variable that says something else is somebody's decision and stays.
    """
    path = authorities_in(home)
    ours, there = str(path), path.is_file()
    for name in TRUST:
        if there:
            environ.setdefault(name, ours)
        elif environ.get(name) == ours:
            del environ[name]


def _front(environ: MutableMapping[str, str], name: str, paths: Iterable[Path]) -> None:
    """Put `paths` first in a list of directories, each once."""
    ours = [str(path) for path in paths]
    rest = [entry for entry in environ.get(name, "").split(":") if entry and entry not in ours]
    environ[name] = ":".join([*ours, *rest])


def _jupyter(environ: MutableMapping[str, str], home: Path, side: Side) -> None:
    """Have Jupyter look on the side first, then where the user keeps things, then in the image.

    A Python of the side would not look into the image by itself, and what these variables name
    comes before what Jupyter knows, so that the user's own folders have to be named as well.
    """
    share = Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "jupyter"
    data = [side.root / "jupyter", side.path / "share" / "jupyter"]
    data += [Path(environ.get("JUPYTER_DATA_DIR") or share), side.image / "share" / "jupyter"]
    _front(environ, "JUPYTER_PATH", data)
    own = Path(environ.get("JUPYTER_CONFIG_DIR") or home / ".jupyter")
    settings = [own, side.path / "etc" / "jupyter", side.image / "etc" / "jupyter"]
    _front(environ, "JUPYTER_CONFIG_PATH", settings)


def apply(environ: MutableMapping[str, str], *, home: Path | None = None) -> None:
    """Set in `environ` what a process of the user's needs; a second time changes nothing.

    Args:
        environ: usually os.environ.
        home: the home directory, from `environ` if not given.
    """
    home = home or Path(environ.get("HOME") or Path.home())
    image = image_root()
    # the server's PATH has it first too; a login shell's has not
    _front(environ, "PATH", [image / "bin"])
    default = next(iter(sides(home, image=image)), None)
    if default and usable(default):
        _front(environ, "PATH", [default.bin, image / "bin"])
        environ["VIRTUAL_ENV"] = str(default.path)
        _jupyter(environ, home, default)
    elif environ.get("VIRTUAL_ENV", "").startswith(f"{root_in(home)}/"):
        del environ["VIRTUAL_ENV"]
    # a pip upgraded because it said so would be drift that nobody wanted
    environ.setdefault("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    trust(environ, home)
    # of a running server: `jupyter console --existing` finds its kernels there
    if RUNTIME.is_dir():
        environ.setdefault(RUNTIME_VARIABLE, str(RUNTIME))


def shell_lines(environ: MutableMapping[str, str]) -> str:
    """What a shell evaluates to have what `apply` changes in `environ`."""
    before = dict(environ)
    apply(environ)
    changed = (name for name in environ if environ[name] != before.get(name))
    lines = [f"export {name}={shlex.quote(environ[name])}\n" for name in sorted(changed)]
    lines += [f"unset {name}\n" for name in sorted(before.keys() - environ.keys())]
    return "".join(lines)


if __name__ == "__main__":
    sys.stdout.write(shell_lines(os.environ))
