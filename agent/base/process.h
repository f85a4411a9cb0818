// SPDX-License-Identifier: Apache-2.0
// Child processes: born in their cgroup, recorded before they run, named by pidfd.
//
// A spawned child first joins its cgroups, then (when gated) waits on a pipe
// until process_release(). If the parent dies before that, the child reads
// end-of-file and exits: nothing can run unrecorded.
//
//     struct spawn_options options = {.argv = argv, .gated = true, .netns_fd = -1};
//     scoped(process_close) struct process child = PROCESS_NONE;
//     if (process_spawn(&options, &child, err) < 0) ...
//     ... record child.pid and child.start_time ...
//     process_release(&child);
//
// The child gets exactly the descriptors named in `fds`; everything else is
// closed. argv is a vector, never a shell line; environ is what `envp` says.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/base/error.h"

struct sock_fprog; // linux/filter.h

// What a spawn needs of RLIMIT_NOFILE: a child moves its descriptors above 1000 for a while.
enum { PROCESS_FILES_MIN = 1100 };

struct spawn_fd {
	int from; // descriptor of the parent
	int to;   // its number in the child
};

struct spawn_options {
	const char *const *argv; // argv[0] is an absolute path; NULL-terminated
	const char *const *envp; // NULL: an empty environment
	const struct spawn_fd *fds;
	size_t fd_count;
	const char *const *cgroup_procs; // cgroup.procs files to join, NULL-terminated; NULL: none
	uint64_t namespaces;             // CLONE_NEW* flags
	int netns_fd;                    // network namespace to enter first, -1: stay
	const char *working_directory;   // NULL: "/"
	bool drop_identity;              // become uid:gid, no supplementary groups, no_new_privs
	uid_t uid;
	gid_t gid;
	uint64_t file_bytes_max; // RLIMIT_FSIZE: a longer file ends the child (SIGXFSZ); 0: any
	// A system call filter, installed right before exec (sandbox.h); needs drop_identity. NULL:
	// none.
	const struct sock_fprog *filter;
	bool die_with_parent; // SIGKILL when the spawning thread ends
	bool gated;           // wait for process_release() before exec
};

struct process {
	pid_t pid;
	int pidfd;           // poll: readable when it has ended
	uint64_t start_time; // clock ticks since boot, field 22 of /proc/PID/stat
	int gate_fd;         // write end of the gate, -1 when open
	int status_fd;       // readable end-of-file: exec succeeded; a message: why not
};

#define PROCESS_NONE                                                                               \
	(struct process)                                                                           \
	{                                                                                          \
		.pid = -1, .pidfd = -1, .gate_fd = -1, .status_fd = -1                             \
	}

// Not gated: returns after exec succeeded (status_fd is -1), with the child's own
// error when it did not. Gated: returns at once.
int process_spawn(const struct spawn_options *options, struct process *ret_process,
		  struct error *err);

// Opens the gate of a gated child. Does not wait for its exec.
int process_release(struct process *process, struct error *err);

// Waits (blocks) for the end of exec and returns the child's error if it failed.
int process_wait_exec(struct process *process, struct error *err);

// Runs argv to its end (blocks) with stdin and stdout on /dev/null and stderr captured into the
// error message; non-zero exit is -EIO with "<argv0> exited with N: <last lines>".
int process_run(const char *const *argv, struct error *err);
// The same with one descriptor more, under its own number (-1: none).
int process_run_with(const char *const *argv, int kept_fd, struct error *err);

// Closes the descriptors; the process itself goes on.
void process_close(struct process *process);

// Opens the process `pid` only if it is still the one that started at `start_time`;
// -ESRCH otherwise, and another error when that cannot be said. Returns a pidfd.
int process_open(pid_t pid, uint64_t start_time);

// Start time of a live process; -ESRCH when there is none.
int process_start_time(pid_t pid, uint64_t *ret_start_time);

// The kernel's boot id, without newline.
enum { BOOT_ID_SIZE = 37 };
int boot_id_read(char ret_id[BOOT_ID_SIZE], struct error *err);
