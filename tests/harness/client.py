# SPDX-License-Identifier: Apache-2.0
"""The API as a Python object: HTTP over the Unix socket, judged by the contract."""

import http.client
import json
import os
import socket
import time
from urllib.parse import urlencode

# Bounds a hang, in seconds: nothing waits longer than it must. Valgrind makes everything slower.
PATIENCE = 120 * float(os.environ.get("PENSTOCK_SLOWER", "1"))

KINDS = ("tasks", "load-balancers", "target-groups", "file-systems", "security-groups", "subnets", "vpcs")
NO_RULES = {"ipPermissions": [], "ipPermissionsEgress": []}


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("penstock", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Reply:
    def __init__(self, status, headers, text):
        self.status = status
        self.headers = headers
        self.text = text
        self.media_type = headers.get_content_type()
        self.json = json.loads(text) if self.media_type == "application/json" and text else None

    def expect(self, *statuses):
        assert self.status in statuses, f"{self.status}, wanted {statuses}: {self.text[:2000]}"
        return self.json

    @property
    def pointers(self):
        """The places of an error's details."""
        return [detail["pointer"] for detail in self.json.get("details", [])]


class Client:
    def __init__(self, path, contract):
        self.path = path
        self.contract = contract

    def raw(self, method, target, body=None, headers=None, timeout=PATIENCE):
        """Any bytes as they are: for requests that are wrong on purpose."""
        connection = UnixConnection(self.path, timeout)
        try:
            connection.request(method, target, body=body, headers=headers or {})
            response = connection.getresponse()
            reply = Reply(response.status, response.headers, response.read().decode())
        finally:
            connection.close()
        body = reply.json if reply.media_type == "application/json" else reply.text
        self.contract.check_reply(method, target, reply.status, reply.media_type, body)
        return reply

    def request(self, method, target, document=None, wrong=False, headers=None, **query):
        """`wrong`: the document is not meant to fit the contract."""
        if query:
            target += "?" + urlencode(query)
        if not wrong:
            self.contract.check_request(method, target, document)
        body = None if document is None else json.dumps(document)
        headers = {"Content-Type": "application/json", **(headers or {})}
        return self.raw(method, target, body, headers)

    def get(self, target, **query):
        return self.request("GET", target, **query).expect(200)

    def put(self, target, document, **options):
        return self.request("PUT", target, document, **options)

    def delete(self, target, **options):
        return self.request("DELETE", target, **options)

    def apply(self, documents):
        """Puts a {path: document} mapping in its order: each is created, or replaced if it is there."""
        for target, document in documents.items():
            there = self.request("GET", target).status == 200
            self.put(target, document).expect(200 if there else 201)

    def follow(self, since, **filters):
        """Yields the events after revision `since`, as they come."""
        target = "/v1/events?" + urlencode({"since": since, "follow": "true", **filters})
        self.contract.check_request("GET", target, None)
        connection = UnixConnection(self.path, PATIENCE)
        try:
            connection.request("GET", target)
            response = connection.getresponse()
            if response.status != 200:
                raise AssertionError(f"{target}: {response.status} {response.read().decode()}")
            for line in response:
                if line.strip():
                    event = json.loads(line)
                    self.contract.check_event(target, event)
                    yield event
        finally:
            connection.close()

    # --- tasks ---

    def task(self, task):
        return self.get(f"/v1/tasks/{task}")

    def run_task(self, task, document):
        """Puts a task and waits until it runs."""
        self.put(f"/v1/tasks/{task}", document).expect(201)
        return self.wait_task(task, is_running)

    def log(self, task, container="main"):
        """What a container wrote, both streams."""
        return self.request("GET", f"/v1/tasks/{task}/logs", container=container).text

    def wait_log(self, task, words, container="main"):
        """Waits until a container has written these words."""
        eventually(lambda: words in self.log(task, container))

    def stop_task(self, task, **options):
        self.request("POST", f"/v1/tasks/{task}/stop", options or None).expect(200)
        return self.wait_task(task, is_stopped)

    def delete_everything(self):
        """Stops all tasks and deletes all objects, users before what they use."""
        for task in self.get("/v1/tasks")["items"]:
            if not is_stopped(task["status"]):
                self.stop_task(task["id"])
        for group in self.get("/v1/security-groups")["items"]:  # they may name each other
            self.put(f"/v1/security-groups/{group['id']}", {**group["spec"], **NO_RULES}).expect(200)
        for kind in KINDS:
            for item in self.get(f"/v1/{kind}")["items"]:
                self.delete(f"/v1/{kind}/{item['id']}").expect(204, 404)  # a stopped task may be forgotten by itself

    def wait_task(self, task, condition):
        """The task's object as soon as condition(status) holds, driven by the watch. A
        task that has stopped will not change any more: that ends the wait as well."""
        deadline = time.monotonic() + PATIENCE
        since = self.get("/v1/tasks")["revision"]
        found = self.task(task)
        events = self.follow(since, kind="task", id=task)
        while not condition(found["status"]):
            if is_stopped(found["status"]) or time.monotonic() > deadline:
                raise AssertionError(f"task {task} did not get there: {json.dumps(found, indent=1)}")
            found = next(events)["object"]
        return found


def eventually(condition):
    """Asks until condition() is true, and returns what it said: for what has no watch (a
    target's health, the kernel)."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{condition.__qualname__} did not come true in {PATIENCE} s"
        time.sleep(0.02)
    return found


def is_running(status):
    return status["lastStatus"] == "RUNNING"


def is_stopped(status):
    return status["lastStatus"] == "STOPPED"


def container(status, name):
    """The status of one container by its name."""
    return next(found for found in status["containers"] if found["name"] == name)
