// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <time.h>

#include "agent/base/file.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/cell/cell.h"
#include "agent/task/fsck_internal.h"

enum { ARGUMENTS_MAX = 4096, END_DEADLINE_MS = 5000 };

static bool was_orphan(const struct fsck_report *report, const struct fsck_finding *finding)
{
	for (size_t i = 0; i < report->count; i++)
		if (report->findings[i].orphan &&
		    strcmp(report->findings[i].kind, finding->kind) == 0 &&
		    strcmp(report->findings[i].name, finding->name) == 0)
			return true;
	return false;
}

bool fsck_is_to_go(struct check *check, struct fsck_finding *finding, bool owned)
{
	finding->orphan = !owned;
	if (!finding->orphan || !check->repair || !check->before)
		return false;
	if (check->owned.unrecorded) { // what a lost record owned is not known
		snprintf(finding->problem, sizeof(finding->problem),
			 "kept: it may belong to task %.63s, whose record is lost (penstockctl "
			 "adopt)",
			 check->owned.unrecorded->text);
		return false;
	}
	return was_orphan(check->before, finding);
}

bool fsck_is_unrecorded(struct fsck_finding *finding, const struct name *unrecorded,
			const char *name)
{
	finding->unrecorded = fsck_owns(unrecorded, name);
	return finding->unrecorded;
}

void fsck_removed(struct fsck_finding *finding, int result, const struct error *err)
{
	finding->repaired = result >= 0;
	if (result < 0)
		snprintf(finding->problem, sizeof(finding->problem), "%.250s", err->message);
}

// --- Collectors ---

static int collect_processes_of(struct check *check, const char *task, struct error *err)
{
	pid_t *pids;
	size_t count;

	if (cgroup_pids(&check->tree, task, check->arena, &pids, &count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++) {
		char name[32];
		struct fsck_finding *finding;

		snprintf(name, sizeof(name), "%d", pids[i]);
		finding = fsck_find(check, "process", name, "task %s", task);
		if (fsck_is_unrecorded(finding, check->owned.unrecorded, task))
			continue;
		if (fsck_is_to_go(check, finding, fsck_owns(check->owned.kinds[MODEL_TASK], task)))
			fsck_removed(finding, cgroup_kill(&check->tree, task, err), err);
	}
	return 0;
}

// By the kernel's word: what a process says of itself anybody can say.
static bool runs_program(pid_t pid, const char *name)
{
	static const char deleted[] = " (deleted)"; // it was replaced by a newer one
	char path[64], program[PATH_MAX];
	const char *base;
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	length = readlink(path, program, sizeof(program) - 1);
	if (length < 0)
		return false;
	program[length] = '\0';
	base = strrchr(program, '/');
	if (!base++ || strncmp(base, name, strlen(name)) != 0)
		return false;
	base += strlen(name);
	return *base == '\0' || strcmp(base, deleted) == 0;
}

// The VPC of a probe of this install, whose arguments are INSTALL and VPC; NULL: it is none.
static const char *probe_vpc(const struct check *check, pid_t pid)
{
	char path[64], *text, *end;
	const char *install, *vpc;
	struct error ended = {0};
	size_t length;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	if (!runs_program(pid, "penstock-probe") ||
	    file_read(AT_FDCWD, path, ARGUMENTS_MAX, &text, &length, &ended) < 0)
		return NULL;
	end = text + length;
	install = text + strlen(text) + 1;
	vpc = install < end ? install + strlen(install) + 1 : end;
	vpc = vpc < end && strcmp(install, check->config->install) == 0
		      ? arena_strdup(check->arena, vpc)
		      : NULL;
	free(text);
	return vpc;
}

static pid_t parent_of(pid_t pid)
{
	scoped_free char *text = NULL;
	struct error ended = {0};
	char path[64];
	const char *fields;
	pid_t parent = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (file_read(AT_FDCWD, path, 4096, &text, NULL, &ended) < 0)
		return 0;
	fields = strrchr(text, ')'); // the command before it may hold anything
	return fields && sscanf(fields, ") %*c %d", &parent) == 1 ? parent : 0;
}

static int end_process(int pidfd, struct error *err)
{
	struct pollfd ended = {.fd = pidfd, .events = POLLIN};

	if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0)
		return error_errno(err, "kill");
	if (poll(&ended, 1, END_DEADLINE_MS) == 0)
		return error_set(err, ETIMEDOUT, "it was killed, and has not ended yet");
	return 0;
}

static void collect_probe(struct check *check, pid_t pid, struct error *err)
{
	// Held while it is looked at: the number cannot become another's.
	scoped_fd int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	const char *vpc = pidfd < 0 ? NULL : probe_vpc(check, pid);
	struct fsck_finding *finding;
	char name[32];

	if (!vpc)
		return;
	snprintf(name, sizeof(name), "%d", pid);
	finding = fsck_find(check, "process", name, "vpc %s", vpc);
	if (fsck_is_to_go(check, finding,
			  check->agent_pid > 0 && parent_of(pid) == check->agent_pid))
		fsck_removed(finding, end_process(pidfd, err), err);
}

// Probes are in no cgroup of ours: a child of the agent that runs is owned.
static int collect_probes(struct check *check, struct error *err)
{
	scoped_directory DIR *processes = opendir("/proc");
	struct dirent *entry;
	uint32_t pid;

	if (!processes)
		return error_errno(err, "open /proc");
	while ((entry = readdir(processes)))
		if (parse_u32(entry->d_name, INT32_MAX, &pid) == 0)
			collect_probe(check, (pid_t)pid, err);
	return 0;
}

// Removing a cgroup has to wait for its killed processes: the kernel needs some ms for each.
static int remove_cgroup(struct check *check, const char *task, struct error *err)
{
	struct timespec pause = {.tv_nsec = 5000000};
	int result = cgroup_kill(&check->tree, task, err);

	for (int tries = 0; result == 0 && tries < 400; tries++) {
		result = cgroup_remove(&check->tree, task, err);
		if (result != -EBUSY)
			break;
		nanosleep(&pause, NULL);
		result = 0;
	}
	return result;
}

static int collect_cgroups(struct check *check, struct error *err)
{
	const char **tasks;
	size_t count;

	if (cgroup_list(&check->tree, check->arena, &tasks, &count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++) {
		struct fsck_finding *finding;

		if (collect_processes_of(check, tasks[i], err) < 0)
			return -err->code;
		finding = fsck_find(check, "cgroup", tasks[i], "task %s", tasks[i]);
		if (fsck_is_unrecorded(finding, check->owned.unrecorded, tasks[i]))
			continue;
		if (fsck_is_to_go(check, finding,
				  fsck_owns(check->owned.kinds[MODEL_TASK], tasks[i])))
			fsck_removed(finding, remove_cgroup(check, tasks[i], err), err);
	}
	return 0;
}

static int collect_disks(struct check *check, struct error *err)
{
	scoped_free struct ephemeral_entry *entries = NULL;
	size_t count;

	if (check->pool.disks_fd < 0)
		return 0;
	if (ephemeral_list(&check->pool, &entries, &count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++) {
		const struct ephemeral_entry *entry = &entries[i];
		bool is_disk = entry->kind == EPHEMERAL_DISK;
		bool owned = is_disk ? fsck_owns(check->owned.kinds[MODEL_TASK], entry->task_id)
				     : entry->kind == EPHEMERAL_TEMPLATE || check->agent_runs;
		struct fsck_finding *finding =
			fsck_find(check, is_disk ? "disk" : "disk file", entry->name, "%s%s",
				  is_disk ? "task " : "install ",
				  is_disk ? entry->task_id : check->config->install);

		if (is_disk && fsck_is_unrecorded(finding, check->owned.unrecorded, entry->task_id))
			continue;
		if (fsck_is_to_go(check, finding, owned))
			fsck_removed(finding, ephemeral_remove(&check->pool, entry, err), err);
	}
	if (check->repair && !check->agent_runs)
		return ephemeral_reap(&check->pool, err);
	return 0;
}

static int collect_directories(struct check *check, struct error *err)
{
	const char **tasks;
	size_t count;

	if (cell_list(&check->tree, check->config->state_directory, check->arena, &tasks, &count,
		      err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++) {
		struct cell cell = {.tree = &check->tree,
				    .state_directory = check->config->state_directory,
				    .task = tasks[i]};
		struct cell_remains remains;
		struct fsck_finding *finding;

		if (cell_remains(&cell, &remains, err) < 0)
			return -err->code;
		if (!remains.directory)
			continue;
		finding = fsck_find(check, "cell directory", tasks[i], "task %s", tasks[i]);
		if (fsck_is_unrecorded(finding, check->owned.unrecorded, tasks[i]))
			continue;
		if (fsck_is_to_go(check, finding, fsck_owns(check->owned.records, tasks[i])))
			fsck_removed(finding, cell_directory_remove(&cell, err), err);
	}
	return 0;
}

static void check_loop(struct check *check, const char *name, struct error *err)
{
	char disks[CONFIG_PATH_MAX + 8], path[64], device[32], task[64];
	scoped_free char *backing = NULL;
	struct error absent = {0};
	struct fsck_finding *finding;

	snprintf(disks, sizeof(disks), "%s/disks/", check->config->state_directory);
	snprintf(path, sizeof(path), "/sys/block/%.15s/loop/backing_file", name);
	if (file_read(AT_FDCWD, path, PATH_MAX, &backing, NULL, &absent) < 0 ||
	    strncmp(backing, disks, strlen(disks)) != 0)
		return;
	snprintf(task, sizeof(task), "%.63s", backing + strlen(disks));
	task[strcspn(task, ".")] = '\0';
	snprintf(device, sizeof(device), "/dev/%.15s", name);
	finding = fsck_find(check, "loop device", device, "task %s", task);
	finding->orphan = !fsck_owns(check->owned.kinds[MODEL_TASK], task);
	if (finding->orphan && check->repair)
		fsck_removed(finding, error_set(err, EBUSY, "some process still has it mounted"),
			     err);
}

// Loop devices over our disks: the netns driver's. They free themselves with their last mount, so
// there is never one to be removed here. A host may have any number of them.
static int collect_loops(struct check *check, struct error *err)
{
	scoped_directory DIR *directory = opendir("/sys/block");
	const struct dirent *entry;

	if (!directory)
		return error_errno(err, "open /sys/block");
	while ((entry = readdir(directory)))
		if (strncmp(entry->d_name, "loop", 4) == 0)
			check_loop(check, entry->d_name, err);
	return 0;
}

// Mounts beneath the state directory: none of ours is ever visible in the agent's mount namespace.
static int collect_mounts(struct check *check, struct error *err)
{
	scoped_free char *table = NULL;
	size_t length = strlen(check->config->state_directory);

	if (file_read(AT_FDCWD, "/proc/self/mountinfo", 16 << 20, &table, NULL, err) < 0)
		return -err->code;
	for (char *line = table, *next; line && *line; line = next) {
		char point[PATH_MAX];
		struct fsck_finding *finding;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (sscanf(line, "%*s %*s %*s %*s %4095s", point) != 1 ||
		    strncmp(point, check->config->state_directory, length) != 0 ||
		    point[length] != '/')
			continue;
		finding = fsck_find(check, "mount", point, "install %s", check->config->install);
		if (fsck_is_to_go(check, finding, false))
			fsck_removed(finding,
				     umount2(point, MNT_DETACH | UMOUNT_NOFOLLOW) < 0
					     ? error_errno(err, "unmount")
					     : 0,
				     err);
	}
	return 0;
}

fsck_collector *const fsck_collectors[] = {
	collect_cgroups,      collect_probes,          fsck_collect_policy,
	fsck_collect_network, fsck_collect_host_table, collect_loops,
	collect_mounts,       collect_disks,           collect_directories,
};

const size_t fsck_collector_count = ARRAY_LENGTH(fsck_collectors);
