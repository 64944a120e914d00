"""`jupbox.toml` -> Project: defaults, names, `extends`, and what bad input gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jupbox.errors import ConfigError, JupboxError, UnknownNameError
from jupbox.project import (
    DEFAULT_BASE,
    LOCAL,
    Box,
    ImageDefinition,
    Kernel,
    Layer,
    Project,
    TlsFiles,
    box_label,
    definition_label,
    differences,
    parse_project,
    read_box,
    read_definition,
)
from jupbox.tables import memory_bytes
from jupbox.tomltext import dotted, key_lines, quote

MINIMAL = 'python = ["jupyterlab", "ipykernel"]\napt = ["git", "less"]\n'
SHIPPED = {
    "minimal": MINIMAL,
    "scipy": 'extends = "minimal"\npython = ["numpy"]\n',
}
ROOT = Path("/team/project")


def parse(text: str | None = None, *, user: str | None = None) -> Project:
    return parse_project(
        text,
        source="jupbox.toml",
        root=None if text is None else ROOT,
        user_text=user,
        user_source="/home/me/.config/jupbox/config.toml",
        shipped=SHIPPED,
    )


def failure(text: str | None, *, user: str | None = None) -> JupboxError:
    with pytest.raises(JupboxError) as caught:
        parse(text, user=user)
    return caught.value


# --- boxes ------------------------------------------------------------------------------------


def test_without_a_file_the_only_box_is_this_machine() -> None:
    assert parse().box(None) == Box(name=LOCAL, host=LOCAL, port="auto")


@pytest.mark.parametrize(
    ("destination", "name"),
    [
        ("workbox", "workbox"),
        ("alice@big.host", "alice-big-host"),
        ("ssh://alice@big.host:2222", "ssh-alice-big-host-2222"),
        ("192.0.2.7", "192-0-2-7"),
        ("Node_7", "node_7"),
        ("DOMAIN\\alice@host", "domain-alice-host"),
        ("2001:db8::1", "2001-db8-1"),
    ],
)
def test_without_a_file_any_ssh_destination_is_a_box(destination: str, name: str) -> None:
    assert parse().box(destination) == Box(name=name, host=destination, port="auto")


def test_a_long_destination_gets_a_name_of_40_characters_that_stays_apart() -> None:
    first, second = (parse().box("x" * 60 + end).name for end in "ab")
    assert first != second
    assert max(len(first), len(second)) <= 40


def test_a_host_that_only_looks_like_local_does_not_get_its_name() -> None:
    assert parse().box("Local").name.startswith("local-")


@pytest.mark.parametrize(
    "destination",
    ["-oProxyCommand=sh", "alice@-oX", "--", "a b", "a\nb", "a;b", "$(id)", "", "a'b", "x" * 300],
)
def test_what_ssh_could_take_for_something_else_is_no_destination(destination: str) -> None:
    with pytest.raises(UnknownNameError):
        parse().box(destination)
    assert isinstance(failure(f"[boxes.w]\nhost = {quote(destination)}"), ConfigError)


def test_what_differs_between_two_states_of_a_box_is_said_by_its_keys() -> None:
    old = parse('[boxes.w]\nmemory = "4g"').box("w")
    new = parse('[boxes.w]\nexpose = "public"').box("w")
    assert differences(old, new) == (
        'expose: default -> "public"',
        'memory: "4g" -> default',
    )


def test_a_box_of_a_file_has_documented_defaults() -> None:
    assert parse("[boxes.workbox]").box("workbox") == Box(
        name="workbox",
        host="workbox",
        image="minimal",
        files="~/notebooks",
        expose="tunnel",
        port=8888,
        names=(),
        tls=None,
        memory=None,
        cpus=None,
        shm_size=None,
        cull_idle=None,
        gpus="auto",
        mounts=(),
        env=(),
        ports=(),
        keep_output=True,
        group_add=(),
    )


def test_every_key_of_a_box_is_taken_over() -> None:
    text = """
        [boxes.workbox]
        host = "alice@10.0.0.7"
        image = "scipy"
        files = "volume"
        expose = "192.0.2.7"
        port = "auto"
        names = ["Notebooks.example.org", "2001:DB8::1", "notebooks.example.org"]
        tls.cert = "tls/box.pem"
        tls.key = "/etc/box.key"
        memory = "1.5g"
        cpus = 1.5
        shm_size = "512m"
        cull-idle = "12h"
        gpus = 2
        mounts = ["/data:/data", "~/models:~/models:rw", "/data:/data"]
        env = { OMP_NUM_THREADS = "8", A = "=$b" }
        ports = [8501, 8050]
        keep-output = false
        group_add = ["lab"]
    """
    box = parse(text).box("workbox")
    assert box == Box(
        name="workbox",
        host="alice@10.0.0.7",
        image="scipy",
        files="volume",
        expose="192.0.2.7",
        port="auto",
        names=("notebooks.example.org", "2001:db8::1"),
        tls=TlsFiles(cert=ROOT / "tls/box.pem", key=Path("/etc/box.key")),
        memory="1.5g",
        cpus=1.5,
        shm_size="512m",
        cull_idle="12h",
        gpus=2,
        mounts=("/data:/data", "~/models:~/models:rw"),
        env=(("A", "=$b"), ("OMP_NUM_THREADS", "8")),
        ports=(8050, 8501),
        keep_output=False,
        group_add=("lab",),
    )
    assert box.memory_bytes == 1610612736
    assert box.shared_memory_bytes == 512 * 2**20
    assert box.cull_idle_seconds == 43_200
    # and what a label says of it is the same box, but for paths of this laptop
    assert read_box(box_label(box), name="workbox", host=box.host) == replace(box, tls=None)


@pytest.mark.parametrize("place", ["box", "here"])
def test_a_box_says_where_its_image_is_built(place: str) -> None:
    box = parse(f'[boxes.w]\nbuild = "{place}"').box("w")
    assert box.build == place
    assert read_box(box_label(box), name="w", host="w") == box


def test_a_registry_is_inherited_and_makes_no_lock_stale() -> None:
    text = '[images.a]\nextends = "minimal"\n{}[images.b]\nextends = "a"\npython = ["x"]'
    without = parse(text.format("")).image("b")
    named = parse(text.format('registry = "localhost:5000/team/a"\n')).image("b")
    assert (without.registry, named.registry) == (None, "localhost:5000/team/a")
    assert named.digest == without.digest
    assert read_definition(definition_label(named)).registry == named.registry


@pytest.mark.parametrize(
    "registry", ["team/x", "example.org", "example.org/x:tag", "https://example.org/x", "a.b/X"]
)
def test_a_registry_is_a_host_and_a_repository(registry: str) -> None:
    error = failure(f'[images.d]\nextends = "minimal"\nregistry = "{registry}"')
    assert "images.d.registry must be a registry's host and a repository there" in error.message


def test_the_only_box_of_the_project_needs_no_name() -> None:
    assert parse("[boxes.a]", user="[boxes.mine]").box(None).name == "a"
    assert parse("", user="[boxes.mine]").box(None).name == "mine"


def test_with_several_boxes_one_must_be_named() -> None:
    with pytest.raises(UnknownNameError) as caught:
        parse("[boxes.b]\n[boxes.a]").box(None)
    assert "a, b" in caught.value.remedy


def test_an_unknown_box_of_a_project_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        parse("[boxes.workbox]").box("wrokbox")
    assert "'wrokbox'" in caught.value.message
    assert caught.value.remedy == "Did you mean `workbox`? Boxes: local, workbox."


def test_this_machine_is_a_box_of_every_project() -> None:
    assert parse("[boxes.workbox]").box("local").host == LOCAL
    assert parse("[boxes.local]\nport = 9999").box("local").port == 9999


def test_a_personal_box_yields_to_the_project_and_starts_in_its_own_folder() -> None:
    tls = '[boxes.{}]\ntls = {{ cert = "c.pem", key = "~/k.pem" }}\n'
    project = parse(
        '[boxes.w]\nhost = "team"', user='[boxes.w]\nhost = "me"\n' + tls.format("mine")
    )
    assert project.boxes["w"].host == "team"
    assert project.personal == {"mine"}
    assert project.boxes["mine"].tls == TlsFiles(
        cert=Path("/home/me/.config/jupbox/c.pem"), key=Path("~/k.pem")
    )


def test_a_personal_box_may_name_an_image_of_another_project() -> None:
    project = parse("", user='[boxes.mine]\nimage = "elsewhere"')
    with pytest.raises(UnknownNameError):
        project.image(project.box("mine").image)


def test_the_network_is_the_users_own_matter() -> None:
    assert parse(user='[network]\nca-bundle = "~/ca.pem"').network.ca_bundle == Path("~/ca.pem")
    error = failure('[boxes.w]\n[network]\nca-bundle = "x"')
    assert error.message.startswith("jupbox.toml:2: network belongs in your own")


def test_an_archive_of_old_packages_is_the_users_own_matter() -> None:
    archive = "http://old.example:8080/archive/"
    assert parse(user=f'[network]\nsnapshots = "{archive}"').network.snapshots == archive
    assert parse().network.snapshots is None


@pytest.mark.parametrize(
    "archive", ["old.example", "ftp://old.example", "http://a b", "http://a\\nRUN x", "http://", ""]
)
def test_an_archive_of_old_packages_is_an_http_address(archive: str) -> None:
    error = failure("", user=f'[network]\nsnapshots = "{archive}"')
    assert "network.snapshots" in error.message


@pytest.mark.parametrize(
    ("size", "expected"),
    [("16g", 2**34), ("512m", 2**29), ("16GiB", 2**34), ("1 tb", 2**40), ("300000k", 307200000)],
)
def test_memory_is_a_docker_size(size: str, expected: int) -> None:
    assert memory_bytes(size) == expected


# --- images -----------------------------------------------------------------------------------


def test_an_image_is_flattened_along_what_it_extends() -> None:
    text = """
        [images.datasci]
        extends = "scipy"
        python = ["pandas>=2", "numpy"]
        apt = ["ffmpeg", "git"]
        base = "debian:bookworm-slim"
        requires-python = ">=3.11"
        description = "ours"
    """
    assert parse(text).image("datasci") == ImageDefinition(
        name="datasci",
        python=("jupyterlab", "ipykernel", "numpy", "pandas>=2"),
        apt=("git", "less", "ffmpeg"),
        base="debian:bookworm-slim",
        requires_python=">=3.11",
        shipped=False,
        layers=(
            Layer(
                name="minimal",
                python=("jupyterlab", "ipykernel"),
                apt=("git", "less"),
                shipped=True,
            ),
            Layer(name="scipy", python=("numpy",), apt=(), shipped=True),
            Layer(name="datasci", python=("pandas>=2", "numpy"), apt=("ffmpeg", "git")),
        ),
    )


def test_base_and_python_come_from_the_nearest_of_the_chain() -> None:
    text = """
        [images.a]
        extends = "minimal"
        base = "ubuntu:24.04"
        requires-python = ">=3.12"
        [images.b]
        extends = "a"
        [images.c]
        extends = "b"
        base = "debian:13"
    """
    images = parse(text).images
    assert [images[name].base for name in ("minimal", "b", "c")] == [
        DEFAULT_BASE,
        "ubuntu:24.04",
        "debian:13",
    ]
    assert images["c"].requires_python == ">=3.12"


@pytest.mark.parametrize(
    ("keys", "base"),
    [
        ("", DEFAULT_BASE),
        ('requires-python = ">=3.11"', DEFAULT_BASE),
        ('requires-python = ">=3.11,<3.13"', "debian:bookworm-slim"),
        ('requires-python = "==3.11.*"', "debian:bookworm-slim"),
        ('requires-python = "==3.12.*"', DEFAULT_BASE),
        ('requires-python = "==3.11.*"\nbase = "ubuntu:24.04"', "ubuntu:24.04"),
        ('requires-python = "==3.11.*"\nbase = "debian:trixie-slim"', "debian:trixie-slim"),
    ],
)
def test_a_base_that_was_not_chosen_is_one_with_the_python_that_is_required(
    keys: str, base: str
) -> None:
    image = parse(f'[images.own]\nextends = "minimal"\n{keys}').image("own")
    assert image.base == base
    assert read_definition(definition_label(image)) == image


def test_the_requirement_of_what_is_extended_chooses_too() -> None:
    text = '[images.a]\nextends = "minimal"\nrequires-python = "<3.12"\n[images.b]\nextends = "a"'
    assert parse(text).image("b").base == "debian:bookworm-slim"


def test_a_projects_image_replaces_the_shipped_one_of_its_name() -> None:
    minimal = parse('[images.minimal]\npython = ["jupyterlab==4.4.1"]').image("minimal")
    assert (minimal.python, minimal.shipped) == (("jupyterlab==4.4.1",), False)


def test_an_unknown_image_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        parse().image("scypi")
    assert caught.value.remedy == "Did you mean `scipy`? Images: minimal, scipy."


DIGEST = '[images.x]\nextends = "minimal"\npython = ["a", "b"]\napt = ["git"]\n'


@pytest.mark.parametrize(
    "change",
    [("[images.x]", "[images.y]"), ('"a", "b"', '"b", "a", "b"'), ("apt", 'description="d"\napt')],
)
def test_the_digest_ignores_what_changes_no_content(change: tuple[str, str]) -> None:
    (before,) = _own_digests(DIGEST)
    assert _own_digests(DIGEST.replace(*change)) == [before]


@pytest.mark.parametrize(
    "change",
    [
        ('"a"', '"a>=1"'),
        ('"git"', '"vim"'),
        ('"minimal"', '"scipy"'),
        ("apt", 'base = "debian:12"\napt'),
        ("apt", 'requires-python = ">=3.12"\napt'),
    ],
)
def test_the_digest_follows_the_content(change: tuple[str, str]) -> None:
    assert _own_digests(DIGEST) != _own_digests(DIGEST.replace(*change))


def test_the_digest_is_the_same_on_every_machine() -> None:
    """A fixed value: a change of the canonical form makes every team's lock stale."""
    assert _own_digests(DIGEST) == [
        "d9a91a4e3560c909cf3183d80331638b389a829ec89fd158e97322372d2645c9"
    ]


@pytest.mark.parametrize(
    "change",
    [
        ("[images.x]", "[images.y]"),
        ('"a"', '"a>=1"'),
        ('["git"]', '["git", "git"]'),
        ("apt", 'kernels.k.python = ["torch"]\napt'),
    ],
)
def test_what_is_of_python_alone_leaves_base_and_debian_packages(change: tuple[str, str]) -> None:
    assert _system(DIGEST.replace(*change)) == _system(DIGEST)


def test_a_definition_between_that_brings_no_debian_package_leaves_them_too() -> None:
    between = '[images.m]\nextends = "minimal"\npython = ["z"]\n'
    assert _system(between + DIGEST.replace('"minimal"', '"m"')) == _system(DIGEST)


@pytest.mark.parametrize(
    "change",
    [
        ('"git"', '"vim"'),
        ('"minimal"', '"scipy"'),
        ("apt", 'base = "debian:12"\napt'),
        ("apt", 'requires-python = ">=3.12"\napt'),
    ],
)
def test_base_and_debian_packages_follow_what_decides_of_them(change: tuple[str, str]) -> None:
    assert _system(DIGEST) != _system(DIGEST.replace(*change))


def _system(text: str) -> str:
    return next(i for n, i in parse(text).images.items() if n in {"x", "y"} and i.apt).system_digest


def _own_digests(text: str) -> list[str]:
    return [image.digest for image in parse(text).images.values() if not image.shipped]


def test_a_newer_definition_that_ships_makes_no_lock_stale() -> None:
    """Two laptops with different versions of jupbox would else take turns in locking."""
    text = '[images.own]\nextends = "minimal"'
    newer = parse_project(
        text,
        source="",
        root=ROOT,
        user_text=None,
        user_source="",
        shipped={**SHIPPED, "minimal": 'python = ["jupyterlab", "pip"]'},
    )
    assert newer.image("own").digest == parse(text).image("own").digest
    other = parse('[images.own]\nextends = "scipy"')
    assert other.image("own").digest != parse(text).image("own").digest


KERNELS = """
    [images.own]
    extends = "minimal"
    kernels.old.python = ["pandas<2"]
    [images.more]
    extends = "own"
    kernels.new = { python = ["pandas"], display-name = "New" }
    kernels.old.python = ["pandas<1.5"]
"""


def test_kernels_come_along_the_chain_and_the_nearest_holds() -> None:
    assert parse(KERNELS).image("more").kernels == (
        Kernel(name="new", python=("pandas",), display_name="New"),
        Kernel(name="old", python=("pandas<1.5",), display_name="old"),
    )


def test_a_kernel_is_part_of_the_digest() -> None:
    without = KERNELS.replace("kernels.new", "# kernels.new")
    assert parse(without).image("more").digest != parse(KERNELS).image("more").digest


def test_a_definition_read_from_a_label_is_the_same() -> None:
    image = parse(KERNELS + '[images.last]\nextends="more"\nbase="debian:bookworm"').image("last")
    again = read_definition(definition_label(image))
    assert (again, again.digest) == (image, image.digest)


def test_of_several_boxes_on_a_host_one_is_named_with_a_slash() -> None:
    assert parse().box("me@host/gpu") == Box(name="gpu", host="me@host", port="auto")


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        (
            '\n[images.datasci]\nextends = "minimal"\npythn = ["x"]',
            "jupbox.toml:4: images.datasci.pythn is not a key of an image.",
            "Did you mean `python`? "
            "Keys: apt, base, constraints, description, env, extends, files, "
            "kernels, python, registry, reproducible, requires-python, run, settings.",
        ),
        (
            '[boxes]\nw.host = "h"\nw.prot = 1',
            "jupbox.toml:3: boxes.w.prot is not a key of a box.",
            "Did you mean `port`? Keys: build, cpus, cull-idle, env, expose, files, gpus, "
            "group_add, host, image, keep-output, keep-releases, memory, mounts, names, port, "
            "ports, shm_size, tls.",
        ),
        (
            "[image.x]",
            "jupbox.toml:1: image is not a key of this file.",
            "Did you mean `images`? Keys: boxes, images.",
        ),
        (
            '[boxes.w]\ntls = { cert = "c", kye = "k" }',
            "jupbox.toml:2: boxes.w.tls.kye is not a key of tls. (and 1 more)",
            "Did you mean `key`? Keys: cert, key.",
        ),
        (
            '[boxes.w]\nport = "88"',
            'jupbox.toml:2: boxes.w.port must be a number from 1 to 65535, or "auto", not "88".',
            "For example: port = 8888",
        ),
        ("[boxes.w]\nport = true", "jupbox.toml:2: boxes.w.port must be a number", ""),
        ("[boxes.w]\nport = 0", "jupbox.toml:2: boxes.w.port must be a number", ""),
        ("[boxes.w]\nport = 65536", "jupbox.toml:2: boxes.w.port must be a number", ""),
        (
            '[images.d]\nextends = "minimal"\npython = "numpy"',
            'jupbox.toml:3: images.d.python must be a list of Python requirements, not "numpy".',
            "",
        ),
        ("boxes = 3", "jupbox.toml:1: boxes must be a table of boxes, not 3.", ""),
        ("[boxes]\nport = 3", "jupbox.toml:2: boxes.port must be a table, not 3.", ""),
        ('[boxes."Work Box"]', 'jupbox.toml:1: boxes."Work Box" is not a name', "Use up to 40"),
        (f"[images.{'x' * 41}]", "jupbox.toml:1: images.xxx", "Use up to 40"),
        ('[boxes.w]\ntls = { cert = "x" }', "jupbox.toml:2: boxes.w.tls lacks `key`.", ""),
        ('[boxes.w]\nmemory = "16"', "jupbox.toml:2: boxes.w.memory must be a size", ""),
        ("[boxes.w]\nmemory = 16", "jupbox.toml:2: boxes.w.memory must be a size", ""),
        ("[boxes.w]\ncpus = 0", "jupbox.toml:2: boxes.w.cpus must be a number of processors", ""),
        ('[boxes.w]\ngpus = "yes"', 'boxes.w.gpus must be "auto", "all", "none" or a number', ""),
        ("[boxes.w]\ngpus = 0", "jupbox.toml:2: boxes.w.gpus must be", ""),
        ('[boxes.w]\nshm_size = "1k"', "boxes.w.shm_size must be a size of 1m or more", ""),
        ('[boxes.w]\ncull-idle = "9m"', "boxes.w.cull-idle must be a time of 10m or more", ""),
        ('[boxes.w]\ncull-idle = "1w"', "boxes.w.cull-idle must be a time of 10m or more", ""),
        ("[boxes.w]\ncull-idle = 3600", "boxes.w.cull-idle must be a time of 10m or more", ""),
        ('[boxes.w]\nshm-size = "1g"', "boxes.w.shm-size is not a key of a box", "`shm_size`"),
        ("[boxes.w]\nports = [8888]", "is the server's own", "ports = [8501]"),
        ("[boxes.w]\nports = [0]", "must be a number from 1 to 65535, not 0", ""),
        ('[boxes.w]\nmounts = ["data:/data"]', 'must be "HOST:CONTAINER"', ""),
        ('[boxes.w]\nmounts = ["/a:/b:rx"]', 'must be "HOST:CONTAINER"', ""),
        ('[boxes.w]\nmounts = ["/a/../b:/data"]', "must not lead upwards", ""),
        ('[boxes.w]\nmounts = ["/a:/opt/env"]', "must not cover /opt/env of the container", ""),
        ('[boxes.w]\nmounts = ["/a:/"]', "must not cover / of the container", ""),
        ('[boxes.w]\nmounts = ["/a:~/"]', "must not cover ~ of the container", ""),
        ('[boxes.w]\nmounts = ["/a:~/notebooks/a"]', "must not lie in the notebooks' folder", ""),
        ('[boxes.w]\nenv = { PATH = "/x" }', "is set by jupbox itself", ""),
        ('[boxes.w]\nenv = { JUPYTER_TOKEN = "x" }', "is set by jupbox itself", ""),
        ("[boxes.w]\nenv = { A = 1 }", "boxes.w.env.A must be a text, not 1", ""),
        ('[boxes.w]\nenv = { A = "a\\nb" }', "must be a text on one line", ""),
        ('[boxes.w]\ngroup_add = ["-x"]', "must be a group's name or number", ""),
        ("[images.x.kernels.k]\npythn = []", "is not a key of a kernel", "`python`"),
        ("[images.x.kernels.python3]", "is what the image's own environment is called", "up to 40"),
        ("[images.x.kernels]\nk = 1", "images.x.kernels.k must be a table, not 1", ""),
        ('[boxes.w]\nfiles = "notebooks"', "jupbox.toml:2: boxes.w.files must be an abs", ""),
        ('[boxes.w]\nfiles = "/"', "jupbox.toml:2: boxes.w.files must be a folder", ""),
        ('[boxes.w]\nfiles = "~/../bob"', "jupbox.toml:2: boxes.w.files must not lead", ""),
        ('[boxes.w]\nexpose = "all"', 'jupbox.toml:2: boxes.w.expose must be "tunnel", ', ""),
        ('[boxes.w]\nexpose = "0.0.0.0"', "jupbox.toml:2: boxes.w.expose means every", ""),
        ('[boxes.w]\nexpose = "fe80::1%eth0"', "jupbox.toml:2: boxes.w.expose must be", ""),
        (
            '[boxes.w]\nnames = [\n  "ok.example",\n  "*.example",\n]',
            "jupbox.toml:4: boxes.w.names[1] must be a host name or an address",
            "",
        ),
        ('[boxes.w]\nnames = ["1.2.3"]', "jupbox.toml:2: boxes.w.names[0] must be", ""),
        (
            '[images.d]\npython = ["numpy"]',
            "jupbox.toml:1: images.d holds no Jupyter server.",
            'Add extends = "minimal", or "jupyterlab" to its python.',
        ),
        (
            '[images.d]\nextends = "minmal"',
            "jupbox.toml:2: images.d.extends names 'minmal', and no image is called that.",
            "Did you mean `minimal`? Images: minimal, scipy.",
        ),
        (
            '[images.d]\nextends = "e"\n[images.e]\nextends = "d"',
            "jupbox.toml:4: images.e.extends leads back to itself: d -> e -> d.",
            "",
        ),
        (
            '[images.minimal]\nextends = "minimal"',
            "jupbox.toml:2: images.minimal.extends leads back to itself: minimal -> minimal.",
            "",
        ),
        (
            "[boxes.w",
            "jupbox.toml:1: this is not valid TOML: Expected ']' at the end",
            "Look at that line",
        ),
        ("\n\nx = [\n1,\n", "jupbox.toml:4: this is not valid TOML", ""),
        ("a = 1\na = 2", "jupbox.toml:2: this is not valid TOML", ""),
    ],
)
def test_bad_input_gets_file_line_key_and_remedy(text: str, message: str, remedy: str) -> None:
    error = failure(text)
    assert isinstance(error, ConfigError)
    assert message in error.message
    assert remedy in error.remedy
    assert error.remedy


def test_a_box_with_an_unknown_image_is_an_unknown_name_with_its_line() -> None:
    error = failure('[boxes.w]\nport = 1\nimage = "mnimal"')
    assert isinstance(error, UnknownNameError)
    assert error.message.startswith("jupbox.toml:3: boxes.w.image names 'mnimal'")
    assert error.remedy == "Did you mean `minimal`? Images: minimal, scipy."


def test_of_several_problems_the_first_in_the_file_is_told_and_the_others_counted() -> None:
    error = failure('[boxes.w]\nport = 0\nmemory = "x"\n[boxes.v]\nprot = 1')
    assert error.message.startswith("jupbox.toml:2: boxes.w.port")
    assert error.message.endswith("(and 2 more)")


def test_a_problem_in_the_users_configuration_names_that_file() -> None:
    error = failure(None, user="[boxes.me]\nprot = 1")
    assert error.message == (
        "/home/me/.config/jupbox/config.toml:2: boxes.me.prot is not a key of a box."
    )


@pytest.mark.parametrize(
    "requirement",
    [
        "-r other.txt",
        "--index-url=x",
        "numpy --hash=sha256:00",
        "numpy --pre",
        "numpy -r",
        "numpy\nscipy",
        "./wheels/x.whl",
        "${HOME}",
        "numpy # x",
        "numpy \\",
        "",
        "x @ file:///x",
    ],
)
def test_a_requirement_cannot_be_an_option_a_path_or_a_second_line(requirement: str) -> None:
    text = f'[images.d]\nextends = "minimal"\npython = [{quote(requirement)}]'
    assert failure(text).message.startswith("jupbox.toml:3: images.d.python[0] must ")


@pytest.mark.parametrize(
    "requirement",
    [
        "numpy",
        "pandas>=2,!=2.1.0",
        "jupyterlab[docs, extra]~=4.4",
        "torch==2.5+cu121",
        "x===1!2.0.post1",
        "tomli ; python_version < '3.11' and sys_platform == \"linux\"",
        "zope.interface (>=5)",
    ],
)
def test_requirements_pass_unchanged(requirement: str) -> None:
    text = f'[images.d]\nextends = "minimal"\npython = [{quote(requirement)}]'
    assert parse(text).image("d").python[-1] == requirement


@pytest.mark.parametrize(
    "line",
    [
        'python = ["x @ https://bob:hunter2@example.org/x.whl"]',
        'base = "https://bob:hunter2@example.org/debian"',
    ],
)
def test_an_address_with_credentials_is_refused_without_showing_them(line: str) -> None:
    error = failure(f'[images.d]\nextends = "minimal"\n{line}')
    assert "hunter2" not in error.message + error.remedy


@pytest.mark.parametrize(
    "package", ["vim-", "-y", "Vim", "vim nano", "vim/trixie", "vim=", "a\nb", "v", "vim:arm64"]
)
def test_an_apt_package_is_a_plain_name(package: str) -> None:
    text = f'[images.d]\nextends = "minimal"\napt = ["less", {quote(package)}]'
    assert "images.d.apt[1] must be a Debian package name" in failure(text).message


@pytest.mark.parametrize("package", ["g++", "libstdc++6", "git=1:2.47.2-0.1", "python3.13"])
def test_apt_packages_pass_unchanged(package: str) -> None:
    text = f'[images.d]\nextends = "minimal"\napt = ["{package}"]'
    assert parse(text).image("d").apt[-1] == package


@pytest.mark.parametrize(
    "base", ["", "debian\nRUN x", "debian slim", "-x", "Debian", "a:b:c", "$B"]
)
def test_a_base_is_an_image_reference(base: str) -> None:
    text = f'[images.d]\nextends = "minimal"\nbase = {quote(base)}'
    assert "images.d.base must be" in failure(text).message


@pytest.mark.parametrize(
    "base",
    [
        "debian:trixie-slim",
        "ubuntu",
        "reg.example:5000/team/debian:12",
        f"debian@sha256:{'0' * 64}",
    ],
)
def test_bases_pass_unchanged(base: str) -> None:
    text = f'[images.d]\nextends = "minimal"\nbase = "{base}"'
    assert parse(text).image("d").base == base


@pytest.mark.parametrize("versions", ["3.11", ">=3", ">=3.11,<3.14", "==3.12.*", "~= 3.12"])
def test_requires_python_is_a_range(versions: str) -> None:
    text = f'[images.d]\nextends = "minimal"\nrequires-python = "{versions}"'
    if versions == "3.11":
        assert "requires-python must be a range" in failure(text).message
    else:
        assert parse(text).image("d").requires_python == versions


# --- the lines of keys ------------------------------------------------------------------------

TRICKY = '''\
# [boxes.no]
[images.a]
python = [ # x = 1
  "a]b", # ]
  'c', """d
x = 2""""", "f",
]
after = "#\\" = "
[boxes]
a.host = "x"
"q.r" = { tls = { cert = "c", "k" = 1 }, names = ["a",
  "b"] }
[[list]]
x = 1
[[list]]
x = 2
[list.sub]
when = 1979-05-27 07:32:00
'''


def test_lines_are_found_in_any_way_of_writing() -> None:
    lines = {dotted(path): line for path, line in key_lines(TRICKY).items()}
    assert lines == {
        "images": 2,
        "images.a": 2,
        "images.a.python": 3,
        "images.a.python[0]": 4,
        "images.a.python[1]": 5,
        "images.a.python[2]": 5,
        "images.a.python[3]": 6,
        "images.a.after": 8,
        "boxes": 9,
        "boxes.a": 10,
        "boxes.a.host": 10,
        'boxes."q.r"': 11,
        'boxes."q.r".tls': 11,
        'boxes."q.r".tls.cert': 11,
        'boxes."q.r".tls.k': 11,
        'boxes."q.r".names': 11,
        'boxes."q.r".names[0]': 11,
        'boxes."q.r".names[1]': 12,
        "list": 13,
        "list[0]": 13,
        "list[0].x": 14,
        "list[1]": 15,
        "list[1].x": 16,
        "list[1].sub": 17,
        "list[1].sub.when": 18,
    }
