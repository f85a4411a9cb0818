# SPDX-License-Identifier: Apache-2.0
"""What /metrics says of real tasks."""

import re

from harness.client import eventually, is_stopped
from harness.documents import IDLE, WEB, group, shell, target_group, task, tcp
from harness.host import ROOT

STEPS = ["image", "cell", "disk", "eni", "policy", "link", "volumes", "vmm", "guest", "targets"]
START, STOP = "penstock_task_start_duration_seconds", "penstock_task_stop_duration_seconds"


def samples(client, name):
    """The samples of one name: (labels, value) each."""
    text = client.raw("GET", "/metrics").text
    lines = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
    return [(dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)) for labels, value in lines]


def total(client, name, **labels):
    """The sum of the samples with these labels; None when there are none."""
    values = [value for found, value in samples(client, name) if labels.items() <= found.items()]
    return sum(values) if values else None


def states(client, task_id):
    return [labels["state"] for labels, value in samples(client, "penstock_task_state")
            if labels["task_id"] == task_id and value == 1]


def test_each_step_is_a_phase_of_the_start_and_of_the_stop(network):
    running = network.run_task("t", task())["status"]
    for phase in [*STEPS, "total"]:
        assert total(network, f"{START}_count", phase=phase) == 1, phase
    ends = [total(network, f"{START}_sum", phase=phase) for phase in STEPS]
    assert ends == sorted(ends), "each ends after the one before"
    assert samples(network, f"{STOP}_count") == []

    for step, progress in running["progress"].items():
        assert progress["ownUs"] <= progress["durationUs"], step
        own = total(network, "penstock_step_duration_seconds_sum", step=step, direction="apply")
        assert round(own * 1e6) == progress["ownUs"], step
    assert running["progress"]["eni"]["ownUs"] > 0
    guest = running["progress"]["guest"]
    assert guest["ownUs"] < guest["durationUs"] / 2, "the containers' start is not the agent's work"

    network.stop_task("t")
    for phase in [*STEPS, "total"]:
        assert total(network, f"{STOP}_count", phase=phase) == 1, phase
    assert total(network, f"{STOP}_sum", phase="guest") <= total(network, f"{STOP}_sum", phase="total")


def test_a_task_has_one_state_at_a_time(host, network):
    network.run_task("t", task(shell("main", IDLE, stopTimeout=60)))
    network.wait_log("t", "up")
    assert states(network, "t") == ["RUNNING"]
    host.restart()
    eventually(lambda: states(network, "t") == ["RUNNING"])
    host.kill_in_task("t", "STOP", "penstock-init")  # a guest that does not hear
    network.request("POST", "/v1/tasks/t/stop").expect(200)
    eventually(lambda: states(network, "t") == ["STOPPING"])
    host.kill_in_task("t", "CONT", "penstock-init")
    network.wait_task("t", is_stopped)
    assert states(network, "t") == []


def test_a_busy_agent_exposes_every_metric(outside):
    """Each name of the catalog: what is declared is measured."""
    client = outside.client
    outside.stop()
    outside.start(PENSTOCK_FAULT="disk:undo:fail")
    client.apply({
        "/v1/security-groups/web": group(tcp(80, "192.168.70.0/24")),
        "/v1/target-groups/web": target_group(),
    })
    document = task(
        shell("web", WEB, portMappings=[{"containerPort": 80}]),
        loadBalancers=[{"targetGroup": "web", "containerName": "web", "containerPort": 80}],
    )
    address = client.run_task("t", document)["status"]["network"]["privateIpv4Address"]
    client.run_task("gone", task())
    client.stop_task("gone")  # at the second try
    eventually(lambda: outside.run("curl", "-sS", f"http://{address}/", namespace="outside", check=False).returncode == 0)
    outside.run("curl", "-sS", "--max-time", "1", f"http://{address}:81/", namespace="outside", check=False)

    catalog = (ROOT / "metrics/catalog.c").read_text()
    names = re.findall(r"\[METRIC_\w+\] = {\"(\w+)\"", catalog)
    exposed = set(re.findall(r"^# TYPE (\w+)", client.raw("GET", "/metrics").text, re.MULTILINE))
    assert len(names) > 30 and exposed == set(names)
    assert total(client, "penstock_conntrack_entries", vpc="net") > 0
    assert total(client, "penstock_lb_targets", target_group="web") == 1
    drops = samples(client, "penstock_task_dropped_packets_total")
    assert ("t", "ingress", "ingress_denied") in [
        (labels["task_id"], labels["direction"], labels["reason"]) for labels, _ in drops
    ]
    assert all(value > 0 for _, value in drops), "a series for what was dropped, none for what was not"
    assert total(client, "penstock_sg_dropped_packets_total", vpc="net", direction="any", reason="transit") == 0


def test_each_vpc_is_measured(network):
    for name in ("a", "b"):
        network.put(f"/v1/vpcs/{name}", {"cidrBlock": "10.9.0.0/16"}).expect(201)
    measured = samples(network, "penstock_conntrack_entries")
    assert sorted(labels["vpc"] for labels, _ in measured) == ["a", "b", "net"]
    network.delete("/v1/vpcs/a").expect(204)
    measured = samples(network, "penstock_conntrack_entries")
    assert sorted(labels["vpc"] for labels, _ in measured) == ["b", "net"]
