// SPDX-License-Identifier: Apache-2.0
// The agent's record of a task, kept beside the cell. It lets a task be taken back when the
// database has lost its row. The file lies in the cell's directory itself, which only root writes,
// and has mode 0600: the task's uid can neither read nor replace it. It is not fsynced, for it is
// of use only as long as the cell's processes live, and these end with the host.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/file.h"
#include "agent/base/scope.h"
#include "agent/cell/cell.h"
#include "agent/cell/shim_paths.h"

int cell_record_write(const struct cell *cell, const void *text, size_t length, struct error *err)
{
	const struct file_replacement how = {.mode = 0600, .gid = getegid()};
	scoped_fd int fd = -1;

	if (cell_directory_open(cell, &fd, err) < 0 ||
	    file_replace(fd, CELL_RECORD_FILE, text, length, &how, err) < 0)
		return error_wrap(err, "cell record");
	return 0;
}

int cell_record_read(const struct cell *cell, char **ret_text, size_t *ret_length,
		     struct error *err)
{
	scoped_fd int fd = -1;

	if (cell_directory_open(cell, &fd, err) < 0 ||
	    file_read(fd, CELL_RECORD_FILE, CELL_RECORD_MAX, ret_text, ret_length, err) < 0)
		return error_wrap(err, "cell record");
	return 0;
}

int cell_record_remove(const struct cell *cell, struct error *err)
{
	scoped_fd int fd = -1;
	int result = cell_directory_open(cell, &fd, err);

	if (result == -ENOENT) {
		error_clear(err);
		return 0;
	}
	if (result < 0)
		return result;
	if (unlinkat(fd, CELL_RECORD_FILE, 0) < 0 && errno != ENOENT)
		return error_errno(err, "remove the record of cell %s", cell->task);
	return 0;
}

bool cell_record_exists(const struct cell *cell)
{
	struct error absent = {0};
	scoped_fd int fd = -1;

	return cell_directory_open(cell, &fd, &absent) == 0 &&
	       faccessat(fd, CELL_RECORD_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}
