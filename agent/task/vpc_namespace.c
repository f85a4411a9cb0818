// SPDX-License-Identifier: Apache-2.0
// A VPC's namespace is where its tasks live. Its pin at /run/netns is only a name: somebody may
// remove it (ip netns del), and an agent that was started in a private mount namespace, as a
// systemd unit with PrivateTmp= is, sees none, or a stale one. A second, empty namespace beside it
// would cut the tasks off. So before a VPC is opened, its tasks are asked for theirs; while it is
// open, the handle of netif holds it, and each sweep looks at the pin.
#include <errno.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/task/cell_record.h"
#include "agent/task/internal.h"

// Told as a passing error of the VPC, so that its watchers hear of it: once that is settled, the
// VPC is effective again.
static void report_pinned(struct engine *engine, const char *vpc_id)
{
	object_set_error(engine, MODEL_VPC, vpc_id,
			 "the pin of its network namespace was gone; it is pinned again");
}

// 1: the VPC's namespace is known. 0: this task does not live in one.
static int ask_shim(struct engine *engine, const char *vpc_id, const struct task_shim *shim,
		    struct error *err)
{
	scoped_fd int fd = -1;
	int result = cell_namespace_open(shim->pid, shim->start_time, &fd, err);

	if (result == -ESRCH || result == -ENOENT) {
		error_clear(err);
		return 0;
	}
	if (result == 0)
		result = netif_vpc_pin(engine->netif, vpc_id, fd, err);
	if (result < 0)
		return result;
	if (result == 1)
		report_pinned(engine, vpc_id);
	return 1;
}

static bool lives_in(const struct engine *engine, const struct task_status *status,
		     const char *vpc_id)
{
	return status->last_status != TASK_STOPPED && status->shim.pid > 0 &&
	       strcmp(status->boot_id, engine->boot_id) == 0 &&
	       strcmp(status->network.vpc_id, vpc_id) == 0;
}

// Remembers the first error: another task may know better.
static int ask_task(struct engine *engine, const struct task_status *status, const char *vpc_id,
		    struct error *first)
{
	struct error err = {0};
	int result;

	if (!lives_in(engine, status, vpc_id))
		return 0;
	result = ask_shim(engine, vpc_id, &status->shim, &err);
	if (result < 0 && !first->code)
		*first = err;
	return result;
}

int vpc_namespace_find(struct engine *engine, const char *vpc_id, struct error *err)
{
	scoped(arena_release) struct arena arena = {0};
	struct error first = {0};
	int found = 0;

	for (const struct task *task = engine->tasks; task && found != 1; task = task->next)
		found = ask_task(engine, &task->status, vpc_id, &first);
	for (const struct unrecorded_cell *cell = engine->unrecorded; cell && found != 1;
	     cell = cell->next) {
		struct task_status status;
		struct error unreadable = {0};

		if (cell_record_parse(engine->config->state_directory, cell->id, &arena, NULL,
				      &status, &unreadable) == 0 &&
		    status.boot_id && status.network.vpc_id)
			found = ask_task(engine, &status, vpc_id, &first);
	}
	if (found == 1 || !first.code)
		return 0;
	*err = first;
	return error_wrap(err, "the network namespace that its tasks live in cannot be taken");
}

void vpc_namespace_keep(struct network_vpc *vpc)
{
	struct engine *engine = vpc->engine;
	struct error err = {0};
	int result = netif_vpc_pin(engine->netif, vpc->id, -1, &err);

	if (result < 0) {
		vpc->unpinned = object_set_error(engine, MODEL_VPC, vpc->id, err.message);
		return;
	}
	if (result == 1) {
		report_pinned(engine, vpc->id);
		reaper_kick(&vpc->reaper); // it found no namespace meanwhile
	}
	if (result == 1 || vpc->unpinned)
		engine_object_changed(engine, MODEL_VPC, vpc->id);
	vpc->unpinned = false;
}
