# SPDX-License-Identifier: Apache-2.0
"""A file server that is late, refuses, or falls silent."""

import signal
import subprocess

import pytest

from harness import documents
from harness.client import container, is_running, is_stopped
from harness.documents import shell, task, tcp
from harness.ganesha import Ganesha

pytestmark = pytest.mark.slow

WRITER = "while :; do dd if=/dev/zero of=/shared/file bs=1M count=64 2>/dev/null; echo round; done"


@pytest.fixture
def host(make_host):
    """The VPC with a namespace `files` attached and registered as fs-1: nothing listens there yet."""
    host = make_host(driver="qemu", accel="tcg")
    host.add_neighbour("files", "att-files", "192.168.80.2/24", "192.168.80.1")
    objects = documents.network()
    objects["/v1/vpcs/net"]["attachments"] = [{"interface": "att-files", "address": "192.168.80.1/24"}]
    objects["/v1/file-systems/fs-1"] = {"mountTargets": [{"ip": "192.168.80.2"}], "exportPath": "/fs-1"}
    host.client.apply(objects)
    return host


def put_writer(host, name="t", **fields):
    mounts = [{"sourceVolume": "shared", "containerPath": "/shared"}]
    volumes = [{"name": "shared", "efsVolumeConfiguration": {"fileSystemId": "fs-1"}}]
    document = task(shell("main", WRITER, mountPoints=mounts), volumes=volumes, **fields)
    host.client.put(f"/v1/tasks/{name}", document).expect(201)


def test_a_server_that_is_late_and_then_silent(host):
    """Mounting is tried again. A stop in the middle of a write ends with the exit code that the guest reports: its VMM
    is not killed for being late."""
    refusals = host.spawn("tcpdump", "-c", "2", "-i", "eth0", "src port 2049 and tcp[tcpflags] & tcp-rst != 0",
                          namespace="files", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    put_writer(host)
    assert refusals.wait(120) == 0
    assert not is_stopped(host.client.task("t")["status"])
    with Ganesha(host, "files") as files:
        host.client.wait_task("t", is_running)
        host.client.wait_log("t", "round")
        files.server.send_signal(signal.SIGSTOP)
        stopped = host.client.stop_task("t")["status"]
    assert container(stopped, "main")["exitCode"] == 137


def test_the_last_error_is_the_reason(host):
    """Of a server that refuses until the deadline, and of one that the task's groups do not let it reach."""
    host.client.put("/v1/security-groups/closed", documents.group(egress=[tcp(80, "10.0.0.0/16")])).expect(201)
    put_writer(host, "refused")
    put_writer(host, "unheard", groups=["closed"])
    for name, said in ("refused", "connection refused"), ("unheard", "no answer in time"):
        stopped = host.client.wait_task(name, is_stopped)["status"]
        assert stopped["stopCode"] == "TaskFailedToStart"
        assert stopped["stoppedReason"].startswith("ResourceInitializationError")
        assert f"volume shared: mount 192.168.80.2:/fs-1: {said}" in stopped["stoppedReason"]
