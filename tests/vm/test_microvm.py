# SPDX-License-Identifier: Apache-2.0
"""Real microVMs: QEMU's microvm machine under TCG, Debian's kernel, penstock-init."""

import json
import os

import pytest

from harness import documents
from harness.client import container, eventually, is_running, is_stopped
from harness.documents import IDLE, shell, task, tcp
from harness.host import command_line

pytestmark = pytest.mark.slow


@pytest.fixture
def host(make_host):
    return make_host(driver="qemu", accel="tcg")


def run_script(host, script, **fields):
    """Runs a task of one container to its end; its log."""
    host.client.put("/v1/tasks/t", task(shell("main", script, **fields.pop("container", {})), **fields)).expect(201)
    stopped = host.client.wait_task("t", is_stopped)["status"]
    return stopped, host.client.log("t")


def test_boots_runs_and_stops(host, network):
    running = network.run_task("t", task(shell("main", IDLE, stopTimeout=60)))["status"]
    assert container(running, "main")["lastStatus"] == "RUNNING"
    promised = network.get("/v1/host")["capacity"]["memoryMiB"]["promised"] << 20
    assert host.limits("t") == (0.25, promised) and promised > 512 << 20, "the VMM's overhead is charged"
    network.wait_log("t", "up")  # before that it does not listen to SIGTERM
    stopped = network.stop_task("t")["status"]
    assert stopped["stopCode"] == "UserInitiated" and container(stopped, "main")["exitCode"] == 0
    assert host.task_pids("t") == []


def test_the_machine_inside(host, network):
    stopped, log = run_script(
        host, "uname -r; nproc; grep -w vda /proc/partitions; ip -4 addr show eth0; cat /etc/resolv.conf; "
        "arping -c 1 -w 1 -I eth0 10.0.1.1; exit 4"
    )
    assert container(stopped, "main")["exitCode"] == 4
    assert "cloud-amd64" in log
    assert str(20 << 20) in log, "a disk of exactly 20 GiB"
    assert stopped["network"]["privateIpv4Address"] in log
    assert "Operation not permitted" in log, "no packet sockets for containers"


def test_what_a_document_says(host):
    """As much as fits into one boot."""
    objects = documents.network()
    objects["/v1/vpcs/net"].update(mtu=1400, dnsServers=["10.0.0.2", "192.0.2.53"])
    host.client.apply(objects)
    script = """cat /etc/resolv.conf; grep ip- /etc/hosts; cat /etc/hostname; echo mtu $(cat /sys/class/net/eth0/mtu)
        echo user $(id -u) $(id -G); echo files $(ulimit -Sn) $(ulimit -Hn)
        (echo x >/file) 2>/dev/null || echo refused; cat /volume/ready
        for path in "" /task; do wget -qO- $ECS_CONTAINER_METADATA_URI_V4$path; echo; done; """ + IDLE
    volume = {"mountPoints": [{"sourceVolume": "data", "containerPath": "/volume"}]}
    containers = [
        shell("main", script, user="web", readonlyRootFilesystem=True, **volume,
              dependsOn=[{"containerName": "setup", "condition": "SUCCESS"}],
              portMappings=[{"containerPort": 80}, {"containerPortRange": "8000-8009"}],
              healthCheck={"command": ["CMD-SHELL", "true"], "interval": 5, "timeout": 60, "retries": 10}),
        shell("setup", "echo ready >/volume/ready", essential=False, **volume),
        shell("after", "exit 3", essential=False,
              dependsOn=[{"containerName": "main", "condition": "HEALTHY"}]),
    ]
    host.client.put("/v1/tasks/t", task(*containers, volumes=[{"name": "data"}])).expect(201)
    found = host.client.wait_task("t", lambda status: container(status, "after")["lastStatus"] == "STOPPED")["status"]
    assert container(found, "main")["healthStatus"] == "HEALTHY" and container(found, "setup")["exitCode"] == 0
    assert container(found, "after")["exitCode"] == 3
    address = found["network"]["privateIpv4Address"]
    name = "ip-" + address.replace(".", "-")
    *lines, of_container, of_task, up = host.client.log("t").splitlines()
    assert lines == ["nameserver 10.0.0.2", "nameserver 192.0.2.53", f"{address} {name}", name, "mtu 1400",
                     "user 1000 1000 50", "files 65535 65535", "refused", "ready"] and up == "up"
    of_container, of_task = json.loads(of_container), json.loads(of_task)
    assert of_container["Name"] == "main" and of_container["Networks"][0]["IPv4Addresses"] == [address]
    assert of_container["Ports"] == [{"ContainerPort": 80, "Protocol": "tcp"},
                                     {"ContainerPortRange": "8000-8009", "Protocol": "tcp"}]
    assert of_task["Limits"] == {"CPU": 0.25, "Memory": 512}
    assert {one["Name"] for one in of_task["Containers"]} == {"main", "setup", "after"}
    host.client.stop_task("t")


def test_what_a_container_deletes_is_given_back(host, network):
    """The disk is a sparse file of the host: deleted files are holes again."""
    script = ("dd if=/dev/zero of=/file bs=1M count=200 2>/dev/null; sync; "
              "trap 'rm /file; sync; sleep 5; exit 0' TERM; sleep 100000 & echo up; wait $!")
    network.run_task("t", task(shell("main", script, stopTimeout=60)))
    network.wait_log("t", "up")
    with open(host.state / "disks/t.img", "rb") as disk:
        mebibytes = lambda: os.fstat(disk.fileno()).st_blocks * 512 >> 20
        before = mebibytes()
        assert before >= 200
        network.request("POST", "/v1/tasks/t/stop", None).expect(200)
        eventually(lambda: mebibytes() <= before - 190)
    network.wait_task("t", is_stopped)


def test_a_larger_disk_is_larger(host, network):
    document = {"ephemeralStorage": {"sizeInGiB": 30}}
    assert str(30 << 20) in run_script(host, "cat /proc/partitions", **document)[1]


def test_the_vmm_is_unprivileged(host, network):
    network.run_task("t", task())
    vmm = [pid for pid in host.task_pids("t") if "qemu" in open(f"/proc/{pid}/comm", encoding="ascii").read()]
    assert len(vmm) == 1
    with open(f"/proc/{vmm[0]}/status", encoding="ascii") as file:
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
    assert set(status["Uid"].split()) & {"0"} == set() and status["CapEff"] == "0" * 16
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status.get("Seccomp_filters", "2") == "2", "ours and QEMU's own"
    shim = [pid for pid in host.task_pids("t") if pid not in vmm]
    with open(f"/proc/{shim[0]}/status", encoding="ascii") as file:
        assert "Seccomp:\t2\n" in file.read(), "the guest has connected"
    with open(f"/proc/{vmm[0]}/net/dev", encoding="ascii") as file:
        assert [line.split(":")[0].strip() for line in file if ":" in line] == ["lo"]
    assert set(os.listdir(f"/proc/{vmm[0]}/root")) == {"bin", "dev", "lib", "lib64", "proc", "usr"}
    assert set(os.listdir(f"/proc/{vmm[0]}/root/dev")) == {"null", "urandom"}
    assert all("ro" in mount.split()[5].split(",") for mount in
               open(f"/proc/{vmm[0]}/mountinfo", encoding="ascii") if mount.split()[4] != "/proc")
    network.stop_task("t")


def test_adoption_of_a_microvm(host, network):
    side = shell("side", "sleep 5; exit 7", essential=False)
    before = network.run_task("t", task(shell("main", IDLE), side))["status"]
    host.restart()
    found = network.wait_task("t", lambda status: container(status, "side")["lastStatus"] == "STOPPED")["status"]
    assert found["startedAt"] == before["startedAt"] and container(found, "side")["exitCode"] == 7
    network.stop_task("t")


@pytest.mark.parametrize("step", ["eni", "vmm", "guest"])
def test_killed_after_a_step_of_start(host, network, step):
    """Killed with a tap and no VMM, with a VMM and no guest, with a guest that nobody recorded:
    the next agent brings the task up all the same."""
    host.stop()
    host.start(PENSTOCK_FAULT=f"{step}:apply:kill")
    try:
        network.put("/v1/tasks/t", task())
    except OSError:
        pass  # killed before it could answer
    assert host.wait_agent() == -9
    vmms = [pid for pid in host.task_pids("t") if "qemu" in command_line(pid)]
    assert len(vmms) == (0 if step == "eni" else 1)
    host.start()
    network.wait_task("t", is_running)
    assert step == "eni" or set(vmms) <= set(host.task_pids("t")), "adopted, not started anew"
    network.stop_task("t")


@pytest.mark.parametrize("step", ["vmm", "eni"])
def test_killed_after_a_step_of_stop(host, network, step):
    host.stop()
    host.start(PENSTOCK_FAULT=f"{step}:undo:kill")
    network.run_task("t", task())
    network.request("POST", "/v1/tasks/t/stop").expect(200)
    assert host.wait_agent() == -9
    host.start()
    network.wait_task("t", is_stopped)
    assert host.task_pids("t") == []


def test_a_killed_vmm_ends_its_task(host, network):
    network.run_task("t", task())
    host.kill_in_task("t", "KILL", "qemu-system")
    assert network.wait_task("t", is_stopped)["status"]["stoppedReason"]


@pytest.fixture
def files(host, ganesha):
    """The VPC with an NFS server attached and registered as fs-1."""
    objects = documents.network(tcp(80, "10.0.0.0/16"))
    objects["/v1/vpcs/net"]["attachments"] = [{"interface": "att-files", "address": "192.168.80.1/24"}]
    objects["/v1/file-systems/fs-1"] = {
        "mountTargets": [{"ip": "192.168.80.2", "port": 2049}],
        "exportPath": "/fs-1",
    }
    host.client.apply(objects)
    return ganesha


def shared(**fields):
    efs = {"fileSystemId": "fs-1", "rootDirectory": fields.pop("rootDirectory", "/")}
    return {
        "volumes": [{"name": "shared", "efsVolumeConfiguration": efs}],
        "container": {"mountPoints": [{"sourceVolume": "shared", "containerPath": "/shared", **fields}]},
    }


def test_nfs_is_shared_with_the_server(host, files):
    (files.exported / "from-server").write_text("hello\n")
    script = ("cat /shared/from-server; echo done >/shared/from-task; grep nfs /proc/mounts; "
              "echo client $(cat /sys/module/nfs/parameters/nfs4_unique_id)")
    _, log = run_script(host, script, **shared())
    assert "hello" in log and "vers=4.1" in log
    assert "client t\n" in log, "to a server, no two tasks are the same client"
    assert (files.exported / "from-task").read_text() == "done\n"


def test_nfs_read_only_and_root_directory(host, files):
    (files.exported / "app").mkdir()
    (files.exported / "app/file").write_text("inside\n")
    _, log = run_script(host, "cat /shared/file; echo x >/shared/new || echo refused",
                        **shared(rootDirectory="/app", readOnly=True))
    assert "inside" in log and "refused" in log


def test_a_missing_export_fails_the_task(host, files):
    stopped, _ = run_script(host, "true", **shared(rootDirectory="/nowhere"))
    assert stopped["stopCode"] == "TaskFailedToStart"
    assert stopped["stoppedReason"].startswith("ResourceInitializationError")
    assert "no such directory on the server" in stopped["stoppedReason"]
