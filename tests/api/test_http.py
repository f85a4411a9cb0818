# SPDX-License-Identifier: Apache-2.0
"""HTTP on the API's socket: clients that send too much, too little, or something else."""

import grp
import json

import pytest

from harness import documents
from harness.host import program

READER, OTHER = "bin", "sys"  # groups every Debian has
NOBODY = 65534

# Sends its standard input to a socket as another user, and prints what comes back until the end.
SEND = """
import os, socket, sys
os.setgroups([int(sys.argv[2])]); os.setgid(65534); os.setuid(65534)
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
try:
    peer.sendall(sys.stdin.buffer.read())
except (BrokenPipeError, ConnectionResetError):
    pass  # refused before all of it was read
try:
    while part := peer.recv(65536):
        sys.stdout.buffer.write(part)
except ConnectionResetError:
    pass
"""


@pytest.fixture
def agent(make_host):
    host = make_host(reader_group=READER)
    host.directory.chmod(0o755)
    return host


def send_as(host, group, text):
    gid = grp.getgrnam(group).gr_gid
    return host.run("/usr/bin/python3", "-c", SEND, host.client.path, gid, input=text).stdout


def answers(host):
    return host.client.raw("GET", "/healthz").status == 200


def test_a_stranger_s_large_body(agent):
    send_as(agent, OTHER, "PUT /v1/vpcs/net HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n" + "x" * 70000)
    assert answers(agent)


def test_a_chunk_size_without_end(agent):
    head = "PUT /v1/vpcs/net HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    send_as(agent, READER, head + "0" * 4 * 1024 * 1024)
    assert answers(agent)


def test_a_stranger_s_large_task(agent):
    task = documents.task(documents.shell("main", "x" * 80000))
    file = agent.directory / "task.json"
    file.write_text(json.dumps(task))
    file.chmod(0o644)
    refused = agent.run(
        "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
        program("penstockctl"), "--socket", agent.client.path, "run", "-f", file, "t", check=False,
    )  # fmt: skip
    assert refused.returncode != 0
    assert answers(agent)
