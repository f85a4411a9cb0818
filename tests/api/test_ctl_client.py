# SPDX-License-Identifier: Apache-2.0
"""penstockctl before something that is no good agent: it ends, says why, and shows nothing harmful."""

import json
import os
import socket
import subprocess
import threading

import pytest

from harness.host import program

JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def serve(listener, reply):
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return  # shut down
        with peer:
            request = peer.recv(65536)
            peer.sendall(reply(request) if callable(reply) else reply)


@pytest.fixture
def answer(tmp_path):
    """answer(bytes, *words): penstockctl's end when every request is answered with these
    bytes, or with what they are for that request."""

    def run(reply, *words):
        path = str(tmp_path / "api.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            server = threading.Thread(target=serve, args=(listener, reply))
            server.start()
            try:
                command = [program("penstockctl"), "--socket", path, *words]
                return subprocess.run(command, capture_output=True, text=True, timeout=60)
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                server.join()
                os.unlink(path)

    return run


@pytest.mark.parametrize(
    "reply, status, said",
    [
        (b"", 3, "closed the connection"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 3, "not an HTTP reply"),
        (b"HTTP/1.1 -12 OK\r\n\r\n", 3, "not an HTTP reply"),
        (b"HTTP/1.1 200 " + b"x" * 20000, 3, "line without end"),
        (b"HTTP/1.1 200 OK\r\nX", 3, "closed the connection"),
        (JSON_HEAD + b"\r\n{", 1, "not JSON"),
        (JSON_HEAD + b"Content-Length: 9\r\n\r\n{}", 3, "closed the connection"),
        (JSON_HEAD + b"Content-Length: 99999999999999999999\r\n\r\nx", 1, "not JSON"),
        (CHUNKED + b"-1\r\n{}", 3, "bad chunk"),
        (CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n", 3, "bad chunk"),
        (CHUNKED + b"ffffffffffffffff\r\n{}", 3, "bad chunk"),
        (CHUNKED + b"2\r\n{}\r\n", 3, "closed the connection"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", 1, "502 Bad Gateway"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n[1]", 1, "404 Not Found"),
    ],
)
def test_broken_replies(answer, reply, status, said):
    failed = answer(reply, "ps")
    assert (failed.returncode, failed.stdout) == (status, "") and said in failed.stderr


def test_a_whole_chunked_reply(answer):
    assert answer(CHUNKED + b'1;x=y\r\n{\r\n1\r\n}\r\n0\r\n\r\n', "ps", "-o", "json").stdout.strip() == "{\n}"


READERS = "ps", "ps -a", "describe t", "timeline t", "eni", "lb", "lb f", "sg", "sg g", "host"


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"items": 7, "spec": [], "status": "x"},
        {"items": [None, [], {"id": {}, "spec": {"listeners": [1]}}], "spec": {"ipPermissions": {"a": 1}}},
        {"status": {"progress": [{"startedUs": 1e300, "durationUs": -1e300, "applied": True}], "containers": [3]}},
    ],
    ids=["list", "types", "items", "numbers"],
)
def test_documents_of_another_shape(answer, document):
    for words in READERS:
        done = answer(JSON_HEAD + b"\r\n" + json.dumps(document).encode(), *words.split())
        assert done.returncode == 0 and done.stderr == "", words


@pytest.mark.parametrize("words", ["ps", "describe t"])
def test_control_characters_of_a_guest_do_not_reach_the_terminal(answer, words):
    reason = "\x1b]0;owned\x07 \x9b31m\r\n\x7f good"
    item = {"id": "t", "kind": "task", "status": {"lastStatus": "RUNNING", "stoppedReason": reason}}
    document = json.dumps({**item, "items": [item]}, ensure_ascii=False).encode()
    shown = answer(JSON_HEAD + b"\r\n" + document, *words.split()).stdout
    assert "good" in shown and "owned" in shown
    assert not any(bad in shown for bad in ("\x1b", "\x07", "\x9b", "\r", "\x7f"))


def test_a_stopped_task_ages_no_more(answer):
    times = {"startedAt": "2026-01-01T00:00:00.000Z", "bootTimes": {"startedMs": 5000, "executionStoppedMs": 312000}}
    item = {"id": "t", "status": {"lastStatus": "STOPPED", **times}}
    shown = answer(JSON_HEAD + b"\r\n" + json.dumps({"items": [item]}).encode(), "ps", "-a").stdout
    assert " 5m07s " in shown


@pytest.mark.parametrize("words", ["events -f --since 5", "logs -f t"])
def test_a_cut_stream_is_told(answer, words):
    line = b'{"type":"PUT","revision":7,"object":{}}\n'
    done = answer(CHUNKED + b"%x\r\n%s\r\n" % (len(line), line), *words.split())
    assert done.returncode == 3 and done.stdout and "the agent ended" in done.stderr


def test_a_follower_that_saw_nothing_knows_where_to_go_on(answer):
    def reply(request):
        if b"GET /v1/events?follow=true&since=41 " in request:
            return CHUNKED
        return JSON_HEAD + b'\r\n{"revision":41,"items":[]}'

    done = answer(reply, "events", "-f")
    assert done.returncode == 3 and "penstockctl events -f --since 41\n" in done.stderr


def test_all_tasks_are_told_to_stop_before_one_is_waited_for(answer):
    asked = []

    def reply(request):
        method, path, _ = request.decode().split("\r\n")[0].split(" ")
        asked.append(f"{method} {path}")
        if "/none/" in path:
            return b'HTTP/1.1 404 Not Found\r\n\r\n{"code":"NotFound","message":"no task"}'
        slow = path.startswith("/v1/tasks/slow?")
        task = {"id": path.split("/")[3].split("?")[0], "status": {"lastStatus": "STOPPING" if slow else "STOPPED"}}
        head = JSON_HEAD.replace(b"200 OK", b"202 Accepted") if slow else JSON_HEAD
        return head + b"\r\n" + json.dumps(task).encode()

    done = answer(reply, "stop", "slow", "none", "quick", "--wait", "--timeout", "7")
    assert asked == [
        "POST /v1/tasks/slow/stop",
        "POST /v1/tasks/none/stop",
        "POST /v1/tasks/quick/stop",
        "GET /v1/tasks/slow?wait=STOPPED&timeout=7",
        "GET /v1/tasks/quick?wait=STOPPED&timeout=7",
    ]
    assert done.returncode == 5 and done.stdout == "task/slow: STOPPING\ntask/quick: STOPPED\n"


def test_no_task_is_asked_about_when_the_agent_is_gone(answer):
    asked = []

    def reply(request):
        asked.append(request.decode().split(" ")[1])
        if "/none/" in asked[-1]:
            return b'HTTP/1.1 404 Not Found\r\n\r\n{"code":"NotFound","message":"no task"}'
        return b""

    assert answer(reply, "stop", "none", "one", "two", "--wait").returncode == 3
    assert asked == ["/v1/tasks/none/stop", "/v1/tasks/one/stop"]


FOLLOW, END = "GET /v1/events?follow=true&kind=task", "POST /v1/shutdown?stopTasks=true"
FULL = b'HTTP/1.1 429 Too Many Requests\r\n\r\n{"code":"TooManyStreams","message":"full"}'
OVERFLOW = b'{"type":"OVERFLOW","revision":7}\n'


@pytest.mark.parametrize(
    "stream, status, said",
    [
        (CHUNKED + b"0\r\n\r\n", 0, ""),
        (CHUNKED, 0, ""),
        (CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(OVERFLOW), OVERFLOW), 5, "was cut off"),
        (FULL, 5, "as many followers as it takes"),
    ],
    ids=["ended", "killed", "overflow", "full"],
)
def test_shutdown_follows_the_agent_that_it_ends(answer, stream, status, said):
    asked = []

    def reply(request):
        asked.append(request.decode().split(" HTTP")[0])
        return b"HTTP/1.1 202 Accepted\r\n\r\n{}" if "POST" in asked[-1] else stream

    done = answer(reply, "shutdown", "--stop-tasks")
    assert asked == [FOLLOW, END] and done.stdout == ""
    assert done.returncode == status and said in done.stderr


def test_a_shutdown_that_takes_too_long(tmp_path):
    path = str(tmp_path / "api.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        command = [program("penstockctl"), "--socket", path, "shutdown", "--timeout", "3"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as client:
            with listener.accept()[0] as stream:
                stream.sendall(CHUNKED)
                with listener.accept()[0] as request:
                    request.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
                assert client.wait(60) == 5 and "not ended in time" in client.stderr.read()


def test_that_there_are_more_faults_is_told(answer):
    error = {"code": "InvalidParameter", "message": "one", "details": [{"pointer": "/a", "message": "one"}], "more": True}
    refused = answer(b"HTTP/1.1 400 Bad Request\r\n\r\n" + json.dumps(error).encode(), "describe", "t")
    assert refused.stderr.endswith("  /a: one\n  and more\n")


def test_a_shutdown_that_is_refused(answer):
    full = b'HTTP/1.1 503 Service Unavailable\r\n\r\n{"code":"TooMany","message":"too many connections"}'
    failed = answer(full, "shutdown")
    assert failed.returncode == 1 and "too many connections" in failed.stderr


def test_an_agent_that_hangs_is_told(tmp_path):
    path = str(tmp_path / "api.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()  # and nobody accepts
        command = [program("penstockctl"), "--socket", path]
        asking = [
            subprocess.Popen(command + words.split(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for words in ("doctor", "shutdown", "logs -f t", "events --since 1")
        ]
        for client in asking:
            assert "the agent does not answer in time" in client.communicate(timeout=60)[0]


@pytest.mark.parametrize(
    "status, message, said",
    [
        ("403 Forbidden", "readers only", "the agent refuses: readers only (403)"),
        ("503 Service Unavailable", "reading the store", "the agent is not ready: reading the store (503)"),
    ],
)
def test_doctor_says_what_the_agent_says(answer, status, message, said):
    body = json.dumps({"code": "X", "message": message})
    shown = answer(f"HTTP/1.1 {status}\r\n\r\n{body}".encode(), "doctor").stdout
    assert said in shown and f"not known: {message}" in shown


@pytest.mark.parametrize("options", [[], ["-o", "json"]])
def test_a_reader_that_was_too_slow_fails(answer, options):
    line = b'{"type":"OVERFLOW","revision":7}\n'
    done = answer(CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(line), line), "events", "-f", *options)
    assert done.returncode == 1 and "--since 7" in done.stderr


def test_a_request_refused_before_it_was_read(answer, tmp_path):
    document = {"kind": "vpc", "id": "net", "spec": {"cidrBlock": "1" * 4_000_000}}
    (tmp_path / "document.json").write_text(json.dumps(document))
    failed = answer(b"HTTP/1.1 413 Too Large\r\n\r\n", "apply", "-f", tmp_path / "document.json")
    assert failed.returncode == 1 and "413 Too Large" in failed.stderr
