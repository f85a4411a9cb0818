// SPDX-License-Identifier: Apache-2.0
// Disks: clones of a template.
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "ephemeral/internal.h"

static int disk_name(const char *task_id, char ret_name[EPHEMERAL_NAME_SIZE], struct error *err)
{
	if (!id_is_valid(task_id))
		return error_set(err, EINVAL, "ephemeral disk: \"%.64s\" is not a task id",
				 task_id);
	snprintf(ret_name, EPHEMERAL_NAME_SIZE, "%s.img", task_id);
	return 0;
}

static int compare(const struct stat *status, unsigned size_gib, uid_t uid, gid_t gid,
		   struct error *err)
{
	if (!S_ISREG(status->st_mode))
		return error_set(err, EEXIST, "is not a regular file");
	if ((uint64_t)status->st_size != size_gib * EPHEMERAL_GIB)
		return error_set(err, EEXIST, "has %lld bytes, not %u GiB",
				 (long long)status->st_size, size_gib);
	if (status->st_uid != uid || status->st_gid != gid)
		return error_set(err, EEXIST, "belongs to %u:%u, not %u:%u", status->st_uid,
				 status->st_gid, uid, gid);
	return 0;
}

int ephemeral_disk_check(const struct ephemeral *pool, const char *task_id, unsigned size_gib,
			 uid_t uid, gid_t gid, struct error *err)
{
	char name[EPHEMERAL_NAME_SIZE];
	struct stat status;

	if (disk_name(task_id, name, err) < 0)
		return -err->code;
	if (fstatat(pool->disks_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, "ephemeral disk %s", name);
	if (compare(&status, size_gib, uid, gid, err) < 0)
		return error_wrap(err, "ephemeral disk %s", name);
	return 0;
}

// Copies the allocated extents only (136 KiB of 20 GiB).
static int copy_sparse(int from_fd, int to_fd, off_t size, struct error *err)
{
	off_t data = 0;

	if (ftruncate(to_fd, size) < 0)
		return error_errno(err, "set size");
	while ((data = lseek(from_fd, data, SEEK_DATA)) >= 0) {
		off_t hole = lseek(from_fd, data, SEEK_HOLE);
		off_t to = data;

		if (hole < 0)
			return error_errno(err, "find holes");
		while (data < hole) {
			ssize_t count = copy_file_range(from_fd, &data, to_fd, &to,
							(size_t)(hole - data), 0);

			if (count < 0)
				return error_errno(err, "copy");
			if (count == 0)
				return error_set(err, EIO, "copy: the template is cut off");
		}
	}
	return errno == ENXIO ? 0 : error_errno(err, "find data");
}

static int clone(int template_fd, int fd, unsigned size_gib, struct error *err)
{
	static const int unsupported[] = {EOPNOTSUPP, ENOTTY, EXDEV, EINVAL, ENOSYS};

	if (ioctl(fd, FICLONE, template_fd) == 0)
		return 0;
	for (size_t i = 0; i < ARRAY_LENGTH(unsupported); i++)
		if (errno == unsupported[i])
			return copy_sparse(template_fd, fd, (off_t)(size_gib * EPHEMERAL_GIB), err);
	return error_errno(err, "clone the template");
}

static int fill(const struct ephemeral *pool, int fd, unsigned size_gib, uid_t uid, gid_t gid,
		struct error *err)
{
	char template_name[EPHEMERAL_NAME_SIZE];
	scoped_fd int template_fd = -1;

	ephemeral_template_name(size_gib, template_name);
	template_fd = openat(pool->templates_fd, template_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (template_fd < 0 && errno == ENOENT)
		return error_set(err, ENOMEDIUM, "no template of %u GiB", size_gib);
	if (template_fd < 0)
		return error_errno(err, "open template %s", template_name);
	if (clone(template_fd, fd, size_gib, err) < 0)
		return -err->code;
	if (fchown(fd, uid, gid) < 0)
		return error_errno(err, "give to %u:%u", uid, gid);
	return 0;
}

static int create(const struct ephemeral *pool, const char *name, unsigned size_gib, uid_t uid,
		  gid_t gid, struct error *err)
{
	char unfinished[EPHEMERAL_NAME_SIZE + sizeof(EPHEMERAL_UNFINISHED_PREFIX)];
	scoped_fd int fd = -1;

	snprintf(unfinished, sizeof(unfinished), EPHEMERAL_UNFINISHED_PREFIX "%s", name);
	fd = openat(pool->disks_fd, unfinished, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
		    0600);
	if (fd < 0)
		return error_errno(err, "create");
	if (fill(pool, fd, size_gib, uid, gid, err) == 0) {
		if (renameat(pool->disks_fd, unfinished, pool->disks_fd, name) == 0)
			return 0;
		error_errno(err, "rename");
	}
	unlinkat(pool->disks_fd, unfinished, 0);
	return -err->code;
}

int ephemeral_disk_create(const struct ephemeral *pool, const char *task_id, unsigned size_gib,
			  uid_t uid, gid_t gid, struct error *err)
{
	char name[EPHEMERAL_NAME_SIZE];
	int r;

	if (disk_name(task_id, name, err) < 0 || ephemeral_size_check(size_gib, err) < 0)
		return -err->code;
	r = ephemeral_disk_check(pool, task_id, size_gib, uid, gid, err);
	if (r != -ENOENT)
		return r;
	error_clear(err);
	if (create(pool, name, size_gib, uid, gid, err) < 0)
		return error_wrap(err, "ephemeral disk %s", name);
	return 0;
}

static int open_checked(const struct ephemeral *pool, const char *name, int access,
			unsigned size_gib, int *ret_fd, struct error *err)
{
	scoped_fd int fd =
		openat(pool->disks_fd, name, access | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat status;

	if (fd < 0 || fstat(fd, &status) < 0)
		return error_errno(err, "open");
	if (compare(&status, size_gib, status.st_uid, status.st_gid, err) < 0)
		return -err->code;
	*ret_fd = take_fd(&fd);
	return 0;
}

int ephemeral_disk_open(const struct ephemeral *pool, const char *task_id, unsigned size_gib,
			struct ephemeral_disk_fds *ret_fds, struct error *err)
{
	char name[EPHEMERAL_NAME_SIZE];
	scoped_fd int read_fd = -1, write_fd = -1;

	if (disk_name(task_id, name, err) < 0)
		return -err->code;
	if (open_checked(pool, name, O_RDONLY, size_gib, &read_fd, err) < 0 ||
	    open_checked(pool, name, O_RDWR, size_gib, &write_fd, err) < 0)
		return error_wrap(err, "ephemeral disk %s", name);
	*ret_fds = (struct ephemeral_disk_fds){take_fd(&read_fd), take_fd(&write_fd)};
	return 0;
}

int ephemeral_disk_used(const struct ephemeral *pool, const char *task_id, uint64_t *ret_bytes,
			struct error *err)
{
	char name[EPHEMERAL_NAME_SIZE];
	struct stat status;

	if (disk_name(task_id, name, err) < 0)
		return -err->code;
	if (fstatat(pool->disks_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, "ephemeral disk %s", name);
	*ret_bytes = (uint64_t)status.st_blocks * 512;
	return 0;
}

// The inode number makes the name in the trash unique: a task of the same name may be
// destroyed again before the janitor came.
static int discard(const struct ephemeral *pool, const char *name, struct error *err)
{
	char trash_name[EPHEMERAL_NAME_SIZE + 32];
	struct stat status;

	if (fstatat(pool->disks_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : error_errno(err, "ephemeral disk %s", name);
	snprintf(trash_name, sizeof(trash_name), "%s.%llu", name,
		 (unsigned long long)status.st_ino);
	if (renameat(pool->disks_fd, name, pool->trash_fd, trash_name) < 0 && errno != ENOENT)
		return error_errno(err, "move ephemeral disk %s to the trash", name);
	return 0;
}

int ephemeral_disk_destroy(const struct ephemeral *pool, const char *task_id, struct error *err)
{
	char name[EPHEMERAL_NAME_SIZE];
	char unfinished[EPHEMERAL_NAME_SIZE + sizeof(EPHEMERAL_UNFINISHED_PREFIX)];

	if (disk_name(task_id, name, err) < 0)
		return -err->code;
	snprintf(unfinished, sizeof(unfinished), EPHEMERAL_UNFINISHED_PREFIX "%s", name);
	if (unlinkat(pool->disks_fd, unfinished, 0) < 0 && errno != ENOENT)
		return error_errno(err, "remove %s", unfinished);
	return discard(pool, name, err);
}
