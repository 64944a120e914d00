"""Every key has its place in the reference and in a new file, and its example is a value."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from jupbox import reference, tables
from jupbox.project import (
    CopiedFile,
    Foreign,
    Project,
    box_table,
    parse_project,
    shipped_definitions,
)
from jupbox.repository import GitReference, GitSource

MODELS = {
    "images.NAME": tables.ImageTable,
    "images.NAME.kernels.KERNEL": tables.KernelTable,
    "boxes.NAME": tables.BoxTable,
    "boxes.NAME.tls": tables.TlsTable,
    "network": tables.NetworkTable,
}
NEW: dict[str, Any] = {
    "box": "workbox",
    "host": "ada@workbox",
    "images": {"datasci": {"extends": "minimal"}},
    "settings": {"image": "datasci"},
}


class Folder:
    """`project.Outside` where every file is there, and no repository."""

    def definitions(self, reference: GitReference, *, image: str) -> Foreign:
        raise AssertionError(reference)

    def file(self, path: str, *, target: str, source: GitSource | None) -> CopiedFile | None:
        return CopiedFile(target=target, path=path, sha256="a" * 64, executable=False)

    def text(self, path: str, *, source: GitSource) -> str | None:
        return None


def parsed(text: str, shipped: dict[str, str] | None = None) -> Project:
    return parse_project(
        text,
        source="jupbox.toml",
        root=Path("/project"),
        user_text=None,
        user_source="/home/ada/.config/jupbox/config.toml",
        shipped=shipped_definitions() if shipped is None else shipped,
        outside=Folder(),
    )


def uncommented(text: str) -> str:
    return re.sub(r"^#(?=[a-z])", "", text, flags=re.MULTILINE)


# --- the table --------------------------------------------------------------------------------


def test_every_key_that_validation_knows_is_listed_once_with_its_meaning() -> None:
    known = [
        f"{prefix}.{field.alias or name}"
        for prefix, model in MODELS.items()
        for name, field in model.model_fields.items()
    ]
    assert sorted(known) == sorted(key.path for key in reference.all_keys())
    assert all(key.meaning and key.default for key in reference.all_keys())


def test_the_table_has_a_row_for_each_key() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| [^|]+ \| [^|]+ \|$", reference.markdown(), re.MULTILINE)
    assert rows == [key.path for key in reference.all_keys()]


# --- a new file -------------------------------------------------------------------------------


def test_a_new_file_is_an_image_on_a_box() -> None:
    project = parsed(reference.commented_toml(**NEW))
    box = project.boxes["workbox"]
    assert (box.host, box.image) == ("ada@workbox", "datasci")
    assert box_table(box) == {"image": "datasci"}
    assert project.images["datasci"].layers[0] == project.images["minimal"].layers[0]


@pytest.mark.parametrize(
    ("host", "files", "target"),
    [
        ("ada@workbox", None, "scp -r data ada@workbox:notebooks/"),
        ("ada@workbox", "~/work/nb", "scp -r data ada@workbox:work/nb/"),
        ("ada@workbox", "/data/nb", "rsync -a data ada@workbox:/data/nb/"),
        ("ssh://ada@workbox:2222", None, "scp -r data HOST:notebooks/"),
        ("local", None, "cp -r data ~/notebooks/"),
    ],
)
def test_a_new_file_says_how_files_get_there(host: str, files: str | None, target: str) -> None:
    settings = {"image": "datasci"} | ({"files": files} if files else {})
    text = reference.commented_toml(**{**NEW, "host": host, "settings": settings})
    assert f"#   {target}\n" in text


def test_there_is_no_such_way_into_a_volume() -> None:
    settings = {"image": "datasci", "files": "volume"}
    text = reference.commented_toml(**{**NEW, "settings": settings})
    assert "scp" not in text


def test_every_key_stands_in_a_new_file_and_all_examples_can_be_used() -> None:
    text = uncommented(reference.commented_toml(**NEW))
    project = parsed(text)
    image, document = tables.read_tables(text, tables.ProjectTables, source="jupbox.toml")
    paths = {path for path in document.lines if not isinstance(path[-1], int)}
    written = {".".join(str(part) for part in path) for path in paths}
    for key in reference.all_keys():
        path = key.path.replace("images.NAME", "images.datasci").replace("KERNEL", "second")
        path = path.replace("boxes.NAME", "boxes.workbox")
        assert path in written or path.startswith("network.")
    assert image.boxes["workbox"].tls is not None
    assert [kernel.name for kernel in project.images["datasci"].kernels] == ["second"]
    assert project.boxes["workbox"].env == (("OMP_NUM_THREADS", "8"),)
    assert project.images["datasci"].env == (("OMP_NUM_THREADS", "8"),)
    assert len(project.images["datasci"].settings) == len(project.images["datasci"].files) == 1


def test_each_comment_can_be_taken_away_by_itself() -> None:
    lines = reference.commented_toml(**NEW).splitlines()
    keys = [at for at, line in enumerate(lines) if re.match(r"#[a-z]", line)]
    assert len(keys) > 15
    for at in keys:
        # commands are for what is not reproducible alone, which the key above says
        taken = {at, keys[keys.index(at) - 1]} if lines[at].startswith("#run ") else {at}
        text = [line[1:] if number in taken else line for number, line in enumerate(lines)]
        parsed("\n".join(text))


def test_a_new_file_is_readable() -> None:
    lines = reference.commented_toml(**NEW).splitlines()
    assert len(lines) < 120
    assert max(len(line) for line in lines) <= 100
    real = [line for line in lines if line and not line.startswith("#")]
    assert real == [
        "[images.datasci]",
        'extends = "minimal"',
        "[boxes.workbox]",
        'host = "ada@workbox"',
        'image = "datasci"',
    ]


# --- read back --------------------------------------------------------------------------------


EVERYTHING = """
[images.base-of-ours]
extends = "scipy"
python = ["polars>=1; python_version >= '3.11'"]

[images.datasci]
extends = "base-of-ours"
python = ["seaborn", "statsmodels>=0.14,<1", "xarray[io]", "zarr", "dask[distributed]", "rioxarray"]
apt = ["ffmpeg"]
base = "debian:bookworm-slim"
requires-python = ">=3.11"
env = { OMP_NUM_THREADS = "4" }
files = { "/opt/env/share/sites of ours.csv" = "data/sites.csv" }

[images.datasci.settings."@jupyterlab/apputils-extension:themes"]
theme = "JupyterLab Dark"
adaptive-theme = false
sizes = [1, 2.5, { deep = true }]

[images.datasci.kernels.old]
python = ["pandas<2"]
display-name = 'Python "old"'

[images.datasci.kernels.plain]

[boxes.workbox]
host = "ada@workbox"
image = "datasci"
files = "volume"
expose = "public"
port = "auto"
names = ["notebooks.example.org"]
memory = "16g"
cpus = 1.5
gpus = 2
mounts = ["/data:/data:ro"]
env = { OMP_NUM_THREADS = "8", MOTTO = 'a "quoted" \\ text' }
ports = [8501, 8502]
group_add = ["lab"]
"""


def read_back(before: Project, shipped: dict[str, str] | None = None) -> tuple[str, Project]:
    """What `init --from` writes of a project's only box, and what it means."""
    box = before.boxes["workbox"]
    known = parsed("", shipped)
    mine = {name: image for name, image in known.images.items() if image.shipped}
    text = reference.commented_toml(
        box=box.name,
        host=box.host,
        images=reference.own_images(before.images[box.image], mine),
        settings={**box_table(box), "image": box.image},
    )
    return text, parsed(text, shipped)


def test_what_was_read_back_is_the_same_box_and_definition() -> None:
    before = parsed(EVERYTHING)
    text, after = read_back(before)
    assert after.boxes == before.boxes
    assert after.images["datasci"] == before.images["datasci"]
    assert after.images["datasci"].digest == before.images["datasci"].digest
    assert "[images.scipy]" not in text
    assert "[images.minimal]" not in text
    assert re.findall(r"^#(?:python|apt|base|memory|kernels)", text, re.MULTILINE) == []
    assert re.findall(r"^#shm_size", text, re.MULTILINE) == ["#shm_size"]


def test_an_image_that_ships_needs_no_table() -> None:
    text, after = read_back(parsed('[boxes.workbox]\nimage = "scipy"\n'))
    assert "[images." not in text
    assert after.boxes["workbox"].image == "scipy"


def test_an_image_that_ships_no_more_is_written_out() -> None:
    before = parsed(EVERYTHING)
    shipped = shipped_definitions()
    del shipped["scipy"]
    text, after = read_back(before, {name: shipped[name] for name in ("minimal",)})
    assert "[images.scipy]" in text
    assert after.images["datasci"].python == before.images["datasci"].python


@pytest.mark.parametrize("base", ['base = "debian:bookworm-slim"\n', ""])
def test_a_base_that_the_shipped_parent_has_another_of_is_kept(base: str) -> None:
    before = parsed(f'[images.mine]\nextends = "minimal"\n{base}[boxes.workbox]\nimage = "mine"\n')
    changed = shipped_definitions()
    changed["minimal"] += '\nbase = "debian:sid-slim"\n'
    _, after = read_back(before, {"minimal": changed["minimal"]})
    assert after.images["mine"].base == before.images["mine"].base


def test_kernels_that_come_with_the_parent_are_not_repeated() -> None:
    shipped = {"minimal": shipped_definitions()["minimal"] + '\n[kernels.r]\npython = ["a"]\n'}
    before = parsed(
        '[images.mine]\nextends = "minimal"\n[boxes.workbox]\nimage = "mine"\n', shipped
    )
    text, after = read_back(before, shipped)
    assert "kernels.r" not in text
    assert after.images["mine"] == before.images["mine"]
