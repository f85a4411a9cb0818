# SPDX-License-Identifier: Apache-2.0
"""The figures of start.sh. Tasks are started one after another, so that none waits for another."""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import documents  # noqa: E402
from harness.client import is_running  # noqa: E402
from harness.contract import Contract  # noqa: E402
from harness.documents import IDLE, shell, task  # noqa: E402
from harness.host import GUEST, ROOT, Host  # noqa: E402

PLACE = ("image", "cell", "disk", "eni", "policy", "link")
QUICK = "--quick" in sys.argv
STARTS, MANY, DISKS, BOOTS = (5, 10, 3, 1) if QUICK else (50, 200, 20, 10)


def figure(name, value, unit):
    print(f"figure {name} {value:.3f} {unit}", flush=True)


def percentile(values, share):
    return sorted(values)[int(len(values) * share)]


def say(text):
    print(text, file=sys.stderr, flush=True)


def milliseconds(run):
    before = time.monotonic()
    run()
    return (time.monotonic() - before) * 1000


def contract():
    return Contract(ROOT / "agent/api/openapi.yaml")


def network():
    """Room for many tasks."""
    return {**documents.network(), "/v1/subnets/web": {"vpcId": "net", "cidrBlock": "10.0.16.0/20"}}


# --- a task's place, and the agent's share of its start ---


def start_one(client, name):
    """The progress of a task from its acceptance to RUNNING."""
    client.put(f"/v1/tasks/{name}", task(shell("main", IDLE))).expect(201)
    return client.wait_task(name, is_running)["status"]["progress"]


def forget(client, name):
    client.stop_task(name, drainSeconds=0)
    client.delete(f"/v1/tasks/{name}").expect(204)


def ready_ms(progress):
    return max(progress[step]["startedUs"] + progress[step]["durationUs"] for step in PLACE) / 1000


def share_ms(progress):
    return sum(step["ownUs"] for step in progress.values()) / 1000


def measure_starts(client, existing):
    say(f"starting tasks beside {existing} others")
    start_one(client, "warm")
    forget(client, "warm")
    found = []
    for number in range(STARTS):
        found.append(start_one(client, f"t{number}"))
        forget(client, f"t{number}")
    for name, of in (("start_place", ready_ms), ("start_share", share_ms)):
        values = [of(progress) for progress in found]
        figure(f"{name}_p50_{existing}", percentile(values, 0.5), "ms")
        figure(f"{name}_p99_{existing}", percentile(values, 0.99), "ms")
    return percentile([progress["disk"]["durationUs"] / 1000 for progress in found], 0.5)


def resident_kib(pid):
    return int(re.search(r"VmRSS:\s*(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1))


def resident_agent(host):
    return resident_kib(host.agent.pid)


def measure_agent():
    with Host(contract(), cpu_units=1024 * 1024, memory_mib=1024 * 1024, disk_gib=100000) as host:
        host.start()
        host.client.apply(network())
        disk_ms = measure_starts(host.client, 0)
        idle = resident_agent(host)
        for number in range(MANY):
            start_one(host.client, f"many{number}")
        figure("memory_agent_idle", idle / 1024, "MiB")
        figure("memory_agent_per_task", (resident_agent(host) - idle) / MANY, "KiB")
        shim = host.client.task("many0")["status"]["shim"]["pid"]
        figure("memory_shim", resident_kib(shim) / 1024, "MiB")
        measure_starts(host.client, MANY)
        measure_disks(host, disk_ms)
        host.ctl("shutdown", "--stop-tasks")
        host.wait_agent()


# --- a disk, against what else makes one ---


def measure_disks(host, ours_ms):
    say("making disks by other means")
    figure("disk_p50", ours_ms, "ms")
    template = next((host.state / "templates").glob("20-*.img"))
    copy = host.directory / "copy.img"
    ways = {
        "cp": ["cp", "--sparse=always", template, copy],
        "mkfs": ["mkfs.ext4", "-q", "-F", copy, "20G"],
    }
    for name, argv in ways.items():
        values = []
        for _ in range(DISKS):
            values.append(milliseconds(lambda argv=argv: subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)))
            copy.unlink()
        figure(f"disk_{name}_p50", percentile(values, 0.5), "ms")
        figure(f"disk_vs_{name}", percentile(values, 0.5) / ours_ms, "x")


# --- a microVM, against QEMU by hand ---


def kernel_command_line(host, name):
    """As penstock gives it to the VM that runs: the TSC's rate stands in it."""
    for pid in host.task_pids(name):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        if "-append" in words:
            return words[words.index("-append") + 1]
    raise AssertionError(f"{name} has no VMM")


def boot_penstock():
    """PUT to RUNNING, with the kernel's command line of the last."""
    values = []
    with Host(contract(), driver="qemu") as host:
        host.start()
        host.client.apply(network())
        for number in range(BOOTS + 1):
            values.append(milliseconds(lambda n=number: start_one(host.client, f"vm{n}")))
            append = kernel_command_line(host, f"vm{number}")
            forget(host.client, f"vm{number}")
        host.ctl("shutdown", "--stop-tasks")
        host.wait_agent()
    return values[1:], append


def bare_files(directory):
    """Debian's kernel as its package has it, and an initramfs that powers off at once."""
    package = next((GUEST / "package").glob("*.deb"))
    subprocess.run(["dpkg", "-x", package, directory / "package"], check=True)
    root = directory / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    (root / "init").write_text("#!/bin/busybox sh\nexec /bin/busybox poweroff -f\n")
    (root / "init").chmod(0o755)
    names = "".join(f"{path.relative_to(root)}\n" for path in sorted(root.rglob("*")))
    with open(directory / "bare.cpio", "wb") as out:
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], cwd=root, input=names.encode(), stdout=out, check=True)
    return next((directory / "package/boot").glob("vmlinuz-*")), directory / "bare.cpio"


def boot_bare(append):
    """The same machine by hand, up to its first process."""
    values = []
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", dir="/var/tmp") as directory:
        kernel, initramfs = bare_files(Path(directory))
        argv = ["timeout", "120", "qemu-system-x86_64", "-M", "microvm,acpi=on,rtc=on", "-accel", "tcg,tb-size=64"]
        argv += ["-cpu", "max", "-m", "512", "-nodefaults", "-no-user-config", "-nographic", "-no-reboot"]
        argv += ["-serial", "null", "-kernel", kernel, "-initrd", initramfs, "-append", append]
        for _ in range(BOOTS):
            values.append(milliseconds(lambda: subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)))
    return values


if __name__ == "__main__":
    measure_agent()
    say("booting microVMs")
    ours, append = boot_penstock()
    bare = boot_bare(append)
    figure("start_microvm_p50", percentile(ours, 0.5), "ms")
    figure("start_bare_microvm_p50", percentile(bare, 0.5), "ms")
    figure("start_microvm_vs_bare", percentile(ours, 0.5) / percentile(bare, 0.5), "x")
