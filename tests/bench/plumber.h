// SPDX-License-Identifier: Apache-2.0
// One way of connecting a task to the network, as the benchmark drives it.
#pragma once

#include "agent/base/error.h"
#include "netif/netif.h"

struct plumber {
	const char *name; // "plumb", "plumb_tap", "cni": begins the names of its figures
	void *context;
	// Timed: connects task `index`. Not timed: takes it away again.
	int (*add)(void *context, unsigned index, struct error *err);
	int (*delete)(void *context, unsigned index, struct error *err);
	// Timed: takes away those from `first` on, all at once. NULL: by delete, one by one.
	int (*delete_many)(void *context, unsigned first, unsigned count, struct error *err);
	// Not timed, before add: what its runtime hands to a plumber (a namespace). NULL: nothing.
	int (*prepare)(void *context, unsigned index, struct error *err);
};

// Debian's CNI plugins; files in `directory`.
int cni_plumber_open(const char *directory, struct plumber *ret_plumber, struct error *err);
// penstock's netif and sg, as the agent's steps eni, policy and link call them.
int penstock_plumber_open(enum netif_eni_kind kind, struct plumber *ret_plumber, struct error *err);
