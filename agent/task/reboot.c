// SPDX-License-Identifier: Apache-2.0
// What the end of the host itself means for its tasks. Nobody saw it: a task ended with its last
// sign of life, what its shim wrote down, or the file that the agent touches from time to time.
// Neither is synced for that: the kernel writes them back within half a minute.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/scope.h"
#include "agent/task/internal.h"

enum { ALIVE_PATH_MAX = CONFIG_PATH_MAX + 8 };

static void alive_path(const struct engine *engine, char path[ALIVE_PATH_MAX])
{
	snprintf(path, ALIVE_PATH_MAX, "%s/alive", engine->config->state_directory);
}

void alive_read(struct engine *engine)
{
	char path[ALIVE_PATH_MAX];
	struct stat status;

	alive_path(engine, path);
	if (stat(path, &status) == 0)
		engine->last_alive_ms = status.st_mtim.tv_sec * 1000LL;
}

void alive_touch(const struct engine *engine)
{
	char path[ALIVE_PATH_MAX];

	alive_path(engine, path);
	scoped_fd int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || futimens(fd, NULL) < 0)
		log_warning(NULL, "touch %s: %s", path, strerror(errno));
}

bool task_is_of_this_boot(const struct task *task)
{
	return strcmp(task->status.boot_id, task->engine->boot_id) == 0;
}

static int64_t latest_ms(int64_t one_ms, int64_t other_ms)
{
	return one_ms > other_ms ? one_ms : other_ms;
}

static int64_t last_sign_ms(const struct task *task, const struct cell *cell)
{
	int64_t seen_ms = latest_ms(task->status.pull_started_ms, task->engine->last_alive_ms);
	int64_t saved_ms = cell_status_saved_ms(cell);

	if (task->cell.vmm_exited_ms)
		return task->cell.vmm_exited_ms;
	return saved_ms <= clock_wall_ms() ? latest_ms(seen_ms, saved_ms) : seen_ms;
}

void task_host_rebooted(struct task *task)
{
	struct cell cell = task_cell(task);
	struct cell_status said;
	struct error ignored = {0}; // a cell that had not begun, or whose last word is lost

	if (cell_status_read(&cell, &said, &ignored) == 0)
		cell_take_status(task, &said);
	if (task->status.execution_stopped_ms == 0)
		task->status.execution_stopped_ms = last_sign_ms(task, &cell);
	task->shim_gone = true;
	task_stop(task, STOP_CODE_INFRASTRUCTURE_HEALTH, "The host was rebooted");
}
