// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/message.h"
#include "agent/base/scope.h"
#include "agent/cell/shim.h"

static void agent_close(struct shim *shim, const char *why)
{
	log_info(&shim->log, "agent connection closed: %s", why);
	close_fd(&shim->agent.channel_fd);
}

// --- Status ---

static bool holds_an_exit(const struct cell_status *status)
{
	for (uint32_t i = 0; i < status->guest.container_count; i++)
		if (status->guest.containers[i].state == GUEST_CONTAINER_STOPPED)
			return true;
	return status->vmm == VMM_EXITED;
}

// The page cache outlives us. What has to outlive the host is how things ended.
static void persist(struct shim *shim)
{
	struct error err = {0};

	shim->unsaved = file_swap(shim->shim_fd, CELL_STATUS_FILE, &shim->status,
				  sizeof(shim->status), holds_an_exit(&shim->status), &err) < 0;
	if (shim->unsaved)
		log_error(&shim->log, "status was not saved: %s", err.message);
}

void shim_status_reserve(struct shim *shim)
{
	persist(shim);
	persist(shim);
}

void shim_status_changed(struct shim *shim, bool durable)
{
	shim->status.revision++;
	shim->status.changed_at = clock_boot();
	shim->agent.stale = true;
	if (!durable)
		return;
	shim->agent.due_us = 0;
	persist(shim);
}

bool shim_agent_is_due(const struct shim *shim, int64_t now_us)
{
	return shim->agent.stale && shim->agent.due_us <= now_us;
}

void shim_agent_flush(struct shim *shim)
{
	struct shim_agent *agent = &shim->agent;
	int64_t now_us = clock_monotonic_us();
	struct error err = {0};
	int result;

	if (agent->channel_fd < 0 || !shim_agent_is_due(shim, now_us))
		return;
	result =
		message_send(agent->channel_fd, &shim->status, sizeof(shim->status), NULL, 0, &err);
	if (result == -EAGAIN) // it gets the latest when it reads again
		return;
	agent->stale = false;
	agent->due_us = now_us + SHIM_SNAPSHOT_INTERVAL_US;
	if (result < 0)
		agent_close(shim, err.message);
}

// --- Connections ---

static bool is_root(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == 0;
}

void shim_agent_accept(struct shim *shim, short revents)
{
	scoped_fd int fd =
		accept4(shim->agent.listener_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)revents;
	if (fd < 0)
		return;
	if (!is_root(fd)) {
		log_warning(&shim->log, "refused a connection that is not root's");
		return;
	}
	if (shim->agent.channel_fd >= 0)
		agent_close(shim, "replaced by a newer one");
	log_info(&shim->log, "agent connected");
	shim->agent.channel_fd = take_fd(&fd);
	shim->agent.stale = true;
	shim->agent.due_us = 0;
}

// --- Requests ---

static void apply_attach(struct shim *shim, const struct shim_request *request, int *fds)
{
	for (uint32_t i = 0; i < request->attach.count; i++)
		shim_vmm_attach(shim, &request->attach.slots[i], take_fd(&fds[i]));
	shim_status_changed(shim, false);
}

static void apply_launch(struct shim *shim, const struct shim_request *request, int *fds)
{
	(void)fds;
	shim_vmm_launch(shim, &request->launch);
}

static void apply_stop(struct shim *shim, const struct shim_request *request, int *fds)
{
	(void)request;
	(void)fds;
	if (shim->status.stop_requested)
		return;
	shim->status.stop_requested = 1;
	shim_status_changed(shim, true);
	shim_vmm_stop(shim);
	shim_guest_wake(shim);
}

static void apply_kill(struct shim *shim, const struct shim_request *request, int *fds)
{
	(void)request;
	(void)fds;
	shim_vmm_kill(shim);
}

static void apply_exit(struct shim *shim, const struct shim_request *request, int *fds)
{
	(void)request;
	(void)fds;
	shim->ended = true;
}

void shim_request_apply(struct shim *shim, const struct shim_request *request, int *fds)
{
	static void (*const apply[SHIM_REQUEST_KIND_END])(struct shim *,
							  const struct shim_request *, int *) = {
		[SHIM_ATTACH] = apply_attach, [SHIM_LAUNCH] = apply_launch,
		[SHIM_STOP] = apply_stop,     [SHIM_KILL] = apply_kill,
		[SHIM_EXIT] = apply_exit,
	};

	apply[request->kind](shim, request, fds);
}

static size_t count_fds(const int *fds)
{
	size_t count = 0;

	while (count < MESSAGE_FDS_MAX && fds[count] >= 0)
		count++;
	return count;
}

static int apply_checked(struct shim *shim, const struct shim_request *request, int *fds,
			 struct error *err)
{
	if (shim_request_check(request, count_fds(fds), err) < 0)
		return -err->code;
	shim_request_apply(shim, request, fds);
	return 0;
}

// False when there is nothing more to read, or the connection is closed.
static bool receive_one(struct shim *shim)
{
	static struct shim_request request; // large: kept off the stack
	int fds[MESSAGE_FDS_MAX] = {-1, -1, -1, -1, -1, -1, -1, -1};
	struct error err = {0};
	int result = message_receive(shim->agent.channel_fd, &request, sizeof(request), fds,
				     MESSAGE_FDS_MAX, &err);

	if (result == -EAGAIN)
		return false;
	if (result == 0)
		result = error_set(&err, ECONNRESET, "end of file");
	if (result > 0)
		result = apply_checked(shim, &request, fds, &err);
	for (size_t i = 0; i < MESSAGE_FDS_MAX; i++)
		close_fd(&fds[i]);
	if (result < 0)
		agent_close(shim, err.message);
	return result == 0;
}

void shim_agent_handle(struct shim *shim, short revents)
{
	(void)revents;
	while (!shim->ended && receive_one(shim))
		;
}
