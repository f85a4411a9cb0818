# SPDX-License-Identifier: Apache-2.0
"""A load balancer before tasks: health, sharing, draining, no failed request."""

import collections
import subprocess

import pytest

from harness.client import PATIENCE, eventually
from harness.documents import WEB, group, shell, target_group, task, tcp

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


def wait_healthy(host, count):
    def healthy():
        targets = host.client.get("/v1/target-groups/web/targets")["items"]
        return sum(target["targetHealth"]["state"] == "healthy" for target in targets) == count

    eventually(healthy)


def test_requests_are_shared_and_draining_loses_none(outside, vip):
    client = outside.client
    for name in ("a", "b"):
        client.run_task(name, web_task())
    wait_healthy(outside, 2)
    answers = collections.Counter(curl(outside, vip) for _ in range(40))
    assert None not in answers and len(answers) == 2, answers

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
