"""`python -m jupbox_server`: start the box's Jupyter server, or say why not."""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from . import environment, openssl
from .heartbeat import Heartbeat
from .overlay import DEFAULT
from .paths import CONTROL_SOCKET, PORT, SEAL, Paths, runtime_in


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="jupbox_server", description=__doc__)
    parser.add_argument("--seal", type=Path, default=SEAL, metavar="DIR")
    parser.add_argument("--control", type=Path, default=CONTROL_SOCKET, metavar="SOCKET")
    parser.add_argument("--ip", default="0.0.0.0", help="in a container, all is what compose maps")
    parser.add_argument("--port", type=int, default=PORT)
    return parser.parse_args(argv)


def _arrange_imports() -> None:
    """Let nothing in the working directory, which `-m` puts first, be taken for a module."""
    if sys.path and sys.path[0] in ("", str(Path.cwd())):
        del sys.path[0]


def _arrange_side() -> None:
    """Have kernels and terminals use what is installed beside the image.

    For the server itself it comes after the image's own, so that its server extensions load and
    one wrong version there does not keep the server from starting.
    """
    from . import side  # noqa: PLC0415 (after openssl.configure)

    ready = side.prepare(Path.home())
    environment.apply(os.environ)
    sys.path.extend(str(one.site) for one in ready if one.name == DEFAULT)


def _arrange_runtime(folder: Path) -> None:
    """Have connection files in memory; where that cannot be, in the home directory as usual."""
    runtime = runtime_in(folder)
    os.environ.pop(environment.RUNTIME_VARIABLE, None)  # the image's, for `docker exec`
    with suppress(OSError):
        runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ[environment.RUNTIME_VARIABLE] = str(runtime)


def _trouble(paths: Paths) -> str | None:
    """What is wrong with the seal, found before Jupyter takes its seconds to load."""
    from .seal import SealError, read_hash  # noqa: PLC0415 (after openssl.configure)
    from .tls import load_context  # noqa: PLC0415

    try:
        read_hash(paths.password_hash)
        load_context(paths)
    except SealError as error:
        return str(error)
    return None


def _files() -> Path:
    """The user's folder, made if compose did not mount it."""
    files = Path.home() / "notebooks"
    files.mkdir(exist_ok=True)
    os.chdir(files)
    return files


def main(argv: Sequence[str] | None = None, *, allow_root: bool = False) -> int:
    """Run the server until it is told to stop.

    Args:
        argv: without the program's name.
        allow_root: let uid 0 run it; for tests.

    Returns:
        0 after an orderly end, EX_CONFIG if the seal or the home directory cannot be used.
    """
    arguments = _arguments(sys.argv[1:] if argv is None else argv)
    paths = Paths(seal=arguments.seal.absolute(), control=arguments.control.absolute())
    _arrange_imports()
    # for the health probe, should it hang: where each of its threads stands, and no core file
    faulthandler.register(signal.SIGQUIT, all_threads=True)
    heartbeat = Heartbeat(paths.control.parent)
    try:
        openssl.configure()
        trouble = _trouble(paths)
        files = _files()
    except OSError as error:
        trouble = f"{error.filename}: {error.strerror}"
    except RuntimeError:  # Path.home() with neither HOME nor an entry in /etc/passwd
        trouble = "HOME is not set"
    if trouble:
        print(f"jupbox: the server does not start: {trouble}", file=sys.stderr)
        return os.EX_CONFIG
    _arrange_runtime(paths.control.parent)
    _arrange_side()
    from .app import BoxServerApp  # noqa: PLC0415 (seconds, and only for a seal that holds)

    app = BoxServerApp.instance(
        paths=paths,
        ip=arguments.ip,
        port=arguments.port,
        root_dir=files,
        allow_root=allow_root,
        heartbeat=heartbeat,
    )
    app.initialize(argv=[], starter_extension="lab")
    app.start()
    return 0


if __name__ == "__main__":
    sys.exit(main())
