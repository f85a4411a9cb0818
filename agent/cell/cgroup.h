// SPDX-License-Identifier: Apache-2.0
// Control groups of cells: `penstock-<install>/<task>`.
//
// Where the v2 hierarchy has the controllers (cpu, memory, pids, io) everything is
// there. Otherwise each controller is taken from its v1 hierarchy, and a v2 tree
// without controllers, where one is mounted, still gives cgroup.kill and
// cgroup.events; without any v2 tree processes are killed one by one.
//
// penstock-<install> stands at the root of the hierarchy, beside systemd's slices and not in the
// agent's own group: tasks live on when the agent's unit is stopped. A mount whose root has
// processes of its own (a container's) can delegate nothing: cgroup_ensure() says EBUSY.
//
// All calls are idempotent and finish at once (the first cgroup.procs write after a
// quiet second takes 7-15 ms, therefore a spawned child joins by itself:
// cgroup_procs_files()). They act only beneath penstock-<install>.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/base/arena.h"
#include "agent/base/error.h"

enum cgroup_controller {
	CGROUP_CPU,
	CGROUP_CPUACCT, // v2: part of cpu
	CGROUP_MEMORY,
	CGROUP_PIDS,
	CGROUP_IO,      // v1: blkio
	CGROUP_UNIFIED, // the v2 tree itself
	CGROUP_CONTROLLER_COUNT,
};

enum cgroup_mode {
	CGROUP_MODE_NONE, // limits cannot be held
	CGROUP_MODE_V1,   // at least one of cpu, memory and pids is v1 (or missing)
	CGROUP_MODE_V2,
};

enum { CGROUP_MOUNT_MAX = 256 };

// Where a controller's directory tree is mounted.
struct cgroup_mount {
	char path[CGROUP_MOUNT_MAX]; // "": not available
	bool v2;
};

// Plain values; no descriptors are held.
struct cgroup_tree {
	enum cgroup_mode mode;
	char install[64];
	struct cgroup_mount mounts[CGROUP_CONTROLLER_COUNT];
};

struct cgroup_limits {
	uint32_t cpu_units;    // 1024 = one CPU; 0: unlimited
	uint64_t memory_bytes; // 0: unlimited
	uint32_t pids;         // 0: unlimited
};

struct cgroup_usage {
	uint64_t cpu_usec;
	uint64_t memory_working_set_bytes; // without inactive file pages
	uint64_t io_read_bytes;
	uint64_t io_write_bytes;
	bool has_cpu, has_memory, has_io; // false: no such controller here
};

// Reads /proc/self/mountinfo. Success even when nothing is mounted (mode NONE, for `doctor`).
int cgroup_tree_find(const char *install, struct cgroup_tree *ret_tree, struct error *err);

// The same from text: pure. `v2_controllers` is the content of cgroup.controllers at the v2 mount.
void cgroup_tree_parse(const char *mountinfo, const char *v2_controllers,
		       struct cgroup_tree *ret_tree);

// Makes penstock-<install>/<task> wherever needed and sets its limits; limits may be changed later.
int cgroup_ensure(const struct cgroup_tree *tree, const char *task,
		  const struct cgroup_limits *limits, struct error *err);
// Changes the share of CPU alone; 0: no limit.
int cgroup_cpu_set(const struct cgroup_tree *tree, const char *task, uint32_t cpu_units,
		   struct error *err);

// NULL-terminated paths of the cgroup.procs files, for spawn_options.cgroup_procs.
const char *const *cgroup_procs_files(const struct cgroup_tree *tree, const char *task,
				      struct arena *arena);

// Kills every process in it (cgroup.kill). Returns before they are gone. A missing cgroup is
// success.
int cgroup_kill(const struct cgroup_tree *tree, const char *task, struct error *err);

// Removes it everywhere. -EBUSY while processes are left. A missing cgroup is success.
// Removing the last task's leaves penstock-<install> behind: see cgroup_remove_root().
int cgroup_remove(const struct cgroup_tree *tree, const char *task, struct error *err);
// Removes the empty penstock-<install>; -EBUSY while it has tasks.
int cgroup_remove_root(const struct cgroup_tree *tree, struct error *err);

bool cgroup_exists(const struct cgroup_tree *tree, const char *task);

// True also when the cgroup does not exist.
int cgroup_is_empty(const struct cgroup_tree *tree, const char *task, bool *ret_empty,
		    struct error *err);

// One inotify descriptor for an install: readable when a watched cgroup became empty or
// populated (an EV_READ event: libevent knows no EPOLLPRI). Level-triggered use: on
// readable call cgroup_watch_drain() and ask cgroup_is_empty() for every cell being killed.
// A watch goes away with its cgroup. Add the watch, then kill, then ask once.
// -EOPNOTSUPP where there is no v2 tree: ask again after a while.
int cgroup_watch_open(int *ret_fd, struct error *err);
int cgroup_watch_add(const struct cgroup_tree *tree, int watch_fd, const char *task,
		     struct error *err);
void cgroup_watch_drain(int watch_fd);

int cgroup_usage_read(const struct cgroup_tree *tree, const char *task,
		      struct cgroup_usage *ret_usage, struct error *err);

// Pids in the cgroup, as of now. *ret_pids lies in the arena.
int cgroup_pids(const struct cgroup_tree *tree, const char *task, struct arena *arena,
		pid_t **ret_pids, size_t *ret_count, struct error *err);
int cgroup_has_pid(const struct cgroup_tree *tree, const char *task, pid_t pid, bool *ret_has,
		   struct error *err);

// Names of all task cgroups of this install, in any hierarchy, sorted, each once (for fsck and
// reconcile).
int cgroup_list(const struct cgroup_tree *tree, struct arena *arena, const char ***ret_tasks,
		size_t *ret_count, struct error *err);
