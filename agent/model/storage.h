// SPDX-License-Identifier: Apache-2.0
// File systems, as parsed by model_parse() (model.h).
#pragma once

#include <stdint.h>

enum { MOUNT_TARGETS_MAX = 16, EXPORT_PATH_MAX = 1024 };

struct mount_target {
	uint32_t ip;   // IPv4, host byte order
	uint32_t port; // 2049 by default
};

struct file_system_spec {
	struct mount_target *mount_targets; // at least one; the first is used
	uint32_t mount_target_count;
	const char *export_path; // absolute, "/" by default; no "." or ".." in it
};
