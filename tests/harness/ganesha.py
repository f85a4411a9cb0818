# SPDX-License-Identifier: Apache-2.0
"""A real NFS server (nfs-ganesha) in a namespace of a host."""

import signal

from harness.client import eventually
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
        eventually(self._listens)
        return self

    def _listens(self):
        assert self.server.poll() is None, f"nfs-ganesha ended; see {self.directory}/ganesha.log"
        found = self.host.run("ss", "--no-header", "-ltn", "sport = :2049", namespace=self.namespace)
        return bool(found.stdout.strip())

    def __exit__(self, *exception):
        self.server.send_signal(signal.SIGKILL)
        self.server.wait()
