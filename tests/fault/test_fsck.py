# SPDX-License-Identifier: Apache-2.0
"""fsck finds what nobody owns, with and without an agent, and repairs it. What carries
another install's mark is none of its business."""

import json
import subprocess
from pathlib import Path

import pytest

from harness.documents import task

CGROUPS = [Path("/sys/fs/cgroup"), *(path for path in Path("/sys/fs/cgroup").glob("*") if path.is_dir())]


def plant_directory(host):
    (host.state / "cells/ghost").mkdir(parents=True)
    return host.state / "cells/ghost"


def plant_disk(host):
    (host.state / "disks").mkdir(exist_ok=True)
    disk = host.state / "disks/ghost.img"
    disk.write_bytes(b"")
    return disk


def unified():
    """The v2 tree, wherever it is mounted."""
    return next(path for path in CGROUPS if (path / "cgroup.controllers").exists())


def plant_cgroup(host):
    directory = unified() / f"penstock-{host.install}" / "ghost"
    directory.mkdir(parents=True)
    return directory


def plant_process(host):
    directory = plant_cgroup(host)
    sleeper = subprocess.Popen(["sleep", "600"])
    (directory / "cgroup.procs").write_text(str(sleeper.pid))
    return directory


class Planted:
    """Something seen by a command in the host, with the interface of a path."""

    def __init__(self, host, *argv):
        self.look = lambda: host.run(*argv, check=False).returncode == 0

    def exists(self):
        return self.look()


def plant_interface(host):
    inside = ("nsenter", f"--net=/run/netns/penstock-{host.install}-net", "--")
    name = "ps00000000ghost"
    host.run(*inside, "ip", "tuntap", "add", "dev", name, "mode", "tap")
    host.run(*inside, "ip", "link", "set", name, "alias", f"penstock {host.install} eni-ghost")
    return Planted(host, *inside, "ip", "link", "show", name)


def plant_namespace(host):
    name = f"penstock-{host.install}-ghost"
    host.run("ip", "netns", "add", name)
    host.run("ip", "-n", name, "link", "set", "lo", "alias", f"penstock {host.install} vpc ghost")
    return Planted(host, "test", "-e", f"/run/netns/{name}")


PLANTS = [plant_directory, plant_disk, plant_cgroup, plant_process, plant_interface, plant_namespace]


@pytest.mark.parametrize("agent", ["running", "down"])
@pytest.mark.parametrize("plant", PLANTS)
def test_an_orphan_is_found_and_repaired(host, network, plant, agent):
    network.run_task("t", task())
    status, report = host.fsck()
    assert status == 0 and report
    if agent == "down":
        host.kill()
    planted = plant(host)
    status, report = host.fsck()
    assert status != 0 and "ghost" in json.dumps(report)
    assert planted.exists(), "fsck alone changes nothing"
    host.fsck("--repair")
    status, report = host.fsck()
    assert (status, planted.exists()) == (0, False), report
    if agent == "down":
        host.start()
    assert network.stop_task("t")["status"]["stopCode"] == "UserInitiated"


def test_another_installs_things_are_left_alone(host, network):
    other = f"penstock-{host.install}x-ghost"
    host.run("ip", "netns", "add", other)
    host.run("ip", "-n", other, "link", "set", "lo", "alias", f"penstock {host.install}x vpc ghost")
    status, report = host.fsck("--repair")
    assert status == 0 and other not in json.dumps(report)
    host.run("test", "-e", f"/run/netns/{other}")
    host.run("ip", "netns", "delete", other)
