# SPDX-License-Identifier: Apache-2.0
"""penstockctl: listing and describing what is there."""

import json
import os
import pty
import subprocess

from harness.client import eventually
from harness.documents import IDLE, group, network, shell, target_group, task
from harness.host import program

LIFE = "PROVISIONING PENDING ACTIVATING RUNNING DEACTIVATING STOPPING DEPROVISIONING STOPPED".split()


def table(text):
    """The rows of a table, without its headings."""
    return [line.split() for line in text.splitlines()[1:]]


def with_balancer():
    listener = {"protocol": "TCP", "port": 80, "targetGroup": "web"}
    return {
        **network(),
        "/v1/target-groups/web": target_group(delay=1),
        "/v1/load-balancers/front": {"subnetId": "web", "securityGroups": ["web"], "listeners": [listener]},
        "/v1/file-systems/fs-1": {"mountTargets": [{"ip": "192.168.80.2"}], "exportPath": "/fs-1"},
    }


def served_task():
    """A task that is a target, and that has a volume."""
    main = shell("main", IDLE, portMappings=[{"containerPort": 80}],
                 mountPoints=[{"sourceVolume": "data", "containerPath": "/data"}])
    return task(main, volumes=[{"name": "data"}],
                loadBalancers=[{"targetGroup": "web", "containerName": "main", "containerPort": 80}])


def test_every_kind_is_listed_and_shown(host, client):
    client.apply(with_balancer())
    assert table(host.ctl("vpc").stdout)[0][:2] == ["net", "10.0.0.0/16"]
    assert table(host.ctl("fs", "fs-1").stdout) == [["fs-1", "192.168.80.2:2049", "/fs-1"]]
    assert table(host.ctl("tg").stdout) == [["web", "net", "TCP", "80", "0/0", "-"]]
    front = client.get("/v1/load-balancers/front")["status"]["privateIpv4Address"]
    address = client.run_task("t", task())["status"]["network"]["privateIpv4Address"]
    eventually(lambda: table(host.ctl("subnet").stdout)[0][:4] == ["web", "net", "10.0.1.0/24", "2"])
    shown = host.ctl("subnet", "web").stdout.partition("\n\n")[2]
    assert {tuple(row[:2]) for row in table(shown)} == {(address, "eni"), (front, "load")}
    client.stop_task("t")


def test_describe_shows_targets_volumes_and_drops(host, client):
    client.apply(with_balancer())
    address = client.run_task("t", served_task())["status"]["network"]["privateIpv4Address"]
    client.run_task("other", served_task())
    _, containers, volumes, targets, drops = host.ctl("describe", "t").stdout.split("\n\n")
    assert table(containers)[0][0] == "main"
    assert table(volumes) == [["data", "ephemeral", "disk", "-", "main:/data"]]
    assert [row[:4] for row in table(targets)] == [["web", address, "80", "t"]]
    assert drops.split()[:3] == ["DIRECTION", "REASON", "PACKETS"]
    for name in "t", "other":
        client.stop_task(name)


def test_drops_are_counted_by_reason(host, client):
    client.apply({**network(), "/v1/security-groups/mute": group(egress=[])})
    client.run_task("t", task(shell("main", "while :; do ping -c 1 -W 1 10.0.1.77; done"), groups=["mute"]))
    eventually(lambda: table(host.ctl("drops", "t").stdout))
    assert table(host.ctl("drops", "vpc/net").stdout)
    client.stop_task("t")


def test_ps_selects_tasks_and_shows_how_they_ended(host, client):
    client.apply(network())
    client.run_task("runs", task())
    client.put("/v1/tasks/ends", task(shell("main", "exit 3"))).expect(201)
    assert host.ctl("wait", "ends").stdout.startswith("task/ends: STOPPED")
    assert [row[0] for row in table(host.ctl("ps").stdout)] == ["runs"]
    (ended,) = [line for line in host.ctl("ps", "-a").stdout.splitlines() if line.startswith("ends")]
    assert " main=3 " in ended
    assert host.ctl("ps", "-q", "--filter", "status=stopped,vpc=net").stdout == "ends\n"
    assert host.ctl("ps", "-q", "--filter", "vpc=other").stdout == ""
    client.stop_task("runs")


def test_events_say_what_changed(host, client):
    client.apply(network())
    client.put("/v1/vpcs/net", {"cidrBlock": "10.0.0.0/16", "dnsServers": ["10.0.0.2"]}).expect(200)
    host.ctl("sg", "allow", "web", "tcp", "80", "10.0.9.5")
    told = host.ctl("events").stdout.splitlines()
    assert told[0].endswith(" vpc/net")
    assert told[-2].endswith(" vpc/net  (spec.dnsServers)")
    assert told[-1].endswith(" security-group/web  (spec.ipPermissions)")


def test_wait_says_what_became_of_a_task(host, client):
    client.apply(network())
    client.run_task("t", task())
    assert host.ctl("wait", "t", "--timeout", "0", check=False).returncode == 5
    assert host.ctl("wait", "t", "--for", "RUNNING").stdout == "task/t: RUNNING\n"
    client.stop_task("t")
    assert host.ctl("wait", "t", "--for", "RUNNING", check=False).returncode == 1


def test_prune_forgets_stopped_tasks_only(host, client):
    client.apply(network())
    for name in "stays", "goes":
        client.run_task(name, task())
    client.stop_task("goes")
    assert host.ctl("prune").stdout == "task/goes: forgotten\n"
    assert [item["id"] for item in client.get("/v1/tasks")["items"]] == ["stays"]
    client.stop_task("stays")


def test_run_of_a_stopped_task_says_how_to_run_it_again(host, client):
    client.apply(network())
    file = host.directory / "task.json"
    file.write_text(json.dumps(task(shell("main", "exit 0"))))
    host.ctl("run", "t", "-f", file, "--wait", "STOPPED")
    again = host.ctl("run", "t", "-f", file, check=False)
    assert again.returncode == 1 and "penstockctl delete task/t" in again.stderr


def test_who_watches_sees_the_progress(host, client):
    """Standard error is a terminal: each state is shown as the task gets there."""
    client.apply(network())
    file = host.directory / "task.json"
    file.write_text(json.dumps(task()))
    master, terminal = pty.openpty()

    def watched(*words):
        ctl = host.spawn(program("penstockctl"), "--socket", client.path, *words,
                         stdout=subprocess.PIPE, stderr=terminal, text=True)
        return ctl.communicate()[0]

    assert watched("run", "t", "-f", file) == "task/t: RUNNING\n"
    assert watched("stop", "t", "--wait").startswith("task/t: STOPPED")
    os.close(terminal)
    shown = [line.split() for line in os.read(master, 65536).decode().splitlines()]
    os.close(master)
    states = [LIFE.index(state) for _, state in shown]
    assert states == sorted(set(states)) and states[0] == 0 and states[-1] > LIFE.index("RUNNING")
