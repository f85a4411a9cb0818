# SPDX-License-Identifier: Apache-2.0
"""One agent's host: network and mount namespaces, a state directory, a penstockd in them."""

import contextlib
import errno
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from harness.client import PATIENCE, Client, eventually

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ["PENSTOCK_BUILD"])
IMAGES = Path(os.environ["PENSTOCK_IMAGES"])
GUEST = Path(os.environ["PENSTOCK_GUEST"])
SNAPSHOT = ROOT / "tests/lib/snapshot.sh"
WRAPPER = os.environ.get("PENSTOCK_WRAPPER", "").split()

LIMIT_FILES = ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us", "memory.max", "memory.limit_in_bytes")

_numbers = itertools.count(1)

# What makes a host's own namespaces: nothing outlives its standard input.
_HOLDER = """
mount -t tmpfs -o mode=755 penstock-test /run
mkdir -p /run/netns /run/penstock
ip link set lo up
echo ready
exec cat
"""


def program(name):
    return str(BUILD / "bin" / name)


class Host:
    """
    with Host(contract, driver="netns") as host:
        host.start()
        host.client.put(...)
        host.kill()            # as kill -9 would
        host.start()
    """

    def __init__(self, contract, state_mib=None, **settings):
        """`state_mib`: the state directory is a file system of its own, of that size."""
        self.install = f"t{os.getpid()}-{next(_numbers)}"
        self.directory = Path(tempfile.mkdtemp(prefix=f"penstock-{self.install}-", dir="/var/tmp"))
        self.state = self.directory / "state"
        self.log = self.directory / "penstockd.log"
        self.config = self.directory / "penstock.conf"
        self.agent = None
        self.client = Client(str(self.directory / "api.sock"), contract)
        self._write_config(settings)
        self.state_is_mounted = state_mib is not None
        if self.state_is_mounted:
            self.state.mkdir(mode=0o711)
            options = f"size={state_mib}m,mode=711"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "penstock-state", self.state], check=True)
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-e", "-c", _HOLDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.holder.stdout.readline() == b"ready\n"
        self.before = self.snapshot()

    def _write_config(self, settings):
        values = {
            "install": self.install,
            "state_directory": self.state,
            "runtime_directory": self.directory / "run",
            "image_directory": IMAGES,
            "guest_directory": GUEST,
            "program_directory": BUILD / "bin",
            "socket": self.client.path,
            "driver": "netns",
            "accel": "tcg",
            "log_to": "stderr",
            "log_level": "debug",
            "uid_first": 700000 + 1000 * (os.getpid() % 1000),
            "uid_count": 1000,
            "cpu_units": 65536,
            "memory_mib": 16384,
            "disk_gib": 1000,
            "cooldown_seconds": 1,
            **settings,
        }
        self.config.write_text("".join(f"{key} = {value}\n" for key, value in values.items()))

    @contextlib.contextmanager
    def inject(self, fault, *options):
        """Within it, system calls of the agent fail or wait, as strace's `inject=` says: "pwrite64:error=ENOSPC"
        (only SQLite calls that one)."""
        call = fault.partition(":")[0]
        argv = ["strace", "-qq", *options, "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={fault}"]
        tracer = subprocess.Popen([*argv, "-p", str(self.agent.pid)])
        try:
            eventually(lambda: f"TracerPid:\t{tracer.pid}\n" in Path(f"/proc/{self.agent.pid}/status").read_text())
            yield
        finally:
            tracer.terminate()
            tracer.wait()

    # --- processes in the host ---

    def command(self, *argv, namespace=None):
        """argv as it must be called from outside to run in this host, or in one of its namespaces."""
        enter = ["nsenter", f"--target={self.holder.pid}", "--net", "--mount", "--"]
        if namespace:
            enter += ["nsenter", f"--net=/run/netns/{namespace}", "--"]
        return [*enter, *map(str, argv)]

    def run(self, *argv, check=True, namespace=None, **options):
        done = subprocess.run(
            self.command(*argv, namespace=namespace),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            **options,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(map(str, argv))}: {done.returncode}\n{done.stderr}{done.stdout}")
        return done

    def spawn(self, *argv, namespace=None, **options):
        return subprocess.Popen(self.command(*argv, namespace=namespace), **options)

    # --- the agent ---

    def start(self, until="/readyz", **environment):
        """Starts penstockd and waits until it is ready (or alive: /healthz; None: not at all). nsenter and valgrind
        exec, so the process we hold is the agent itself."""
        with open(self.log, "ab") as log:
            self.agent = self.spawn(
                *WRAPPER,
                program("penstockd"),
                "--config",
                self.config,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
            )
        if until:
            self.wait_until(until)
        return self

    def wait_until(self, target):
        eventually(lambda: self._says_yes(target))

    def _says_yes(self, target):
        assert self.agent.poll() is None, f"penstockd ended:\n{self.log_tail()}"
        try:
            return self.client.raw("GET", target, timeout=5).status == 200
        except OSError:
            return False

    def wait_agent(self):
        """Waits for the end of the agent; its exit status."""
        status = self.agent.wait(PATIENCE)
        self.agent = None
        return status

    def kill(self):
        """kill -9: the agent gets no chance to tidy up."""
        self.agent.send_signal(signal.SIGKILL)
        return self.wait_agent()

    def stop(self):
        """SIGTERM: the agent ends, tasks go on."""
        self.agent.send_signal(signal.SIGTERM)
        status = self.wait_agent()
        assert status == 0, f"penstockd ended with {status}:\n{self.log_tail()}"

    def restart(self, **options):
        self.kill()
        return self.start(**options)

    def log_tail(self, lines=60):
        return "\n".join(self.log.read_text(errors="replace").split("\n")[-lines:]) if self.log.exists() else ""

    def ctl(self, *arguments, check=True):
        return self.run(
            program("penstockctl"), "--socket", self.client.path, *arguments, check=check
        )

    def fsck(self, *arguments):
        """The list of what carries our mark; (exit status, parsed output)."""
        done = self.run(
            program("penstockctl"), "fsck", "--config", self.config, "-o", "json", *arguments, check=False
        )
        return done.returncode, json.loads(done.stdout) if done.stdout.strip() else done.stderr

    # --- neighbours ---

    def add_neighbour(self, name, interface, address, gateway):
        """A namespace `name` with eth0, whose other end `interface` waits here for an attachment."""
        self.run("ip", "netns", "add", name)
        self.run("ip", "link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", name)
        for words in (
            ("link", "set", "lo", "up"),
            ("address", "add", address, "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("route", "add", "default", "via", gateway),
        ):
            self.run("ip", "-n", name, *words)

    # --- inside tasks of the netns driver ---

    def task_pids(self, task):
        """The processes in a task's cgroup."""
        return sorted({pid for found in cgroups(f"penstock-{self.install}/{task}") for pid in cgroup_pids(found)})

    def limits(self, task):
        """What the kernel holds a task to: (CPUs, bytes of memory), from either kind of tree."""
        found = {}
        for cgroup in cgroups(f"penstock-{self.install}/{task}"):
            for file in LIMIT_FILES:
                if (cgroup / file).exists():
                    found[file] = (cgroup / file).read_text().split()
        if "cpu.max" in found:
            quota, period = found["cpu.max"]
        else:
            (quota,), (period,) = found["cpu.cfs_quota_us"], found["cpu.cfs_period_us"]
        (memory,) = found.get("memory.max") or found["memory.limit_in_bytes"]
        return int(quota) / int(period), int(memory)

    def kill_in_task(self, task, name, words):
        """Sends a signal to the processes of a task whose command line has these words."""
        for pid in eventually(lambda: [pid for pid in self.task_pids(task) if words in command_line(pid)]):
            os.kill(pid, signal.Signals[f"SIG{name}"])

    def in_task(self, task, *argv, check=True, **options):
        """Runs argv in the network of a task, with the tools of the host."""
        home = os.stat(f"/proc/{self.holder.pid}/ns/net").st_ino
        for pid in self.task_pids(task):
            network = f"/proc/{pid}/ns/net"
            if os.stat(network).st_ino != home:
                return self.run("nsenter", f"--net={network}", "--", *argv, check=check, **options)
        raise AssertionError(f"task {task} has no process in a network of its own")

    # --- what is there ---

    def snapshot(self):
        return set(self.run("bash", SNAPSHOT, self.install, self.directory).stdout.splitlines())

    def leftovers(self):
        """What was not here before and carries our mark."""
        return sorted(line for line in self.snapshot() - self.before if self.install in line)

    def expect_nothing_left(self):
        """The host is as it was, or will be: a janitor may still be at work."""
        try:
            eventually(lambda: not self.leftovers())
        except AssertionError:
            raise AssertionError(f"left behind: {self.leftovers()}") from None

    def close(self):
        """Ends everything this host made, whatever state it is in: by its namespaces and its cgroups."""
        if self.agent:
            self.kill()
        for cgroup in cgroups(f"penstock-{self.install}"):
            kill_cgroup(cgroup)
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            if str(self.directory) in command_line(pid):
                kill_and_wait(pid)  # a janitor, still at work
        self.holder.stdin.close()
        self.holder.wait()
        if self.state_is_mounted:
            subprocess.run(["umount", "--lazy", self.state], check=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def cgroups(name):
    """The cgroups of this name, in every tree. Only the places where an agent makes them are
    looked at: a walk would meet those of others, as they come and go."""
    root = Path("/sys/fs/cgroup")
    return [path for path in (root / name, *root.glob(f"*/{name}")) if path.is_dir()]


def is_gone(error):
    return error.errno in (errno.ENOENT, errno.ENODEV)


def cgroup_pids(cgroup):
    """The processes in a cgroup; none when it is gone."""
    try:
        return [int(pid) for pid in (cgroup / "cgroup.procs").read_text().split()]
    except OSError as error:
        if is_gone(error):
            return []
        raise


def remove_cgroup(cgroup):
    """False while the kernel still counts a process that has ended."""
    try:
        cgroup.rmdir()
    except OSError as error:
        return is_gone(error)
    return True


def kill_cgroup(cgroup):
    """Kills what is in a cgroup of ours and removes it, deepest first."""
    for directory in sorted([cgroup, *cgroup.rglob("*/")], reverse=True):
        while pids := cgroup_pids(directory):
            for pid in pids:
                kill_and_wait(pid)
        eventually(lambda directory=directory: remove_cgroup(directory))


def kill_and_wait(pid):
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [], PATIENCE)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)
