# SPDX-License-Identifier: Apache-2.0
"""Addresses of a subnet: which rest, and which is taken when there is no other."""

from harness import documents
from harness.client import eventually, is_stopped
from harness.documents import task

TINY = {"/v1/subnets/tiny": {"vpcId": "net", "cidrBlock": "10.0.9.0/28"}}  # eleven addresses
ROOM = 11


def addresses(client, state):
    name = f'penstock_ipam_addresses{{subnet="tiny",state="{state}"}} '
    text = client.raw("GET", "/metrics").text
    (value,) = [int(line[len(name):]) for line in text.splitlines() if line.startswith(name)]
    return value


def test_an_address_that_was_never_on_a_link_does_not_rest(make_host):
    client = make_host(cooldown_seconds=3600).client
    client.apply({**documents.network(), **TINY})
    client.put("/v1/tasks/t", task({"name": "main", "image": "misspelt"}, subnet="tiny")).expect(201)
    client.wait_task("t", is_stopped)
    assert addresses(client, "cooling") == 0


def test_the_longest_rested_is_taken_before_a_start_is_refused(make_host):
    client = make_host(cooldown_seconds=3600).client
    client.apply({**documents.network(), **TINY})
    used = []
    for name in ("first", "second"):
        used.append(client.run_task(name, task(subnet="tiny"))["status"]["network"]["privateIpv4Address"])
        client.stop_task(name)
    assert addresses(client, "cooling") == 2
    for number in range(ROOM - 2):  # the others; stopped before they are on a link
        client.put(f"/v1/load-balancers/l{number}",
                   {"subnetId": "tiny", "securityGroups": ["web"], "listeners": []}).expect(201)
    assert addresses(client, "free") == 0
    # It is refused only until the connections of the last owner are flushed.
    reply = eventually(lambda: (reply := client.put("/v1/tasks/t", task(subnet="tiny"))).status == 201 and reply)
    assert reply.json["status"]["network"]["privateIpv4Address"] == used[0]
    client.stop_task("t")
