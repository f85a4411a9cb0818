# SPDX-License-Identifier: Apache-2.0
"""The log in a real journal: each line can be asked for by task and ENI."""

import json

import pytest

from harness.client import eventually
from harness.documents import network, task

JOURNALD = "/lib/systemd/systemd-journald"
DIRECTORY = "/run/log/journal"
SOCKET = "/run/systemd/journal/socket"
SETTINGS = "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\n"


@pytest.fixture
def journal_host(make_host):
    """A host with a journald of its own, which keeps everything below the host's own /run."""
    host = make_host(start=False, log_to="auto", log_level="info")
    host.run("mkdir", "-p", "/run/systemd/journald.conf.d", DIRECTORY)
    host.run("tee", "/run/systemd/journald.conf.d/test.conf", input=SETTINGS)
    journald = host.spawn(JOURNALD)
    try:
        eventually(lambda: host.run("test", "-S", SOCKET, check=False).returncode == 0)
        yield host.start()
    finally:
        journald.terminate()
        journald.wait(10)


def entries(host, *matches):
    done = host.run("journalctl", "--directory", DIRECTORY, "--output", "json", "--quiet", *matches)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_lines_are_found_by_task_and_eni(journal_host):
    client = journal_host.client
    client.apply(network())
    eni = client.run_task("t", task())["status"]["network"]["eniId"]
    client.stop_task("t")
    found = eventually(lambda: entries(journal_host, "SYSLOG_IDENTIFIER=penstockd", f"PENSTOCK_ENI={eni}"))
    assert {entry["PENSTOCK_TASK"] for entry in found} == {"t"}
    assert "6" in {entry["PRIORITY"] for entry in found} and all(entry["MESSAGE"] for entry in found)
    assert "penstockd: " not in journal_host.log.read_text(), "what the journal took is not said twice"
