// SPDX-License-Identifier: Apache-2.0
// The door of the ephemeral module: one sparse raw ext4 disk per task.
//
// A disk is a clone of a template, an empty file system of the same size that is
// built once per size and kept. All names live under one state directory, which
// belongs to one install:
//
//     templates/20-v1.img   empty 20 GiB file system; another version of the mkfs
//                           options is another name, so that a clone is never mixed
//     disks/<task>.img      the task's disk, complete as soon as the name exists
//     trash/                destroyed disks that wait for the janitor
//
// What may block: building a template (mkfs) and reaping (unlinking large disks). The
// event loop's owner calls these two in a child process. Everything else takes at most
// 2 ms and may be called from the loop:
//
//     scoped(ephemeral_close) struct ephemeral pool = EPHEMERAL_NONE;
//     if (ephemeral_open("/var/lib/penstock", &pool, err) < 0) ...
//     r = ephemeral_disk_create(&pool, "task-1", 20, uid, gid, err);
//     if (r == -ENOMEDIUM) ...   // no template yet: ephemeral_template_build() in a janitor
//     r = ephemeral_disk_open(&pool, "task-1", 20, &disk, err);
//
// Errors: negative errno; every message names the disk. Task ids are valid ids
// (number.h), sizes are GiB (2^30 bytes), 1 to EPHEMERAL_SIZE_MAX_GIB.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/base/error.h"

enum {
	EPHEMERAL_SIZE_DEFAULT_GIB = 20,
	EPHEMERAL_SIZE_MAX_GIB = 200,
	EPHEMERAL_NAME_SIZE = 128,
};

// The open pool. Owned by the caller, closed with ephemeral_close().
struct ephemeral {
	int templates_fd, disks_fd, trash_fd;
};

#define EPHEMERAL_NONE                                                                             \
	(struct ephemeral)                                                                         \
	{                                                                                          \
		.templates_fd = -1, .disks_fd = -1, .trash_fd = -1                                 \
	}

// Opens (and makes, mode 0700) the directories under `state_directory`.
int ephemeral_open(const char *state_directory, struct ephemeral *ret_pool, struct error *err);
void ephemeral_close(struct ephemeral *pool);

// ---- Templates

bool ephemeral_template_exists(const struct ephemeral *pool, unsigned size_gib);

// Builds the template unless it exists. BLOCKS (mkfs.ext4, ~10 ms and more): for the
// janitor and for tests. Builders in several processes exclude each other; what a killed
// one left is removed by the next.
int ephemeral_template_build(const struct ephemeral *pool, unsigned size_gib, struct error *err);

// ---- Disks

// Makes the disk, owned by uid:gid, mode 0600. A disk that is already there with this
// size and owner is success; with another it is -EEXIST. -ENOMEDIUM: no template of this
// size. The name appears only once the clone is whole.
int ephemeral_disk_create(const struct ephemeral *pool, const char *task_id, unsigned size_gib,
			  uid_t uid, gid_t gid, struct error *err);

// 0 when the disk is there with this size and owner, -ENOENT when it is not there,
// -EEXIST (the message says what differs) when it is another.
int ephemeral_disk_check(const struct ephemeral *pool, const char *task_id, unsigned size_gib,
			 uid_t uid, gid_t gid, struct error *err);

// The two descriptors of the disk to hand to a VMM (QEMU wants both in one fdset).
struct ephemeral_disk_fds {
	int read_fd;  // O_RDONLY
	int write_fd; // O_RDWR
};

// The caller owns both descriptors (CLOEXEC). -EEXIST as in ephemeral_disk_check().
int ephemeral_disk_open(const struct ephemeral *pool, const char *task_id, unsigned size_gib,
			struct ephemeral_disk_fds *ret_fds, struct error *err);

// Bytes the disk occupies on the host (allocated blocks, not its size).
int ephemeral_disk_used(const struct ephemeral *pool, const char *task_id, uint64_t *ret_bytes,
			struct error *err);

// Moves the disk to the trash; a disk that is gone is success. Its space is free only
// after the janitor's next reap.
int ephemeral_disk_destroy(const struct ephemeral *pool, const char *task_id, struct error *err);

// Unlinks everything in the trash. BLOCKS (0.5 s for 3 GiB written): for the janitor and for tests.
int ephemeral_reap(const struct ephemeral *pool, struct error *err);

bool ephemeral_trash_is_empty(const struct ephemeral *pool);

// ---- What is there, for fsck and metrics

enum ephemeral_kind {
	EPHEMERAL_DISK,       // disks/<task>.img
	EPHEMERAL_UNFINISHED, // a clone or template that its maker did not finish
	EPHEMERAL_TRASH,
	EPHEMERAL_TEMPLATE,
	EPHEMERAL_FOREIGN, // a name that this module does not make
};

struct ephemeral_entry {
	enum ephemeral_kind kind;
	char name[EPHEMERAL_NAME_SIZE]; // file name
	char task_id[64];               // DISK only, else ""
	uint64_t size_bytes, used_bytes;
	uid_t uid;
};

// Everything in the three directories; the caller frees *ret_entries. About 2 us per file.
int ephemeral_list(const struct ephemeral *pool, struct ephemeral_entry **ret_entries,
		   size_t *ret_count, struct error *err);

// Removes one entry of the list: disks go to the trash, the rest is unlinked
// (unfinished clones are small). Foreign names are refused with -EPERM.
int ephemeral_remove(const struct ephemeral *pool, const struct ephemeral_entry *entry,
		     struct error *err);

// ---- Capacity: pure arithmetic. The ledger is derived from the task records, never stored.

struct ephemeral_capacity {
	unsigned pool_gib;     // what tasks may use at all
	unsigned promised_gib; // sum of the sizes of all admitted tasks
	unsigned headroom_gib; // kept free
};

// What may still be promised.
unsigned ephemeral_capacity_free_gib(const struct ephemeral_capacity *capacity);

// 0, or -ENOSPC and "ephemeral storage: 40 GiB asked, 12 GiB free of 100 GiB (85 promised, 3
// headroom)".
int ephemeral_capacity_admit(const struct ephemeral_capacity *capacity, unsigned asked_gib,
			     struct error *err);

// The pool's size when none is configured: free space of the file system plus what
// this module's files occupy already. Lists all files: call it at start.
int ephemeral_pool_size_gib(const struct ephemeral *pool, unsigned *ret_gib, struct error *err);
