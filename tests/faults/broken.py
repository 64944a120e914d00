"""Makes a server go wrong as the variable FAULT says; loaded by broken.pth in the image."""

import os
import sys
import time

_WORDS = sys.orig_argv
_FAULT = os.environ.get("FAULT", "none")


def _plain() -> None:
    from tornado.httpserver import HTTPServer

    # neither the server's own context nor Jupyter's
    HTTPServer.ssl_options = property(lambda self: None, lambda self, value: None)  # type: ignore[assignment]


if "jupbox_server" in _WORDS:
    if _FAULT == "exits":
        print("fault: the server exits", file=sys.stderr)
        os._exit(3)
    if _FAULT == "hangs":
        print("fault: the server hangs", file=sys.stderr, flush=True)
        time.sleep(10**6)
    if _FAULT == "plain":
        _plain()
if _FAULT == "kernel" and "ipykernel_launcher" in _WORDS:
    print("fault: the kernel exits", file=sys.stderr)
    os._exit(1)
