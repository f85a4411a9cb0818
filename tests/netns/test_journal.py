# SPDX-License-Identifier: Apache-2.0
"""The log in a real journal: each line can be asked for by task and ENI."""

import json
import subprocess
import sys

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


# A journal that does not read until it is told to, then says what it hears.
_SLOW = """
import socket, sys
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
while True:
    print(journal.recv(65536), flush=True)
"""


def test_a_slow_journal_costs_lines_and_no_time(make_host):
    host = make_host(start=False, log_to="auto", log_level="debug")
    host.run("mkdir", "-p", "/run/systemd/journal")
    slow = host.spawn(sys.executable, "-c", _SLOW, SOCKET, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert slow.stdout.readline() == b"ready\n"
        host.start()
        for _ in range(1000):  # each is a line
            host.client.raw("GET", "/healthz")
        slow.stdin.write(b"\n")
        slow.stdin.flush()
        slow.stdout.readline()  # now there is room for a line
        host.client.raw("GET", "/healthz")
        assert any(b"lines were lost" in line for line in iter(slow.stdout.readline, b""))
        assert "penstockd: " not in host.log.read_text()
    finally:
        slow.kill()
        slow.wait()
