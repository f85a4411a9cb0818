# SPDX-License-Identifier: Apache-2.0
"""Somebody else holds the database for a while: nothing is lost."""

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
