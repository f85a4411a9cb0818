# SPDX-License-Identifier: Apache-2.0
"""Containers that want more memory than they have: killed at once, each for its own."""

import re

import pytest

from harness import documents
from harness.client import container, eventually, is_stopped
from harness.documents import shell, task

pytestmark = pytest.mark.slow

# One read into a buffer of so many MiB.
HOG = "exec dd if=/dev/zero of=/dev/null count=1 bs={}M"
REASON = "OutOfMemoryError: Container killed due to memory usage"


def memory_of(client, name, **labels):
    """The samples of a metric of the task `t`: {container: bytes}."""
    text = client.raw("GET", "/metrics").text
    found = re.findall(rf'^{name}{{task_id="t",eni="[^"]*"(?:,container="([^"]*)")?}} (\S+)$', text, re.MULTILINE)
    return {container: float(value) for container, value in found}


def test_out_of_memory(make_host):
    """First of a container with a limit of its own, then of the whole task: no other container is touched, and the
    guest goes on speaking."""
    host = make_host(driver="qemu", accel="tcg")
    client = host.client
    client.apply(documents.network())
    main = f"trap '{HOG.format(440)}' TERM; dd if=/dev/zero of=/dev/shm/held bs=1M count=32 2>/dev/null; sleep 100000 & wait"
    document = task(
        shell("main", main, stopTimeout=120),
        shell("small", HOG.format(64), memory=32, essential=False),
        shell("quiet", "trap 'exit 0' TERM; sleep 100000 & wait", essential=False),
    )
    client.put("/v1/tasks/t", document).expect(201)
    found = client.wait_task("t", lambda status: container(status, "small")["lastStatus"] == "STOPPED")["status"]
    assert container(found, "small")["exitCode"] == 137 and container(found, "small")["reason"] == REASON
    assert found["lastStatus"] == "RUNNING" and container(found, "main")["lastStatus"] == "RUNNING"

    used = eventually(lambda: [used for used in [memory_of(client, "container_memory_working_set_bytes")]
                               if used.get("main", 0) > 32 << 20])[0]
    assert used.keys() == {"main", "quiet"} and used["quiet"] < used["main"] < 100 << 20
    limit, = memory_of(client, "penstock_cell_memory_limit_bytes").values()
    cell, = memory_of(client, "penstock_cell_memory_working_set_bytes").values()
    assert sum(used.values()) < cell <= limit and limit > 512 << 20

    client.request("POST", "/v1/tasks/t/stop").expect(200)
    stopped = client.wait_task("t", is_stopped)["status"]
    assert container(stopped, "main")["exitCode"] == 137 and container(stopped, "main")["reason"] == REASON
    assert container(stopped, "quiet")["exitCode"] == 0
