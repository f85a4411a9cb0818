// SPDX-License-Identifier: Apache-2.0
// Counting the balanced connections of endpoints: a dump of the VPC's conntrack table,
// read in slices so that a large table does not hold up the loop.
//
// A connection counts while it carries data in either direction: TCP from SYN_SENT up to
// the first FIN's acknowledgement. It is balanced if its original destination is not
// where its replies come from; health checks and direct connections are not.
#pragma once

#include "agent/lb/provider.h"

// Asks for a dump, on a non-blocking socket of its own (the caller closes it).
int connections_start(struct netif *netif, const char *vpc_id, int *ret_fd, struct error *err);
// Reads what is there, a bounded part. *ret_done: the dump was complete, the counts stand.
int connections_step(int fd, struct lb_connection_count *counts, size_t count, bool *ret_done,
		     struct error *err);
