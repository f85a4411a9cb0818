# SPDX-License-Identifier: Apache-2.0
"""The disk under the state directory is full: the agent goes on, refuses new work, keeps what runs, and takes
new work again when there is room."""

import json
import os

import pytest
from harness import documents
from harness.client import container, eventually, is_running, is_stopped
from harness.documents import shell, task


class Filler:
    """Takes every block of a file system, and gives them back."""

    def __init__(self, directory):
        self.path = directory / "filler"

    def fill(self, leave_bytes=0):
        with open(self.path, "ab", buffering=0) as file:
            for size in (1 << 20, 4096):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    pass
            os.ftruncate(file.fileno(), os.fstat(file.fileno()).st_size - leave_bytes)

    def free(self):
        self.path.unlink()


@pytest.fixture
def small(make_host):
    host = make_host(state_mib=160)
    host.client.apply(documents.network())
    return host


def said_of_host(host):
    """What the newest event of the host says of it; None: there was none."""
    events = host.client.raw("GET", "/v1/events?since=0&kind=host").text.splitlines()
    return json.loads(events[-1])["object"].get("status", {}).get("error", "") if events else None


def test_new_work_is_refused_and_what_runs_goes_on(small):
    filler = Filler(small.state)
    agent = small.agent.pid
    client = small.client
    client.run_task("t", task(shell("main", "until [ -e /tmp/go ]; do sleep 1; done")))
    client.run_task("u", task())
    filler.fill()
    refused = client.put("/v1/tasks/v", task()).expect(507)
    assert refused["code"] == "InsufficientStorage"
    client.put("/v1/security-groups/more", documents.group()).expect(507)
    client.put("/v1/security-groups/web", documents.group(documents.tcp(80, "10.0.0.0/8"))).expect(200)
    assert client.raw("GET", "/v1/tasks/v").status == 404
    eventually(lambda: client.raw("GET", "/readyz").status == 503)
    assert "full" in client.raw("GET", "/readyz").text
    assert "is full" in small.ctl("doctor", "--config", small.config, check=False).stdout
    eventually(lambda: "is full" in (said_of_host(small) or ""))

    small.kill_in_task("t", "KILL", "until")
    eventually(lambda: container(client.get("/v1/tasks/t")["status"], "main").get("exitCode") == 137)
    client.request("POST", "/v1/tasks/u/stop").expect(200)
    small.restart(until="/healthz")
    assert client.get("/v1/tasks/u")["status"]["desiredStatus"] == "STOPPED"

    filler.free()
    stopped = [client.wait_task(name, is_stopped)["status"] for name in ("t", "u")]
    assert container(stopped[0], "main")["exitCode"] == 137
    eventually(lambda: client.raw("GET", "/readyz").status == 200)
    eventually(lambda: said_of_host(small) == "")
    assert agent != small.agent.pid, "it was restarted by this test alone"
    client.put("/v1/tasks/v", task()).expect(201)
    client.wait_task("v", is_running)
    client.stop_task("v")


FULL = "pwrite64:error=ENOSPC"


def test_what_was_not_committed_has_not_happened(host, network):
    network.run_task("t", task(shell("main", "until [ -e /tmp/go ]; do sleep 1; done")))
    network.run_task("u", task())
    network.run_task("w", task())
    network.stop_task("w")
    web = network.get("/v1/security-groups/web")
    promised = network.get("/v1/host")["capacity"]
    balancer = {"subnetId": "web", "securityGroups": ["web"], "listeners": []}
    network.put("/v1/target-groups/blue", documents.target_group()).expect(201)
    balancer["listeners"] = [{"protocol": "TCP", "port": 80, "targetGroup": "blue"}]

    with host.inject(FULL):
        assert network.request("POST", "/v1/tasks/u/stop").expect(507)["code"] == "InsufficientStorage"
        network.put("/v1/tasks/v", task()).expect(507)
        network.put("/v1/security-groups/web", documents.group(documents.tcp(80, "10.0.0.0/8"))).expect(507)
        network.request("DELETE", "/v1/tasks/w").expect(507)
        network.put("/v1/load-balancers/front", balancer).expect(507)
        host.kill_in_task("t", "KILL", "until")
        eventually(lambda: "task=t" in host.log.read_text().partition("-> STOPPED")[2])
        assert network.request("GET", "/readyz").status == 503
        for absent in ("tasks/v", "load-balancers/front"):
            network.request("GET", f"/v1/{absent}").expect(404)
        assert network.get("/v1/security-groups/web") == web
        assert network.get("/v1/tasks/u")["status"]["desiredStatus"] == "RUNNING"
        assert network.get("/v1/tasks/w")["status"]["lastStatus"] == "STOPPED"
        assert network.get("/v1/tasks/t")["status"]["lastStatus"] == "RUNNING", "as it was recorded last"

    assert container(network.wait_task("t", is_stopped)["status"], "main")["exitCode"] == 137
    eventually(lambda: network.request("GET", "/readyz").status == 200)
    assert is_running(network.get("/v1/tasks/u")["status"]), "a stop that was refused has not happened"
    network.run_task("t2", task())
    assert network.get("/v1/host")["capacity"] == promised, "a task that was refused holds nothing"
    network.put("/v1/load-balancers/front", balancer).expect(201)
    host.restart()
    assert is_running(network.get("/v1/tasks/u")["status"])
    for name in ("u", "t2"):
        network.stop_task(name)
