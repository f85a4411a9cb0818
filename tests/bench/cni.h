// SPDX-License-Identifier: Apache-2.0
// The chain of CNI plugins that a container runtime would call for one task:
// bridge (addresses from host-local), then firewall. Each plugin is a program,
// started and waited for as libcni does it.
#pragma once

#include <stdint.h>

#include "agent/base/error.h"

struct cni_chain {
	const char *plugin_directory; // /usr/lib/cni
	const char *state_directory;  // host-local's files
};

// Plumbs (or unplumbs) the namespace `netns_path` under the name `container`. Blocks.
int cni_add(const struct cni_chain *chain, const char *container, const char *netns_path,
	    struct error *err);
int cni_delete(const struct cni_chain *chain, const char *container, const char *netns_path,
	       struct error *err);
