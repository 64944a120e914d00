"""Values in, texts out: build contexts and compose files. Templates only place and loop."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

import jinja2

from jupbox import assets
from jupbox.lock import (
    RECIPE,
    AptPackage,
    ImageLock,
    KernelLock,
    Lock,
    PythonPackage,
    dump_lock,
)
from jupbox.tables import OVERRIDES

Context = Mapping[str, bytes]
"""The files of a build context, by path relative to it."""

ENVIRONMENT: Final = "jupbox-env"
"""What the repository of environment images is called on an engine."""

LOCK_IN_IMAGE: Final = "/opt/env/image.lock"
"""Where an environment image keeps the lock that it was built from."""

CULL_IDLE: Final = "JUPBOX_CULL_IDLE"
"""After how many seconds the server shuts down what nobody uses; the server's module `idle`."""

KEEP_OUTPUT: Final = "JUPBOX_KEEP_OUTPUT"
"""0 if the server keeps nothing that cells print with no page open; its module `keeping`."""

# the engine changes them in a running container
_CHANGED_LIVE: Final = ("memory", "cpus")
_LATER_VALUES: Final = (
    "fixed_shared_memory", "gpus", "mounts", "env", "ports", "groups", "override",
    "cull_idle", "forgets_output",
)  # fmt: skip

_NO_FILES: Final[Mapping[str, bytes]] = MappingProxyType({})
_SERVER_SUFFIXES: Final = {".py", ".cnf", ".js", ".json"}


@dataclass(frozen=True, kw_only=True)
class Account:
    """The notebook's user: the remote user's name, numbers and groups.

    Attributes:
        groups: supplementary groups, (name, gid).
    """

    name: str
    uid: int
    gid: int
    groups: tuple[tuple[str, int], ...] = ()

    @property
    def home(self) -> str:
        """The home directory in the container."""
        return f"/home/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A folder of the host in the container."""

    source: str
    target: str
    read_only: bool


@dataclass(frozen=True, kw_only=True)
class Stack:
    """What compose runs for one box, but for the generation of its seal.

    Attributes:
        name: compose project.
        hostname: what a terminal's prompt shows.
        bind: addresses that the port is published on; empty string for all.
        port: TCP port on the host.
        memory: limit in bytes, None for none.
        shared_memory: size of /dev/shm in bytes.
        files: the host's folder that is mounted at ~/notebooks; None for the home volume's own.
        cpus: limit in processors, None for none.
        fixed_shared_memory: whether `shared_memory` was chosen, and does not follow from memory.
        gpus: how many of the host's, `all`, or None.
        env: variables, (name, value).
        ports: further ports of the container, published on the host's loopback under their number.
        groups: further groups of the host, (name, gid).
        override: hash over what `compose.override.yaml` adds to the notebook; empty for nothing.
        home_volume: the home directory's, where a restore made another; None is the first one.
        cull_idle: seconds after which an unused kernel is shut down, None for never.
        forgets_output: whether what cells print with no page open is not kept.
    """

    name: str
    hostname: str
    account: Account
    bind: tuple[str, ...]
    port: int
    memory: int | None
    shared_memory: int
    files: str | None
    cpus: float | None = None
    fixed_shared_memory: bool = False
    gpus: int | Literal["all"] | None = None
    mounts: tuple[Mount, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    ports: tuple[int, ...] = ()
    groups: tuple[tuple[str, int], ...] = ()
    override: str = ""
    home_volume: str | None = None
    cull_idle: int | None = None
    forgets_output: bool = False

    def digest(self) -> str:
        """A hash over what only a new container can change.

        Over the values, not over the text: a newer template alone restarts nothing. What is not
        used leaves no mark, so that a jupbox that knows more values finds the same digest.
        """
        values = asdict(self)
        # what runs says which one it is; without that there is nothing to compare
        del values["home_volume"]
        for name in _CHANGED_LIVE:
            del values[name]
        if not self.fixed_shared_memory:
            # follows from the memory, and a kernel update changes what a host says it has
            del values["shared_memory"]
        for name in _LATER_VALUES:
            if not values[name]:
                del values[name]
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _environment(folder: Path) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["yaml"] = yaml_string
    return environment


def yaml_string(value: str) -> str:
    """A string as a YAML scalar in a compose file: JSON is YAML, and `$` is compose's own sign."""
    # but for what JSON writes as a surrogate pair, which YAML has no word for
    text = "".join(json.dumps(c)[1:-1] if c <= "\uffff" else f"\\U{ord(c):08x}" for c in value)
    return f'"{text}"'.replace("$", "$$")


def _one_line(value: str) -> str:
    """Refuse what could add an instruction to a Dockerfile."""
    if "\n" in value or "\r" in value:
        raise ValueError(f"a line break in {value!r}")
    return value


def environment_tag(lock: ImageLock) -> str:
    """What the environment image of a lock is called on an engine."""
    return f"{ENVIRONMENT}:{lock.name}-{lock.digest()[:12]}"


def digest_context(*, image: str, tools: str) -> Context:
    """The build context that measures an image.

    Args:
        image: a tag of it.
        tools: an image with a shell and coreutils.
    """
    dockerfile = (
        _environment(assets.folder("images"))
        .get_template("digest.Dockerfile.j2")
        .render(image=_one_line(image), tools=_one_line(tools))
    )
    script = assets.folder("images") / "build" / "digest.sh"
    return {"Dockerfile": dockerfile.encode(), "digest.sh": script.read_bytes()}


def environment_context(
    lock: ImageLock, *, architecture: str, base: str, files: Mapping[str, bytes] = _NO_FILES
) -> Context:
    """The build context of an environment image.

    Args:
        lock: what it holds.
        architecture: `amd64` or `arm64`; the lock must have it.
        base: how the engine names the base.
        files: the contents of the lock's files, by target.
    """
    platform = lock.platforms[architecture]
    layers = [
        Layer(
            number=number,
            apt=tuple(package for package in platform.apt if package.layer == number),
            python=tuple(package for package in lock.python if package.layer == number),
        )
        for number in range(1, lock.layers + 1)
    ]
    dockerfile = (
        _environment(assets.folder("images"))
        .get_template("Dockerfile.j2")
        .render(
            name=_one_line(lock.name),
            base=_one_line(base),
            cache=f"{platform.base.digest.rpartition(':')[2][:12]}",
            epoch=lock.epoch,
            layers=layers,
            kernels=[
                (name, _any_source(lock.kernels[name].python)) for name in sorted(lock.kernels)
            ],
            interpreter=_interpreter(lock, architecture),
            env=[(name, docker_string(value)) for name, value in sorted(lock.env)],
            extra=bool(lock.files or lock.settings),
            run=bool(lock.run),
        )
    )
    parts = {
        "Dockerfile": dockerfile.encode(),
        "build/tools/uv.txt": requirement_line(lock.uv).encode(),
        "build/finish/image.lock": dump_lock(Lock().with_image(lock.unrecorded())).encode(),
        **_scripts("debs", "network.sh", "archive.sh", "fetch.sh"),
        **_scripts("tools", "network.sh", "archive.sh", "tools.sh"),
        **_scripts("finish", "settle.sh", "finish.sh"),
        **_extra_context(lock, files),
        **_run_context(lock),
    }
    if platform.interpreter:
        names = ("network.sh", "settle.sh", "interpreter.sh", "place.sh")
        parts |= _scripts("interpreter", *names)
    for layer in layers:
        parts |= _layer_context(layer)
    for name, kernel in lock.kernels.items():
        parts |= _kernel_context(name, kernel)
    return parts


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one definition of the `extends` chain brings into an image."""

    number: int
    apt: tuple[AptPackage, ...]
    python: tuple[PythonPackage, ...]

    @property
    def sources(self) -> bool:
        """Whether source distributions may be among its Python packages."""
        return _any_source(self.python)


def _any_source(packages: Iterable[PythonPackage]) -> bool:
    return any(package.source for package in packages)


def _layer_context(layer: Layer) -> dict[str, bytes]:
    """The files of the steps that make one layer."""
    parts: dict[str, bytes] = {}
    if layer.apt or layer.number == 1:
        debs = "".join(map(_deb_line, layer.apt)).encode()
        parts |= {
            f"build/debs/{layer.number}.txt": debs,
            f"build/apt{layer.number}/apt.txt": debs,
            **_scripts(f"apt{layer.number}", "settle.sh", "apt.sh"),
        }
    if layer.python:
        step = f"python{layer.number}"
        requirements = "".join(map(requirement_line, layer.python)).encode()
        parts |= {
            f"build/{step}/requirements.txt": requirements,
            **_scripts(step, "network.sh", "settle.sh", "python.sh"),
        }
    return parts


def _deb_line(package: AptPackage) -> str:
    """A locked Debian package as the build's scripts read it."""
    name, version = package.name, package.version
    # an epoch's colon is no character for every file system
    file = f"{name}_{version.replace(':', '%3a')}_{package.architecture}.deb"
    return f"{name}={version} {file} {package.sha256}\n"


def _interpreter(lock: ImageLock, architecture: str) -> str:
    """What the step takes that fetches a CPython; empty without one."""
    own = lock.platforms[architecture].interpreter
    return f"{own.key(architecture)} {own.sha256}" if own else ""


def _extra_context(lock: ImageLock, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files that are put into the image as they are, in a tree for each mode."""
    found = {f"build/extra/{file.mode}{file.target}": files[file.target] for file in lock.files}
    if lock.settings:
        settings = {plugin: json.loads(values) for plugin, values in lock.settings}
        text = json.dumps(settings, indent=4, sort_keys=True) + "\n"
        found[f"build/extra/0644{OVERRIDES}"] = text.encode()
    return found | _scripts("extra", "settle.sh", "extra.sh") if found else {}


def _run_context(lock: ImageLock) -> dict[str, bytes]:
    """The files of the step that runs a definition's own commands."""
    if not lock.run:
        return {}
    commands = "".join(f"{_one_line(command)}\n" for command in lock.run)
    return {
        "build/run/commands.txt": commands.encode(),
        **_scripts("run", "network.sh", "settle.sh", "run.sh"),
    }


def docker_string(value: str) -> str:
    """A text as a value in a Dockerfile, in which it stands for itself."""
    escaped = "".join(f"\\{char}" if char in '"\\$' else char for char in _one_line(value))
    return f'"{escaped}"'


def _kernel_context(name: str, kernel: KernelLock) -> dict[str, bytes]:
    """The files of the step that makes a further Python environment and its kernel."""
    python = f"/opt/kernels/{name}/bin/python"
    spec = {
        "argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": kernel.display_name,
        "language": "python",
        "metadata": {"debugger": True},
    }
    step = f"kernels/{name}"
    return {
        f"build/{step}/requirements.txt": "".join(map(requirement_line, kernel.python)).encode(),
        f"build/{step}/kernel.json": json.dumps(spec, indent=1).encode() + b"\n",
        **_scripts(step, "network.sh", "settle.sh", "python.sh", "kernel.sh"),
    }


def requirement_line(package: PythonPackage) -> str:
    """A locked package as pip and uv read it from a requirements file."""
    marker = f" ; {package.marker}" if package.marker else ""
    hashes = "".join(f" \\\n    --hash={one}" for one in package.hashes)
    return f"{package.name}=={package.version}{marker}{hashes}\n"


def _scripts(step: str, *names: str) -> dict[str, bytes]:
    """The scripts of one step of a build, in the folder that the step alone sees."""
    folder = assets.folder("images") / "build"
    return {f"build/{step}/{name}": (folder / name).read_bytes() for name in names}


def sealed_context(*, stack: str, environment: str, account: Account) -> Context:
    """The build context of a sealed image's body: the user and the server's files, no secret."""
    dockerfile = (
        _environment(assets.folder("images"))
        .get_template("sealed.Dockerfile.j2")
        .render(
            stack=_one_line(stack),
            environment=_one_line(environment),
            user=_one_line(account.name),
            uid=account.uid,
            gid=account.gid,
        )
    )
    groups = "".join(f"{_one_line(name)}:{gid}\n" for name, gid in account.groups)
    return {
        "Dockerfile": dockerfile.encode(),
        "build/user/groups.txt": groups.encode(),
        **_scripts("user", "user.sh"),
        **server_files(),
    }


def server_files() -> Context:
    """The server's own files as they go into the sealed image."""
    folder = assets.folder("images") / "server"
    paths = sorted(path for path in folder.rglob("*") if path.suffix in _SERVER_SUFFIXES)
    return {f"server/{path.relative_to(folder)}": path.read_bytes() for path in paths}


def recipe() -> str:
    """What jupbox itself puts into images: the recipe of the environment, and the server's files.

    A newer one alone replaces nothing that runs; `up --upgrade` moves to it.
    """
    return f"{RECIPE}-{server_digest()}"


def template_digest() -> str:
    """A hash over the compose file's template; a newer one alone restarts nothing."""
    return hashlib.sha256((assets.folder("compose") / "compose.yaml.j2").read_bytes()).hexdigest()


def server_digest() -> str:
    """A hash over what jupbox itself puts into a sealed image."""
    digest = hashlib.sha256()
    for name, content in sorted({**server_files(), **_scripts("user", "user.sh")}.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def compose_text(
    stack: Stack,
    *,
    image: str,
    generation: int,
    labels: Mapping[str, str],
    volume_labels: Mapping[str, str],
) -> str:
    """The compose file of a stack.

    Args:
        stack: its values.
        image: the sealed image.
        generation: the seal's; an old volume would shadow a newer image, so it names the volume.
        labels: of the container.
        volume_labels: of its volumes.
    """
    return (
        _environment(assets.folder("compose"))
        .get_template("compose.yaml.j2")
        .render(
            stack=stack.name,
            image=image,
            hostname=stack.hostname,
            user=f"{stack.account.uid}:{stack.account.gid}",
            uid=stack.account.uid,
            gid=stack.account.gid,
            groups=list(dict.fromkeys(gid for _, gid in (*stack.account.groups, *stack.groups))),
            home=stack.account.home,
            bind=stack.bind,
            port=stack.port,
            memory=stack.memory,
            cpus=stack.cpus,
            gpus=stack.gpus,
            mounts=stack.mounts,
            env=(*_settings(stack), *stack.env),
            ports=stack.ports,
            shared_memory=stack.shared_memory,
            files=stack.files,
            volumes=volume_names(stack.name, generation, home=stack.home_volume),
            labels=labels,
            volume_labels=volume_labels,
        )
    )


def _settings(stack: Stack) -> Iterator[tuple[str, str]]:
    """What the server itself reads from its environment."""
    if stack.cull_idle:
        yield CULL_IDLE, str(stack.cull_idle)
    if stack.forgets_output:
        yield KEEP_OUTPUT, "0"


def volume_names(stack: str, generation: int, *, home: str | None = None) -> dict[str, str]:
    """The named volumes of a stack, by what they are for.

    Args:
        stack: its name.
        generation: the seal's.
        home: the home directory's, where it is not the first one.
    """
    return {
        "home": home or f"{stack}_home",
        "tmp": f"{stack}_tmp",
        "seal": f"{stack}_seal-{generation}",
        "authority": f"{stack}_authority",
    }
