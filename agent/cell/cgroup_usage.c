// SPDX-License-Identifier: Apache-2.0
// Reading what a cgroup used, and which cgroups there are.
#include <fcntl.h>
#include <string.h>

#include "agent/base/file.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/cell/cgroup.h"
#include "agent/cell/cgroup_path.h"
#include "agent/cell/names.h"

enum { STATISTICS_MAX_BYTES = 256 * 1024, NANOSECONDS_PER_MICROSECOND = 1000 };

static int read_file(const struct cgroup_tree *tree, enum cgroup_controller controller,
		     const char *task, const char *file, char **ret_text, struct error *err)
{
	char path[CGROUP_PATH_MAX];

	cgroup_path(tree, tree->mounts[controller].path, task, file, path);
	return file_read(AT_FDCWD, path, STATISTICS_MAX_BYTES, ret_text, NULL, err);
}

// A leading decimal number; 0 when there is none.
static uint64_t number_at(const char *text)
{
	return strtoull(text, NULL, 10);
}

// The number after "<key> " at the start of a line; 0 when there is no such line.
static uint64_t number_of(const char *text, const char *key)
{
	size_t length = strlen(key);

	for (; *text; text = strchrnul(text, '\n'), text += *text == '\n')
		if (strncmp(text, key, length) == 0 && text[length] == ' ')
			return number_at(text + length + 1);
	return 0;
}

// The sum of all numbers that follow `mark` (" Read ", " rbytes="): one per block device.
static uint64_t sum_after(const char *text, const char *mark)
{
	uint64_t sum = 0;

	while ((text = strstr(text, mark))) {
		text += strlen(mark);
		sum += number_at(text);
	}
	return sum;
}

static int read_number(const struct cgroup_tree *tree, enum cgroup_controller controller,
		       const char *task, const char *file, const char *key, uint64_t *ret_value,
		       struct error *err)
{
	scoped_free char *text = NULL;

	if (read_file(tree, controller, task, file, &text, err) < 0)
		return -err->code;
	*ret_value = key ? number_of(text, key) : number_at(text);
	return 0;
}

static int read_cpu(const struct cgroup_tree *tree, const char *task, struct cgroup_usage *usage,
		    struct error *err)
{
	const struct cgroup_mount *mount = &tree->mounts[CGROUP_CPUACCT];

	if (mount->path[0] == '\0')
		return 0;
	usage->has_cpu = true;
	if (mount->v2)
		return read_number(tree, CGROUP_CPUACCT, task, "cpu.stat", "usage_usec",
				   &usage->cpu_usec, err);
	if (read_number(tree, CGROUP_CPUACCT, task, "cpuacct.usage", NULL, &usage->cpu_usec, err) <
	    0)
		return -err->code;
	usage->cpu_usec /= NANOSECONDS_PER_MICROSECOND;
	return 0;
}

static int read_memory(const struct cgroup_tree *tree, const char *task, struct cgroup_usage *usage,
		       struct error *err)
{
	static const struct {
		const char *current, *inactive;
	} names[] = {{"memory.usage_in_bytes", "total_inactive_file"},
		     {"memory.current", "inactive_file"}};
	const struct cgroup_mount *mount = &tree->mounts[CGROUP_MEMORY];
	uint64_t used = 0, inactive = 0;

	if (mount->path[0] == '\0')
		return 0;
	usage->has_memory = true;
	if (read_number(tree, CGROUP_MEMORY, task, names[mount->v2].current, NULL, &used, err) <
		    0 ||
	    read_number(tree, CGROUP_MEMORY, task, "memory.stat", names[mount->v2].inactive,
			&inactive, err) < 0)
		return -err->code;
	usage->memory_working_set_bytes = inactive < used ? used - inactive : 0;
	return 0;
}

static int read_io(const struct cgroup_tree *tree, const char *task, struct cgroup_usage *usage,
		   struct error *err)
{
	const struct cgroup_mount *mount = &tree->mounts[CGROUP_IO];
	scoped_free char *text = NULL;

	if (mount->path[0] == '\0')
		return 0;
	if (read_file(tree, CGROUP_IO, task,
		      mount->v2 ? "io.stat" : "blkio.throttle.io_service_bytes_recursive", &text,
		      err) < 0)
		return -err->code;
	usage->has_io = true;
	usage->io_read_bytes = sum_after(text, mount->v2 ? " rbytes=" : " Read ");
	usage->io_write_bytes = sum_after(text, mount->v2 ? " wbytes=" : " Write ");
	return 0;
}

int cgroup_usage_read(const struct cgroup_tree *tree, const char *task,
		      struct cgroup_usage *ret_usage, struct error *err)
{
	struct cgroup_usage usage = {0};

	if (cgroup_check_task(task, err) < 0)
		return -err->code;
	if (read_cpu(tree, task, &usage, err) < 0 || read_memory(tree, task, &usage, err) < 0 ||
	    read_io(tree, task, &usage, err) < 0)
		return error_wrap(err, "usage of %s", task);
	*ret_usage = usage;
	return 0;
}

int cgroup_list(const struct cgroup_tree *tree, struct arena *arena, const char ***ret_tasks,
		size_t *ret_count, struct error *err)
{
	const char *mounts[CGROUP_CONTROLLER_COUNT];
	size_t count = cgroup_roots(tree, mounts);
	struct name_list names = {.arena = arena};
	char path[CGROUP_PATH_MAX];

	for (size_t i = 0; i < count; i++) {
		cgroup_path(tree, mounts[i], NULL, NULL, path);
		if (name_list_add_directories(&names, path, err) < 0)
			return -err->code;
	}
	name_list_finish(&names, ret_tasks, ret_count);
	return 0;
}
