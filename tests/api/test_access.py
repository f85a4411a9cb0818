# SPDX-License-Identifier: Apache-2.0
"""Who may do what: root and one group write, another group reads, others nothing."""

import grp
import json

import pytest

from harness.documents import task

WRITER, READER, OTHER = "daemon", "bin", "sys"  # groups every Debian has

SCRIPT = """
import os, sys, socket
os.setgroups([int(sys.argv[2])]); os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
except PermissionError:
    print(403); sys.exit()
body = b'{"cidrBlock": "10.0.0.0/16"}' if sys.argv[3] == "PUT" else b""
s.sendall(f"{sys.argv[3]} /v1/vpcs/net HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n"
          f"Content-Type: application/json\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n".encode() + body)
print(s.recv(4096).split()[1].decode())
"""


@pytest.fixture
def agent(make_host):
    host = make_host(writer_group=WRITER, reader_group=READER)
    host.directory.chmod(0o755)
    return host


def status_as(host, group, method):
    gid = grp.getgrnam(group).gr_gid
    done = host.run("/usr/bin/python3", "-c", SCRIPT, host.client.path, gid, method)
    return int(done.stdout)


def test_writers_write_readers_read_others_nothing(agent):
    assert status_as(agent, READER, "PUT") == 403
    assert status_as(agent, OTHER, "GET") == 403
    assert status_as(agent, WRITER, "PUT") == 201
    assert status_as(agent, READER, "GET") == 200
    assert status_as(agent, READER, "DELETE") == 403
    assert json.loads(agent.client.raw("GET", "/v1/vpcs/net").text)["id"] == "net"


def test_groups_find_their_way_to_the_socket(host):
    """The agent's umask is strict; what it makes for others to pass through is not."""
    modes = {path: path.stat().st_mode & 0o777 for path in (host.directory / "run", host.state)}
    assert modes == {host.directory / "run": 0o755, host.state: 0o711}


def test_nobody_else_lists_or_reads_the_state(network, host):
    """Which tasks there are, their logs and records: for others the state directory is a way through, no more."""
    network.run_task("t", task())
    names = {entry: entry.stat().st_mode & 0o777 for entry in host.state.iterdir() if not entry.is_socket()}
    assert host.state / "cells" in names and host.state / "penstock.db" in names
    assert {entry.name: oct(mode) for entry, mode in names.items() if mode & 0o007} == {}
    network.stop_task("t")
