// SPDX-License-Identifier: Apache-2.0
// What a cell takes on the host's disk.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "agent/base/scope.h"
#include "agent/cell/cell.h"
#include "agent/cell/shim_paths.h"

// The directories belong to the task's uid: a shim that was taken over may fill them with files
// without end, and they are read in the agent's loop.
enum { ENTRIES_MAX = 1024 };

static uint64_t directory_bytes(int cell_fd, const char *name)
{
	scoped_fd int fd = openat(cell_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	scoped_directory DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	struct stat status;
	uint64_t bytes = 0;

	if (!directory)
		return 0;
	fd = -1; // the directory's
	for (int i = 0; i < ENTRIES_MAX && (entry = readdir(directory)); i++)
		if (fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(status.st_mode))
			bytes += (uint64_t)status.st_blocks * 512;
	return bytes;
}

uint64_t cell_log_bytes(const struct cell *cell)
{
	struct error ignored = {0};
	scoped_fd int fd = -1;

	if (cell_directory_open(cell, &fd, &ignored) < 0)
		return 0;
	return directory_bytes(fd, CELL_LOGS_DIRECTORY) + directory_bytes(fd, CELL_SHIM_DIRECTORY);
}
