# SPDX-License-Identifier: Apache-2.0
"""The watchdog: an agent whose event loop stands still ends itself; an idle or a stopped one does not."""

import signal
import time

from harness import documents
from harness.client import is_running, is_stopped


def start_of(host, task):
    return host.client.task(task)["status"]["startedAt"]


def test_a_loop_that_spins_ends_the_agent(make_host):
    host = make_host(start=False, watchdog_seconds=2)
    host.start(PENSTOCK_FAULT="link:undo:spin")
    host.client.apply(documents.network())
    for task in "stays", "goes":
        host.client.run_task(task, documents.task())
    started = start_of(host, "stays")
    host.client.request("POST", "/v1/tasks/goes/stop").expect(200)
    assert host.wait_agent() == -signal.SIGABRT
    assert "did not end in 2 s: ending, tasks go on" in host.log_tail()
    host.start()
    host.client.wait_task("goes", is_stopped)
    assert start_of(host, "stays") == started and is_running(host.client.task("stays")["status"])


def test_an_idle_and_a_stopped_agent_live_on(make_host):
    host = make_host(watchdog_seconds=2)
    time.sleep(3)  # longer than the limit, without a request
    host.agent.send_signal(signal.SIGSTOP)
    time.sleep(3)
    host.agent.send_signal(signal.SIGCONT)
    assert host.client.raw("GET", "/healthz").status == 200
    assert host.agent.poll() is None
