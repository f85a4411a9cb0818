#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Counts one JUnit file (of ctest or pytest): prints `PASSED FAILED SKIPPED`, and on
standard error every failed and skipped test with its reason."""

import sys
import xml.etree.ElementTree as ElementTree


def outcome(case):
    for tag in ("failure", "error", "skipped"):
        found = case.find(tag)
        if found is not None:
            reason = found.get("message") or (found.text or "").strip()
            return ("skipped" if tag == "skipped" else "failed"), reason.split("\n")[0]
    return "passed", ""


def main():
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for case in ElementTree.parse(sys.argv[1]).getroot().iter("testcase"):
        result, reason = outcome(case)
        counts[result] += 1
        if result != "passed":
            name = ".".join(filter(None, (case.get("classname"), case.get("name"))))
            print(f"{result.upper()} {name}: {reason}", file=sys.stderr)
    print(*counts.values())


if __name__ == "__main__":
    main()
