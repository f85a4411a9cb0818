# SPDX-License-Identifier: Apache-2.0
"""Every row of the step table made to fail, and the agent killed after every row of
start and of stop: everything is undone or adopted, and fsck finds nothing.

PENSTOCK_FAULT=STEP:apply|undo:fail|kill|spin makes penstockd fail that step, or end as by
kill -9 right after it."""

import shutil

import pytest

from harness import documents
from harness.client import container, is_running, is_stopped
from harness.documents import IDLE, shell, target_group, task
from harness.host import IMAGES

STEPS = ["image", "cell", "disk", "eni", "policy", "link", "volumes", "vmm", "guest", "targets"]


def document():
    """Has something to do at every step. Waits for its SIGTERM, so that stopping is as quick as
    can be."""
    main = shell("main", IDLE, portMappings=[{"containerPort": 80}],
                 mountPoints=[{"sourceVolume": "data", "containerPath": "/data"}])
    return task(
        main,
        volumes=[{"name": "data"}],
        loadBalancers=[{"targetGroup": "web", "containerName": "main", "containerPort": 80}],
    )


@pytest.fixture
def network(network):
    """With a balancer before the tasks."""
    listener = {"protocol": "TCP", "port": 80, "targetGroup": "web"}
    network.apply(
        {
            "/v1/target-groups/web": target_group(delay=1),
            "/v1/load-balancers/front": {"subnetId": "web", "securityGroups": ["web"], "listeners": [listener]},
        }
    )
    return network


def targets(host):
    return host.client.get("/v1/target-groups/web/targets")["items"]


def assert_works(host):
    """Nothing is left, nothing is held back: the next task runs and stops."""
    status, report = host.fsck()
    assert status == 0, report
    assert targets(host) == []
    host.client.run_task("next", document())
    assert len(targets(host)) == 1
    host.client.stop_task("next")


def assert_stopped_by_user(status):
    """An interrupted stop is still the stop that was asked for, and the exit code is still known."""
    assert status["stopCode"] == "UserInitiated", status
    assert container(status, "main")["exitCode"] == 0, status


@pytest.mark.parametrize("step", STEPS)
def test_a_failing_step_is_undone(host, network, step):
    host.stop()
    host.start(PENSTOCK_FAULT=f"{step}:apply:fail")
    network.put("/v1/tasks/t", document()).expect(201)
    stopped = network.wait_task("t", is_stopped)["status"]
    assert stopped["stopCode"] == "TaskFailedToStart" and stopped["stoppedReason"] and stopped["stoppingAt"]
    assert container(stopped, "main")["lastStatus"] == "STOPPED"
    assert network.get("/v1/enis")["items"] == [] and host.task_pids("t") == []
    host.stop()
    host.start()
    assert_works(host)


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_a_step_of_start(host, network, step):
    host.stop()
    host.start(PENSTOCK_FAULT=f"{step}:apply:kill")
    try:
        network.put("/v1/tasks/t", document())
    except OSError:
        pass  # killed before it could answer
    assert host.wait_agent() == -9
    host.start()
    network.wait_task("t", is_running)
    network.stop_task("t")
    assert_works(host)


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_a_step_of_stop(host, network, step):
    host.stop()
    host.start(PENSTOCK_FAULT=f"{step}:undo:kill")
    network.run_task("t", document())
    network.wait_log("t", "up")  # before that its shell does not handle SIGTERM
    try:
        network.request("POST", "/v1/tasks/t/stop")
    except OSError:
        pass
    assert host.wait_agent() == -9
    host.start()
    assert_stopped_by_user(network.wait_task("t", is_stopped)["status"])
    assert_works(host)


@pytest.mark.parametrize("step", STEPS)
def test_a_failing_undo_is_reported_and_tried_again(host, network, step):
    host.stop()
    host.start(PENSTOCK_FAULT=f"{step}:undo:fail")
    network.run_task("t", document())
    network.wait_log("t", "up")
    network.request("POST", "/v1/tasks/t/stop").expect(200)
    found = network.wait_task("t", lambda status: status.get("undoError") or is_stopped(status))
    assert not is_stopped(found["status"]), "a task whose undo failed is not stopped"
    host.stop()
    host.start()
    assert_stopped_by_user(network.wait_task("t", is_stopped)["status"])
    assert_works(host)


def test_an_image_that_went_before_a_restart_fails_the_task(make_host, tmp_path):
    """Tried again, for a passing fault of the agent's; never run with another one's image."""
    for file in IMAGES.glob("busybox.*"):
        shutil.copy(file, tmp_path)
        shutil.copy(file, tmp_path / file.name.replace("busybox", "other"))
    host = make_host(start=False, image_directory=tmp_path)
    host.start(PENSTOCK_FAULT="disk:apply:kill")
    host.client.apply(documents.network())
    try:
        host.client.put("/v1/tasks/t", task(shell("main", IDLE), {**shell("side", IDLE), "image": "other"}))
    except OSError:
        pass
    assert host.wait_agent() == -9
    (tmp_path / "other.squashfs").unlink()
    host.start()
    stopped = host.client.wait_task("t", is_stopped)["status"]
    assert "CannotPullContainerError" in stopped["stoppedReason"]
