"""The shipped definition `r`: a kernel, plots, and packages of one's own that last."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.integration.jupbox_command import MainJob
from tests.integration.team import team

pytestmark = [pytest.mark.box, pytest.mark.slow]

# `tiny`, in pure R, as CRAN would hand it out
INSTALL = """
folder <- file.path(tempdir(), "tiny")
dir.create(file.path(folder, "R"), recursive = TRUE)
writeLines(c("Package: tiny", "Version: 1.2", "Title: T", "Description: D.", "License: MIT"),
           file.path(folder, "DESCRIPTION"))
writeLines("export(answer)", file.path(folder, "NAMESPACE"))
writeLines("answer <- function() 42", file.path(folder, "R", "tiny.R"))
owd <- setwd(tempdir()); tar("tiny_1.2.tar.gz", "tiny", compression = "gzip"); setwd(owd)
install.packages(file.path(tempdir(), "tiny_1.2.tar.gz"), repos = NULL, quiet = TRUE)
"""
PLOT = """
library(ggplot2)
ggsave("plot.png", ggplot(mtcars, aes(wt, mpg)) + geom_point(), width = 2, height = 2, dpi = 50)
"""


def test_r_computes_plots_and_keeps_what_is_installed(
    ada_on_store: MainJob, tmp_path: Path
) -> None:
    keys = 'files = "volume"'
    with team(ada_on_store, ada_on_store.laptop, tmp_path / "team", "stats", keys) as made:
        made.write(keys, image='extends = "r"')
        made.laptop.must("lock", "stats", "--on", "stats")
        made.jupbox("up")
        stack = made.stack
        specs = stack.control("GET", "/api/kernelspecs")["kernelspecs"]
        assert specs["ir"]["spec"]["display_name"] == "R"

        kernel = stack.start_kernel("ir")
        assert stack.run_in_kernel(kernel, "cat(sum(1:10))") == "55"
        stack.run_in_kernel(kernel, PLOT)
        picture = base64.b64decode(stack.exec("base64", "/home/ada/notebooks/plot.png"))
        assert picture.startswith(b"\x89PNG")
        stack.run_in_kernel(kernel, INSTALL)
        assert stack.run_in_kernel(kernel, "cat(tiny::answer())") == "42"

        made.jupbox("down")
        made.jupbox("up")
        kernel = stack.start_kernel("ir")
        assert stack.run_in_kernel(kernel, "cat(tiny::answer())") == "42"
        where = stack.run_in_kernel(kernel, "cat(find.package('tiny'))")
        assert where.startswith("/home/ada/R/")
