# SPDX-License-Identifier: Apache-2.0
"""penstockctl: tables for people, JSON for programs, exit codes."""

import json

import pytest

from harness.documents import network

VERBS = ["apply", "run", "ps", "describe", "logs", "stop", "events", "sg", "lb", "eni", "host", "doctor", "fsck"]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(make_host, verb):
    shown = make_host(start=False).ctl(verb, "--help")
    assert verb in shown.stdout and len(shown.stdout) > 80


def test_an_unknown_verb_is_a_usage_error(make_host):
    host = make_host(start=False)
    unknown = host.ctl("frobnicate", check=False)
    assert unknown.returncode == 2 and "frobnicate" in unknown.stderr


def test_without_an_agent_the_socket_is_named(make_host):
    host = make_host(start=False)
    failed = host.ctl("ps", check=False)
    assert failed.returncode not in (0, 2) and host.client.path in failed.stderr


def test_json_and_tables(host, client):
    client.apply(network())
    assert json.loads(host.ctl("sg", "-o", "json").stdout)
    assert "web" in host.ctl("sg").stdout
    assert host.ctl("ps").stdout.split()[0].isupper()


def test_doctor_and_fsck_without_an_agent(host):
    assert host.ctl("doctor", check=False).stdout
    host.stop()
    status, report = host.fsck()
    assert status == 0, report
    host.start()
