"""Every error that jupbox reports, with its exit code and its remedy.

One class a kind of failure; the exit code belongs to the class, the sentence and
the remedy to the place that raises it. `cli` alone catches them. Exit codes 1 and 2
stay with Python's and the command line's own meaning (crash, usage), 130 with Ctrl-C.
"""

from __future__ import annotations

from typing import ClassVar


class JupboxError(Exception):
    """A failure that a user can act on.

    Args:
        message: what is wrong, one sentence, no secret in it.
        remedy: what to do about it, one sentence.
    """

    exit_code: ClassVar[int] = 1
    meaning: ClassVar[str] = "unexpected failure"

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class ConfigError(JupboxError):
    """`jupbox.toml` or the user's configuration cannot be used as it stands."""

    exit_code = 3
    meaning = "configuration not usable"


class UnknownNameError(JupboxError):
    """A box or an image that nothing defines."""

    exit_code = 4
    meaning = "unknown box or image"


class LockError(JupboxError):
    """`jupbox.lock` is missing where it must not be, stale, or not readable."""

    exit_code = 5
    meaning = "lock missing, stale or unreadable"


class ResolveError(JupboxError):
    """A requirement or an apt package that cannot be resolved."""

    exit_code = 6
    meaning = "a package cannot be resolved"


class HostError(JupboxError):
    """The host cannot be reached or does not let us in."""

    exit_code = 10
    meaning = "host not reachable over ssh"


class HostKeyError(HostError):
    """The host's key is unknown or another one than before."""

    exit_code = 11
    meaning = "host key unknown or changed"


class AuthError(HostError):
    """ssh was refused at authentication."""

    exit_code = 12
    meaning = "ssh authentication refused"


class ClientError(JupboxError):
    """A program that must be on the laptop is missing or too old."""

    exit_code = 13
    meaning = "a program is missing on this machine"


class EngineError(JupboxError):
    """The Docker engine of the box is missing, too old, or failed."""

    exit_code = 20
    meaning = "Docker engine missing, too old or failing"


class EnginePermissionError(EngineError):
    """The engine is there, but its socket is not ours to use."""

    exit_code = 21
    meaning = "no permission on the engine's socket"


class SetupError(JupboxError):
    """`setup` cannot put an engine on this system."""

    exit_code = 22
    meaning = "engine cannot be set up here"


class BaseImageError(JupboxError):
    """No way was found to a base image."""

    exit_code = 23
    meaning = "base image out of reach"


class BuildError(JupboxError):
    """An image did not build."""

    exit_code = 24
    meaning = "image build failed"


class DiskFullError(JupboxError):
    """The engine's disk has no room left."""

    exit_code = 25
    meaning = "disk full"


class PortTakenError(JupboxError):
    """The port of the stack belongs to somebody else."""

    exit_code = 30
    meaning = "port taken"


class FilesError(JupboxError):
    """The user's folder cannot be made, read or written."""

    exit_code = 31
    meaning = "files folder not usable"


class CertificateError(JupboxError):
    """A certificate or key that does not fit, or cannot be trusted."""

    exit_code = 32
    meaning = "certificate not usable"


class PasswordError(JupboxError):
    """A password that is empty, too short, or was refused."""

    exit_code = 33
    meaning = "password not usable"


class ServerError(JupboxError):
    """The notebook server does not answer as it must."""

    exit_code = 34
    meaning = "notebook server does not answer"


class NotRunningError(JupboxError):
    """The verb needs a running stack and there is none."""

    exit_code = 35
    meaning = "nothing is running there"


class TrustError(JupboxError):
    """No trust store could be written."""

    exit_code = 36
    meaning = "no trust store could be written"


class ConfirmationError(JupboxError):
    """A question was answered with no, or nobody was there to answer it."""

    exit_code = 37
    meaning = "not confirmed"


class BusyError(JupboxError):
    """Another process changes the same stack."""

    exit_code = 38
    meaning = "another jupbox is changing it"
