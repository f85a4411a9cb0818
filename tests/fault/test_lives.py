# SPDX-License-Identifier: Apache-2.0
"""What befalls an agent, its shims or its files ends no task, loses no exit code and keeps no agent from starting."""

import os
import shutil
import signal
from pathlib import Path

from harness import documents
from harness.client import container, eventually, is_running, is_stopped
from harness.documents import shell, task
from harness.host import program

ENDS = "until [ -e /tmp/go ]; do sleep 1; done"


def shim_of(client, name):
    return client.get(f"/v1/tasks/{name}")["status"]["shim"]["pid"]


def children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_child_that_was_just_forked_does_not_keep_the_next_agent_out(host, network):
    with host.inject("close_range:delay_enter=3000000", "--follow-forks"):
        network.put("/v1/tasks/t", task()).expect(201)
        eventually(lambda: children(host.agent.pid))
        host.kill()
        host.start(until="/healthz")
    network.wait_task("t", is_running)
    network.stop_task("t")


def test_a_silent_shim_is_waited_for(make_host):
    host = make_host(guest_silence_seconds=1)
    client = host.client
    client.apply(documents.network())
    client.run_task("t", task())
    shim = shim_of(client, "t")

    os.kill(shim, signal.SIGSTOP)
    host.restart(until="/healthz")
    eventually(lambda: "does not speak" in client.get("/v1/tasks/t")["status"].get("shimError", ""))
    assert "t: shim" in client.request("GET", "/readyz").expect(503)["message"]
    assert "t: shim" in host.ctl("doctor", "--config", host.config, check=False).stdout
    assert is_running(client.get("/v1/tasks/t")["status"])
    os.kill(shim, signal.SIGCONT)
    eventually(lambda: client.request("GET", "/readyz").status == 200)
    eventually(lambda: "shimError" not in client.get("/v1/tasks/t")["status"])
    assert shim_of(client, "t") == shim

    os.kill(shim, signal.SIGSTOP)
    host.restart(until="/healthz")
    stopped = client.stop_task("t")["status"]
    assert (stopped["stopCode"], stopped["stoppedReason"]) == ("UserInitiated", "Task stopped by user")


def test_an_exit_code_that_was_heard_is_not_lost_with_the_file(host, network):
    network.run_task("t", task(shell("main", ENDS), shell("other", documents.IDLE, essential=False)))
    directory = Path(network.get("/v1/tasks/t")["status"]["cellDirectory"])
    for name in ("status.new", "status.spare"):
        (directory / "shim" / name).unlink(missing_ok=True)
        (directory / "shim" / name).mkdir()
    shim = shim_of(network, "t")
    host.kill_in_task("t", "KILL", "until")
    eventually(lambda: container(network.get("/v1/tasks/t")["status"], "main").get("exitCode") == 137)
    os.kill(shim, signal.SIGKILL)
    stopped = network.wait_task("t", is_stopped)["status"]
    assert container(stopped, "main")["exitCode"] == 137


def test_files_that_somebody_removed_are_made_again(host, network):
    Path(network.path).unlink()
    shutil.rmtree(host.state / "metering")
    eventually(lambda: Path(network.path).exists())
    eventually((host.state / "metering").exists)
    network.run_task("t", task())
    network.stop_task("t")
    assert (host.state / "metering/records.ndjson").exists()
    log = host.log.read_text()
    assert "socket file" in log and "metering was removed" in log


def test_too_few_open_files_are_told_at_the_start(make_host):
    host = make_host(start=False)
    done = host.run("prlimit", "--nofile=512:512", program("penstockd"), "--config", host.config, check=False)
    assert done.returncode == 1
    assert "RLIMIT_NOFILE) is 512" in done.stderr
