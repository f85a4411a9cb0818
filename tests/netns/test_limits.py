# SPDX-License-Identifier: Apache-2.0
"""What the kernel holds a running task to."""

from harness import documents
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


def test_logs_are_promised_with_the_disk(make_host):
    """Two files of 256 MiB for the container and for the console: 21 GiB are promised, not 20."""
    client = make_host(disk_gib=63, disk_headroom_gib=2, log_file_mib=256).client
    client.apply(documents.network())
    for name in ("a", "b"):
        client.run_task(name, task())
    storage = client.get("/v1/host")["capacity"]["storageGiB"]
    assert storage == {"total": 63, "promised": 42}
    client.request("PUT", "/v1/tasks/c", task()).expect(409)
    client.stop_task("a")
    assert client.get("/v1/host")["capacity"]["storageGiB"]["promised"] == 22, "a's few lines, and b"
    client.run_task("c", task())
    for name in ("b", "c"):
        client.stop_task(name)
