// SPDX-License-Identifier: Apache-2.0
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
#include "agent/lb/lb.h"
#include "agent/task/fsck_internal.h"
#include "sg/sg.h"

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

// Whether this orphan is to be removed now. A running agent may just have made it: a record is
// always committed before its effects, so only what the records of a second look do not own either
// may go.
static bool is_to_go(struct check *check, struct fsck_finding *finding, bool owned)
{
	finding->orphan = !owned;
	return finding->orphan && check->repair && check->before &&
	       was_orphan(check->before, finding);
}

// What a record owns may be known from it alone.
static int require_readable(const struct check *check, struct error *err)
{
	if (!check->unreadable)
		return 0;
	return error_set(err, EBUSY, "the record of %s cannot be read: this may be its own",
			 check->unreadable);
}

static void removed(struct fsck_finding *finding, int result, const struct error *err)
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
		if (is_to_go(check, finding, fsck_owns(check->owned.kinds[MODEL_TASK], task)))
			removed(finding, cgroup_kill(&check->tree, task, err), err);
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
	if (is_to_go(check, finding, check->agent_pid > 0 && parent_of(pid) == check->agent_pid))
		removed(finding, end_process(pidfd, err), err);
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
		if (is_to_go(check, finding, fsck_owns(check->owned.kinds[MODEL_TASK], tasks[i])))
			removed(finding, remove_cgroup(check, tasks[i], err), err);
	}
	return 0;
}

static bool owns_object(const struct check *check, const struct netif_object *object)
{
	const struct name *vpcs = check->owned.kinds[MODEL_VPC];

	switch (object->kind) {
	case NETIF_OBJECT_ENI:
		if (object->dying) // the agent's reaper is at it
			return check->agent_runs;
		return fsck_owns(check->owned.enis, object->owner);
	case NETIF_OBJECT_ATTACHMENT:
		return fsck_owns(vpcs, object->owner) &&
		       fsck_owns(check->owned.interfaces, object->name);
	case NETIF_OBJECT_VPC:
		return fsck_owns(vpcs, object->owner);
	case NETIF_OBJECT_ADDRESS:
	case NETIF_OBJECT_SUBNET:
		return fsck_owner_of_place(check, object->owner, object->name);
	}
	return false;
}

// netif_object_delete() wants this order.
static const enum netif_object_kind netif_order[] = {NETIF_OBJECT_ENI, NETIF_OBJECT_ATTACHMENT,
						     NETIF_OBJECT_ADDRESS, NETIF_OBJECT_SUBNET,
						     NETIF_OBJECT_VPC};

static int remove_netif(struct check *check, const struct netif_object *object, struct error *err)
{
	// A VPC is known by its name, and goes only when nothing is inside.
	if (object->kind != NETIF_OBJECT_VPC && require_readable(check, err) < 0)
		return -err->code;
	return netif_object_delete(check->netif, object, err);
}

static void collect_netif(struct check *check, const struct netif_object *object, struct error *err)
{
	const char *place = object->vpc[0] ? object->vpc : "host";
	const char *owner = fsck_owner_of_place(check, object->owner, object->name);
	struct fsck_finding *finding;
	char name[FSCK_TEXT_SIZE];

	snprintf(name, sizeof(name), "%.180s in %.63s", object->name, place);
	finding = fsck_find(check, netif_object_kind_name(object->kind),
			    object->kind == NETIF_OBJECT_VPC ? object->name : name, "%s%s",
			    owner ?: object->owner, object->dying ? " (retired)" : "");
	if (is_to_go(check, finding, owns_object(check, object)))
		removed(finding, remove_netif(check, object, err), err);
}

static int collect_network(struct check *check, struct error *err)
{
	scoped_free struct netif_object *objects = NULL;
	size_t count;

	if (netif_inventory(check->netif, &objects, &count, err) < 0)
		return -err->code;
	for (size_t k = 0; k < ARRAY_LENGTH(netif_order); k++)
		for (size_t i = 0; i < count; i++)
			if (objects[i].kind == netif_order[k])
				collect_netif(check, &objects[i], err);
	return 0;
}

static int collect_host_table(struct check *check, struct error *err)
{
	scoped_free struct sg_object *objects = NULL;
	int socket_fd;
	size_t count;

	if (netif_netfilter_socket(check->netif, NULL, &socket_fd, err) < 0 ||
	    sg_host_inventory(check->config->install, socket_fd, &objects, &count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++) {
		struct fsck_finding *finding =
			fsck_find(check, sg_object_kind_name(objects[i].kind), objects[i].name,
				  "install %s", objects[i].owner);
		if (is_to_go(check, finding, check->installed))
			removed(finding, sg_host_delete(check->config->install, socket_fd, err),
				err);
	}
	return 0;
}

static bool owns_policy(const struct check *check, const struct sg_object *object)
{
	switch (object->kind) {
	case SG_OBJECT_GROUP:
		return fsck_owns(check->owned.kinds[MODEL_SECURITY_GROUP], object->owner);
	case SG_OBJECT_MEMBER:
		return fsck_owns(check->owned.enis, object->owner);
	case SG_OBJECT_BALANCER:
		return fsck_owns(check->owned.kinds[MODEL_LOAD_BALANCER], object->owner);
	case SG_OBJECT_HOST_TABLE:
		return true;
	}
	return false;
}

static int remove_policy(const struct check *check, const char *vpc_id, int socket_fd,
			 const struct sg_object *object, struct error *err)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	struct sg_vpc *vpc;
	int result;

	if (check->agent_runs)
		return error_set(err, EBUSY,
				 "the agent holds this table: it removes what nobody owns");
	if (object->kind == SG_OBJECT_MEMBER && require_readable(check, err) < 0)
		return -err->code;
	result = sg_vpc_open(check->config->install, vpc_id, socket_fd, &vpc, err);
	if (result < 0)
		return result;
	if (object->kind == SG_OBJECT_MEMBER)
		result = sg_member_remove(vpc, batch, object->owner, err);
	else if (object->kind == SG_OBJECT_BALANCER)
		result = sg_balancer_remove(vpc, batch, object->owner, err);
	else
		result = sg_group_remove(vpc, batch, object->owner, err);
	if (result == 0)
		result = sg_vpc_commit(vpc, batch, socket_fd, err);
	sg_vpc_close(vpc);
	return result;
}

static int collect_policy_of(struct check *check, const char *vpc_id, struct error *err)
{
	static const enum sg_object_kind order[] = {SG_OBJECT_MEMBER, SG_OBJECT_BALANCER,
						    SG_OBJECT_GROUP};
	scoped_free struct sg_object *objects = NULL;
	struct sg_vpc *vpc = NULL;
	int socket_fd;
	size_t count;
	int result = netif_netfilter_socket(check->netif, vpc_id, &socket_fd, err);

	if (result == 0)
		result = sg_vpc_find(check->config->install, vpc_id, socket_fd, &vpc, err);
	if (result < 0) // no namespace or no table: nothing there
		return result == -ENOENT ? 0 : result;
	sg_vpc_inventory(vpc, &objects, &count);
	sg_vpc_close(vpc);
	for (size_t i = 0; i < ARRAY_LENGTH(order) * count; i++) {
		const struct sg_object *object = &objects[i % count];
		struct fsck_finding *finding;

		if (object->kind != order[i / count])
			continue;
		finding = fsck_find(check, sg_object_kind_name(object->kind), object->name,
				    "%s in vpc %s", object->owner, vpc_id);
		if (is_to_go(check, finding, owns_policy(check, object)))
			removed(finding, remove_policy(check, vpc_id, socket_fd, object, err), err);
	}
	return 0;
}

static bool owns_balancing(const struct check *check, const struct lb_object *object)
{
	return fsck_owns(check->owned.kinds[object->kind == LB_OBJECT_SERVICE ? MODEL_LOAD_BALANCER
									      : MODEL_TARGET_GROUP],
			 object->owner);
}

static int collect_balancing_of(struct check *check, const char *vpc_id, struct error *err)
{
	scoped_free struct lb_object *objects = NULL;
	size_t count = 0;
	int result = lb_inventory(check->netif, vpc_id, &objects, &count, err);

	if (result < 0) // no namespace: nothing there
		return result == -ENOENT ? 0 : result;
	for (size_t i = 0; i < count; i++) {
		struct fsck_finding *finding =
			fsck_find(check, lb_object_kind_name(objects[i].kind), objects[i].name,
				  "%s in vpc %s", objects[i].owner, vpc_id);
		if (is_to_go(check, finding, owns_balancing(check, &objects[i])))
			removed(finding, lb_object_delete(check->netif, vpc_id, &objects[i], err),
				err);
	}
	return 0;
}

static int collect_policy(struct check *check, struct error *err)
{
	const struct name *vpc = check->owned.kinds[MODEL_VPC];

	for (; vpc; vpc = vpc->next)
		if (collect_policy_of(check, vpc->text, err) < 0 ||
		    collect_balancing_of(check, vpc->text, err) < 0)
			return error_wrap(err, "vpc %s", vpc->text);
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

		if (is_to_go(check, finding, owned))
			removed(finding, ephemeral_remove(&check->pool, entry, err), err);
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
		if (is_to_go(check, finding, fsck_owns(check->owned.records, tasks[i])))
			removed(finding, cell_directory_remove(&cell, err), err);
	}
	return 0;
}

// Loop devices over our disks: the netns driver's. They free themselves with their last mount, so
// there is never one to be removed here.
static int collect_loops(struct check *check, struct error *err)
{
	char disks[CONFIG_PATH_MAX + 8];

	snprintf(disks, sizeof(disks), "%s/disks/", check->config->state_directory);
	for (int i = 0; i < 256; i++) {
		char path[64], device[16], task[64];
		scoped_free char *backing = NULL;
		struct error absent = {0};
		struct fsck_finding *finding;

		snprintf(path, sizeof(path), "/sys/block/loop%d/loop/backing_file", i);
		if (file_read(AT_FDCWD, path, PATH_MAX, &backing, NULL, &absent) < 0 ||
		    strncmp(backing, disks, strlen(disks)) != 0)
			continue;
		snprintf(task, sizeof(task), "%.63s", backing + strlen(disks));
		task[strcspn(task, ".")] = '\0';
		snprintf(device, sizeof(device), "/dev/loop%d", i);
		finding = fsck_find(check, "loop device", device, "task %s", task);
		finding->orphan = !fsck_owns(check->owned.kinds[MODEL_TASK], task);
		if (finding->orphan && check->repair)
			removed(finding, error_set(err, EBUSY, "some process still has it mounted"),
				err);
	}
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
		if (is_to_go(check, finding, false))
			removed(finding,
				umount2(point, MNT_DETACH | UMOUNT_NOFOLLOW) < 0
					? error_errno(err, "unmount")
					: 0,
				err);
	}
	return 0;
}

fsck_collector *const fsck_collectors[] = {
	collect_cgroups, collect_probes, collect_policy, collect_network,     collect_host_table,
	collect_loops,   collect_mounts, collect_disks,  collect_directories,
};

const size_t fsck_collector_count = ARRAY_LENGTH(fsck_collectors);
