# SPDX-License-Identifier: Apache-2.0
"""The wall clock is a label: whoever sets it changes no bill, locks no address, and makes no duration negative.

libfaketime moves the wall clock of the agent alone; its monotonic clocks go on as they are."""

import json

import pytest

from harness import documents
from harness.client import eventually, is_running, is_stopped
from harness.documents import IDLE, shell, task

FAKETIME = {
    "LD_PRELOAD": "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "DONT_FAKE_MONOTONIC": "1",
    "NO_FAKE_STAT": "1",
}


def start_wrong(host, offset):
    """Starts an agent whose clock is wrong, until it is started again."""
    host.start(FAKETIME=offset, **FAKETIME)
    host.client.apply(documents.network())


@pytest.mark.slow
def test_a_clock_that_was_behind_changes_no_bill_and_forgets_no_task(make_host):
    host = make_host(start=False)
    start_wrong(host, "-1d")
    for name in ("first", "second"):
        host.client.run_task(name, task())
    host.client.stop_task("first")
    host.restart()
    host.client.stop_task("second")
    records = [json.loads(line) for line in (host.state / "metering/records.ndjson").read_text().splitlines()]
    assert [(record["task"], record["billedSeconds"]) for record in records] == [("first", 60), ("second", 60)]
    eventually((host.state / "alive").exists)  # the first sweep of this host has begun, and ends in that turn
    assert is_stopped(host.client.task("first")["status"])


def test_a_clock_that_was_ahead_locks_no_address(make_host):
    host = make_host(start=False, cooldown_seconds=1)
    start_wrong(host, "+1h")
    host.client.run_task("t", task())
    host.client.stop_task("t")
    host.restart()
    cooling = 'penstock_ipam_addresses{subnet="web",state="cooling"} 0'
    eventually(lambda: cooling in host.client.raw("GET", "/metrics").text)


def test_a_clock_that_steps_back_makes_no_duration_negative(make_host, tmp_path):
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    host = make_host(start=False)
    host.start(FAKETIME_NO_CACHE="1", FAKETIME_TIMESTAMP_FILE=str(offset), **FAKETIME)
    host.client.apply(documents.network())
    first = [{"containerName": "first", "condition": "SUCCESS"}]
    document = task(shell("main", IDLE, dependsOn=first), shell("first", "echo up; sleep 1", essential=False))
    host.client.put("/v1/tasks/t", document).expect(201)
    host.client.wait_log("t", "up", "first")
    offset.write_text("-1h\n")
    host.client.wait_task("t", is_running)
    name = 'penstock_task_start_duration_seconds_sum{phase="total"} '
    (value,) = [
        float(line[len(name):])
        for line in host.client.raw("GET", "/metrics").text.splitlines()
        if line.startswith(name)
    ]
    assert value >= 1
    host.client.stop_task("t")
