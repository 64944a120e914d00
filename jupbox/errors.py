"""Every error that jupbox reports, with its exit code and its remedy.

One class a kind of failure; the exit code belongs to the class, the sentence and
the remedy to the place that raises it. `cli` alone catches them. Exit codes 1 and 2
stay with Python's and the command line's own meaning (crash, usage), 130 with Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from jupbox.audit import Change


class JupboxError(Exception):
    """A failure that a user can act on.

    Attributes:
        exit_code: of the command that ends with it.
        meaning: the kind of failure, for the reference.
        remedy_hint: what one does about such failures in general, for the reference; Markdown.

    Args:
        message: what is wrong, one sentence, no secret in it.
        remedy: what to do about it, one sentence.
        details: lines of a log that say more; shown as they are, below the message.
    """

    exit_code: ClassVar[int] = 1
    meaning: ClassVar[str] = "unexpected failure"
    remedy_hint: ClassVar[str] = "run it again with `--debug`, and report what that shows"

    def __init__(self, message: str, *, remedy: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details = tuple(details)


class ConfigError(JupboxError):
    """`jupbox.toml` or the user's configuration cannot be used as it stands."""

    exit_code = 3
    meaning = "configuration not usable"
    remedy_hint = "mend the line of the file that the message names"


class UnknownNameError(JupboxError):
    """A box or an image that nothing defines."""

    exit_code = 4
    meaning = "unknown box or image"
    remedy_hint = "name one that there is; the message lists them"


class LockError(JupboxError):
    """`jupbox.lock` is missing where it must not be, stale, or not readable."""

    exit_code = 5
    meaning = "lock missing, stale or unreadable"
    remedy_hint = "take `jupbox.lock` from version control again, or run `jupbox lock`"


class ResolveError(JupboxError):
    """A requirement or an apt package that cannot be resolved."""

    exit_code = 6
    meaning = "a package cannot be resolved"
    remedy_hint = "look for a typing error, loosen versions, or mend the way to the package index"


class RepositoryError(JupboxError):
    """A git repository that is out of reach, or has not what is wanted of it."""

    exit_code = 7
    meaning = "git repository out of reach"
    remedy_hint = "make `git ls-remote URL` work first, and look at the revision"


class HostError(JupboxError):
    """The host cannot be reached or does not let us in."""

    exit_code = 10
    meaning = "host not reachable over ssh"
    remedy_hint = "make `ssh HOST` work first"


class HostKeyError(HostError):
    """The host's key is unknown or another one than before."""

    exit_code = 11
    meaning = "host key unknown or changed"
    remedy_hint = "log in once with `ssh HOST`, and compare the key with the administrator's"


class AuthError(HostError):
    """ssh was refused at authentication."""

    exit_code = 12
    meaning = "ssh authentication refused"
    remedy_hint = "mend the key or the user in your ssh configuration until `ssh HOST` works"


class ClientError(JupboxError):
    """A program that must be on the laptop is missing or too old."""

    exit_code = 13
    meaning = "a program is missing on this machine"
    remedy_hint = "install the program that the message names"


class EngineError(JupboxError):
    """The Docker engine of the box is missing, too old, or failed."""

    exit_code = 20
    meaning = "Docker engine missing, too old or failing"
    remedy_hint = "`jupbox setup BOX` installs, starts or upgrades it"


class EnginePermissionError(EngineError):
    """The engine is there, but its socket is not ours to use."""

    exit_code = 21
    meaning = "no permission on the engine's socket"
    remedy_hint = "`jupbox setup BOX` adds you to the group docker, or an administrator does"


class SetupError(JupboxError):
    """`setup` cannot put an engine on this system."""

    exit_code = 22
    meaning = "engine cannot be set up here"
    remedy_hint = "install Docker as its vendor says, or log in as somebody who may"


class BaseImageError(JupboxError):
    """No way was found to a base image."""

    exit_code = 23
    meaning = "base image out of reach"
    remedy_hint = "open a way to the registry or to Debian's packages, or `docker load` the base"


class BuildError(JupboxError):
    """An image did not build."""

    exit_code = 24
    meaning = "image build failed"
    remedy_hint = "run it again with `--verbose` and read what the build says last"


class DiskFullError(JupboxError):
    """The engine's disk has no room left."""

    exit_code = 25
    meaning = "disk full"
    remedy_hint = "look there with `docker system df`, and free some with `docker builder prune`"


class DriftError(JupboxError):
    """An image is not, to the byte, what the lock says."""

    exit_code = 26
    meaning = "image is not what the lock says"
    remedy_hint = "`jupbox verify --rebuild` lists what differs"


class RegistryError(JupboxError):
    """A registry wants a login, serves another image than the lock's, or takes none in."""

    exit_code = 27
    meaning = "registry refuses, or serves another image"
    remedy_hint = "`docker login HOST` on this machine, or have the right image pushed"


class PortTakenError(JupboxError):
    """The port of the stack belongs to somebody else."""

    exit_code = 30
    meaning = "port taken"
    remedy_hint = "end the program that the message names, or choose another `port`"


class FilesError(JupboxError):
    """The user's folder cannot be made, read or written."""

    exit_code = 31
    meaning = "files folder not usable"
    remedy_hint = "mend the folder's permissions, or choose another"


class CertificateError(JupboxError):
    """A certificate or key that does not fit, or cannot be trusted."""

    exit_code = 32
    meaning = "certificate not usable"
    remedy_hint = "renew what `tls` names, or leave it out"


class PasswordError(JupboxError):
    """A password that is empty, too short, or was refused."""

    exit_code = 33
    meaning = "password not usable"
    remedy_hint = "choose one of 8 characters or more; `--generate` makes one"


class ServerError(JupboxError):
    """The notebook server does not answer as it must."""

    exit_code = 34
    meaning = "notebook server does not answer"
    remedy_hint = "read `jupbox logs BOX`; `jupbox up BOX` starts it again"


class NotRunningError(JupboxError):
    """The verb needs a running stack and there is none."""

    exit_code = 35
    meaning = "nothing is running there"
    remedy_hint = "`jupbox up BOX`"


class TrustError(JupboxError):
    """No trust store could be written."""

    exit_code = 36
    meaning = "no trust store could be written"
    remedy_hint = "install certutil, or import what `jupbox trust --print` writes by hand"


class ConfirmationError(JupboxError):
    """A question was answered with no, or nobody was there to answer it."""

    exit_code = 37
    meaning = "not confirmed"
    remedy_hint = "answer the question, or add `--yes`"


class BusyError(JupboxError):
    """Another process changes the same stack.

    Attributes:
        holder: what it says of itself, where it does.
    """

    exit_code = 38
    meaning = "another jupbox is changing it"
    remedy_hint = "wait until the other one is done (`--wait` does), then run it again"
    holder: Change | None = None


class KernelsBusyError(JupboxError):
    """A verb would end a kernel or a terminal that works."""

    exit_code = 39
    meaning = "kernels or terminals are busy"
    remedy_hint = "wait, or add `--when-idle` to have it wait for you; `--force` ends them"


class RolloutError(JupboxError):
    """A new release does not work; the old one serves."""

    exit_code = 40
    meaning = "new release does not work, the old one serves"
    remedy_hint = "read the log lines that the message shows, and mend the image or the box's keys"


class BackupError(JupboxError):
    """A backup that is damaged, of another box, or could not be made."""

    exit_code = 41
    meaning = "backup damaged, of another box, or not made"
    remedy_hint = "take another backup; `--from-other` takes one of another box"
