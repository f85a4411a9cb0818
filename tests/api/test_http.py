# SPDX-License-Identifier: Apache-2.0
"""HTTP on the API's socket: clients that send too much, too little, or something else."""

import grp
import json
import signal
import socket

import pytest

from harness import documents
from harness.client import PATIENCE
from harness.host import program

READER, OTHER = "bin", "sys"  # groups every Debian has
NOBODY = 65534
VPC = b'{"cidrBlock": "10.0.0.0/16"}'

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


def resident_kib(host):
    (line,) = (line for line in open(f"/proc/{host.agent.pid}/status") if line.startswith("VmRSS:"))
    return int(line.split()[1])


def connect(host):
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(PATIENCE)
    peer.connect(host.client.path)
    return peer


def read_all(peer):
    """What comes until the end of the connection."""
    text = b""
    try:
        while part := peer.recv(65536):
            text += part
    except ConnectionResetError:
        pass
    return text


def talk(host, text):
    """The reply to these bytes, with nothing after them."""
    with connect(host) as peer:
        try:
            peer.sendall(text)
            peer.shutdown(socket.SHUT_WR)
        except BrokenPipeError:
            pass  # refused before all of it was read
        return read_all(peer)


def put_of(name, *headers, body=VPC):
    """The bytes of a request that puts a VPC, and closes."""
    head = (f"PUT /v1/vpcs/{name} HTTP/1.1", "Host: x", "Connection: close", *headers, "", "")
    return "\r\n".join(head).encode() + body


# --- A request must never stop the agent ---


def test_what_a_stranger_or_a_reader_sends_does_not_stop_the_agent(agent):
    body = put_of("net", "Content-Length: 70000", body=b"x" * 70000).decode()
    assert send_as(agent, OTHER, body).startswith("HTTP/1.1 403 ")
    assert answers(agent)
    endless = "GET /v1/vpcs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + "0" * 1024 * 1024
    assert send_as(agent, READER, endless).startswith("HTTP/1.1 400 ")
    assert answers(agent)
    file = agent.directory / "task.json"
    file.write_text(json.dumps(documents.task(documents.shell("main", "x" * 80000))))
    file.chmod(0o644)
    refused = agent.run(
        "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
        program("penstockctl"), "--socket", agent.client.path, "run", "-f", file, "t", check=False,
    )  # fmt: skip
    assert refused.returncode != 0 and "AccessDenied" in refused.stderr
    assert answers(agent)


# --- RFC 9112 ---

REFUSALS = [
    (400, b"GET\r\n\r\n"),
    (400, b"GET /healthz HTTP/1.1\r\n\r\n"),
    (400, b"GET /healthz HTTP/1.1\nHost: x\n\n\r\n\r\n"),
    (400, b"GET /v1/vpcs?%zz=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    (404, b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    (405, b"BREW /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    (413, put_of("net", "Content-Length: 1048577", body=b"")),
    (413, put_of("net", "Content-Length: 99999999999999999999", body=b"")),
    (413, put_of("net", "Transfer-Encoding: chunked", body=b"100001\r\n")),
    (431, put_of("net", "X: " + "y" * 20000)),
    (431, put_of("net", *["X: y"] * 100)),
    (501, put_of("net", "Transfer-Encoding: gzip")),
    (505, b"GET / HTTP/9.9\r\nHost: x\r\n\r\n"),
    # Section 6.3: two lengths.
    (400, put_of("net", f"Content-Length: {len(VPC)}", "Content-Length: 5")),
    (400, put_of("net", f"Content-Length: {len(VPC)}", "Transfer-Encoding: chunked")),
]


def test_every_refusal_is_json(host):
    for status, request in REFUSALS:
        head, _, body = talk(host, request).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status), (request, head)
        assert b"\r\nContent-Type: application/json\r\n" in head and json.loads(body)["code"]
    assert host.client.get("/v1/vpcs")["items"] == []


def test_chunks_pipelines_and_expectations(host):
    # Section 7.1.1: chunk extensions are ignored.
    chunks = b"5;name=value\r\n" + VPC[:5] + b"\r\n%x ; x\r\n" % len(VPC[5:]) + VPC[5:] + b"\r\n0\r\n\r\n"
    assert talk(host, put_of("net", "Transfer-Encoding: chunked", body=chunks)).startswith(b"HTTP/1.1 201 ")
    one = b"GET /v1/vpcs/net HTTP/1.1\r\nHost: x\r\n\r\n"
    last = one.replace(b"Host", b"Connection: close\r\nHost")
    assert talk(host, one * 500 + last).count(b"HTTP/1.1 200 OK\r\n") == 501
    with connect(host) as peer:
        peer.sendall(put_of("net", f"Content-Length: {len(VPC)}", "Expect: 100-continue", body=b""))
        assert peer.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.sendall(VPC)
        assert read_all(peer).startswith(b"HTTP/1.1 200 ")


# --- Load ---


def test_idle_connections_of_one_client_lock_nobody_out(host):
    peers = [connect(host) for _ in range(200)]
    peers[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    reply = read_all(peers[-1])
    assert reply.startswith(b"HTTP/1.1 503 ") and b'"TooManyConnections"' in reply
    assert b"\r\nRetry-After: 1\r\n" in reply and b"\r\nConnection: close\r\n" in reply
    host.ctl("ps")  # another process of the same user
    for peer in peers:
        peer.close()


def test_a_thousand_puts_at_once_are_answered(host):
    peers = []
    host.agent.send_signal(signal.SIGSTOP)
    for number in range(1000):
        peers.append(connect(host))
        peers[-1].sendall(put_of(f"net-{number}?dryRun=true", f"Content-Length: {len(VPC)}"))
    host.agent.send_signal(signal.SIGCONT)
    for peer in peers:
        with peer:
            assert read_all(peer).startswith(b"HTTP/1.1 200 ")


def test_half_requests_take_little_memory(make_host):
    host = make_host(start=False)
    host.start(ASAN_OPTIONS="quarantine_size_mb=1")  # a sanitizer would keep what was freed
    assert answers(host)
    before = resident_kib(host)
    peers = [connect(host) for _ in range(200)]
    for peer in peers:
        peer.setblocking(False)
        peer.send(put_of("net", "Content-Length: 1000000", body=b""))
    left = dict.fromkeys(peers, bytes(900000))
    # Each answer to another process is a turn of the agent, which reads what there is.
    while [peer for peer in peers if send_some(peer, left)]:
        host.ctl("ps")
    during = resident_kib(host)
    for peer in peers:
        peer.close()
    assert answers(host)
    assert during - before < 16 * 1024 and resident_kib(host) - before < 16 * 1024


def send_some(peer, left):
    """Whether anything was taken."""
    try:
        count = peer.send(left[peer]) if left[peer] else 0
    except (BlockingIOError, BrokenPipeError):
        return False
    left[peer] = left[peer][count:]
    return count > 0
