# SPDX-License-Identifier: Apache-2.0
"""fsck finds what nobody owns, with and without an agent, and repairs it. What carries
another install's mark is none of its business."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
from pathlib import Path

import pytest

from harness.client import eventually, is_stopped
from harness.documents import shell, target_group, task
from harness.host import command_line, program

CGROUPS = [Path("/sys/fs/cgroup"), *(path for path in Path("/sys/fs/cgroup").glob("*") if path.is_dir())]


def plant_directory(host):
    (host.state / "cells/ghost").mkdir(parents=True)
    return host.state / "cells/ghost"


def plant_disk(host):
    (host.state / "disks").mkdir(exist_ok=True)
    disk = host.state / "disks/ghost.img"
    disk.write_bytes(b"")
    return disk


def unified():
    """The v2 tree, wherever it is mounted."""
    return next(path for path in CGROUPS if (path / "cgroup.controllers").exists())


def plant_cgroup(host):
    directory = unified() / f"penstock-{host.install}" / "ghost"
    directory.mkdir(parents=True)
    return directory


class Planted:
    """Something with the interface of a path."""

    def __init__(self, exists, name="ghost"):
        self.exists = exists
        self.name = name


def seen(host, *argv, name="ghost"):
    """What a command in the host sees."""
    return Planted(lambda: host.run(*argv, check=False).returncode == 0, name)


def plant_probe(host):
    """A probe that is not the running agent's child."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        socket_is_3 = ["sh", "-c", 'exec "$0" "$@" 3<&0']
        probe = subprocess.Popen(
            [*socket_is_3, program("penstock-probe"), host.install, "ghost"], stdin=its
        )
    # Our end of the socket lives as long as the closure.
    return Planted(lambda: ours.fileno() >= 0 and probe.poll() is None)


def plant_interface(host):
    inside = ("nsenter", f"--net=/run/netns/penstock-{host.install}-net", "--")
    name = "ps00000000ghost"
    host.run(*inside, "ip", "tuntap", "add", "dev", name, "mode", "tap")
    host.run(*inside, "ip", "link", "set", name, "alias", f"penstock {host.install} eni-ghost")
    return seen(host, *inside, "ip", "link", "show", name)


def plant_namespace(host):
    name = f"penstock-{host.install}-ghost"
    host.run("ip", "netns", "add", name)
    host.run("ip", "-n", name, "link", "set", "lo", "alias", f"penstock {host.install} vpc ghost")
    return seen(host, "test", "-e", f"/run/netns/{name}")


def plant_balancing(host):
    inside = ("nsenter", f"--net=/run/netns/penstock-{host.install}-net", "--")
    table = "inet penstock_lb"
    for what in (
        f"table {table}",
        f"chain {table} group-ghost",
        f"map {table} group-ghost {{ type ipv4_addr : ipv4_addr; }}",
        f"map {table} services {{ type inet_proto . ipv4_addr . inet_service : verdict; }}",
        f'element {table} services {{ tcp . 10.0.1.9 . 80 comment "ghost" : goto group-ghost }}',
    ):
        host.run(*inside, "nft", "add", what)
    return seen(host, *inside, "sh", "-c", f"nft list table {table} | grep ghost")


def plant_subnet(host):
    inside = ("ip", "-n", f"penstock-{host.install}-net")
    host.run(*inside, "route", "add", "blackhole", "10.0.7.0/24", "proto", "112", "metric", str(0x70000000))
    return seen(host, "sh", "-c", f"{' '.join(inside)} route | grep 10.0.7.0", name="10.0.7.0/24")


def plant_mount(host):
    directory = host.state / "ghost"
    directory.mkdir(exist_ok=True)
    host.run("mount", "-t", "tmpfs", "ghost", directory)
    return seen(host, "mountpoint", "-q", directory)


PLANTS = [
    plant_balancing,
    plant_directory,
    plant_disk,
    plant_cgroup,
    plant_probe,
    plant_interface,
    plant_namespace,
    plant_subnet,
    plant_mount,
]


@pytest.mark.parametrize("agent", ["running", "down"])
@pytest.mark.parametrize("plant", PLANTS)
def test_an_orphan_is_found_and_repaired(host, network, plant, agent):
    network.run_task("t", task())
    status, report = host.fsck()
    assert status == 0 and report
    if agent == "down":
        host.kill()
    planted = plant(host)
    status, report = host.fsck()
    assert status != 0 and planted.name in json.dumps(report)
    assert planted.exists(), "fsck alone changes nothing"
    host.fsck("--repair")
    status, report = host.fsck()
    assert (status, planted.exists()) == (0, False), report
    if agent == "down":
        host.start()
    assert network.stop_task("t")["status"]["stopCode"] == "UserInitiated"


def test_processes_without_a_record_are_not_killed(host, network):
    """They mean that a record was lost. An operator's word ends them."""
    directory = plant_cgroup(host)
    with subprocess.Popen(["sleep", "600"]) as sleeper:
        (directory / "cgroup.procs").write_text(str(sleeper.pid))
        disk = plant_disk(host)
        status, report = host.fsck("--repair")
        lost = {finding["kind"] for finding in report["findings"] if finding["unrecorded"]}
        assert (status, lost) == (1, {"process", "cgroup", "disk"}), report
        assert sleeper.poll() is None and directory.exists() and disk.exists()
        host.ctl("adopt", "--end", "ghost")
    eventually(lambda: host.fsck()[0] == 0)
    assert not directory.exists() and not disk.exists()


def plant_group(host):
    inside = ("nsenter", f"--net=/run/netns/penstock-{host.install}-net", "--", "nft")
    host.run(*inside, "add chain inet penstock group_ghost_ingress")
    host.run(*inside, "add set inet penstock group_ghost_members { type ipv4_addr; }")
    return seen(host, *inside, "list chain inet penstock group_ghost_ingress")


def found(report, kind):
    return [finding for finding in report["findings"] if finding["kind"] == kind]


def test_nft_objects_are_repaired_without_an_agent(host, network):
    host.kill()
    planted = plant_group(host)
    status, report = host.fsck("--repair")
    assert (status, planted.exists()) == (0, False), report
    host.start()


def test_nft_objects_are_the_running_agents(host, network):
    host.agent.send_signal(signal.SIGSTOP)
    planted = plant_group(host)
    status, report = host.fsck("--repair")
    (ghost,) = (finding for finding in report["findings"] if finding["orphan"])
    assert status != 0 and "the agent holds this table" in ghost["problem"]
    host.agent.send_signal(signal.SIGCONT)
    eventually(lambda: not planted.exists())
    assert host.fsck()[0] == 0


def test_subnets_and_addresses_say_whose_they_are(host, network):
    network.apply(
        {"/v1/load-balancers/front": {"subnetId": "web", "securityGroups": ["web"], "listeners": []}}
    )
    status, report = host.fsck()
    owners = {finding["name"].split()[0]: finding["owner"] for finding in report["findings"]}
    assert status == 0 and owners["10.0.1.0/24"] == "subnet web"
    assert owners["10.0.1.4"] == "load-balancer front"


def test_an_address_of_no_balancer_is_an_orphan(host, network):
    network.apply(
        {"/v1/load-balancers/front": {"subnetId": "web", "securityGroups": ["web"], "listeners": []}}
    )
    host.kill()
    with sqlite3.connect(host.state / "penstock.db") as store:  # as if its deletion had had no effect
        store.execute("DELETE FROM objects WHERE id = 'front'")
        store.execute("DELETE FROM refs WHERE id = 'front'")
    store.close()
    status, report = host.fsck()
    (address,) = found(report, "address")
    assert status != 0 and address["orphan"] and address["name"].split()[0] == "10.0.1.4"
    status, report = host.fsck("--repair")
    assert status == 0, report
    assert "10.0.1.4" not in host.run("ip", "-n", f"penstock-{host.install}-net", "address").stdout
    host.start()


def set_status(host, task_id, status):
    """Its status in the store; returns what it was."""
    with sqlite3.connect(host.state / "penstock.db") as store:
        (before,) = store.execute("SELECT status FROM objects WHERE kind = 'task' AND id = ?", (task_id,)).fetchone()
        store.execute("UPDATE objects SET status = ? WHERE kind = 'task' AND id = ?", (status, task_id))
    store.close()
    return before


def test_a_task_whose_record_cannot_be_read_is_not_repaired_away(host, network):
    network.run_task("t", task())
    network.wait_log("t", "up")  # before that its processes still change
    pids = host.task_pids("t")
    host.kill()
    before = set_status(host, "t", '{"damaged": true}')
    planted = plant_interface(host)
    status, report = host.fsck("--repair")
    assert status != 0 and host.task_pids("t") == pids
    assert not any(finding["repaired"] for finding in report["findings"]), report
    assert [finding["problem"] for finding in found(report, "eni")] == [
        "the record of task t cannot be read: this may be its own"
    ] * 2
    set_status(host, "t", before)
    assert host.fsck("--repair")[0] == 0 and not planted.exists()
    host.start()
    assert network.stop_task("t")["status"]["stopCode"] == "UserInitiated"


def test_no_new_task_while_a_record_cannot_be_read(host, network):
    """It would be given what the cell of the other one has: its address, its uid."""
    network.run_task("t", task())
    host.kill()
    before = set_status(host, "t", '{"damaged": true}')
    host.start(until="/healthz")
    refused = network.put("/v1/tasks/late", task())
    assert (refused.status, refused.json["code"]) == (503, "Unavailable")
    assert "record of task t cannot be read" in refused.json["message"]
    assert network.put("/v1/tasks/late", task(), dryRun="true").status == 503
    ready = network.raw("GET", "/readyz")
    assert ready.status == 503 and "record of task t" in ready.text
    host.kill()
    set_status(host, "t", before)
    host.start()
    network.run_task("late", task())


def test_another_installs_things_are_left_alone(host, network):
    other = f"penstock-{host.install}x-ghost"
    host.run("ip", "netns", "add", other)
    host.run("ip", "-n", other, "link", "set", "lo", "alias", f"penstock {host.install}x vpc ghost")
    status, report = host.fsck("--repair")
    assert status == 0 and other not in json.dumps(report)
    host.run("test", "-e", f"/run/netns/{other}")
    host.run("ip", "netns", "delete", other)


def processes(host):
    """What fsck says of processes: pid -> finding."""
    return {int(finding["name"]): finding for finding in found(host.fsck()[1], "process")}


def test_a_stopped_probe_is_owned_and_ends_with_its_agent(host, network):
    network.apply(
        {
            "/v1/target-groups/web": target_group(),
            "/v1/load-balancers/front": {
                "subnetId": "web",
                "securityGroups": ["web"],
                "listeners": [{"protocol": "TCP", "port": 80, "targetGroup": "web"}],
            },
        }
    )
    network.run_task(
        "t",
        task(
            shell("web", "sleep 600", portMappings=[{"containerPort": 80}]),
            loadBalancers=[{"targetGroup": "web", "containerName": "web", "containerPort": 80}],
        ),
    )
    (probe,) = eventually(lambda: [pid for pid in processes(host) if "penstock-probe" in command_line(pid)])
    assert not processes(host)[probe]["orphan"]
    os.kill(probe, signal.SIGSTOP)
    host.kill()
    eventually(lambda: not command_line(probe))
    assert host.fsck()[0] == 0
    host.start()


def missing(host):
    status, report = host.fsck()
    found = {(one["kind"], one["name"]) for one in report["findings"] if one["missing"]}
    assert report["missing"] == len(found) and (status == 0) == (not found), report
    return found


def test_what_a_record_owns_and_the_host_lacks_is_missing(outside):
    """Each thing by itself, without an agent; then an agent makes all of it again."""
    client = outside.client
    balancer = {"subnetId": "web", "securityGroups": ["web"], "listeners": []}
    client.apply({"/v1/load-balancers/front": balancer})
    vip = client.get("/v1/load-balancers/front")["status"]["privateIpv4Address"]
    network = client.run_task("t", task())["status"]["network"]
    interface, address = network["interfaceName"], network["privateIpv4Address"]
    assert missing(outside) == set()
    outside.kill()

    inside = ("ip", "-n", f"penstock-{outside.install}-net")
    nft = ("nsenter", f"--net=/run/netns/penstock-{outside.install}-net", "nft")
    lost = [
        ((*inside, "neigh", "delete", address, "dev", interface), ("neighbour", f"{address} in net")),
        ((*inside, "route", "delete", f"{address}/32"), ("route", f"{address} in net")),
        ((*inside, "route", "delete", "blackhole", "10.0.0.0/16"), ("route", "10.0.0.0/16 in net")),
        ((*inside, "route", "delete", "blackhole", "10.0.1.0/24"), ("subnet", "10.0.1.0/24 in net")),
        ((*inside, "address", "delete", "10.0.1.1/32", "dev", "lo"), ("address", "10.0.1.1 in net")),
        ((*inside, "address", "delete", f"{vip}/32", "dev", "lo"), ("address", f"{vip} in net")),
        ((*nft, "flush", "map", "inet", "penstock", "balancer_combination"), ("nft load balancer", "front")),
        (("nft", "delete", "table", "inet", f"penstock-{outside.install}"), ("nft host table", outside.install)),
    ]
    expected = set()
    for command, finding in lost:
        outside.run(*command)
        expected.add(finding)
        assert missing(outside) == expected
    outside.run("ip", "netns", "delete", "outside")
    expected.add(("attachment", "att-outside in net"))
    assert missing(outside) == expected
    assert "9 things that records own are not there" in outside.ctl(
        "doctor", "--config", outside.config, check=False
    ).stdout

    outside.start()
    eventually(lambda: missing(outside) == {("attachment", "att-outside in net")})
    assert "the host has no such interface" in client.get("/v1/vpcs/net")["status"]["error"]
    outside.kill()
    (shim,) = [pid for pid in outside.task_pids("t") if "penstock-shim" in command_line(pid)]
    os.kill(shim, signal.SIGKILL)
    eventually(lambda: ("process", str(shim)) in missing(outside))
    outside.start()
    client.put("/v1/vpcs/net", {"cidrBlock": "10.0.0.0/16"}).expect(200)
    client.wait_task("t", is_stopped)
