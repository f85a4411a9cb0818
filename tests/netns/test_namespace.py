# SPDX-License-Identifier: Apache-2.0
"""A VPC is the namespace that its tasks live in. Its pin at /run/netns may be removed, or be invisible
from where the agent was started: no task is cut off for that, and no empty namespace takes its place."""

import os

import pytest

from harness import documents
from harness.client import eventually
from harness.documents import shell, task
from harness.documents import WEB as SILENT_WEB
from harness.host import program

# Once it has said "up" its processes stay the same.
WEB = SILENT_WEB.replace("&& exec", "&& echo up && exec")

# An agent with mounts of its own: as a unit with PrivateTmp=, which gets a copy of the host's mounts
# when it starts, or with a /run/netns where nothing was ever pinned.
PRIVATE = {
    "copied": "true",
    "empty": "umount -l /run/netns; mount -t tmpfs -o mode=755 private /run/netns",
}


def start_private(host, prepare):
    script = f'{prepare}; exec "$0" --config "$1"'
    with open(host.log, "ab") as log:
        host.agent = host.spawn(
            "unshare", "--mount", "--propagation", "slave", "sh", "-c", script,
            program("penstockd"), host.config, stdout=log, stderr=log,
        )
    eventually(lambda: host._says_yes("/readyz"))


def pin(host):
    return f"/run/netns/penstock-{host.install}-net"


def inode(host, pid):
    """The namespace that is pinned, as that process sees it."""
    try:
        return os.stat(f"/proc/{pid}/root{pin(host)}").st_ino
    except FileNotFoundError:
        return None


@pytest.fixture
def web(network):
    """A task that serves its name to the subnet."""
    network.put("/v1/security-groups/web", documents.group(documents.tcp(80, "10.0.0.0/16"))).expect(200)
    network.run_task("web", task(shell("main", WEB)))
    network.wait_log("web", "up")
    return network


def expect_reached(host, network, name):
    """A task that begins now lives beside the one that was there before."""
    address = network.task("web")["status"]["network"]["privateIpv4Address"]
    network.run_task(name, task(shell("main", f"until wget -qO- http://{address}/; do sleep 0.1; done; echo got it")))
    network.wait_log(name, "got it")
    network.wait_task(name, lambda status: status["lastStatus"] == "STOPPED")


def expect_unharmed(host, network, pids):
    assert host.task_pids("web") == pids
    assert network.task("web")["status"]["lastStatus"] == "RUNNING"
    eventually(lambda: "error" not in network.get("/v1/vpcs/net").get("status", {}))


def events_of_vpc(network):
    text = network.request("GET", "/v1/events", kind="vpc", id="net").text
    return [line for line in text.splitlines() if "pinned again" in line]


def test_a_pin_that_is_deleted_while_no_agent_runs(host, web):
    pids, before = host.task_pids("web"), inode(host, host.holder.pid)
    host.kill()
    host.run("ip", "netns", "delete", f"penstock-{host.install}-net")
    host.start()
    expect_reached(host, web, "late")
    expect_unharmed(host, web, pids)
    assert inode(host, host.holder.pid) == before and len(events_of_vpc(web)) == 1


def test_a_pin_that_is_deleted_under_the_agent(host, web):
    pids, before = host.task_pids("web"), inode(host, host.holder.pid)
    host.run("ip", "netns", "delete", f"penstock-{host.install}-net")
    expect_reached(host, web, "late")
    eventually(lambda: inode(host, host.holder.pid) == before)
    expect_unharmed(host, web, pids)
    assert len(events_of_vpc(web)) == 1


@pytest.mark.parametrize("mounts", PRIVATE)
def test_an_agent_in_a_private_mount_namespace(host, web, mounts):
    """Both ways: its successor in the host's mounts finds the tasks again as well."""
    pids = host.task_pids("web")
    host.stop()
    start_private(host, PRIVATE[mounts])
    expect_reached(host, web, "private")
    expect_unharmed(host, web, pids)
    host.stop()
    host.start()
    expect_reached(host, web, "back")
    expect_unharmed(host, web, pids)


def test_a_vpc_that_was_made_in_a_private_mount_namespace(make_host):
    """Its pin is gone with the agent; where the next one looks there is a file, and nothing on it."""
    host = make_host(start=False)
    start_private(host, PRIVATE["copied"])
    host.client.apply(documents.network(documents.tcp(80, "10.0.0.0/16")))
    host.client.run_task("web", task(shell("main", WEB)))
    host.client.wait_log("web", "up")
    pids = host.task_pids("web")
    host.stop()
    start_private(host, PRIVATE["copied"])
    expect_reached(host, host.client, "private")
    expect_unharmed(host, host.client, pids)
    host.stop()
    host.start()
    expect_reached(host, host.client, "late")
    expect_unharmed(host, host.client, pids)


def test_a_stale_pin_gives_way_to_where_the_tasks_live(host, network):
    """A VPC without tasks was opened elsewhere meanwhile, and got some there."""
    stale = inode(host, host.holder.pid)
    host.stop()
    start_private(host, PRIVATE["empty"])
    network.run_task("web", task(shell("main", WEB)))
    network.wait_log("web", "up")
    pids = host.task_pids("web")
    host.stop()
    host.start()
    expect_unharmed(host, network, pids)
    assert inode(host, host.holder.pid) != stale


def test_a_lost_database_and_a_lost_pin(host, web):
    """The record beside the cell says whose namespace it is."""
    pids, before = host.task_pids("web"), inode(host, host.holder.pid)
    host.kill()
    for name in ("penstock.db", "penstock.db-wal", "penstock.db-shm"):
        (host.state / name).unlink(missing_ok=True)
    host.run("ip", "netns", "delete", f"penstock-{host.install}-net")
    host.start(until="/healthz")
    web.apply(documents.network(documents.tcp(80, "10.0.0.0/16")))
    host.ctl("adopt", "web")
    expect_reached(host, web, "late")
    expect_unharmed(host, web, pids)
    assert inode(host, host.holder.pid) == before
