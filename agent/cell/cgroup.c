// SPDX-License-Identifier: Apache-2.0
#include "agent/cell/cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "agent/base/buffer.h"
#include "agent/base/file.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/cell/cgroup_path.h"

enum {
	CPU_PERIOD_US = 100000,
	CPU_QUOTA_MIN_US = 1000, // the kernel's own minimum
	CPU_UNITS_PER_CPU = 1024,
	EVENTS_MAX_BYTES = 4096,
	PROCS_MAX_BYTES = 1024 * 1024,
};

int cgroup_check_task(const char *task, struct error *err)
{
	if (!id_is_valid(task))
		return error_set(err, EINVAL, "\"%s\" is not a task id", task);
	return 0;
}

void cgroup_path(const struct cgroup_tree *tree, const char *mount, const char *task,
		 const char *file, char ret_path[CGROUP_PATH_MAX])
{
	snprintf(ret_path, CGROUP_PATH_MAX, "%s/penstock-%s%s%s%s%s", mount, tree->install,
		 task ? "/" : "", task ? task : "", file ? "/" : "", file ? file : "");
}

static bool is_known(const char *const *mounts, size_t count, const char *mount)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(mounts[i], mount) == 0)
			return true;
	return false;
}

size_t cgroup_roots(const struct cgroup_tree *tree, const char *ret_mounts[CGROUP_CONTROLLER_COUNT])
{
	size_t count = 0;

	for (int i = 0; i < CGROUP_CONTROLLER_COUNT; i++) {
		const struct cgroup_mount *mount = &tree->mounts[i];

		if (mount->path[0] == '\0' || (mount->v2 && i != CGROUP_UNIFIED))
			continue;
		if (!is_known(ret_mounts, count, mount->path))
			ret_mounts[count++] = mount->path;
	}
	return count;
}

const char *cgroup_main_root(const struct cgroup_tree *tree)
{
	const char *mounts[CGROUP_CONTROLLER_COUNT];
	size_t count = cgroup_roots(tree, mounts);

	return count > 0 ? mounts[count - 1] : NULL;
}

// --- Making ---

// A controller reaches a v2 child only when every parent delegates it. Writing what is set is
// harmless; while a child delegates a controller further its parent cannot take it away (EBUSY), so
// systemd does not lose it for us. A group that delegates holds no process itself, but for the root
// of the tree: penstock-<install> has tasks only, and the tasks' groups delegate nothing.
static int delegate_controllers(const struct cgroup_tree *tree, const char *directory,
				struct error *err)
{
	static const struct {
		enum cgroup_controller controller;
		const char *text;
	} wanted[] = {{CGROUP_CPU, "+cpu "},
		      {CGROUP_MEMORY, "+memory "},
		      {CGROUP_PIDS, "+pids "},
		      {CGROUP_IO, "+io "}};
	scoped(buffer_release) struct buffer text = {0};
	char path[CGROUP_PATH_MAX + 32];

	for (size_t i = 0; i < ARRAY_LENGTH(wanted); i++)
		if (tree->mounts[wanted[i].controller].v2)
			buffer_adds(&text, wanted[i].text);
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", directory);
	return text.length ? file_write_kernel(AT_FDCWD, path, text.data, err) : 0;
}

static int make_directory(const char *path, struct error *err)
{
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return error_errno(err, "create cgroup %s", path);
	return 0;
}

static int make_in(const struct cgroup_tree *tree, const char *mount, const char *task,
		   struct error *err)
{
	bool v2 = strcmp(mount, tree->mounts[CGROUP_UNIFIED].path) == 0;
	char path[CGROUP_PATH_MAX];

	if (v2 && delegate_controllers(tree, mount, err) < 0)
		return -err->code;
	cgroup_path(tree, mount, NULL, NULL, path);
	if (make_directory(path, err) < 0)
		return -err->code;
	if (v2 && delegate_controllers(tree, path, err) < 0)
		return -err->code;
	cgroup_path(tree, mount, task, NULL, path);
	return make_directory(path, err);
}

static uint64_t cpu_quota_us(uint32_t units)
{
	uint64_t quota = (uint64_t)units * CPU_PERIOD_US / CPU_UNITS_PER_CPU;

	return quota < CPU_QUOTA_MIN_US ? CPU_QUOTA_MIN_US : quota;
}

// Writes `value`, or `unlimited` when it is 0, in front of `suffix`.
static int set_limit(const struct cgroup_tree *tree, enum cgroup_controller controller,
		     const char *task, const char *file, uint64_t value, const char *unlimited,
		     const char *suffix, struct error *err)
{
	char path[CGROUP_PATH_MAX], number[32], text[64];

	if (tree->mounts[controller].path[0] == '\0')
		return 0;
	snprintf(number, sizeof(number), "%llu", (unsigned long long)value);
	snprintf(text, sizeof(text), "%s%s", value == 0 ? unlimited : number, suffix);
	cgroup_path(tree, tree->mounts[controller].path, task, file, path);
	return file_write_kernel(AT_FDCWD, path, text, err);
}

static int set_cpu(const struct cgroup_tree *tree, const char *task, uint32_t units,
		   struct error *err)
{
	uint64_t quota = units == 0 ? 0 : cpu_quota_us(units);

	if (tree->mounts[CGROUP_CPU].v2)
		return set_limit(tree, CGROUP_CPU, task, "cpu.max", quota, "max", " 100000", err);
	if (set_limit(tree, CGROUP_CPU, task, "cpu.cfs_period_us", CPU_PERIOD_US, "", "", err) < 0)
		return -err->code;
	return set_limit(tree, CGROUP_CPU, task, "cpu.cfs_quota_us", quota, "-1", "", err);
}

// A limit of memory does not bound swap: past it the host would swap for the task, without end. A
// kernel without swap has neither file.
static int forbid_swap(const struct cgroup_tree *tree, const char *task, struct error *err)
{
	bool v2 = tree->mounts[CGROUP_MEMORY].v2;
	int result = set_limit(tree, CGROUP_MEMORY, task,
			       v2 ? "memory.swap.max" : "memory.swappiness", 0, "0", "", err);

	if (result != -ENOENT)
		return result;
	error_clear(err);
	return 0;
}

static int set_memory(const struct cgroup_tree *tree, const char *task, uint64_t bytes,
		      struct error *err)
{
	bool v2 = tree->mounts[CGROUP_MEMORY].v2;

	if (set_limit(tree, CGROUP_MEMORY, task, v2 ? "memory.max" : "memory.limit_in_bytes", bytes,
		      v2 ? "max" : "-1", "", err) < 0)
		return -err->code;
	return forbid_swap(tree, task, err);
}

int cgroup_ensure(const struct cgroup_tree *tree, const char *task,
		  const struct cgroup_limits *limits, struct error *err)
{
	const char *mounts[CGROUP_CONTROLLER_COUNT];
	size_t count = cgroup_roots(tree, mounts);

	if (cgroup_check_task(task, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++)
		if (make_in(tree, mounts[i], task, err) < 0)
			return -err->code;
	if (set_cpu(tree, task, limits->cpu_units, err) < 0 ||
	    set_memory(tree, task, limits->memory_bytes, err) < 0 ||
	    set_limit(tree, CGROUP_PIDS, task, "pids.max", limits->pids, "max", "", err) < 0)
		return error_wrap(err, "limit cgroup of %s", task);
	return 0;
}

int cgroup_cpu_set(const struct cgroup_tree *tree, const char *task, uint32_t cpu_units,
		   struct error *err)
{
	if (cgroup_check_task(task, err) < 0)
		return -err->code;
	if (set_cpu(tree, task, cpu_units, err) < 0)
		return error_wrap(err, "limit cgroup of %s", task);
	return 0;
}

const char *const *cgroup_procs_files(const struct cgroup_tree *tree, const char *task,
				      struct arena *arena)
{
	const char **files = arena_array(arena, const char *, CGROUP_CONTROLLER_COUNT + 1);
	const char *mounts[CGROUP_CONTROLLER_COUNT];
	size_t count = cgroup_roots(tree, mounts);
	char path[CGROUP_PATH_MAX];

	for (size_t i = 0; i < count; i++) {
		cgroup_path(tree, mounts[i], task, "cgroup.procs", path);
		files[i] = arena_strdup(arena, path);
	}
	return files;
}

// --- Killing and removing ---

// For kernels and trees without cgroup.kill. A process that forks meanwhile may escape one
// round: the caller asks cgroup_is_empty() and comes again.
static int kill_one_by_one(const struct cgroup_tree *tree, const char *task, struct error *err)
{
	scoped(arena_release) struct arena arena = {0};
	size_t count = 0;
	pid_t *pids;

	if (cgroup_pids(tree, task, &arena, &pids, &count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++)
		if (kill(pids[i], SIGKILL) < 0 && errno != ESRCH)
			return error_errno(err, "kill process %d of %s", pids[i], task);
	return 0;
}

int cgroup_kill(const struct cgroup_tree *tree, const char *task, struct error *err)
{
	const char *unified = tree->mounts[CGROUP_UNIFIED].path;
	char path[CGROUP_PATH_MAX];
	int result;

	if (cgroup_check_task(task, err) < 0)
		return -err->code;
	if (unified[0] == '\0')
		return kill_one_by_one(tree, task, err);
	cgroup_path(tree, unified, task, "cgroup.kill", path);
	result = file_write_kernel(AT_FDCWD, path, "1", err);
	if (result != -ENOENT && result != -ENODEV)
		return result;
	error_clear(err);
	return kill_one_by_one(tree, task, err);
}

static int remove_from(const char *path, struct error *err)
{
	if (rmdir(path) < 0 && errno != ENOENT)
		return error_errno(err, "remove cgroup %s", path);
	return 0;
}

int cgroup_remove(const struct cgroup_tree *tree, const char *task, struct error *err)
{
	const char *mounts[CGROUP_CONTROLLER_COUNT];
	size_t count = cgroup_roots(tree, mounts);
	char path[CGROUP_PATH_MAX];

	if (cgroup_check_task(task, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++) {
		cgroup_path(tree, mounts[i], task, NULL, path);
		if (remove_from(path, err) < 0)
			return -err->code;
	}
	return 0;
}

int cgroup_remove_root(const struct cgroup_tree *tree, struct error *err)
{
	const char *mounts[CGROUP_CONTROLLER_COUNT];
	size_t count = cgroup_roots(tree, mounts);
	char path[CGROUP_PATH_MAX];

	for (size_t i = 0; i < count; i++) {
		cgroup_path(tree, mounts[i], NULL, NULL, path);
		if (remove_from(path, err) < 0)
			return -err->code;
	}
	return 0;
}

// --- Asking ---

bool cgroup_exists(const struct cgroup_tree *tree, const char *task)
{
	const char *mounts[CGROUP_CONTROLLER_COUNT];
	size_t count = cgroup_roots(tree, mounts);
	char path[CGROUP_PATH_MAX];

	for (size_t i = 0; i < count && id_is_valid(task); i++) {
		cgroup_path(tree, mounts[i], task, NULL, path);
		if (access(path, F_OK) == 0)
			return true;
	}
	return false;
}

static int is_empty_by_pids(const struct cgroup_tree *tree, const char *task, bool *ret_empty,
			    struct error *err)
{
	scoped(arena_release) struct arena arena = {0};
	size_t count = 0;
	pid_t *pids;

	if (cgroup_pids(tree, task, &arena, &pids, &count, err) < 0)
		return -err->code;
	*ret_empty = count == 0;
	return 0;
}

int cgroup_is_empty(const struct cgroup_tree *tree, const char *task, bool *ret_empty,
		    struct error *err)
{
	const char *unified = tree->mounts[CGROUP_UNIFIED].path;
	scoped_free char *text = NULL;
	char path[CGROUP_PATH_MAX];
	int result;

	if (cgroup_check_task(task, err) < 0)
		return -err->code;
	if (unified[0] == '\0')
		return is_empty_by_pids(tree, task, ret_empty, err);
	cgroup_path(tree, unified, task, "cgroup.events", path);
	result = file_read(AT_FDCWD, path, EVENTS_MAX_BYTES, &text, NULL, err);
	if (result < 0 && result != -ENOENT && result != -ENODEV)
		return result;
	error_clear(err);
	*ret_empty = result < 0 || !strstr(text, "populated 1");
	return 0;
}

static size_t parse_pids(char *text, pid_t *pids)
{
	size_t count = 0;
	char *rest = text, *line;
	uint32_t pid;

	while ((line = strsep(&rest, "\n")))
		if (parse_u32(line, INT32_MAX, &pid) == 0 && pid > 0)
			pids[count++] = (pid_t)pid;
	return count;
}

int cgroup_pids(const struct cgroup_tree *tree, const char *task, struct arena *arena,
		pid_t **ret_pids, size_t *ret_count, struct error *err)
{
	const char *mount = cgroup_main_root(tree);
	scoped_free char *text = NULL;
	char path[CGROUP_PATH_MAX];
	size_t length = 0;
	int result;

	if (cgroup_check_task(task, err) < 0)
		return -err->code;
	*ret_pids = NULL;
	*ret_count = 0;
	if (!mount)
		return 0;
	cgroup_path(tree, mount, task, "cgroup.procs", path);
	result = file_read(AT_FDCWD, path, PROCS_MAX_BYTES, &text, &length, err);
	if (result == -ENOENT || result == -ENODEV) {
		error_clear(err);
		return 0;
	}
	if (result < 0)
		return result;
	*ret_pids = arena_array(arena, pid_t,
				length / 2 + 1); // a pid is a digit and a newline at least
	*ret_count = parse_pids(text, *ret_pids);
	return 0;
}

int cgroup_has_pid(const struct cgroup_tree *tree, const char *task, pid_t pid, bool *ret_has,
		   struct error *err)
{
	scoped(arena_release) struct arena arena = {0};
	size_t count = 0;
	pid_t *pids;

	if (cgroup_pids(tree, task, &arena, &pids, &count, err) < 0)
		return -err->code;
	*ret_has = false;
	for (size_t i = 0; i < count; i++)
		*ret_has |= pids[i] == pid;
	return 0;
}

// --- Watching ---

int cgroup_watch_open(int *ret_fd, struct error *err)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	if (fd < 0)
		return error_errno(err, "watch cgroups");
	*ret_fd = fd;
	return 0;
}

int cgroup_watch_add(const struct cgroup_tree *tree, int watch_fd, const char *task,
		     struct error *err)
{
	const char *unified = tree->mounts[CGROUP_UNIFIED].path;
	char path[CGROUP_PATH_MAX];

	if (cgroup_check_task(task, err) < 0)
		return -err->code;
	if (unified[0] == '\0')
		return error_set(err, EOPNOTSUPP, "no cgroup v2 tree to watch");
	cgroup_path(tree, unified, task, "cgroup.events", path);
	if (inotify_add_watch(watch_fd, path, IN_MODIFY) < 0 && errno != ENOENT)
		return error_errno(err, "watch %s", path);
	return 0;
}

void cgroup_watch_drain(int watch_fd)
{
	char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));

	while (read(watch_fd, events, sizeof(events)) > 0)
		;
}
