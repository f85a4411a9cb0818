# SPDX-License-Identifier: Apache-2.0
"""What the kernel holds a running task to."""

from harness.client import container, is_running
from harness.documents import IDLE, shell, task


def promised_bytes(client):
    return client.get("/v1/host")["capacity"]["memoryMiB"]["promised"] << 20


def test_a_share_of_a_cpu_and_the_memory_that_is_promised(host, network):
    network.run_task("t", task(cpu="512", memory="1024"))
    cpus, memory = host.limits("t")
    assert cpus == 0.5
    assert memory == promised_bytes(network) > 1024 << 20, "the overhead is the host's, and charged"
    network.stop_task("t")


def test_a_boot_is_not_held_to_the_share(host, network):
    document = task(
        shell("main", IDLE, dependsOn=[{"containerName": "setup", "condition": "COMPLETE"}]),
        shell("setup", "exec sleep 4711", essential=False),
    )
    network.put("/v1/tasks/t", document).expect(201)
    network.wait_task("t", lambda status: container(status, "setup")["lastStatus"] == "RUNNING")
    assert host.limits("t")[0] == 1
    host.kill_in_task("t", "KILL", "4711")
    network.wait_task("t", is_running)
    assert host.limits("t")[0] == 0.25
    network.stop_task("t")
