// SPDX-License-Identifier: Apache-2.0
// What the task uses of its disk and memory, looked at now and then.
#include "agent/guest/init.h"

static const int64_t usage_interval_us = 10000000;
static const uint64_t usage_step_bytes = 1048576; // smaller changes are not worth a message

static bool is_step(uint64_t before, uint64_t after)
{
	return (after > before ? after - before : before - after) >= usage_step_bytes;
}

static void look_at_disk(struct task *task)
{
	struct guest_status *status = &task->status;
	uint64_t size, used;

	if (init_mounts_usage(&size, &used) < 0)
		return;
	if (size == status->disk_size_bytes && !is_step(status->disk_used_bytes, used))
		return;
	status->disk_size_bytes = size;
	status->disk_used_bytes = used;
	task->status_changed = true;
}

static void look_at_memory(struct task *task, struct container *container)
{
	uint64_t used = init_memory_used(container);

	bool known = container->status->memory_bytes != 0;

	if (known == (used != 0) && !is_step(container->status->memory_bytes, used))
		return;
	container->status->memory_bytes = used;
	task->status_changed = true;
}

void init_usage_tick(struct task *task, int64_t now_us)
{
	if (now_us < task->usage_us)
		return;
	task->usage_us = now_us + usage_interval_us;
	look_at_disk(task);
	for (uint32_t i = 0; i < task->manifest.container_count; i++)
		look_at_memory(task, &task->containers[i]);
}
