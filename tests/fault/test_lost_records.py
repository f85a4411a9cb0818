# SPDX-License-Identifier: Apache-2.0
"""A cell with living processes whose record the database has lost is left alone with all it has, is
named everywhere, and is taken back or ended on an operator's word."""

import json
import os
import re
import shutil
import sqlite3

from harness import documents
from harness.client import container, eventually, is_stopped
from harness.documents import IDLE, shell, task
from harness.host import program

DATABASE = ("penstock.db", "penstock.db-wal", "penstock.db-shm")


def lose_database(host):
    """As who follows the advice to move a damaged database away."""
    away = host.directory / "away"
    away.mkdir()
    for name in DATABASE:
        if (host.state / name).exists():
            (host.state / name).rename(away / name)


def lose_row(host):
    with sqlite3.connect(host.state / "penstock.db") as store:
        store.execute("DELETE FROM objects WHERE kind = 'task' AND id = 't'")
        store.execute("DELETE FROM refs WHERE kind = 'task' AND id = 't'")
    store.close()


def lose_log(host):
    """What was committed since the last checkpoint: the record is not in the file itself."""
    (host.state / "penstock.db-wal").unlink()
    (host.state / "penstock.db-shm").unlink()


def what_it_has(host):
    """Disk, interfaces and members of the VPC, as the kernel says."""
    inside = ("nsenter", f"--net=/run/netns/penstock-{host.install}-net", "--")
    rules = host.run(*inside, "nft", "--stateless", "list", "table", "inet", "penstock").stdout
    return {
        "pids": host.task_pids("t"),
        "disk": os.stat(host.state / "disks/t.img").st_ino,
        "links": re.findall(r"^\d+: (\w+).*(alias .*)$", host.run(*inside, "ip", "-o", "link").stdout, re.MULTILINE),
        "addresses": host.run(*inside, "ip", "-o", "address").stdout,
        "routes": host.run(*inside, "ip", "route").stdout,
        # The elements that count connections come and go with these.
        "rules": re.sub(r"\s*elements = \{[^}]*ct count over[^}]*\}", "", rules),
    }


def run(host):
    host.client.run_task("t", task(shell("main", "trap 'exit 3' TERM; sleep 100000 & echo up; wait $!")))
    host.client.wait_log("t", "up")
    return what_it_has(host)


def bills(host):
    return [json.loads(line)["task"] for line in (host.state / "metering/records.ndjson").read_text().splitlines()]


def expect_left_alone(host, before):
    """Named wherever an operator looks; nothing of it is touched, nor given to another."""
    assert what_it_has(host) == before
    ready = host.client.raw("GET", "/readyz")
    assert ready.status == 503 and "no record of 1 cell that may run (t)" in ready.text
    (cell,) = host.client.get("/v1/host")["unrecordedCells"]
    assert (cell["taskId"], cell["record"]) == ("t", "readable")
    subnet_is_there = host.client.request("GET", "/v1/subnets/web").status == 200
    host.client.put("/v1/tasks/late", task()).expect(503 if subnet_is_there else 400)
    assert "penstockctl adopt" in host.ctl("doctor", "--config", host.config, check=False).stdout
    status, report = host.fsck("--repair")
    assert status == 1 and not any(finding["repaired"] for finding in report["findings"]), report
    lost = {finding["kind"] for finding in report["findings"] if finding["unrecorded"]}
    assert lost >= {"process", "cgroup", "disk", "cell directory", "eni"}
    assert what_it_has(host) == before
    return cell


def expect_taken_back(host, network, before, started):
    host.ctl("adopt", "t")
    after = network.task("t")["status"]
    assert after["lastStatus"] == "RUNNING" and after["startedAt"] == started
    assert what_it_has(host) == before
    assert network.raw("GET", "/readyz").status == 200
    assert host.ctl("adopt").stdout.split("\n")[1:] == [""]
    network.run_task("late", task())
    stopped = network.stop_task("t")["status"]
    assert container(stopped, "main")["exitCode"] == 3
    assert bills(host) == ["t"]


def test_one_lost_row(host, network):
    before = run(host)
    started = network.task("t")["status"]["startedAt"]
    host.kill()
    lose_row(host)
    host.start(until="/healthz")
    assert expect_left_alone(host, before)["missing"] == []
    assert network.put("/v1/tasks/late", task()).status == 503
    balancer = {"subnetId": "web", "securityGroups": ["web"], "listeners": []}
    assert network.put("/v1/load-balancers/front", balancer).status == 503, "it would get an address"
    assert network.delete("/v1/security-groups/web").status == 503, "who uses it is not known"
    expect_taken_back(host, network, before, started)


def test_a_database_that_was_moved_away(host, network):
    before = run(host)
    started = network.task("t")["status"]["startedAt"]
    host.kill()
    lose_database(host)
    host.start(until="/healthz")
    missing = ["/v1/vpcs/net", "/v1/subnets/web", "/v1/security-groups/web"]
    assert expect_left_alone(host, before)["missing"] == missing
    refused = network.request("POST", "/v1/tasks/t/adopt")
    assert (refused.status, refused.json["code"], refused.pointers) == (409, "Conflict", missing)
    assert host.ctl("adopt", "t", check=False).returncode == 1
    host.restart(until="/healthz")
    objects = documents.network()
    wrong = {**objects["/v1/subnets/web"], "cidrBlock": "10.0.2.0/24"}
    network.apply({"/v1/vpcs/net": objects["/v1/vpcs/net"], "/v1/subnets/web": wrong})
    network.apply({"/v1/security-groups/web": objects["/v1/security-groups/web"]})
    refused = network.request("POST", "/v1/tasks/t/adopt")
    assert refused.status == 409 and "subnet web is 10.0.2.0/24" in refused.json["message"]
    host.kill()
    for name in DATABASE:
        (host.state / name).unlink(missing_ok=True)
    host.start(until="/healthz")
    network.apply(objects)
    expect_taken_back(host, network, before, started)


def test_a_lost_log(host, network):
    before = run(host)
    started = network.task("t")["status"]["startedAt"]
    host.kill()
    lose_log(host)
    host.start(until="/healthz")
    network.apply(documents.network())
    assert what_it_has(host)["pids"] == before["pids"]
    if network.raw("GET", "/readyz").status == 503:
        host.ctl("adopt", "t")
    after = network.wait_task("t", lambda status: status["lastStatus"] == "RUNNING")["status"]
    assert after["startedAt"] == started and host.task_pids("t") == before["pids"]
    network.stop_task("t")


def remove(host, *names):
    for name in names:
        (host.state / name).unlink()


def expect_work_refused(host, network, name):
    """What would be committed now, would be lost with the agent."""
    for refused in (network.put("/v1/tasks/late", task()), network.put("/v1/vpcs/late", {"cidrBlock": "10.9.0.0/16"})):
        assert refused.status == 503 and f"{name} is not the file" in refused.json["message"]
    ready = network.raw("GET", "/readyz")
    assert ready.status == 503 and f"{name} is not the file" in ready.text
    assert f"{name} is not the file" in host.ctl("doctor", "--config", host.config, check=False).stdout


def test_a_database_that_is_removed_under_the_agent(host, network):
    before = run(host)
    started = network.task("t")["status"]["startedAt"]
    remove(host, *DATABASE, "penstock.db.lock")
    expect_work_refused(host, network, "penstock.db")
    eventually(lambda: "penstock.db is not the file" in host.log.read_text())
    assert network.task("t")["status"]["lastStatus"] == "RUNNING" and what_it_has(host) == before
    host.stop()
    host.start(until="/healthz")
    network.apply(documents.network())
    expect_taken_back(host, network, before, started)


def test_a_database_that_comes_back(host, network):
    (host.state / "penstock.db").rename(host.state / "aside.db")
    assert network.raw("GET", "/readyz").status == 503
    (host.state / "aside.db").rename(host.state / "penstock.db")
    network.run_task("t", task())


def test_a_log_that_is_removed_under_the_agent(host, network):
    """The advice is to end the agent: it loses nothing, for the database itself is in its place."""
    network.run_task("t", task())
    remove(host, "penstock.db-wal")
    expect_work_refused(host, network, "penstock.db-wal")
    host.stop()
    host.start()
    assert network.task("t")["status"]["lastStatus"] == "RUNNING"
    network.stop_task("t")


def test_a_second_agent_with_other_directories(host, network, tmp_path):
    """It would find the cells of the first one by the install's name, and no record of them."""
    network.run_task("t", task())
    pids = host.task_pids("t")
    config = tmp_path / "second.conf"
    words = host.config.read_text().replace(str(host.state), f"{tmp_path}/state")
    config.write_text(words.replace(str(host.directory), str(tmp_path)))
    second = host.run(program("penstockd"), "--config", config, check=False)
    assert second.returncode == 1 and f"process {host.agent.pid} holds" in second.stderr
    assert host.task_pids("t") == pids and network.raw("GET", "/readyz").status == 200
    host.kill()
    host.start()
    network.stop_task("t")


def test_a_record_that_is_behind_its_cell(host, network):
    """The end of the log was lost: the database has the task as it was before its shim ran."""
    network.run_task("t", task())
    network.wait_log("t", "up")
    pids = host.task_pids("t")
    running = network.task("t")["status"]
    host.kill()
    old = {key: value for key, value in running.items() if key not in ("shim", "startedAt", "version")}
    old.update(lastStatus="PROVISIONING", version=1, progress={})
    with sqlite3.connect(host.state / "penstock.db") as store:
        store.execute("UPDATE objects SET status = ? WHERE kind = 'task'", (json.dumps(old),))
    store.close()
    host.start()
    after = network.task("t")["status"]
    assert (after["lastStatus"], after["startedAt"]) == ("RUNNING", running["startedAt"])
    assert host.task_pids("t") == pids
    network.stop_task("t")


def test_ended_on_an_operators_word(host, network):
    run(host)
    host.kill()
    lose_database(host)
    host.start(until="/healthz")
    host.ctl("adopt", "--end", "t")
    stopped = network.wait_task("t", is_stopped)["status"]
    assert stopped["stopCode"] == "UserInitiated" and container(stopped, "main")["exitCode"] == 3
    assert bills(host) == ["t"] and host.task_pids("t") == []
    assert network.raw("GET", "/readyz").status == 200
    network.delete("/v1/tasks/t").expect(204)
    eventually(lambda: host.fsck()[0] == 0)


def test_a_cell_that_does_not_say_what_it_is(host, network):
    run(host)
    host.kill()
    lose_row(host)
    (host.state / "cells/t/record").unlink()
    host.start(until="/healthz")
    assert network.get("/v1/host")["unrecordedCells"] == [{"taskId": "t", "record": "missing", "missing": []}]
    assert network.request("POST", "/v1/tasks/t/adopt").status == 409
    assert host.task_pids("t") != []
    network.request("POST", "/v1/tasks/t/adopt", end="true").expect(204)
    eventually(lambda: network.raw("GET", "/readyz").status == 200)
    assert host.task_pids("t") == [] and not (host.state / "disks/t.img").exists()
    eventually(lambda: host.fsck()[0] == 0)



def copy_database(source, destination):
    destination.mkdir(exist_ok=True)
    for name in DATABASE:
        (destination / name).unlink(missing_ok=True)
        if (source / name).exists():
            shutil.copy(source / name, destination / name)


def test_an_old_copy_that_has_an_earlier_task_of_the_same_id(host, network):
    run(host)
    host.stop()
    copy_database(host.state, host.directory / "copy")
    host.start()
    network.stop_task("t")
    network.delete("/v1/tasks/t").expect(204)
    before = run(host)
    started = network.task("t")["status"]["startedAt"]
    host.kill()
    copy_database(host.directory / "copy", host.state)
    host.start(until="/healthz")
    assert expect_left_alone(host, before)["missing"] == []
    host.ctl("adopt", "t")
    after = network.task("t")["status"]
    assert (after["lastStatus"], after["startedAt"]) == ("RUNNING", started)
    assert what_it_has(host) == before
    assert container(network.stop_task("t")["status"], "main")["exitCode"] == 3
    assert bills(host) == ["t", "t"]
    eventually(lambda: host.fsck()[0] == 0)


def test_dead_cells_are_removed_once_the_living_are_settled(host, network):
    """Else a new task of the same id would write into the files of the old one."""
    network.run_task("dead", task(shell("main", "echo first; " + IDLE)))
    network.wait_log("dead", "first")
    network.stop_task("dead")
    run(host)
    host.kill()
    lose_database(host)
    host.start(until="/healthz")
    assert (host.state / "cells/dead").exists(), "the database may still be restored"
    host.ctl("adopt", "--end", "t")
    network.wait_task("t", is_stopped)
    network.apply(documents.network())
    network.run_task("dead", task(shell("main", "echo second; " + IDLE)))
    network.wait_log("dead", "second")
    assert "first" not in host.ctl("logs", "dead").stdout


def edit_record(host, name, edit):
    """The record beside a cell: a line of the spec, a line of the status."""
    path = host.state / "cells" / name / "record"
    spec, status = path.read_text().splitlines()
    path.write_text(f"{spec}\n{json.dumps(edit(json.loads(status)))}\n")


def test_a_task_that_is_ended_releases_no_address_of_another(host, network):
    address = network.run_task("other", task())["status"]["network"]["privateIpv4Address"]
    run(host)
    host.kill()
    edit_record(host, "t", lambda said: {**said, "network": {**said["network"], "privateIpv4Address": address}})
    lose_row(host)
    host.start(until="/healthz")
    host.ctl("adopt", "--end", "t")
    network.wait_task("t", is_stopped)
    metrics = network.raw("GET", "/metrics").text
    for state, count in (("used", 1), ("cooling", 0)):
        assert f'penstock_ipam_addresses{{subnet="web",state="{state}"}} {count}' in metrics
