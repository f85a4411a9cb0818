# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the black-box tests. Run them through tests/lib/pytest.sh, which gives
them namespaces of their own."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS))

from harness import documents  # noqa: E402
from harness.client import eventually  # noqa: E402
from harness.contract import Contract  # noqa: E402
from harness.ganesha import Ganesha  # noqa: E402
from harness.host import SNAPSHOT, Host  # noqa: E402


def pytest_sessionstart(session):
    if os.environ.get("PENSTOCK_INSIDE") != "yes":
        pytest.exit("run these tests through tests/lib/pytest.sh (namespaces of their own)", 2)


@pytest.fixture(scope="session")
def contract(request):
    """Judges every request and reply; the tests of the API as a whole also make every one."""
    contract = Contract(TESTS.parent / "agent/api/openapi.yaml")
    yield contract
    if request.session.testsfailed == 0 and request.config.args == ["tests/api"]:
        assert not contract.unseen(), contract.unseen()


def _machine(mark):
    """What carries our mark in the machine's own namespaces, outside of ours. The rest of the
    machine may change as it likes."""
    outside = f"--target={os.environ['PENSTOCK_OUTSIDE']}"
    command = ["nsenter", outside, "--net", "--mount", "--", "bash", str(SNAPSHOT), mark]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line for line in lines if mark in line]


@pytest.fixture(scope="session", autouse=True)
def machine_as_before():
    """No test leaves a trace on the machine."""
    mark = f"t{os.getpid()}-"
    before = _machine(mark)
    yield
    assert _machine(mark) == before


@pytest.fixture
def make_host(contract, request):
    """Makes hosts with settings; at the end each must be clean: fsck finds nothing
    without an owner and, once all is deleted, the host is as it was."""
    hosts = []

    def make(start=True, **settings):
        host = Host(contract, **settings)
        hosts.append(host)
        return host.start() if start else host

    yield make
    failed = getattr(request.node, "failed", False)
    try:
        for host in hosts:
            if not failed:
                _check_clean(host)
    finally:
        for host in hosts:
            if failed or sys.exc_info()[0]:
                print(f"--- {host.log}\n{host.log_tail()}", file=sys.stderr)
            host.close()


def _check_clean(host):
    if host.agent is None:
        return
    with contextlib.suppress(AssertionError):  # what was accepted last may not be effective yet
        eventually(lambda: not host.fsck()[1]["missing"])
    status, report = host.fsck()
    assert status == 0, report
    host.client.delete_everything()
    host.ctl("shutdown", "--stop-tasks")
    assert host.wait_agent() == 0, "an orderly end, where sanitizers and valgrind look for leaks"
    host.expect_nothing_left()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if outcome.get_result().failed:
        item.failed = True


@pytest.fixture
def host(make_host):
    """A host with a running agent and nothing in it."""
    return make_host()


@pytest.fixture
def client(host):
    return host.client


@pytest.fixture
def network(client):
    """The VPC `net` with the subnet `web` and the group `web` that lets nothing in."""
    client.apply(documents.network())
    return client


@pytest.fixture
def outside(host):
    """A client namespace `outside` (192.168.70.2), attached to the VPC `net` whose group
    `web` lets it in to port 80."""
    host.add_neighbour("outside", "att-outside", "192.168.70.2/24", "192.168.70.1")
    objects = documents.network(documents.tcp(80, "192.168.70.0/24"))
    objects["/v1/vpcs/net"]["attachments"] = [
        {"interface": "att-outside", "address": "192.168.70.1/24"}
    ]
    host.client.apply(objects)
    return host


@pytest.fixture
def ganesha(host):
    """A real NFS server (192.168.80.2) in its own namespace, to be attached as att-files."""
    host.add_neighbour("files", "att-files", "192.168.80.2/24", "192.168.80.1")
    with Ganesha(host, "files") as server:
        yield server


@pytest.fixture
def penstockctl(host):
    return host.ctl


