// SPDX-License-Identifier: Apache-2.0
// Documents of the ECS task metadata endpoint v4, as containers read them at
// ${ECS_CONTAINER_METADATA_URI_V4} and …/task.
#pragma once

#include <stdint.h>

#include "agent/base/buffer.h"
#include "agent/model/status.h"
#include "agent/model/task.h"

// What is known of a task outside its spec and status. Strings are borrowed for a call.
struct metadata_context {
	const char *cluster; // the install's name
	const char *task_id;
	const char *availability_zone; // the host's name
	const uint32_t *dns_servers;   // host byte order
	uint32_t dns_server_count;
	uint64_t ephemeral_utilized_mib, ephemeral_reserved_mib;
};

// Both append one JSON object. Environment values do not occur in them.
void metadata_task_render(const struct metadata_context *context, const struct task_spec *spec,
			  const struct task_status *status, struct buffer *out);
// `container` is the index in the spec.
void metadata_container_render(const struct metadata_context *context, const struct task_spec *spec,
			       const struct task_status *status, uint32_t container,
			       struct buffer *out);
