# SPDX-License-Identifier: Apache-2.0
"""What was plumbed and then removed by somebody else is made again: links, addresses, routes, neighbours."""

import os
import signal
import time

from harness import documents
from harness.client import container, eventually, is_stopped
from harness.documents import IDLE, shell, target_group, task

# tests/bench/hold.sh sets a hundred.
ROUNDS = int(os.environ.get("PENSTOCK_HOLD_ROUNDS", "2"))

DEFAULT_ROUTE = {"destinationCidrBlock": "172.16.0.0/12", "gateway": "192.168.70.2"}


def inside(host, *words, check=True):
    """ip(8) in the namespace of the VPC `net`."""
    return host.run("ip", "-n", f"penstock-{host.install}-net", *words, check=check).stdout


def plumbing(host):
    """Addresses, routes and permanent neighbours of the VPC, each as a line."""
    shown = [inside(host, *words) for words in (("-o", "address"), ("route",), ("neigh", "show", "nud", "permanent"))]
    # Lifetimes, flags of the carrier: not what is made.
    return sorted(line.replace(" linkdown", "").strip() for text in shown for line in text.splitlines())


def damage_and_wait(host, name, *commands):
    """Runs the commands, and waits until everything is as before; prints how long each round took, at most."""
    before, slowest = plumbing(host), 0
    for _ in range(ROUNDS):
        for words in commands:
            inside(host, *words)
        begin = time.monotonic()
        eventually(lambda: plumbing(host) == before)
        slowest = max(slowest, time.monotonic() - begin)
    print(f"figure hold_{name}_max {slowest:.3f} s")


def flap(interface):
    return [("link", "set", interface, state) for state in ("down", "up")]


def first_error_since(client, revision):
    """What the status of the VPC said first; it has said since that all is well."""
    eventually(lambda: "status" not in client.get("/v1/vpcs/net"))
    events = client.follow(revision, kind="vpc", id="net")
    error = next(events)["object"]["status"]["error"]
    while "status" in next(events)["object"]:
        pass
    return error


def test_an_eni_is_made_whole_again(host, network):
    status = network.run_task("t", task())["status"]["network"]
    interface, address = status["interfaceName"], status["privateIpv4Address"]
    revision = network.get("/v1/vpcs")["revision"]
    damage_and_wait(host, "eni_link", *flap(interface))
    damage_and_wait(host, "eni_down", ("link", "set", interface, "down"))
    damage_and_wait(host, "eni_route", ("route", "delete", f"{address}/32"))
    damage_and_wait(host, "eni_routes", ("route", "flush", "dev", interface))
    damage_and_wait(host, "eni_neighbour", ("neigh", "delete", address, "dev", interface))
    damage_and_wait(host, "eni_other_neighbour",
                    ("neigh", "replace", address, "dev", interface, "lladdr", "02:00:00:00:00:01", "nud", "permanent"))
    host.in_task("t", "ping", "-c", "1", "-w", "10", status["gateway"])
    assert "route of task t" in first_error_since(network, revision)
    assert network.stop_task("t")["status"]["stopCode"] == "UserInitiated"


def test_a_vpc_is_made_whole_again(host, network):
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
    balancer = network.get("/v1/load-balancers/front")["status"]["privateIpv4Address"]
    revision = network.get("/v1/vpcs")["revision"]
    for name, address in (("metadata", "169.254.170.2"), ("router", "10.0.1.1"), ("balancer", balancer)):
        damage_and_wait(host, f"vpc_{name}", ("address", "delete", f"{address}/32", "dev", "lo"))
    damage_and_wait(host, "vpc_addresses", ("address", "flush", "dev", "lo", "scope", "global"))
    damage_and_wait(host, "vpc_routes", ("route", "flush", "proto", "112"))
    damage_and_wait(host, "vpc_lo", ("link", "set", "lo", "down"))
    assert "169.254.170.2" in first_error_since(network, revision)
    host.kill()
    before = plumbing(host)
    inside(host, "route", "flush", "proto", "112")
    inside(host, "address", "flush", "dev", "lo")
    host.start()
    eventually(lambda: plumbing(host) == before)
    network.run_task("t", task())
    network.stop_task("t")


def test_an_attachment_is_made_whole_again(outside):
    client = outside.client
    vpc = client.get("/v1/vpcs/net")["spec"]
    vpc["attachments"][0]["routes"] = [DEFAULT_ROUTE]
    client.put("/v1/vpcs/net", vpc).expect(200)
    damage_and_wait(outside, "attachment_link", *flap("att-outside"))
    damage_and_wait(outside, "attachment_down", ("link", "set", "att-outside", "down"))
    damage_and_wait(outside, "attachment_routes", ("route", "flush", "dev", "att-outside", "proto", "112"))
    damage_and_wait(outside, "attachment_address", ("address", "flush", "dev", "att-outside"))
    eventually(lambda: "status" not in client.get("/v1/vpcs/net"))


def test_an_attachment_that_vanished_is_attached_again(outside):
    client = outside.client
    before = plumbing(outside)
    for _ in range(ROUNDS):
        outside.run("ip", "netns", "delete", "outside")  # the veth pair goes with it
        error = eventually(lambda: client.get("/v1/vpcs/net").get("status", {}).get("error"))
        assert error == "attachment att-outside: attach interface att-outside: the host has no such interface"
        outside.add_neighbour("outside", "att-outside", "192.168.70.2/24", "192.168.70.1")
        eventually(lambda: "status" not in client.get("/v1/vpcs/net"))
        outside.run("ping", "-c", "1", "-w", "10", "192.168.70.1", namespace="outside")
    assert len(plumbing(outside)) == len(before)


def test_a_task_whose_interface_was_deleted_ends(host, network):
    """Stopped in order, from outside its link, and what is known of exit codes is kept."""
    done = shell("done", "exit 7", essential=False)
    main = shell("main", IDLE, stopTimeout=60, dependsOn=[{"containerName": "done", "condition": "COMPLETE"}])
    interface = network.run_task("t", task(done, main))["status"]["network"]["interfaceName"]
    inside(host, "link", "delete", interface)
    stopped = network.wait_task("t", is_stopped)["status"]
    assert stopped["stopCode"] == "InfrastructureHealth"
    assert stopped["stoppedReason"] == f"The network interface {interface} of the task was deleted"
    assert container(stopped, "done")["exitCode"] == 7
    assert "status" not in network.get("/v1/vpcs/net"), "nothing of the VPC is missing"


def test_a_task_whose_interface_was_deleted_without_an_agent_ends(host, network):
    interface = network.run_task("t", task())["status"]["network"]["interfaceName"]
    host.kill()
    inside(host, "link", "delete", interface)
    host.start()
    stopped = network.wait_task("t", is_stopped)["status"]
    assert stopped["stopCode"] == "InfrastructureHealth"


def test_a_flapping_link_does_not_fill_the_history(host, network):
    interface = network.run_task("t", task())["status"]["network"]["interfaceName"]
    revision = network.get("/v1/tasks")["revision"]
    flaps = 100
    script = f"for i in $(seq {flaps}); do ip link set {interface} down; ip link set {interface} up; done"
    host.run("sh", "-c", script, namespace=f"penstock-{host.install}-net")
    eventually(lambda: network.get("/v1/vpcs/net").get("status") is None)
    assert network.get("/v1/tasks")["revision"] - revision < flaps / 4
    host.in_task("t", "ping", "-c", "1", "-w", "10", "10.0.1.1")
    network.stop_task("t")


def test_nothing_of_a_vpc_leaves_by_its_default_route(host):
    """Neither to an unused address of a subnet nor to one of no subnet."""
    host.add_neighbour("outside", "att-outside", "192.168.70.2/24", "192.168.70.1")
    objects = documents.network()
    routes = [{"destinationCidrBlock": "0.0.0.0/0", "gateway": "192.168.70.2"}]
    objects["/v1/vpcs/net"]["attachments"] = [
        {"interface": "att-outside", "address": "192.168.70.1/24", "routes": routes}
    ]
    host.client.apply(objects)
    host.client.run_task("t", task())
    host.run("nft", "add table ip seen; add chain ip seen input { type filter hook prerouting priority -400; }",
             namespace="outside")
    host.run("nft", "add rule ip seen input ip daddr { 10.0.1.77, 10.0.9.9 } counter; "
             "add rule ip seen input ip daddr 10.1.9.9 counter", namespace="outside")
    for address in ("10.0.1.77", "10.0.9.9", "10.1.9.9"):
        host.in_task("t", "ping", "-c", "1", "-W", "1", address, check=False)
    counters = host.run("nft", "list", "table", "ip", "seen", namespace="outside").stdout
    assert "10.0.9.9 } counter packets 0 " in counters, counters
    assert "10.1.9.9 counter packets 1 " in counters, "what is not the VPC's does leave"
    host.client.stop_task("t")


def test_a_task_whose_shim_is_silent_stays_plumbed(host, network):
    status = network.run_task("t", task())["status"]
    interface, address = (status["network"][name] for name in ("interfaceName", "privateIpv4Address"))
    nft = ("nsenter", f"--net=/run/netns/penstock-{host.install}-net", "--", "nft")
    rules = host.run(*nft, "--stateless", "list", "table", "inet", "penstock").stdout
    assert interface in rules
    os.kill(status["shim"]["pid"], signal.SIGSTOP)
    host.restart(until="/healthz")
    damage_and_wait(host, "silent", ("route", "delete", f"{address}/32"), ("neigh", "delete", address, "dev", interface))
    host.run(*nft, "flush", "ruleset")
    eventually(lambda: interface in host.run(*nft, "list", "table", "inet", "penstock", check=False).stdout)
    assert network.task("t")["status"]["lastStatus"] == "RUNNING"
    assert "not taken up yet: 1" in network.raw("GET", "/readyz").text, "the shim is silent all the time"
    os.kill(status["shim"]["pid"], signal.SIGCONT)
    eventually(lambda: network.raw("GET", "/readyz").status == 200)
    assert network.stop_task("t")["status"]["stopCode"] == "UserInitiated"
