# SPDX-License-Identifier: Apache-2.0
"""Somebody else holds the database, or is in the way of the metering file, for a while: nothing is
lost."""

import json
import sqlite3

from harness.client import container, eventually, is_stopped
from harness.documents import shell, task


def test_a_status_waits_for_the_database(host, network):
    database = sqlite3.connect(host.state / "penstock.db", isolation_level=None)
    network.run_task("t", task(shell("main", "until [ -e /tmp/go ]; do sleep 1; done")))
    database.execute("BEGIN IMMEDIATE")
    host.kill_in_task("t", "KILL", "until")
    try:
        eventually(lambda: "record: store" in host.log.read_text().partition("-> STOPPED")[2])
    finally:
        database.rollback()
    stopped = network.wait_task("t", is_stopped)["status"]
    assert container(stopped, "main")["exitCode"] == 137


def test_a_task_is_not_stopped_before_it_is_metered(host, network):
    records = host.state / "metering/records.ndjson"
    network.run_task("t", task())
    records.rename(records.with_suffix(".1"))
    records.mkdir()
    network.request("POST", "/v1/tasks/t/stop").expect(200)
    waiting = network.wait_task("t", lambda status: "metering" in status.get("undoError", ""))["status"]
    assert waiting["lastStatus"] == "DEPROVISIONING"
    records.rmdir()
    network.wait_task("t", is_stopped)
    assert [json.loads(line)["task"] for line in records.read_text().splitlines()] == ["t"]


def test_a_stop_that_was_refused_has_not_happened(host, network):
    database = sqlite3.connect(host.state / "penstock.db", isolation_level=None)
    network.run_task("t", task())
    database.execute("BEGIN IMMEDIATE")
    refused = network.request("POST", "/v1/tasks/t/stop").expect(503)
    database.rollback()
    assert refused["code"] == "StoreUnavailable"
    network.run_task("u", task())  # turns go by
    assert network.get("/v1/tasks/t")["status"]["desiredStatus"] == "RUNNING"
    network.stop_task("t")
    network.stop_task("u")


def test_a_damaged_record_does_not_spoil_the_list(host, network):
    for name in ("t", "u"):
        network.run_task(name, task())
    database = sqlite3.connect(host.state / "penstock.db", isolation_level=None)
    (status,) = database.execute("SELECT status FROM objects WHERE kind = 'task' AND id = 't'").fetchone()
    database.execute("UPDATE objects SET status = ? WHERE kind = 'task' AND id = 't'", [status.replace('"', "b", 1)])
    try:
        listed = {item["id"]: item for item in network.get("/v1/tasks")["items"]}
        assert listed["u"]["status"]["lastStatus"] == "RUNNING" and "error" not in listed["u"]
        assert listed["t"]["status"] == {} and "cannot be read" in listed["t"]["error"]
        assert network.get("/v1/tasks/t")["error"] == listed["t"]["error"]
    finally:
        database.execute("UPDATE objects SET status = ? WHERE kind = 'task' AND id = 't'", [status])
    for name in ("t", "u"):
        network.stop_task(name)
