// SPDX-License-Identifier: Apache-2.0
// Tasks of an earlier boot. Nobody saw them end: a task counts as ended at its last sign of life,
// which is what its shim wrote down, or the file `alive` that the agent rewrites at every sweep.
// Neither is synced: the kernel writes both back within half a minute.
//
// `alive` holds one line, the boot id and clock_boot() of the last sweep, so that the end of the
// bill comes from the clock that its beginning came from. Its mtime labels that end.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/task/internal.h"

enum { ALIVE_PATH_MAX = CONFIG_PATH_MAX + 8, ALIVE_LINE_MAX = BOOT_ID_SIZE + 32 };

static void alive_path(const struct engine *engine, char path[ALIVE_PATH_MAX])
{
	snprintf(path, ALIVE_PATH_MAX, "%s/alive", engine->config->state_directory);
}

static void alive_parse(char *text, struct alive *alive)
{
	char *time = strchr(text, ' ');

	if (!time || time - text != BOOT_ID_SIZE - 1)
		return; // an older agent's, which is empty
	*time++ = '\0';
	time[strcspn(time, " \n")] = '\0';
	if (parse_u64(time, BOOT_TIME_MS_MAX, &alive->time.ms) == 0)
		memcpy(alive->boot_id, text, BOOT_ID_SIZE);
}

void alive_read(struct engine *engine)
{
	char path[ALIVE_PATH_MAX];
	scoped_free char *text = NULL;
	struct error ignored = {0};
	struct stat status;
	size_t length;

	alive_path(engine, path);
	if (stat(path, &status) == 0)
		engine->last_alive.wall_ms = status.st_mtim.tv_sec * 1000LL;
	if (file_read(AT_FDCWD, path, ALIVE_LINE_MAX, &text, &length, &ignored) == 0)
		alive_parse(text, &engine->last_alive);
}

// In place: the line always has the same length, and lies in one block.
void alive_touch(const struct engine *engine)
{
	char path[ALIVE_PATH_MAX], line[ALIVE_LINE_MAX];
	int length = snprintf(line, sizeof(line), "%s %-16llu\n", engine->boot_id,
			      (unsigned long long)clock_boot().ms);

	alive_path(engine, path);
	scoped_fd int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || pwrite(fd, line, (size_t)length, 0) != length)
		log_warning(NULL, "write %s: %s", path, strerror(errno));
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
	int64_t seen_ms = latest_ms(task->status.pull_started_ms, task->engine->last_alive.wall_ms);
	int64_t saved_ms = cell_status_saved_ms(cell);

	if (task->cell.vmm_exited_ms)
		return task->cell.vmm_exited_ms;
	return saved_ms <= clock_wall_ms() ? latest_ms(seen_ms, saved_ms) : seen_ms;
}

// Of the task's own boot. 0: it began under an agent that did not record boot times.
static struct boot_time last_sign(const struct task *task)
{
	const struct alive *alive = &task->engine->last_alive;
	struct boot_time sign =
		boot_time_latest(task->status.boot_times.pull_started, task->cell.changed_at);

	if (task->cell.vmm_exited_at.ms)
		return task->cell.vmm_exited_at;
	return strcmp(alive->boot_id, task->status.boot_id) == 0
		       ? boot_time_latest(sign, alive->time)
		       : sign;
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
	if (task->status.boot_times.execution_stopped.ms == 0)
		task->status.boot_times.execution_stopped = last_sign(task);
	task->shim_gone = true;
	task_stop(task, STOP_CODE_INFRASTRUCTURE_HEALTH, "The host was rebooted");
}
