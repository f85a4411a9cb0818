#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a whole agent takes, over its API: a task's place (cell, disk, network) from the acceptance
# of the task, the agent's own share of a start, its memory; a disk against cp and mkfs in the same
# run; a microVM against the same QEMU started by hand with Debian's kernel as it is packaged.
# Ends with lines `figure NAME VALUE UNIT`. About 3 minutes; start.sh --quick takes half of one and
# only shows that it works.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/namespaces.sh"

enter_namespaces "$@"
exec "$PYTHON" "$PENSTOCK_ROOT/tests/bench/start.py" "$@"
