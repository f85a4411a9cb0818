// SPDX-License-Identifier: Apache-2.0
// The first content of a directory volume. Docker and Fargate give an empty volume what the image
// has in its place, if that is a VOLUME of the image: the directory's owner and mode, so that the
// image's user may write there, and all that lies in it.
//
// This runs in the child that becomes the container: a large directory takes its time, and the
// child can be killed meanwhile. Containers that share a volume may start at the same moment; the
// first one that takes the lock fills the volume, and a byte in the locked file says that this is
// done. A crash in between needs no care: penstock-init does not survive it, and the volume ends
// with the task.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "agent/guest/init.h"

#include "agent/base/scope.h"

// 1 when there is nothing but "." and "..".
static int is_empty(int directory_fd, struct error *err)
{
	scoped_directory DIR *directory = fdopendir(fcntl(directory_fd, F_DUPFD_CLOEXEC, 0));
	int count = 0;

	if (!directory)
		return error_errno(err, "read the volume");
	while (count <= 2 && readdir(directory))
		count++;
	return count <= 2;
}

static int copy_into(int from_fd, const char *volume_path, struct error *err)
{
	scoped_fd int to_fd = open(volume_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int empty;

	if (to_fd < 0)
		return error_errno(err, "open the volume");
	empty = is_empty(to_fd, err);
	return empty > 0 ? init_copy_tree(from_fd, to_fd, err) : empty;
}

// What stands in the file beside a volume that is locked while it is filled.
enum { MARK_FILLING = 'c', MARK_FILLED = '1' };

static int fill_volume(int root_fd, const char *volume_path, const char *image_path,
		       struct error *err)
{
	char lock_path[PATH_MAX + 8];
	scoped_fd int lock_fd = -1, from_fd = -1;
	char mark = '\0';

	snprintf(lock_path, sizeof(lock_path), "%s.filled", volume_path);
	lock_fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (lock_fd < 0 || flock(lock_fd, LOCK_EX) < 0 || pread(lock_fd, &mark, 1, 0) < 0)
		return error_errno(err, "lock the volume");
	if (mark == MARK_FILLED)
		return 0;
	if (mark == MARK_FILLING)
		return error_set(err, EIO, "it was filled in part only, for another container");
	mark = MARK_FILLING;
	if (pwrite(lock_fd, &mark, 1, 0) != 1)
		return error_errno(err, "mark the volume");
	from_fd = init_rootfs_open(root_fd, image_path, O_RDONLY | O_DIRECTORY);
	// An image may declare what it does not have, or a file.
	if (from_fd < 0 && errno != ENOENT && errno != ENOTDIR)
		return error_errno(err, "open %s of the image", image_path);
	if (from_fd >= 0 && copy_into(from_fd, volume_path, err) < 0)
		return error_wrap(err, "copy %s of the image", image_path);
	mark = MARK_FILLED;
	return pwrite(lock_fd, &mark, 1, 0) == 1 ? 0 : error_errno(err, "mark the volume");
}

int init_volumes_fill(int root_fd, const struct container_plan *plan, struct error *err)
{
	for (uint32_t i = 0; i < plan->spec->mount_count; i++) {
		const struct guest_mount *mount = &plan->spec->mounts[i];
		char path[PATH_MAX];

		if (!mount->copy_image)
			continue;
		init_mounts_volume_path(plan->manifest, mount->volume, path);
		if (fill_volume(root_fd, path, mount->path, err) < 0)
			return error_wrap(err, "volume %s",
					  plan->manifest->volumes[mount->volume].name);
	}
	return 0;
}
