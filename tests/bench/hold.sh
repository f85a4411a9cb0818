#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A hundred rounds of each kind of damage to a VPC's network: links that go down, routes, addresses and neighbours that
# are removed. Prints lines `figure hold_KIND_max SECONDS s`, the longest time until all was there again, with what
# three calls of ip(8) take to see it. About 10 minutes.
. "$(dirname "$0")/../lib/common.sh"

PENSTOCK_HOLD_ROUNDS=${PENSTOCK_HOLD_ROUNDS:-100} exec bash "$PENSTOCK_ROOT/tests/lib/pytest.sh" \
	tests/netns/test_hold.py -s -k whole "$@"
