#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that dependencies point one way, file by file:

- an include goes only to the module itself or to one named beneath it here;
- the five modules' insides are not reached into: only their door is included from elsewhere;
- cJSON, libevent and SQLite stay where they belong;
- nothing is computed from the wall clock, which anybody may set (agent/base/clock.h).

Prints one line per fault, and at the end how many includes it looked at.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# module folder: the modules it may include (design: base <- netif <- sg; base <- nfs,
# ephemeral, metrics; all of those <- model <- store <- guest, vmm, cell, lb <- task <- api).
FIVE = ("netif", "sg", "nfs", "ephemeral", "metrics")
BELOW_MODEL = ("agent/base", *FIVE)
BELOW_DRIVERS = (*BELOW_MODEL, "agent/model", "agent/store")
BELOW_TASK = (*BELOW_DRIVERS, "agent/guest", "agent/vmm", "agent/cell", "agent/lb")
ALLOWED = {
    "agent/base": (),
    "netif": ("agent/base",),
    "sg": ("agent/base", "netif"),
    "nfs": ("agent/base",),
    "ephemeral": ("agent/base",),
    "metrics": ("agent/base",),
    "agent/guest": ("agent/base", "nfs"),
    "agent/model": BELOW_MODEL,
    "agent/store": (*BELOW_MODEL, "agent/model"),
    "agent/vmm": (*BELOW_DRIVERS, "agent/guest"),
    "agent/cell": (*BELOW_DRIVERS, "agent/guest", "agent/vmm"),
    "agent/lb": BELOW_DRIVERS,
    "agent/task": BELOW_TASK,
    "agent/api": (*BELOW_TASK, "agent/task"),
    "agent/ctl": ("agent/base", "agent/model", "agent/task"),
    "agent": (*BELOW_TASK, "agent/task", "agent/api"),
}

# The public headers of the five modules; others may include nothing else of theirs.
DOORS = {
    "netif": {"netif/netif.h", "netif/ipam.h", "netif/nft.h"},
    "sg": {"sg/sg.h"},
    "nfs": {"nfs/nfs.h"},
    "ephemeral": {"ephemeral/ephemeral.h"},
    "metrics": {"metrics/metrics.h", "metrics/metering.h"},
}

# Library header: the only places that may include it.
RESTRICTED = {
    r"cjson/": ("agent/base/json.", "agent/model/", "agent/vmm/qmp", "agent/ctl/"),
    r"event2/|event\.h$": ("agent/",),
    r"sqlite3\.h$": ("agent/store/",),
    r"libnftnl/|libmnl/": ("netif/", "sg/", "agent/lb/"),
}

WALL_ARITHMETIC = re.compile(r"(?:clock_wall_ms\(\)|\btime\(NULL\))\s*[-+](?!>)|[-+]\s*(?:clock_wall_ms\(\)|time\(NULL\))")

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.MULTILINE)


def module_of(path):
    """The module a file belongs to: its deepest folder that is one."""
    parts = Path(path).parts[:-1]
    while parts and "/".join(parts) not in ALLOWED:
        parts = parts[:-1]
    return "/".join(parts)


def faults_of(path):
    """Yields (include, what is wrong or None) for each include of one source file."""
    module = module_of(path)
    for quote, include in INCLUDE.findall((ROOT / path).read_text()):
        if quote == "<":
            yield include, library_fault(path, include)
            continue
        target = module_of(include)
        if not (ROOT / include).is_file():
            yield include, "is not written from the root of the tree"
        elif target == module:
            yield include, library_fault(path, include)
        elif target not in ALLOWED[module]:
            yield include, f"{module} may not depend on {target}"
        elif target in DOORS and include not in DOORS[target]:
            yield include, f"is no door of {target}: {sorted(DOORS[target])}"
        else:
            yield include, library_fault(path, include)


def library_fault(path, include):
    for pattern, places in RESTRICTED.items():
        if re.search(pattern, include) and not path.startswith(places):
            return "belongs to " + ", ".join(places)
    return None


def main():
    sources = [
        str(path.relative_to(ROOT))
        for folder in ("agent", *FIVE)
        for path in sorted((ROOT / folder).rglob("*.[ch]"))
    ]
    results = [(path, *result) for path in sources for result in faults_of(path)]
    faults = [result for result in results if result[2]]
    faults += [
        (path, match, "is computed from the wall clock")
        for path in sources
        for match in WALL_ARITHMETIC.findall((ROOT / path).read_text())
    ]
    for path, include, fault in faults:
        print(f'{path}: "{include}" {fault}')
    print(f"layers: {len(sources)} files, {len(results)} includes, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
