"""Memory runs out: in a kernel, in the server."""

from __future__ import annotations

import pytest

from tests.faults.choosing import sample
from tests.faults.results import Outcome
from tests.faults.rounds import Bench
from tests.faults.test_killed_server import server_process
from tests.integration.boxes.boxes import wait_until

LIMIT = "500m"
_TELL = "import os; open('/tmp/kernel.pid', 'w').write(str(os.getpid()))"
EAT = "held = [bytearray(b'x' * 2**24) for _ in range(2**20)]"


@sample(0.5)
@pytest.mark.parametrize("victim", ["kernel", "server"])
def test_out_of_memory(victim: str, bench: Bench, outcome: Outcome) -> None:
    outcome.fault, outcome.how = f"out-of-memory {victim}", f"a cell that eats {LIMIT}"
    bench.want(bench.running_image(), f'memory = "{LIMIT}"')
    bench.up()
    identity = bench.stack.identity()
    kernel = bench.stack.start_kernel()
    bench.stack.run_in_kernel(kernel, _TELL)
    process = bench.stack.exec("cat", "/tmp/kernel.pid")
    if victim == "server":
        # whom the kernel's killer takes first
        server = server_process(bench)
        bench.box.exec("sh", "-c", f"echo 1000 > /proc/{server}/oom_score_adj")

    start_cell(bench, kernel, EAT)

    if victim == "server":
        wait_until(lambda: bench.stack.identity() != identity, "another start", timeout=60)
        outcome.result = "the server came back by itself"
    else:
        wait_until(lambda: not lives(bench, process), "the killer", timeout=60)
        assert bench.stack.identity() == identity
        outcome.result = "the server lived"
    outcome.seconds["answers after"] = bench.wait_until_it_answers(within=60)
    bench.want(bench.running_image())
    bench.up()
    bench.assert_well()


def start_cell(bench: Bench, kernel: str, code: str) -> None:
    """Have a kernel begin to run code; nobody waits for its end."""
    bench.stack.python(
        "from jupyter_client import BlockingKernelClient, find_connection_file\n"
        f"client = BlockingKernelClient(connection_file=find_connection_file({kernel!r}))\n"
        "client.load_connection_file()\n"
        "client.start_channels(); client.wait_for_ready(timeout=60)\n"
        f"client.execute({code!r})\n"
    )


def lives(bench: Bench, process: str) -> bool:
    """Whether a process of the container is there."""
    container = bench.stack.identity()[0]
    return bench.box.succeeds("docker", "exec", container, "test", "-d", f"/proc/{process}")
