# SPDX-License-Identifier: Apache-2.0
"""The life of a task with the netns driver: the same penstock-init, no microVM."""

import json
import os
import select
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import documents
from harness.client import PATIENCE, container, eventually, is_running, is_stopped
from harness.documents import IDLE, shell, task
from harness.host import IMAGES, command_line, program


def test_runs_and_stops(host, network):
    running = network.run_task("t", task(shell("main", IDLE, stopTimeout=60)))["status"]
    assert running["desiredStatus"] == "RUNNING"
    assert container(running, "main")["lastStatus"] == "RUNNING"
    assert [eni["eniId"] for eni in network.get("/v1/enis")["items"]] == [running["network"]["eniId"]]

    network.wait_log("t", "up")  # before that it does not listen to SIGTERM
    stopped = network.stop_task("t", reason="enough")["status"]
    assert stopped["stopCode"] == "UserInitiated" and "enough" in stopped["stoppedReason"]
    assert container(stopped, "main")["exitCode"] == 0
    assert network.get("/v1/enis")["items"] == []
    assert host.task_pids("t") == []

    network.delete("/v1/tasks/t").expect(204)
    network.request("GET", "/v1/tasks/t").expect(404)


def test_a_running_task_holds_no_pipe(host, network):
    """Beside its shim's pidfd and socket the agent needs nothing of it."""
    def target(fd):
        try:
            return os.readlink(fd)
        except FileNotFoundError:
            return ""  # closed meanwhile

    def pipes():
        fds = Path(f"/proc/{host.agent.pid}/fd")
        return sum(target(fd).startswith("pipe:") for fd in fds.iterdir())

    before = pipes()
    network.run_task("t", task())
    eventually(lambda: pipes() == before)  # janitors have one, while they work


def test_put_waits(network):
    reply = network.put("/v1/tasks/t", task(), wait="RUNNING").expect(201)
    assert reply["status"]["lastStatus"] == "RUNNING"
    network.stop_task("t")


def test_the_same_task_again_is_the_task_as_it_is(network):
    network.run_task("t", task())
    again = network.put("/v1/tasks/t", task(cpu=".25 vCPU", memory="0.5 GB")).expect(200)
    assert again["status"]["lastStatus"] == "RUNNING"
    differs = network.put("/v1/tasks/t", task(cpu="512", memory="1024"))
    differs.expect(409)
    assert {"/cpu", "/memory"} <= set(differs.pointers)
    network.delete("/v1/tasks/t").expect(409)
    network.stop_task("t")
    assert network.put("/v1/tasks/t", task()).expect(200)["status"]["lastStatus"] == "STOPPED"


def test_the_order_of_variables_is_none(network):
    variables = [{"name": name, "value": name.lower()} for name in ("B", "A", "C")]
    network.run_task("t", task(shell("main", IDLE, environment=variables)))
    network.put("/v1/tasks/t", task(shell("main", IDLE, environment=variables[::-1]))).expect(200)
    other = [*variables[::-1][:2], {"name": "B", "value": "other"}]
    differs = network.put("/v1/tasks/t", task(shell("main", IDLE, environment=other)))
    differs.expect(409)
    assert differs.pointers == ["/containerDefinitions/0/environment/2/value"]
    network.stop_task("t")


def test_an_essential_exit_stops_the_task(network):
    network.put("/v1/tasks/t", task(shell("main", "exit 3"), shell("side", IDLE, essential=False))).expect(201)
    stopped = network.wait_task("t", is_stopped)["status"]
    assert stopped["stopCode"] == "EssentialContainerExited"
    assert stopped["stoppedReason"] == "Essential container in task exited"
    assert container(stopped, "main")["exitCode"] == 3
    assert container(stopped, "side")["lastStatus"] == "STOPPED"


def test_an_image_names_its_stop_signal_and_command(make_host, tmp_path):
    config = json.loads((IMAGES / "busybox.json").read_text())
    config["config"]["StopSignal"] = "SIGUSR1"
    (tmp_path / "busybox.json").write_text(json.dumps(config))
    shutil.copy(IMAGES / "busybox.squashfs", tmp_path)
    client = make_host(image_directory=tmp_path).client
    client.apply(documents.network())
    client.run_task("t", task(shell("main", IDLE.replace("exit 0' TERM", "exit 5' USR1"), stopTimeout=60)))
    client.wait_log("t", "up")
    assert container(client.stop_task("t")["status"], "main")["exitCode"] == 5

    del config["config"]["Cmd"]
    (tmp_path / "busybox.json").write_text(json.dumps(config))
    client.put("/v1/tasks/u", task({"name": "main", "image": "busybox"})).expect(201)
    stopped = client.wait_task("u", is_stopped)["status"]
    assert stopped["stoppedReason"].startswith("CannotCreateContainerError: container main: neither")


def test_a_signal_is_128_and_its_number(host, network):
    network.run_task("t", task(shell("main", "exec sleep 4711")))
    host.kill_in_task("t", "KILL", "4711")
    assert container(network.wait_task("t", is_stopped)["status"], "main")["exitCode"] == 137


def test_logs_are_kept_with_their_stream(network):
    network.put("/v1/tasks/t", task(shell("main", "echo out; echo err >&2; exit 0"))).expect(201)
    network.wait_task("t", is_stopped)
    log = network.log("t")
    assert "out" in log and "err" in log


def test_a_follower_may_come_before_the_first_line(host, network):
    network.run_task("t", task(shell("main", "sleep 2; echo late; exec sleep 100000")))
    follower = host.spawn(program("penstockctl"), "--socket", network.path, "logs", "-f", "t", stdout=subprocess.PIPE)
    try:
        assert select.select([follower.stdout], [], [], PATIENCE)[0], "the line came, and nobody was told"
        assert follower.stdout.readline() == b"late\n"
    finally:
        follower.kill()
        follower.wait()


def test_dependencies_order_start(network):
    document = task(
        shell("main", "cat /data/order; exec sleep 60", mountPoints=[mount()],
              dependsOn=[{"containerName": "setup", "condition": "SUCCESS"}]),
        shell("setup", "echo prepared >/data/order", essential=False, mountPoints=[mount()]),
        volumes=[{"name": "data"}],
    )
    status = network.run_task("t", document)["status"]
    assert container(status, "setup")["exitCode"] == 0
    network.wait_log("t", "prepared")
    network.stop_task("t")


def test_a_failed_dependency_fails_the_task(network):
    document = task(
        shell("main", IDLE, dependsOn=[{"containerName": "setup", "condition": "SUCCESS"}]),
        shell("setup", "exit 1", essential=False),
    )
    network.put("/v1/tasks/t", document).expect(201)
    stopped = network.wait_task("t", is_stopped)["status"]
    assert stopped["stopCode"] == "TaskFailedToStart"
    assert stopped["stoppedReason"] == "TaskDependencyError: container setup did not reach SUCCESS"


def test_complete_takes_any_exit(network):
    document = task(
        shell("main", IDLE, dependsOn=[{"containerName": "setup", "condition": "COMPLETE"}]),
        shell("setup", "exit 3", essential=False),
    )
    status = network.run_task("t", document)["status"]
    assert container(status, "setup")["exitCode"] == 3
    network.stop_task("t")


def test_a_dependency_past_its_start_timeout_fails_the_task(network):
    never = {"command": ["CMD-SHELL", "exit 1"], "interval": 5, "timeout": 2, "retries": 10}
    document = task(
        shell("main", IDLE, dependsOn=[{"containerName": "setup", "condition": "HEALTHY"}]),
        shell("setup", IDLE, essential=False, healthCheck=never, startTimeout=2),
    )
    network.put("/v1/tasks/t", document).expect(201)
    stopped = network.wait_task("t", is_stopped)["status"]
    assert stopped["stopCode"] == "TaskFailedToStart", stopped
    assert stopped["stoppedReason"] == "TaskDependencyError: container setup did not reach HEALTHY"


def test_dependencies_order_the_end(network):
    last = "trap 'sleep 1; echo main >>/data/order; exit 0' TERM; sleep 100000 & echo up; wait $!"
    first = "trap 'echo base >>/data/order; cat /data/order; exit 0' TERM; sleep 100000 & echo up; wait $!"
    patient = {"mountPoints": [mount()], "stopTimeout": 60}
    document = task(
        shell("main", last, dependsOn=[{"containerName": "base", "condition": "START"}], **patient),
        shell("base", first, **patient),
        volumes=[{"name": "data"}],
    )
    network.run_task("t", document)
    for name in ("main", "base"):
        network.wait_log("t", "up", name)
    network.stop_task("t")
    assert network.log("t", "base") == "up\nmain\nbase\n"


def test_what_cannot_start_says_why(network):
    broken = {"command": shell("command", "", command=["no-such-program"]), "user": shell("user", "", user="stranger"),
              "group": shell("group", "", user="0:strangers")}
    document = task(shell("main", IDLE), *({**container, "essential": False} for container in broken.values()))
    network.run_task("t", document)
    network.wait_log("t", "up")
    status = network.stop_task("t")["status"]
    assert {name: container(status, name)["reason"] for name in broken} == {
        "command": 'CannotStartContainerError: exec "no-such-program": executable file not found in $PATH',
        "user": "CannotStartContainerError: unable to find user stranger: no matching entries in passwd file",
        "group": "CannotStartContainerError: unable to find group strangers: no matching entries in group file",
    }
    assert all("exitCode" not in container(status, name) for name in broken)


def test_an_essential_container_that_cannot_start_fails_the_task(network):
    network.put("/v1/tasks/t", task(shell("main", "", command=["no-such-program"]))).expect(201)
    stopped = network.wait_task("t", is_stopped)["status"]
    assert stopped["stopCode"] == "TaskFailedToStart"
    assert stopped["stoppedReason"].startswith("CannotStartContainerError: exec")


def test_a_stopped_task_is_metered_and_forgotten_in_time(make_host):
    host = make_host(stopped_retention_seconds=1)
    host.client.apply(documents.network())
    host.client.run_task("t", task())
    host.client.request("POST", "/v1/tasks/t/stop", wait="STOPPED").expect(200)  # soon it is forgotten
    records = [json.loads(line) for line in open(host.state / "metering/records.ndjson", encoding="utf-8")]
    assert [(record["task"], record["billedSeconds"]) for record in records] == [("t", 60)]
    eventually(lambda: host.client.raw("GET", "/v1/tasks/t").status == 404)
    eventually(lambda: not any((host.state / "cells").iterdir()))


@pytest.mark.slow
def test_health_checks_decide(network):
    """A container that waits for a HEALTHY one waits through an UNHEALTHY that passes."""
    same_place = " && ".join(f'[ "$(readlink /proc/self/ns/{kind})" = "$(readlink /proc/1/ns/{kind})" ]'
                             for kind in ("pid", "mnt", "ipc", "net", "uts"))
    slow = f"[ -e /again ] || {{ touch /again; exit 1; }}; {same_place}"
    check = {"command": ["CMD-SHELL", slow], "interval": 5, "timeout": 60, "retries": 1}
    document = task(
        shell("main", IDLE, healthCheck=check),
        shell("late", IDLE, dependsOn=[{"containerName": "main", "condition": "HEALTHY"}]),
    )
    status = network.run_task("t", document)["status"]
    assert container(status, "main")["healthStatus"] == "HEALTHY"
    network.stop_task("t")


# Where a kernel takes its time to find that there is nothing.
MAZE = "for i in $(seq 39); do ln -s $(printf './%.0s' $(seq 1000))l$((i + 1)) l$i; done"


def test_a_container_that_has_not_begun_does_not_begin(network):
    """It still looks for its program when the task is stopped."""
    path = {"name": "PATH", "value": "/data/l1:" * 3000 + "/bin"}
    document = task(
        shell("main", IDLE),
        shell("maze", "cd /data; " + MAZE, essential=False, mountPoints=[mount()]),
        shell("late", IDLE, environment=[path], stopTimeout=60, mountPoints=[mount()],
              dependsOn=[{"containerName": "maze", "condition": "SUCCESS"}]),
        volumes=[{"name": "data"}],
    )
    network.put("/v1/tasks/t", document).expect(201)
    network.wait_task("t", lambda status: container(status, "maze")["lastStatus"] == "STOPPED")
    late = container(network.stop_task("t")["status"], "late")
    assert "exitCode" not in late and network.log("t", "late") == ""


@pytest.mark.slow
def test_failing_checks(host, network):
    """Until it executes its program a check is a copy of init, secrets and all: the container must not see that.
    Past its timeout a check ends with all that it has started."""
    missing = {"command": ["CMD", "nothing-like-this"], "interval": 5, "timeout": 2, "retries": 1}
    endless = {"command": ["CMD-SHELL", "sleep 4711 & sleep 4711"], "interval": 5, "timeout": 2, "retries": 1}
    spy = "exec 2>/dev/null; PATH=/bin; cd /; " + MAZE + """
        while :; do for p in /proc/[0-9]*; do
            [ $p != /proc/1 ] && read -r name <$p/comm || continue
            true <$p/environ && name="opened $name"
            [ "$name" = "$before" ] || echo "$name"; before=$name
        done; done"""
    path = {"name": "PATH", "value": "/l1:" * 500 + "/bin"}
    network.run_task("t", task(shell("main", spy, healthCheck=missing, environment=[path]),
                               shell("side", IDLE, healthCheck=endless)))
    for name in ("main", "side"):
        network.wait_task("t", lambda status: container(status, name)["healthStatus"] == "UNHEALTHY")
    assert not [pid for pid in host.task_pids("t") if "4711" in command_line(pid)]
    log = network.log("t")
    assert "penstock-init" in log and "opened" not in log
    network.stop_task("t")


def test_an_unknown_image_fails_the_task_by_name(network):
    broken = task({"name": "main", "image": "nothing-like-this"})
    network.put("/v1/tasks/t", broken).expect(201)
    stopped = network.wait_task("t", is_stopped)["status"]
    assert stopped["stopCode"] == "TaskFailedToStart"
    assert stopped["stoppedReason"].startswith("CannotPullContainerError")


def test_environment_user_and_directory(network):
    network.put(
        "/v1/tasks/t",
        task(shell("main", 'echo "$GREETING $(id -u) $(pwd)"', user="1000:1000", workingDirectory="/tmp",
                   environment=[{"name": "GREETING", "value": "hello"}])),
    ).expect(201)
    network.wait_task("t", is_stopped)
    assert "hello 1000 /tmp" in network.log("t")


def test_what_a_container_is_given(network):
    """Groups as with Docker, an ipc namespace of its own."""
    script = "id -G; readlink /proc/self/ns/ipc; exec sleep 60"
    users = {"named": "web", "other": "web:nogroup", "main": "0"}
    containers = [shell(name, script, user=user) for name, user in users.items()]
    network.run_task("t", task(*containers))
    for name in users:
        network.wait_log("t", "ipc:", name)
    said = {name: network.log("t", name).splitlines() for name in users}
    network.stop_task("t")
    assert {name: lines[0] for name, lines in said.items()} == {"named": "1000 50", "other": "65534", "main": "0"}
    assert len({lines[1] for lines in said.values()}) == 3


def test_a_read_only_root(network):
    script = ("pwd; for file in /file /etc/hosts; do (echo x >>$file) || echo refused; done; "
              "echo x >/dev/shm/file; exit 3")
    document = task(shell("main", script, readonlyRootFilesystem=True, workingDirectory="/made/for/it"))
    network.put("/v1/tasks/t", document).expect(201)
    assert container(network.wait_task("t", is_stopped)["status"], "main")["exitCode"] == 3
    log = network.log("t")
    assert log.startswith("/made/for/it\n") and log.count("refused") == 2


def test_containers_share_the_ephemeral_disk(network):
    document = task(
        shell("main", "until [ -s /data/two ]; do sleep 0.1; done; cat /data/two; df -k /data",
              mountPoints=[mount()]),
        shell("side", "echo from-side >/data/two; sleep 60", essential=False, mountPoints=[mount()]),
        volumes=[{"name": "data"}],
    )
    network.put("/v1/tasks/t", document).expect(201)
    network.wait_task("t", is_stopped)
    log = network.log("t")
    assert "from-side" in log
    size_kib = next(int(word) for word in log.split() if word.isdigit() and int(word) > 1 << 20)
    assert 18 << 20 < size_kib <= 20 << 20


def test_metadata_is_answered_inside(network):
    script = 'wget -qO- "$ECS_CONTAINER_METADATA_URI_V4"; echo; wget -qO- "$ECS_CONTAINER_METADATA_URI_V4/task"'
    network.put("/v1/tasks/t", task(shell("main", script))).expect(201)
    network.wait_task("t", is_stopped)
    log = network.log("t")
    assert '"DockerName"' in log and '"Containers"' in log and '"main"' in log


def mount():
    return {"sourceVolume": "data", "containerPath": "/data"}


def test_a_container_cannot_listen_to_its_siblings(network):
    """Packet sockets would show the session token; raw sockets, which ping wants, do not."""
    script = "ping -c 1 127.0.0.1 || exit 1; arping -c 1 -w 1 -I eth0 10.0.1.1; exit 3"
    network.put("/v1/tasks/t", task(shell("main", script))).expect(201)
    stopped = network.wait_task("t", is_stopped)["status"]
    assert container(stopped, "main")["exitCode"] == 3
    assert "Operation not permitted" in network.log("t")


def test_tasks_started_at_once_share_an_image(network):
    for number in range(4):
        network.put(f"/v1/tasks/t{number}", task()).expect(201)
    for number in range(4):
        network.wait_task(f"t{number}", is_running)
        network.stop_task(f"t{number}")
