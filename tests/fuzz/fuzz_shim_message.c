// SPDX-License-Identifier: Apache-2.0
// What reaches shim and agent as fixed-size structs: requests (checked and, where that starts no
// process, applied), snapshots and the status file (checked, then read as the agent reads them).
// The first byte chooses; what is missing of a struct is zero.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/scope.h"
#include "agent/cell/shim.h"
#include "agent/cell/shim_merge.h"
#include "agent/model/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void open_shim(struct shim *shim)
{
	*shim = (struct shim){.task = "t-1",
			      .cell_fd = -1,
			      .metadata_fd = -1,
			      .logs_fd = -1,
			      .shim_fd = -1,
			      .agent = {.listener_fd = -1, .channel_fd = -1}};
	shim_vmm_open(shim);
	shim_guest_open(shim);
}

static void close_shim(struct shim *shim)
{
	for (size_t i = 0; i < ARRAY_LENGTH(shim->vmm.attached); i++)
		close_fd(&shim->vmm.attached[i]);
	for (size_t i = 0; i < ARRAY_LENGTH(shim->vmm.images); i++)
		close_fd(&shim->vmm.images[i]);
}

static void apply_harmless(const struct shim_request *request, int *fds)
{
	static struct shim shim;

	if (request->kind != SHIM_ATTACH && request->kind != SHIM_KILL &&
	    request->kind != SHIM_EXIT)
		return;
	open_shim(&shim);
	shim_request_apply(&shim, request, fds);
	close_shim(&shim);
}

static void try_request(const uint8_t *data, size_t size)
{
	static struct shim_request request;
	int fds[MESSAGE_FDS_MAX];
	struct error err = {0};
	size_t fd_count;

	memset(&request, 0, sizeof(request));
	memcpy(&request, data, size < sizeof(request) ? size : sizeof(request));
	fd_count = request.kind == SHIM_ATTACH ? request.attach.count : 0;
	if (shim_request_check(&request, fd_count, &err) < 0)
		return;
	for (size_t i = 0; i < MESSAGE_FDS_MAX; i++)
		fds[i] = i < fd_count ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
	apply_harmless(&request, fds);
	for (size_t i = 0; i < MESSAGE_FDS_MAX; i++)
		close_fd(&fds[i]);
}

// What the agent takes over must come back from its store, else the task is lost at the next start.
static void store(const struct cell_status *said)
{
	scoped(arena_release) struct arena arena = {0};
	scoped(buffer_release) struct buffer record = {0};
	struct container_status containers[GUEST_CONTAINERS_MAX] = {0};
	struct task_status status = {.containers = containers,
				     .container_count = GUEST_CONTAINERS_MAX,
				     .execution_stopped_ms = said->vmm_exited_ms},
			   again;
	struct error err = {0};

	snprintf(status.stopped_reason, sizeof(status.stopped_reason), "%s", said->guest.failure);
	snprintf(status.undo_error, sizeof(status.undo_error), "%s", said->vmm_failure);
	for (size_t i = 0; i < GUEST_CONTAINERS_MAX; i++) {
		const struct guest_container_status *container = &said->guest.containers[i];

		containers[i] = (struct container_status){.name = "web",
							  .image = "busybox",
							  .started_ms = container->started_ms,
							  .finished_ms = container->finished_ms};
		memcpy(containers[i].reason, container->reason, GUEST_REASON_MAX);
	}
	task_status_render(&status, &record);
	if (task_status_parse(record.data, record.length, &arena, &again, &err) < 0)
		abort();
}

static void try_status(const uint8_t *data, size_t size)
{
	static struct cell_status status;
	struct guest_status said;
	struct error err = {0};
	bool durable;

	memset(&status, 0, sizeof(status));
	status.magic = CELL_STATUS_MAGIC;
	status.version = SHIM_PROTOCOL_VERSION;
	memcpy((char *)&status + 8, data, size < sizeof(status) - 8 ? size : sizeof(status) - 8);
	if (cell_status_check(&status, &err) < 0)
		return;
	said = status.guest;
	cell_status_merge(&status, &said, CLOCK_WALL_MS_MAX, &durable);
	if (cell_status_check(&status, &err) < 0)
		abort(); // merging made something that the agent refuses
	store(&status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] & 1)
		try_status(data + 1, size - 1);
	else
		try_request(data + 1, size - 1);
	return 0;
}
