# SPDX-License-Identifier: Apache-2.0
"""An image that is made to lead penstock-init, root on this host, out of the container."""

import os
import shutil
import subprocess

import pytest

from harness.client import container, is_stopped
from harness.documents import IDLE, shell, task
from harness.host import IMAGES

CONTENT = "the host's own\n"


@pytest.fixture
def trap(tmp_path):
    """A directory of the host with what the image's links aim at."""
    place = tmp_path / "trap"
    place.mkdir()
    for name in ("null", "hosts"):
        (place / name).write_text(CONTENT)
    return place


@pytest.fixture
def host(make_host, tmp_path, trap):
    tree, images = tmp_path / "tree", tmp_path / "images"
    images.mkdir()
    run = lambda *argv: subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    run("unsquashfs", "-quiet", "-no-progress", "-dest", str(tree), str(IMAGES / "busybox.squashfs"))
    (tree / str(trap).lstrip("/")).mkdir(parents=True)
    (tree / "dev").rmdir()
    (tree / "dev").symlink_to(trap)
    (tree / "etc/hosts").symlink_to(trap / "hosts")
    (tree / "etc/group").unlink()
    os.mkfifo(tree / "etc/group")
    run("mksquashfs", str(tree), str(images / "trap.squashfs"), "-noappend", "-no-progress", "-quiet")
    shutil.copy(IMAGES / "busybox.json", images / "trap.json")
    return make_host(image_directory=images)


def test_no_way_through_descriptors(host, network):
    """Image directories, log pipes: what init holds is no working directory of a container."""
    strays = [shell(f"fd{number}", "pwd -P; exit 3", essential=False, image="trap",
                    workingDirectory=f"/proc/self/fd/{number}")
              for number in range(3, 12)]
    host.client.run_task("t", task(shell("main", IDLE, image="trap"), *strays))
    for stray in strays:
        host.client.wait_task("t", lambda status: container(status, stray["name"])["lastStatus"] == "STOPPED")
        assert host.client.log("t", stray["name"]) == ""
    status = host.client.stop_task("t")["status"]
    assert all("working directory" in container(status, stray["name"])["reason"] for stray in strays)


def test_links_and_pipes_of_an_image(host, network, trap):
    script = "cat /proc/cmdline /etc/hosts; echo written >/etc/hosts; echo written >/dev/null; exit 3"
    host.client.put("/v1/tasks/t", task(shell("main", script, image="trap"))).expect(201)
    stopped = host.client.wait_task("t", is_stopped)["status"]
    assert container(stopped, "main")["exitCode"] == 3, stopped
    log = host.client.log("t")
    assert CONTENT not in log and stopped["network"]["privateIpv4Address"] in log
    assert {path.name: path.read_text() for path in trap.iterdir()} == {"null": CONTENT, "hosts": CONTENT}
