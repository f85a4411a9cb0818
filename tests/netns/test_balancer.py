# SPDX-License-Identifier: Apache-2.0
"""A load balancer before tasks: health, sharing, draining, no failed request."""

import collections
import json
import os
import signal
import sqlite3
import subprocess
import time

import pytest

from harness.client import PATIENCE, eventually, is_stopped
from harness.documents import IDLE, WEB, group, shell, target_group, task, tcp
from harness.host import command_line

pytestmark = pytest.mark.slow

FRONT = {
    "subnetId": "web",
    "securityGroups": ["front"],
    "listeners": [{"protocol": "TCP", "port": 80, "targetGroup": "web"}],
}


@pytest.fixture
def vip(outside):
    """A balancer that `outside` may call, in front of the target group `web`."""
    outside.client.apply(
        {
            "/v1/security-groups/front": group(tcp(80, "192.168.70.0/24")),
            "/v1/security-groups/web": group(tcp(80, group="front")),
            "/v1/target-groups/web": target_group(),
            "/v1/load-balancers/front": FRONT,
        }
    )
    return outside.client.get("/v1/load-balancers/front")["status"]["privateIpv4Address"]


def web_task():
    return task(
        shell("web", WEB, portMappings=[{"containerPort": 80}]),
        loadBalancers=[{"targetGroup": "web", "containerName": "web", "containerPort": 80}],
    )


def curl(host, vip):
    done = host.run("curl", "-sS", "--connect-timeout", "5", "--max-time", PATIENCE, f"http://{vip}/",
                    namespace="outside", check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def targets(host):
    return host.client.get("/v1/target-groups/web/targets")["items"]


def wait_healthy(host, count):
    eventually(lambda: sum(target["targetHealth"]["state"] == "healthy" for target in targets(host)) == count)


def test_requests_are_shared_and_draining_loses_none(outside, vip):
    client = outside.client
    for name in ("a", "b"):
        client.run_task(name, web_task())
    wait_healthy(outside, 2)
    answers = collections.Counter(curl(outside, vip) for _ in range(40))
    assert None not in answers and len(answers) == 2, answers
    (probe,) = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
                if f"penstock-probe {outside.install} " in command_line(pid)]
    with open(f"/proc/{probe}/status", encoding="ascii") as file:
        assert "Seccomp:\t2\n" in file.read(), "the probe has a system call filter"

    enough = outside.directory / "enough"
    loop = "echo; until [ -e $1 ]; do curl -sS --max-time $2 -o /dev/null http://$0/ || exit 1; done"
    caller = outside.spawn("bash", "-c", loop, vip, enough, PATIENCE, namespace="outside", stdout=subprocess.PIPE)
    caller.stdout.readline()
    client.stop_task("b")
    enough.touch()
    assert caller.wait(PATIENCE) == 0, "a request failed while a target drained"
    assert set(curl(outside, vip) for _ in range(5)) < set(answers)
    client.stop_task("a")
    assert curl(outside, vip) is None


def test_the_balancer_outlives_the_agent(outside, vip):
    outside.client.run_task("a", web_task())
    wait_healthy(outside, 1)
    outside.kill()
    assert curl(outside, vip)
    outside.start()
    assert curl(outside, vip)
    outside.client.stop_task("a")


class Connection:
    """Through the balancer, from `outside`, open until it is closed."""

    def __init__(self, host, vip):
        script = "exec 3<>/dev/tcp/$0/80 && echo && exec cat"
        self.process = host.spawn("bash", "-c", script, vip, namespace="outside",
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"\n"

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(PATIENCE) == 0


def test_a_target_that_drains_is_not_served_again_after_a_restart(outside, vip):
    client = outside.client
    shim = client.run_task("a", web_task())["status"]["shim"]["pid"]
    wait_healthy(outside, 1)
    connection = Connection(outside, vip)
    client.put("/v1/target-groups/web", target_group(delay=3600)).expect(200)
    client.request("POST", "/v1/tasks/a/stop").expect(200)
    os.kill(shim, signal.SIGSTOP)  # the agent is to find out by itself
    outside.restart(until="/healthz")
    assert [target["targetHealth"]["state"] for target in targets(outside)] == ["draining"]
    assert curl(outside, vip) is None
    os.kill(shim, signal.SIGCONT)
    connection.close()
    client.wait_task("a", is_stopped)


def test_a_drain_is_waited_for_although_the_shim_is_silent(outside, vip):
    client = outside.client
    shim = client.run_task("a", web_task())["status"]["shim"]["pid"]
    wait_healthy(outside, 1)
    connection = Connection(outside, vip)
    client.put("/v1/target-groups/web", target_group(delay=3600)).expect(200)
    client.request("POST", "/v1/tasks/a/stop").expect(200)
    os.kill(shim, signal.SIGSTOP)
    outside.kill()
    outside.config.write_text(outside.config.read_text() + "guest_silence_seconds = 1\n")
    outside.start(until="/healthz")
    # The report and the end of the cell were due at once.
    eventually(lambda: "does not speak" in outside.log.read_text())
    assert [target["targetHealth"]["state"] for target in targets(outside)] == ["draining"]
    assert not is_stopped(client.get("/v1/tasks/a")["status"])
    connection.close()
    client.wait_task("a", is_stopped)


def test_a_drain_goes_on_after_a_restart(outside, vip):
    """It began so long ago, under the agent before, that it is over."""
    client = outside.client
    client.run_task("a", web_task())
    wait_healthy(outside, 1)
    connection = Connection(outside, vip)
    delay = round(PATIENCE) + 60
    client.put("/v1/target-groups/web", target_group(delay=delay)).expect(200)
    client.request("POST", "/v1/tasks/a/stop").expect(200)
    outside.kill()
    with sqlite3.connect(outside.state / "penstock.db") as store:
        (status,) = store.execute("SELECT status FROM objects WHERE kind = 'task'").fetchone()
        status = json.loads(status)
        status["bootTimes"]["drainStartedMs"] = max(1, status["bootTimes"]["drainStartedMs"] - delay * 1000)
        store.execute("UPDATE objects SET status = ? WHERE kind = 'task'", (json.dumps(status),))
    store.close()
    outside.start()
    client.wait_task("a", is_stopped)
    connection.process.kill()
    connection.process.wait()


def test_a_call_may_shorten_the_drain(outside, vip):
    client = outside.client
    client.run_task("a", web_task())
    wait_healthy(outside, 1)
    connection = Connection(outside, vip)
    client.put("/v1/target-groups/web", target_group(delay=3600)).expect(200)
    client.request("POST", "/v1/tasks/a/stop").expect(200)
    begin = time.monotonic()
    client.stop_task("a", drainSeconds=1)  # an hour would be longer than anybody waits here
    assert time.monotonic() - begin >= 1, "the connection was not waited for"
    connection.close()


def rows(table):
    """A table of penstockctl as dictionaries, one a row."""
    heading, *lines = table.splitlines()
    columns = heading.split()
    return [dict(zip(columns, line.split())) for line in lines]


def doctor_of_targets(host):
    report = host.ctl("-o", "json", "doctor", "-c", host.config, check=False).stdout
    return next(one for one in json.loads(report) if one["check"] == "targets")


def test_the_command_line_shows_targets_and_interfaces(outside, vip):
    running = outside.client.run_task("a", web_task())["status"]
    network = running["network"]
    wait_healthy(outside, 1)
    header, _, listener, table = outside.ctl("lb", "front").stdout.split("\n", 3)
    assert header.split() == ["front", "address", vip, "subnet", "web"]
    assert listener.split() == ["TCP", "80", "->", "web"]
    (target,) = rows(table.replace("TARGET GROUP", "GROUP"))
    assert target == {"GROUP": "web", "TARGET": network["privateIpv4Address"], "PORT": "80", "TASK": "a",
                      "STATE": "healthy", "REASON": "-", "DESCRIPTION": "-"}
    (eni,) = rows(outside.ctl("eni").stdout)
    assert eni == rows(outside.ctl("eni", network["eniId"]).stdout)[0]
    assert eni == {"ENI": network["eniId"], "TASK": "a", "VPC": "net", "SUBNET": "web",
                   "ADDRESS": network["privateIpv4Address"], "MAC": network["macAddress"],
                   "INTERFACE": network["interfaceName"], "GROUPS": "web"}
    assert doctor_of_targets(outside)["verdict"] == "ok"
    outside.client.stop_task("a")


def test_an_unhealthy_target_says_what_was_met(outside, vip):
    """The reason is one of ELBv2's; the description says what is behind it."""
    for name, script in ("refuses", IDLE), ("misses", "mkdir /empty; httpd -f -p 80 -h /empty"):
        main = shell("web", script, portMappings=[{"containerPort": 80}])
        served = [{"targetGroup": "web", "containerName": "web", "containerPort": 80}]
        outside.client.run_task(name, task(main, loadBalancers=served))
    eventually(lambda: all(target["targetHealth"]["state"] == "unhealthy" for target in targets(outside)))
    found = {target["task"]: target["targetHealth"] for target in targets(outside)}
    assert (found["refuses"]["reason"], found["refuses"]["description"]) == (
        "Target.FailedHealthChecks", "Connection refused")
    assert (found["misses"]["reason"], found["misses"]["description"]) == ("Target.ResponseCodeMismatch", "got 404")
    assert "Connection refused" in outside.ctl("lb", "front").stdout
    doctor = doctor_of_targets(outside)
    assert doctor["verdict"] == "warn" and "target-group/web has targets, and none is healthy" in doctor["text"]
