# SPDX-License-Identifier: Apache-2.0
"""A guest that hangs is reported, and nothing is done to it."""

import json
import re

from harness import documents
from harness.documents import task
from harness.host import program


def guests_of(host):
    done = host.run(program("penstockctl"), "doctor", "-c", host.config, "-o", "json", check=False)
    return next(line for line in json.loads(done.stdout) if line["check"] == "guests")


def silent_in_metrics(client):
    text = client.raw("GET", "/metrics").text
    return re.findall(r'^penstock_task_guest_silent{task_id="([^"]*)".*} 1$', text, re.MULTILINE)


def test_a_silent_guest_is_reported_until_it_speaks(make_host):
    host = make_host(guest_silence_seconds=2)
    client = host.client
    client.apply(documents.network())
    for name in "t", "other":
        client.run_task(name, task())
    assert guests_of(host) == {"check": "guests", "verdict": "ok", "text": "2, all speak"}
    host.kill_in_task("t", "STOP", "penstock-init")
    silent = client.wait_task("t", lambda status: "guestSilentSince" in status)["status"]
    since = silent["guestSilentSince"]
    assert silent["lastStatus"] == "RUNNING" and "guestSilentSince" not in client.task("other")["status"]
    found = guests_of(host)
    assert found["verdict"] == "warn" and found["text"] == f"task/t: its guest has not spoken since {since}"
    assert silent_in_metrics(client) == ["t"]

    host.restart()
    assert client.task("t")["status"]["guestSilentSince"] == since
    host.kill_in_task("t", "CONT", "penstock-init")
    spoke = client.wait_task("t", lambda status: "guestSilentSince" not in status)["status"]
    assert spoke["lastStatus"] == "RUNNING" and spoke["startedAt"] == silent["startedAt"]
    assert guests_of(host)["verdict"] == "ok"
    assert silent_in_metrics(client) == []
    for name in "t", "other":
        client.stop_task(name)
