// SPDX-License-Identifier: Apache-2.0
// File systems, as parsed by model_parse() (model.h).
#pragma once

#include <stdint.h>

#include "netif/netif.h"

enum { MOUNT_TARGETS_MAX = 16 };

struct mount_target {
	uint32_t ip;   // IPv4, host byte order
	uint32_t port; // 2049 by default
};

struct file_system_spec {
	struct mount_target *mount_targets; // at least one
	uint32_t mount_target_count;
	const char *export_path; // absolute, "/" by default; no "." or ".." in it
};

// Where clients in `subnet` mount it: at the target inside their subnet, as with EFS, which has
// one in each; else at the first.
const struct mount_target *mount_target_for(const struct file_system_spec *file_system,
					    const struct ipv4_cidr *subnet);
