"""What is between the laptop and the box is cut, swallows everything, or is slow."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from jupbox import errors
from tests.faults.choosing import sample
from tests.faults.results import Outcome
from tests.faults.rounds import Bench
from tests.faults.standin import BALLAST, BOX, SENT, image_here
from tests.integration.boxes.boxes import Keyring, wait_until
from tests.integration.cable import Cable, laid
from tests.integration.errorbox import refused, two_lines
from tests.integration.jupbox_command import Answer, Laptop, Visitor, new_laptop

# by what its line on standard error begins with
STAGES = {
    "connecting": "Connecting",
    "building and sealing": "Sealing",
    "proving": "Proving",
    "deploying": "Starting",
    "waiting for the answer": "Waiting for its answer",
}
# keepalives of ssh find a dead connection after 45 s
LONGEST = 100


@dataclass(frozen=True, kw_only=True)
class Wired:
    """A laptop whose every ssh connection to the box goes through a cable."""

    laptop: Laptop
    cable: Cable

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Running]:
        """A verb that runs; ended at the end, if it has not by itself."""
        out = self.laptop.folder.parent / "stdout"
        said = self.laptop.folder.parent / "stderr"
        with out.open("wb") as stdout, said.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "jupbox", *arguments],
                env=dict(self.laptop.environ), cwd=self.laptop.folder, stdin=subprocess.DEVNULL,
                stdout=stdout, stderr=stderr,
            )  # fmt: skip
        try:
            yield Running(process=process, out=out, said=said)
        finally:
            process.kill()
            process.wait()


@dataclass(frozen=True, kw_only=True)
class Running:
    """A verb on its way."""

    process: subprocess.Popen[bytes]
    out: Path
    said: Path

    def wait_for(self, text: str, *, within: float = 60) -> None:
        """Wait until it has said that."""

        def shown() -> bool:
            assert self.process.poll() is None or text in self.said.read_text(), self.said
            return text in self.said.read_text()

        wait_until(shown, text, timeout=within)

    def end(self, *, within: float) -> Answer:
        """How it ended."""
        code = self.process.wait(within)
        return Answer(code=code, stdout=self.out.read_text(), stderr=self.said.read_text())


@pytest.fixture
def wired(bench: Bench, keyring: Keyring, tmp_path: Path) -> Iterator[Wired]:
    """The bench's project on a laptop with a cable."""
    with laid(bench.box.port) as cable, new_laptop(tmp_path, keyring) as laptop:
        configuration = Path(laptop.environ["HOME"], ".ssh", "config")
        configuration.write_text(
            f"Host {bench.box.name}\n  Port {cable.port}\n"
            f"  HostKeyAlias [127.0.0.1]:{bench.box.port}\n" + configuration.read_text()
        )
        (tmp_path / "project").mkdir()
        bench.want_a_change()
        for name in ("jupbox.toml", "jupbox.lock"):
            shutil.copy(bench.laptop.folder / name, tmp_path / "project")
        yield Wired(laptop=laptop.at(tmp_path / "project"), cable=cable)


def ended(answer: Answer) -> str:
    """That a verb ended as it may without a network: with two lines of an error, or well."""
    if answer.code == 0:
        return "went through"
    assert answer.code in {errors.HostError.exit_code, errors.ServerError.exit_code}, answer
    two_lines(answer.stderr)
    return "clear error"


@sample(0.3)
@pytest.mark.parametrize("fault", ["cut", "black-holed"])
@pytest.mark.parametrize("stage", STAGES)
def test_no_network_while(
    stage: str, fault: str, bench: Bench, wired: Wired, outcome: Outcome
) -> None:
    outcome.fault = f"ssh {fault} in `up`"
    outcome.how = "while connecting, sealing, proving, deploying or waiting"
    with wired.running("up", BOX) as up:
        up.wait_for(STAGES[stage])
        with wired.cable.swallowing() if fault == "black-holed" else wired.cable.broken():
            began = time.monotonic()
            said = ended(up.end(within=LONGEST))
            outcome.seconds["ended after"] = time.monotonic() - began

    wired.laptop.must("up", BOX)

    assert bench.running_image() == bench.image
    outcome.result = f"{said}; the next `up` converged"
    bench.assert_well()


@sample(0.3)
@pytest.mark.parametrize("fault", ["cut", "black-holed"])
def test_no_network_while_an_image_is_sent(
    fault: str, bench: Bench, wired: Wired, outcome: Outcome
) -> None:
    outcome.fault, outcome.how = f"ssh {fault} in `up`", "while sending the image"
    bench.want(SENT, 'build = "here"')
    listed = ("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", f"jupbox-env:{SENT}-*")
    for earlier in bench.stack.docker(*listed).split():
        bench.stack.docker("image", "rm", earlier)
    shutil.copy(bench.laptop.folder / "jupbox.toml", wired.laptop.folder)
    with image_here(wired.laptop):
        with wired.running("up", BOX) as up:
            up.wait_for("Sending")
            before = wired.cable.sent
            wait_until(lambda: wired.cable.sent > before + BALLAST // 4, "a part of the image")
            with wired.cable.swallowing() if fault == "black-holed" else wired.cable.broken():
                assert wired.cable.sent < before + BALLAST
                assert bench.answers()
                began = time.monotonic()
                said = ended(up.end(within=LONGEST))
                outcome.seconds["ended after"] = time.monotonic() - began
        assert said == "clear error"

        wired.laptop.must("up", BOX)

    assert bench.running_image() == SENT
    outcome.result = f"{said}; the next `up` converged"
    bench.want_a_change()
    bench.up()
    bench.assert_well()


@sample(0.3)
@pytest.mark.parametrize("milliseconds", [200])
def test_a_slow_network(milliseconds: int, bench: Bench, wired: Wired, outcome: Outcome) -> None:
    outcome.fault = "slow network"
    outcome.how = f"{milliseconds} ms there and back in `up`, `logs` and `open`"
    wired.cable.delay = milliseconds / 2000
    began = time.monotonic()
    wired.laptop.must("up", BOX)
    outcome.seconds["`up`"] = time.monotonic() - began
    assert bench.running_image() == bench.image
    assert "BoxServerApp" in wired.laptop.must("logs", BOX).stdout
    with wired.running("open", BOX, "--no-browser") as tunnel:
        tunnel.wait_for("until Ctrl-C")
        visitor = visitor_of(tunnel, bench)
        assert visitor.log_in(bench.password)
    outcome.result = "went through"
    bench.assert_well()


@sample(0.5)
@pytest.mark.parametrize("seconds", [2, 70])
def test_the_tunnel_comes_back(
    seconds: int, bench: Bench, wired: Wired, outcome: Outcome, pytestconfig: pytest.Config
) -> None:
    outcome.fault, outcome.how = "no network under `open`", f"for {seconds} s"
    with wired.running("open", BOX, "--no-browser") as tunnel:
        tunnel.wait_for("until Ctrl-C")
        visitor = visitor_of(tunnel, bench)
        assert visitor.log_in(bench.password)
        with wired.cable.broken():
            time.sleep(seconds)  # the fault itself

        began = time.monotonic()
        wait_until(lambda: answers(visitor), "the same address", timeout=30)
        back = outcome.seconds["usable again after"] = time.monotonic() - began
    # beside other tests its share of the machine is anybody's guess
    assert back < (5 if pytestconfig.getoption("--full") else 15)
    outcome.result = "usable again at the same address, still logged in"


@sample(0.3)
@pytest.mark.parametrize("fault", ["cut", "black hole"])
def test_following_the_log(fault: str, bench: Bench, wired: Wired, outcome: Outcome) -> None:
    outcome.fault, outcome.how = "no network under `logs -f`", fault
    with wired.running("logs", BOX, "--follow") as logs:
        wait_until(lambda: logs.out.stat().st_size > 0, "the log", timeout=60)
        hole = wired.cable.broken() if fault == "cut" else wired.cable.swallowing()
        with hole:
            began = time.monotonic()
            refused(logs.end(within=LONGEST), errors.HostError)
            outcome.seconds["ended after"] = time.monotonic() - began
    outcome.result = "clear error"


def visitor_of(tunnel: Running, bench: Bench) -> Visitor:
    """Who comes through a tunnel of `open`."""
    url = next(w for w in tunnel.said.read_text().split() if w.startswith("https://"))
    port = int(url.split(":")[2].partition("/")[0])
    return Visitor(address="127.0.0.1", port=port, ca_pem=bench.ca_pem)


def answers(visitor: Visitor) -> bool:
    """Whether the visitor is still logged in."""
    try:
        return visitor.request("GET", "/api/kernels") == 200
    except OSError:
        return False
