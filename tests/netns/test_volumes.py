# SPDX-License-Identifier: Apache-2.0
"""Volumes of the ephemeral disk: what a container finds where one is mounted."""

import json
import os
import subprocess

import pytest

from harness import documents
from harness.client import is_stopped
from harness.documents import shell, task
from harness.host import IMAGES


def run_log(client, document):
    client.put("/v1/tasks/t", document).expect(201)
    client.wait_task("t", is_stopped)
    return client.log("t").splitlines()


def mount(volume, path, **fields):
    return {"sourceVolume": volume, "containerPath": path, **fields}


@pytest.fixture
def app(make_host, tmp_path):
    """A host with the image `app`, whose VOLUME /scratch belongs to its user and holds something."""
    tree, images = tmp_path / "tree", tmp_path / "images"
    images.mkdir()

    def run(*argv):
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)

    run("unsquashfs", "-quiet", "-no-progress", "-dest", str(tree), str(IMAGES / "busybox.squashfs"))
    (tree / "scratch/deep").mkdir(parents=True)
    (tree / "scratch/deep/seed").write_text("seed\n")
    (tree / "scratch/link").symlink_to("/etc/passwd")
    os.mkfifo(tree / "scratch/fifo")
    os.setxattr(tree / "scratch/deep/seed", "user.color", b"green")
    for path in (tree / "scratch", tree / "scratch/deep/seed"):
        os.chown(path, 1000, 50)
    (tree / "scratch/deep/seed").chmod(0o4640)
    (tree / "scratch").chmod(0o2710)
    run("mksquashfs", str(tree), str(images / "app.squashfs"), "-noappend", "-no-progress", "-quiet")
    config = json.loads((IMAGES / "busybox.json").read_text())
    config["config"].update(User="web", Volumes={"/scratch/": {}, "/missing": {}})
    (images / "app.json").write_text(json.dumps(config))
    client = make_host(image_directory=images).client
    client.apply(documents.network())
    return client


def test_a_volume_gets_what_the_image_declares(app):
    script = ("stat -c '%u %g %a' /scratch; stat -c '%u %g %a' /scratch/deep/seed; cat /scratch/deep/seed; "
              "readlink /scratch/link; test -p /scratch/fifo && echo fifo; "
              "echo own >/scratch/own && echo written; stat -c '%u %a' /missing")
    mounts = [mount("data", "/scratch"), mount("other", "/missing")]
    document = task(shell("main", script, image="app", mountPoints=mounts),
                    volumes=[{"name": "data"}, {"name": "other"}])
    assert run_log(app, document) == ["1000 50 2710", "1000 50 4640", "seed", "/etc/passwd", "fifo", "written", "0 755"]


def test_only_an_empty_volume_is_filled(app):
    """And only where the image declares one."""
    script = "echo $(ls /scratch) $(stat -c '%u %a' /scratch); echo $(ls /plain) $(stat -c '%u %a' /plain)"
    document = task(
        shell("main", script, image="app", mountPoints=[mount("data", "/scratch"), mount("other", "/plain")],
              dependsOn=[{"containerName": "first", "condition": "SUCCESS"}]),
        shell("first", "echo >/data/mine", image="app", user="root", essential=False, mountPoints=[mount("data", "/data")]),
        volumes=[{"name": "data"}, {"name": "other"}])
    assert run_log(app, document) == ["mine 0 755", "0 755"]


def test_a_volume_on_etc_does_not_hide_the_names(network):
    script = """for file in hosts resolv.conf hostname; do test -e /etc/$file && echo $file; done; cat /etc/hostname
        (echo x >/etc/new) 2>/dev/null || echo refused"""
    for read_only, last in ((False, []), (True, ["refused"])):
        document = task(shell("main", script, mountPoints=[mount("etc", "/etc", readOnly=read_only)]),
                        volumes=[{"name": "etc"}])
        network.put(f"/v1/tasks/t-{len(last)}", document).expect(201)
        status = network.wait_task(f"t-{len(last)}", is_stopped)["status"]
        name = "ip-" + status["network"]["privateIpv4Address"].replace(".", "-")
        assert network.log(f"t-{len(last)}").split() == ["hosts", "resolv.conf", "hostname", name, *last]


def test_volumes_in_volumes(network):
    """Whatever their order in the document; the outer one may be read-only."""
    script = """echo x >/a/b/inner && echo inner; (echo x >/a/outer) 2>/dev/null || echo refused
        test -c /dev/null && echo x >/dev/shm/file && echo shared"""
    mounts = [mount("shared", "/dev/shm"), mount("inner", "/a/b"), mount("outer", "/a", readOnly=True)]
    document = task(shell("main", script, mountPoints=mounts),
                    volumes=[{"name": name} for name in ("shared", "inner", "outer")])
    assert run_log(network, document) == ["inner", "refused", "shared"]
