# SPDX-License-Identifier: Apache-2.0
"""A real NFS server (nfs-ganesha) in a namespace of a host."""

import select
import signal
import os

from harness.client import SLOWER
from harness.host import ROOT


class Ganesha:
    """Serves `exported` as /fs-1 on port 2049 of the namespace; ends with the `with` block."""

    def __init__(self, host, namespace):
        self.host = host
        self.namespace = namespace
        self.directory = host.directory / "ganesha"
        self.exported = self.directory / "export"
        self.server = None

    def __enter__(self):
        self.server = self.host.spawn(
            "bash", ROOT / "tests/lib/ganesha.sh", self.directory, namespace=self.namespace
        )
        pidfd = os.pidfd_open(self.server.pid)
        try:
            for _ in range(int(2000 * SLOWER)):
                if self._listens():
                    return self
                if select.select([pidfd], [], [], 0.01)[0]:
                    break
        finally:
            os.close(pidfd)
        raise AssertionError(f"nfs-ganesha does not listen; see {self.directory}/ganesha.log")

    def _listens(self):
        found = self.host.run("ss", "--no-header", "-ltn", "sport = :2049", namespace=self.namespace)
        return bool(found.stdout.strip())

    def __exit__(self, *exception):
        self.server.send_signal(signal.SIGKILL)
        self.server.wait()
