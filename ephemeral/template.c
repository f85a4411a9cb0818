// SPDX-License-Identifier: Apache-2.0
// Templates: an empty ext4 file system per size, made once by mkfs.ext4.
//
// mkfs writes under an unfinished name; the rename at the end publishes the template
// whole. A builder holds a lock on the directory, which ends with its process: whoever
// holds the lock knows that every unfinished name is a dead builder's.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "agent/base/process.h"
#include "agent/base/scope.h"
#include "ephemeral/internal.h"

#define MKFS "/sbin/mkfs.ext4"

void ephemeral_template_name(unsigned size_gib, char ret_name[EPHEMERAL_NAME_SIZE])
{
	snprintf(ret_name, EPHEMERAL_NAME_SIZE, "%u-" EPHEMERAL_TEMPLATE_VERSION ".img", size_gib);
}

bool ephemeral_template_exists(const struct ephemeral *pool, unsigned size_gib)
{
	char name[EPHEMERAL_NAME_SIZE];
	struct stat status;

	ephemeral_template_name(size_gib, name);
	return fstatat(pool->templates_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISREG(status.st_mode) && (uint64_t)status.st_size == size_gib * EPHEMERAL_GIB;
}

int ephemeral_templates_lock(const struct ephemeral *pool, int operation, int *ret_fd)
{
	// A description of its own: locks belong to the description, not to the process.
	scoped_fd int fd = openat(pool->templates_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	while (flock(fd, operation) < 0)
		if (errno != EINTR)
			return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

// The resize inode and backup superblocks are of no use on a disk that lives as long as
// a task, and without them only ~140 KiB are written. The journal is left as a hole
// (zeroes to the guest). mkfs's default discard stays on: it marks the inode tables as
// zeroed, else the guest would write 320 MiB of zeroes into a sparse file. No blocks are
// reserved for root: everybody in the guest may be root.
static int run_mkfs(const char *path, unsigned size_gib, struct error *err)
{
	char size[16];
	const char *const argv[] = {
		MKFS,
		"-q",
		"-F",
		"-m",
		"0",
		"-L",
		"ephemeral",
		"-O",
		"^resize_inode,sparse_super2",
		"-E",
		"lazy_journal_init=1,num_backup_sb=0,packed_meta_blocks=1",
		path,
		size,
		NULL,
	};

	snprintf(size, sizeof(size), "%uG", size_gib);
	return process_run(argv, err);
}

static int templates_path(const struct ephemeral *pool, char *path, size_t size, struct error *err)
{
	char link[64];
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", pool->templates_fd);
	length = readlink(link, path, size - 1);
	if (length < 0)
		return error_errno(err, "path of the template directory");
	path[length] = '\0';
	return 0;
}

static int build(const struct ephemeral *pool, unsigned size_gib, struct error *err)
{
	char directory[3072], path[4096], name[EPHEMERAL_NAME_SIZE],
		unfinished[EPHEMERAL_NAME_SIZE];

	ephemeral_template_name(size_gib, name);
	snprintf(unfinished, sizeof(unfinished), EPHEMERAL_UNFINISHED_PREFIX "%u", size_gib);
	if (templates_path(pool, directory, sizeof(directory), err) < 0)
		return -err->code;
	snprintf(path, sizeof(path), "%s/%s", directory, unfinished);
	if (unlinkat(pool->templates_fd, unfinished, 0) < 0 && errno != ENOENT)
		return error_errno(err, "remove %s", path);
	if (run_mkfs(path, size_gib, err) < 0) {
		unlinkat(pool->templates_fd, unfinished, 0);
		return -err->code;
	}
	// mkfs has synced the file. Should the rename be lost in a crash of the host, the
	// template is built again.
	if (renameat(pool->templates_fd, unfinished, pool->templates_fd, name) < 0)
		return error_errno(err, "publish %s/%s", directory, name);
	return 0;
}

int ephemeral_template_build(const struct ephemeral *pool, unsigned size_gib, struct error *err)
{
	scoped_fd int lock_fd = -1;
	int r;

	if (ephemeral_size_check(size_gib, err) < 0)
		return -err->code;
	r = ephemeral_templates_lock(pool, LOCK_EX, &lock_fd);
	if (r < 0)
		return error_code(err, r, "lock the template directory");
	if (ephemeral_template_exists(pool, size_gib))
		return 0;
	if (build(pool, size_gib, err) < 0)
		return error_wrap(err, "template of %u GiB", size_gib);
	return 0;
}
