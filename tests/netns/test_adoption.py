# SPDX-License-Identifier: Apache-2.0
"""The agent may die at any time: tasks go on, the next agent finds them."""

import json
import os
import signal
import sqlite3
import subprocess
import uuid

import pytest

from harness import documents
from harness.client import container, eventually, is_stopped
from harness.documents import IDLE, group, shell, task


def test_tasks_go_on_and_are_adopted(host, network):
    before = network.run_task("t", task())["status"]
    network.wait_log("t", "up")
    pids = host.task_pids("t")
    host.kill()
    assert host.task_pids("t") == pids
    host.start()
    after = network.task("t")["status"]
    assert after["lastStatus"] == "RUNNING" and after["startedAt"] == before["startedAt"]
    assert host.task_pids("t") == pids
    assert network.stop_task("t")["status"]["stopCode"] == "UserInitiated"


def test_sigterm_leaves_tasks_running(host, network):
    network.run_task("t", task())
    network.wait_log("t", "up")
    pids = host.task_pids("t")
    host.stop()
    assert host.task_pids("t") == pids
    host.start()
    network.stop_task("t")


def test_an_exit_meanwhile_is_recorded(host, network):
    side = shell("side", "trap 'exit 7' USR1; " + IDLE, essential=False)
    network.run_task("t", task(shell("main", IDLE), side))
    network.wait_log("t", "up", "side")
    host.kill()
    host.kill_in_task("t", "USR1", "exit 7")
    host.start()
    found = network.wait_task("t", lambda status: container(status, "side")["lastStatus"] == "STOPPED")
    assert container(found["status"], "side")["exitCode"] == 7
    assert found["status"]["lastStatus"] == "RUNNING"
    network.stop_task("t")


def test_a_task_that_ended_meanwhile_is_stopped_and_undone(host, network):
    network.run_task("t", task(shell("main", "trap 'exit 5' USR1; " + IDLE)))
    network.wait_log("t", "up")
    host.kill()
    host.kill_in_task("t", "USR1", "exit 5")
    host.start()
    stopped = network.wait_task("t", is_stopped)["status"]
    assert stopped["stopCode"] == "EssentialContainerExited"
    assert container(stopped, "main")["exitCode"] == 5


def test_a_shim_killed_meanwhile_ends_its_task(host, network):
    network.run_task("t", task())
    host.kill()
    host.kill_in_task("t", "KILL", "")
    host.start()
    stopped = network.wait_task("t", is_stopped)["status"]
    assert stopped["stoppedReason"] and stopped["stoppingAt"]
    assert container(stopped, "main")["lastStatus"] == "STOPPED" and container(stopped, "main")["finishedAt"]


def test_stop_goes_on_after_a_restart(host, network):
    network.run_task("t", task(shell("main", "trap '' TERM; echo deaf; while :; do sleep 1; done", stopTimeout=3)))
    network.wait_log("t", "deaf")
    network.request("POST", "/v1/tasks/t/stop").expect(200)
    host.restart()
    assert network.wait_task("t", is_stopped)["status"]["stopCode"] == "UserInitiated"


def test_a_stop_before_the_shim_has_spoken_undoes_everything(host, network):
    shim = network.run_task("t", task())["status"]["shim"]["pid"]
    os.kill(shim, signal.SIGSTOP)
    host.restart(until="/healthz")
    network.request("POST", "/v1/tasks/t/stop").expect(200)
    assert network.task("t")["status"]["lastStatus"] != "STOPPED"
    os.kill(shim, signal.SIGCONT)
    assert network.wait_task("t", is_stopped)["status"]["stopCode"] == "UserInitiated"
    assert host.task_pids("t") == []


def test_a_shim_that_dies_while_it_is_adopted_leaves_nothing(host, network):
    shim = network.run_task("t", task())["status"]["shim"]["pid"]
    os.kill(shim, signal.SIGSTOP)
    host.restart(until="/healthz")
    waiting = network.raw("GET", "/readyz")
    assert waiting.status == 503 and "not taken up yet: 1" in waiting.text
    os.kill(shim, signal.SIGKILL)
    stopped = network.wait_task("t", is_stopped)["status"]
    assert stopped["stopCode"] == "InfrastructureHealth", stopped["stoppedReason"]
    assert host.task_pids("t") == []


def test_a_shim_that_cannot_be_reached_can_be_stopped(host, network):
    network.run_task("t", task())
    host.kill()
    (host.state / "cells/t/shim.sock").unlink()
    host.start(until="/healthz")
    assert network.task("t")["status"]["lastStatus"] == "RUNNING"
    network.stop_task("t")
    assert host.task_pids("t") == []


def test_a_task_stays_with_the_driver_it_began_with(host, network):
    network.run_task("t", task())
    network.wait_log("t", "up")
    host.stop()
    host.config.write_text(host.config.read_text().replace("driver = netns", "driver = qemu"))
    host.start()
    stopped = network.stop_task("t")["status"]
    assert container(stopped, "main")["exitCode"] == 0


def test_a_reboot_ends_tasks_and_their_bills(make_host):
    """As far as the agent can tell: the record is of another boot, where an agent was seen half an hour later."""
    host = make_host(cooldown_seconds=3600)
    host.client.apply(documents.network())
    side = shell("side", "trap 'exit 7' USR1; " + IDLE, essential=False)
    host.client.run_task("t", task(shell("main", IDLE), side))
    host.client.wait_log("t", "up", "side")
    host.kill()
    said = host.state / "cells/t/shim/status"
    before = said.stat().st_mtime_ns
    host.kill_in_task("t", "USR1", "exit 7")
    eventually(lambda: said.stat().st_mtime_ns != before)
    boot = str(uuid.uuid4())
    with sqlite3.connect(host.state / "penstock.db") as store:
        status = json.loads(store.execute("SELECT status FROM objects WHERE kind = 'task'").fetchone()[0])
        pulled = status["bootTimes"]["pullStartedMs"]
        status.update(bootId=boot)
        store.execute("UPDATE objects SET status = ? WHERE kind = 'task'", (json.dumps(status),))
    store.close()
    (host.state / "alive").write_text(f"{boot} {pulled + 1800000}\n")
    host.start()
    stopped = host.client.wait_task("t", is_stopped)["status"]
    assert stopped["stopCode"] == "InfrastructureHealth"
    assert container(stopped, "side")["exitCode"] == 7
    record = json.loads((host.state / "metering/records.ndjson").read_text())
    assert record["billedSeconds"] == 1800
    cooling = 'penstock_ipam_addresses{subnet="web",state="cooling"} 0'
    assert cooling in host.client.raw("GET", "/metrics").text


def test_an_id_may_come_back_at_once(host, network):
    network.run_task("t", task(shell("main", "echo first; " + IDLE)))
    network.stop_task("t")
    network.delete("/v1/tasks/t").expect(204)
    network.run_task("t", task(shell("main", "echo second; " + IDLE)))
    network.wait_log("t", "second")
    assert "first" not in host.ctl("logs", "t").stdout
    network.stop_task("t")


def test_what_was_deleted_as_the_agent_died_is_taken_back(host, network):
    network.apply(
        {
            "/v1/subnets/second": {"vpcId": "net", "cidrBlock": "10.0.2.0/24"},
            "/v1/load-balancers/front": {"subnetId": "second", "securityGroups": ["web"], "listeners": []},
            "/v1/load-balancers/stays": {"subnetId": "web", "securityGroups": ["web"], "listeners": []},
        }
    )
    host.kill()
    with sqlite3.connect(host.state / "penstock.db") as store:  # as if the effects had not come
        store.execute("DELETE FROM objects WHERE id IN ('second', 'front')")
        store.execute("DELETE FROM refs WHERE id IN ('second', 'front')")
    store.close()
    host.start()
    inside = ("ip", "-n", f"penstock-{host.install}-net")
    assert "10.0.2" not in host.run(*inside, "route").stdout + host.run(*inside, "address").stdout
    assert "10.0.1.4" in host.run(*inside, "address").stdout
    rules = host.run("nsenter", f"--net=/run/netns/penstock-{host.install}-net", "nft", "list", "ruleset").stdout
    assert "10.0.2" not in rules and "10.0.1.4" in rules


def test_a_group_that_moved_as_the_agent_died_leaves_its_vpc(host, network):
    network.apply({"/v1/vpcs/other": {"cidrBlock": "10.9.0.0/16"}, "/v1/security-groups/moves": group()})
    host.kill()
    with sqlite3.connect(host.state / "penstock.db") as store:  # as if it was deleted and made anew
        moved = store.execute(
            "UPDATE specs SET spec = replace(spec, '\"net\"', '\"other\"')"
            " WHERE revision = (SELECT spec_revision FROM objects WHERE id = 'moves')"
        )
        assert moved.rowcount == 1
    store.close()
    host.start()

    def chains(vpc):
        return host.run("nft", "list", "chains", namespace=f"penstock-{host.install}-{vpc}").stdout

    assert "group_moves_ingress" in chains("other") and "group_moves_ingress" not in chains("net")


def test_shutdown_stops_tasks_when_asked(host, network):
    network.run_task("t", task())
    assert host.ctl("shutdown", "--stop-tasks").stdout == "t stopped: The agent is shut down\n"
    assert host.wait_agent() == 0
    assert host.task_pids("t") == []
    host.start()
    assert is_stopped(network.task("t")["status"])


# Holds the lock of an agent, which the file says more of, until standard input ends.
HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
file.write(sys.argv[2])
file.flush()
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hold_lock(make_host):
    """hold_lock(text): a host whose agent is not started, and a process that holds its lock."""
    holders = []

    def hold(text):
        host = make_host()
        host.stop()
        lock = host.directory / "run" / f"{host.install}.lock"
        holder = host.spawn("python3", "-c", HOLDER, lock, text, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        holders.append(holder)
        assert holder.stdout.readline() == b"\n"
        return host, holder

    yield hold
    for holder in holders:
        holder.stdin.close()
        holder.wait()


def test_an_agent_waits_for_one_that_is_ending(hold_lock):
    host, holder = hold_lock("ending\n")
    host.start(until=None)
    eventually(lambda: "is ending" in host.log_tail())
    holder.stdin.close()
    assert holder.wait() == 0
    host.wait_until("/readyz")
    host.ctl("shutdown")
    host.start()  # whenever its predecessor has let go


def test_a_second_agent_is_refused(hold_lock):
    host, holder = hold_lock("")
    host.start(until=None)
    assert host.wait_agent() == 1
    assert f"another penstockd of install {host.install} is there: process {holder.pid} runs" in host.log_tail()


def test_no_new_task_while_all_are_stopped(host, network):
    network.run_task("t", task(shell("main", "trap '' TERM; echo deaf; while :; do sleep 1; done", stopTimeout=5)))
    network.wait_log("t", "deaf")
    network.request("POST", "/v1/shutdown", stopTasks="true").expect(202)
    eventually(lambda: network.task("t")["status"]["desiredStatus"] == "STOPPED")
    refused = network.put("/v1/tasks/late", task())
    assert (refused.status, refused.json["code"]) == (503, "Unavailable")
    assert network.put("/v1/tasks/late", task(), dryRun="true").status == 503
    assert network.raw("GET", "/readyz").status == 503
    assert host.wait_agent() == 0
    host.start()
    assert [found["id"] for found in network.get("/v1/tasks")["items"]] == ["t"]


def test_two_agents_of_one_install_refuse_each_other(host, network):
    second = host.run("timeout", "60", host.agent.args[host.agent.args.index("--config") - 1],
                      "--config", host.config, check=False)
    assert second.returncode not in (0, 124), second.stderr
    assert json.dumps(network.get("/v1/host"))
