// SPDX-License-Identifier: Apache-2.0
// The door of the cell module: what belongs to one task on the host – a directory, a
// cgroup, a uid, and penstock-shim as parent of every process in it.
//
// Everything is found by identity (install and task id), never by a remembered number
// alone: each call may be repeated after a crash. "Ensure" of what is right and
// "remove" of what is gone are success. Nothing blocks, except where it says so.
//
//	<state>/cells/<task>/           root:gid 0750
//	    manifest                    root:gid 0640  written by the agent before LAUNCH
//	    record                      root     0600  the agent's record of the task, as a copy
//	    metadata/                   root:gid 0750  task.json, <container-id>.json, by the agent
//	    shim/                       uid:gid  0750  status: the last struct cell_status;
//	                                               console.log (.log.1): the VMM's; shim.log
//	    logs/                       uid:gid  0750  <container>.log, .log.1
//	    shim.sock                   root     0600  where a restarted agent finds the shim
//	<state>/cells-retired/          of forgotten tasks, until they are removed
//
// Files under shim/ and logs/ belong to the task's uid, which a hostile VMM may have:
// read them only through cell_status_read() and cell_log_open().
//
//	struct cell cell = {.tree = &tree, .state_directory = "/var/lib/penstock",
//			    .task = id, .uid = uid, .gid = uid};
//	cgroup_ensure(&tree, id, &limits, err);
//	cell_directory_ensure(&cell, err);
//	cell_shim_spawn(&cell, &options, &shim, &channel_fd, err);   // gated
//	... record shim.pid, shim.start_time and commit ...
//	process_release(&shim, err);
//	shim_attach(channel_fd, slots, fds, 3, err);
//	shim_launch(channel_fd, &launch, err);
//	... poll channel_fd; readable: cell_status_receive(channel_fd, &status, err) ...
//
// The end of the shim (its pidfd is readable, or end of file on the channel while it was not
// replaced) is the end of the cell: cgroup_kill() takes what a hostile VMM left.
//
// After a restart: cell_adopt(). -ESRCH says that the shim is gone: cell_status_read() has
// the last word, then cgroup_kill(), cgroup_remove(), cell_directory_remove().
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/base/arena.h"
#include "agent/base/error.h"
#include "agent/base/process.h"
#include "agent/cell/cgroup.h"
#include "agent/cell/protocol.h"

// What the shim itself needs in the cell's cgroup on top of the VMM.
enum { CELL_SHIM_OVERHEAD_MIB = 4 };

// Names a cell. Strings and tree are borrowed for the length of a call.
struct cell {
	const struct cgroup_tree *tree;
	const char *state_directory; // absolute
	const char *task;
	uid_t uid; // 0 in the netns driver: a harness, not a boundary
	gid_t gid;
};

// --- Directory ---

int cell_directory_ensure(const struct cell *cell, struct error *err);
// An O_DIRECTORY descriptor of the cell's directory; -ENOENT when there is none.
int cell_directory_open(const struct cell *cell, int *ret_fd, struct error *err);
// After its last process: root's alone from now on, for its uid will be another task's.
int cell_directory_seal(const struct cell *cell, struct error *err);
// Takes it out of the way at once, under a name nobody uses again (the same id may come back);
// cell_directories_reap() removes what was retired. A missing directory is success.
int cell_directory_retire(const struct cell *cell, struct error *err);
// May block: for a janitor process.
int cell_directories_reap(const char *state_directory, struct error *err);
// Removes it with all logs. May block: for a janitor process.
int cell_directory_remove(const struct cell *cell, struct error *err);

// Replaces the manifest the guest will get. Two fsyncs (some ms on a slow disk).
int cell_manifest_write(const struct cell *cell, const void *text, size_t length,
			struct error *err);
// Replaces metadata/<name>.json atomically, without fsync: it is made anew from the record. `name`
// is "task" or a container id (^[0-9a-f-]{1,64}$, else -EINVAL).
int cell_metadata_write(const struct cell *cell, const char *name, const void *text, size_t length,
			struct error *err);

// The agent's record of the task beside its cell, for the case that the database loses it. Replaced
// atomically, without fsync. It exists from before the shim runs until the cell is undone.
int cell_record_write(const struct cell *cell, const void *text, size_t length, struct error *err);
// -ENOENT: there is none. The caller frees the text, which ends with a NUL behind `length` bytes.
int cell_record_read(const struct cell *cell, char **ret_text, size_t *ret_length,
		     struct error *err);
int cell_record_remove(const struct cell *cell, struct error *err); // a missing one is success
bool cell_record_exists(const struct cell *cell);

// Opens the log of a container, or with NULL the VMM's console, for reading: the current file or
// the one rotated away. Refuses all but a regular file. -ENOENT when nothing was logged.
int cell_log_open(const struct cell *cell, const char *container, bool rotated, int *ret_fd,
		  struct error *err);

// What the logs of all containers, the console and the shim take on the disk; 0 when there are
// none.
uint64_t cell_log_bytes(const struct cell *cell);

// --- Shim ---

struct cell_shim_options {
	const char *shim_path; // absolute path of penstock-shim
	uint32_t log_max_mib;  // a log is rotated at this size; one old file is kept
	bool kvm;              // the VMM may open /dev/kvm: a host without one ends the shim
};

// Starts the shim, gated: it ends by itself unless process_release() is called after its
// identity is recorded. *ret_channel_fd is the agent's connection (non-blocking): requests may be
// sent at once, they wait in the socket.
int cell_shim_spawn(const struct cell *cell, const struct cell_shim_options *options,
		    struct process *ret_shim, int *ret_channel_fd, struct error *err);

// Finds the running shim of a cell again: the pid must have that start time, be in the cell's
// cgroup and be the one that listens on shim.sock. -ESRCH: it is gone. -EAGAIN: try again (it has
// not started to listen yet, or its backlog is full). -EPERM: the socket is someone else's. The
// newest connection replaces an older one.
int cell_adopt(const struct cell *cell, pid_t pid, uint64_t start_time, struct process *ret_shim,
	       int *ret_channel_fd, struct error *err);

// The network namespace in which the shim listens for its guest, which is that of the task's VPC;
// the caller closes it. Needs no help of the shim. -ESRCH: the shim is gone. -ENOENT: it has no
// listener (it has launched nothing yet).
int cell_namespace_open(pid_t pid, uint64_t start_time, int *ret_fd, struct error *err);

// Requests. -EAGAIN when the socket is full (poll for writable, repeat); -EPIPE when the shim is
// gone. shim_attach: fds[i] goes to slots[i]; the shim gets copies, the caller keeps its own. Any
// count.
int shim_attach(int channel_fd, const struct shim_slot *slots, const int *fds, size_t count,
		struct error *err);
int shim_launch(int channel_fd, const struct vmm_launch *launch, struct error *err);
int shim_stop(int channel_fd, struct error *err);
int shim_kill(int channel_fd, struct error *err);
int shim_exit(int channel_fd, struct error *err);

// The next snapshot, checked. 1; 0 at end of file (the shim is gone, or a newer connection took
// over); -EAGAIN when nothing is there; -EBADMSG when it is no snapshot.
int cell_status_receive(int channel_fd, struct cell_status *ret_status, struct error *err);

// The last persisted snapshot. -ENOENT when there is none, -EBADMSG when it is damaged.
int cell_status_read(const struct cell *cell, struct cell_status *ret_status, struct error *err);
// When it was saved last (wall clock), as the task's uid may have forged; 0: never.
int64_t cell_status_saved_ms(const struct cell *cell);

// --- What is there ---

struct cell_remains {
	bool directory;
	bool cgroup;
	bool populated; // processes are left in the cgroup
	bool record;    // the directory holds a record: the task's cell was not undone
};

int cell_remains(const struct cell *cell, struct cell_remains *ret_remains, struct error *err);

// Every task of this install that has a directory or a cgroup: sorted, each once, in the arena.
int cell_list(const struct cgroup_tree *tree, const char *state_directory, struct arena *arena,
	      const char ***ret_tasks, size_t *ret_count, struct error *err);
