// SPDX-License-Identifier: Apache-2.0
#include "agent/cell/install_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>

#include "agent/base/scope.h"
#include "agent/cell/cgroup_path.h"

enum { ATTEMPTS = 8 };

static pid_t owner_of(int fd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	if (fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		return 0;
	return lock.l_pid > 0 ? lock.l_pid : -1;
}

static int refuse(const struct cgroup_tree *tree, int fd, const char *path, struct error *err)
{
	pid_t owner = owner_of(fd);
	char who[32] = "of another pid namespace";

	if (owner > 0)
		snprintf(who, sizeof(who), "process %d", owner);
	return error_set(err, EBUSY,
			 "another penstockd of install %s is running on this host (%s holds %s), "
			 "whatever its directories: end it, or give this one another install name",
			 tree->install, who, path);
}

// Whether `fd` is the file that has this path now: the cgroup may have been removed and made again.
static bool is_current(int fd, const char *path)
{
	struct stat open_file, named_file;

	return fstat(fd, &open_file) == 0 && stat(path, &named_file) == 0 &&
	       open_file.st_dev == named_file.st_dev && open_file.st_ino == named_file.st_ino;
}

// -ESTALE: the cgroup was removed between two of these calls.
static int try_lock(const struct cgroup_tree *tree, const char *directory, const char *path,
		    int *ret_fd, struct error *err)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	scoped_fd int fd = -1;

	if (mkdir(directory, 0755) < 0 && errno != EEXIST)
		return error_errno(err, "create cgroup %s", directory);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return error_set(err, ESTALE, "%s was removed", path);
	if (fd < 0)
		return error_errno(err, "open %s", path);
	if (fcntl(fd, F_SETLK, &lock) < 0)
		return errno == EAGAIN || errno == EACCES ? refuse(tree, fd, path, err)
							  : error_errno(err, "lock %s", path);
	if (!is_current(fd, path))
		return error_set(err, ESTALE, "%s was removed", path);
	*ret_fd = take_fd(&fd);
	return 0;
}

int install_lock_take(const struct cgroup_tree *tree, int *ret_fd, struct error *err)
{
	const char *root = cgroup_main_root(tree);
	char directory[CGROUP_PATH_MAX], path[CGROUP_PATH_MAX + 16];
	int result = -ESTALE;

	*ret_fd = -1;
	if (!root)
		return 0;
	cgroup_path(tree, root, NULL, NULL, directory);
	snprintf(path, sizeof(path), "%s/cgroup.procs", directory);
	for (int i = 0; i < ATTEMPTS && result == -ESTALE; i++)
		result = try_lock(tree, directory, path, ret_fd, err);
	if (result == 0)
		error_clear(err);
	return result;
}

int install_lock_keep(const struct cgroup_tree *tree, int *fd, struct error *err)
{
	const char *root = cgroup_main_root(tree);
	char directory[CGROUP_PATH_MAX], path[CGROUP_PATH_MAX + 16];

	if (!root)
		return 0;
	cgroup_path(tree, root, NULL, NULL, directory);
	snprintf(path, sizeof(path), "%s/cgroup.procs", directory);
	if (*fd >= 0 && is_current(*fd, path))
		return 0; // else it was removed, or could not be taken again the last time
	close_fd(fd);
	return install_lock_take(tree, fd, err);
}

pid_t install_lock_owner(const struct cgroup_tree *tree)
{
	const char *root = cgroup_main_root(tree);
	char directory[CGROUP_PATH_MAX], path[CGROUP_PATH_MAX + 16];

	if (!root)
		return 0;
	cgroup_path(tree, root, NULL, NULL, directory);
	snprintf(path, sizeof(path), "%s/cgroup.procs", directory);
	scoped_fd int fd = open(path, O_RDWR | O_CLOEXEC);

	return fd < 0 ? 0 : owner_of(fd);
}
