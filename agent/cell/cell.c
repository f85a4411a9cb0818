// SPDX-License-Identifier: Apache-2.0
#include "agent/cell/cell.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/cell/cgroup_path.h"
#include "agent/cell/names.h"
#include "agent/cell/shim_paths.h"

// Parts of a cell's directory. The shim runs as the task's uid: it may write what belongs to the
// task and only read the rest, through its group.
static const struct {
	const char *name;
	bool owned_by_task;
} cell_directories[] = {
	{CELL_METADATA_DIRECTORY, false},
	{CELL_SHIM_DIRECTORY, true},
	{CELL_LOGS_DIRECTORY, true},
};

static int cells_path(const char *state_directory, char ret_path[PATH_MAX], struct error *err)
{
	if (snprintf(ret_path, PATH_MAX, "%s/cells", state_directory) >= PATH_MAX)
		return error_set(err, ENAMETOOLONG, "state directory %s is too long",
				 state_directory);
	return 0;
}

// <state>/cells itself; -ENOENT when it was never made.
static int open_cells(const struct cell *cell, int *ret_fd, struct error *err)
{
	char path[PATH_MAX];
	int fd;

	if (cgroup_check_task(cell->task, err) < 0 ||
	    cells_path(cell->state_directory, path, err) < 0)
		return -err->code;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, "open %s", path);
	*ret_fd = fd;
	return 0;
}

static int open_directory_at(int parent_fd, const char *name, int *ret_fd, struct error *err)
{
	int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return error_errno(err, "open %s", name);
	*ret_fd = fd;
	return 0;
}

static int ensure_directory_at(int parent_fd, const char *name, uid_t uid, gid_t gid, int *ret_fd,
			       struct error *err)
{
	scoped_fd int fd = -1;

	if (mkdirat(parent_fd, name, 0750) < 0 && errno != EEXIST)
		return error_errno(err, "create directory %s", name);
	if (open_directory_at(parent_fd, name, &fd, err) < 0)
		return -err->code;
	if (fchown(fd, uid, gid) < 0 || fchmod(fd, 0750) < 0)
		return error_errno(err, "give directory %s to %u:%u", name, uid, gid);
	*ret_fd = take_fd(&fd);
	return 0;
}

// Which tasks there are is nobody's business but root's and the API's. A task's uid need not come
// through here: its shim has a descriptor of the cell's directory, and the VMM has another root. An
// earlier version made this directory with another mode.
static int hide_cells(int cells_fd, struct error *err)
{
	return fchmod(cells_fd, 0700) < 0 ? error_errno(err, "set the mode of cells") : 0;
}

int cell_directory_ensure(const struct cell *cell, struct error *err)
{
	scoped_fd int cells_fd = -1, cell_fd = -1;
	char path[PATH_MAX];

	if (cells_path(cell->state_directory, path, err) < 0 ||
	    directory_make(path, 0700, err) < 0 || open_cells(cell, &cells_fd, err) < 0 ||
	    hide_cells(cells_fd, err) < 0 ||
	    ensure_directory_at(cells_fd, cell->task, geteuid(), cell->gid, &cell_fd, err) < 0)
		return error_wrap(err, "cell directory");
	for (size_t i = 0; i < ARRAY_LENGTH(cell_directories); i++) {
		uid_t owner = cell_directories[i].owned_by_task ? cell->uid : geteuid();
		scoped_fd int fd = -1;

		if (ensure_directory_at(cell_fd, cell_directories[i].name, owner, cell->gid, &fd,
					err) < 0)
			return error_wrap(err, "cell directory");
	}
	return 0;
}

int cell_directory_open(const struct cell *cell, int *ret_fd, struct error *err)
{
	scoped_fd int cells_fd = -1;

	if (open_cells(cell, &cells_fd, err) < 0)
		return -err->code;
	return open_directory_at(cells_fd, cell->task, ret_fd, err);
}

int cell_directory_seal(const struct cell *cell, struct error *err)
{
	scoped_fd int fd = -1;
	int result = cell_directory_open(cell, &fd, err);

	if (result == -ENOENT) {
		error_clear(err);
		return 0;
	}
	if (result < 0)
		return result;
	if (fchown(fd, 0, 0) < 0 || fchmod(fd, 0700) < 0)
		return error_errno(err, "seal the directory of %s", cell->task);
	return 0;
}

static int retired_path(const char *state_directory, char path[PATH_MAX], struct error *err)
{
	if (snprintf(path, PATH_MAX, "%s/cells-retired", state_directory) >= PATH_MAX)
		return error_set(err, ENAMETOOLONG, "path %s is too long", state_directory);
	return directory_make(path, 0700, err);
}

int cell_directory_retire(const struct cell *cell, struct error *err)
{
	char cells[PATH_MAX], retired[PATH_MAX], name[NAME_MAX];

	if (cells_path(cell->state_directory, cells, err) < 0 ||
	    retired_path(cell->state_directory, retired, err) < 0)
		return -err->code;

	scoped_fd int from_fd = open(cells, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	scoped_fd int to_fd = open(retired, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	snprintf(name, sizeof(name), "%s.%lld", cell->task, (long long)clock_monotonic_us());
	if (renameat(from_fd, cell->task, to_fd, name) < 0 && errno != ENOENT)
		return error_errno(err, "retire the directory of %s", cell->task);
	return 0;
}

int cell_directories_reap(const char *state_directory, struct error *err)
{
	char path[PATH_MAX];

	if (retired_path(state_directory, path, err) < 0)
		return -err->code;
	return directory_clear(path, err); // itself it stays: cells are moved in meanwhile
}

int cell_directory_remove(const struct cell *cell, struct error *err)
{
	scoped_fd int cells_fd = -1;
	int result = open_cells(cell, &cells_fd, err);

	if (result == -ENOENT) {
		error_clear(err);
		return 0;
	}
	return result < 0 ? result : directory_remove(cells_fd, cell->task, err);
}

// --- What the guest gets ---

// For the task's group. A reboot ends the task: nothing of it has to be durable.
static int write_for_task(const struct cell *cell, int directory_fd, const char *name,
			  const void *text, size_t length, struct error *err)
{
	const struct file_replacement how = {.mode = 0640, .gid = cell->gid};

	return file_replace(directory_fd, name, text, length, &how, err);
}

int cell_manifest_write(const struct cell *cell, const void *text, size_t length, struct error *err)
{
	scoped_fd int fd = -1;

	if (length > GUEST_MANIFEST_MAX)
		return error_set(err, EFBIG, "manifest of %zu bytes, at most %d", length,
				 GUEST_MANIFEST_MAX);
	if (cell_directory_open(cell, &fd, err) < 0 ||
	    write_for_task(cell, fd, CELL_MANIFEST_FILE, text, length, err) < 0)
		return error_wrap(err, "manifest");
	return 0;
}

int cell_metadata_write(const struct cell *cell, const char *name, const void *text, size_t length,
			struct error *err)
{
	scoped_fd int cell_fd = -1, fd = -1;
	char file[CELL_CONTAINER_ID_MAX + 16];

	if (strcmp(name, CELL_METADATA_TASK) != 0 && !cell_container_id_is_valid(name))
		return error_set(err, EINVAL, "metadata: \"%s\" is not a container id", name);
	if (length > CELL_METADATA_MAX)
		return error_set(err, EFBIG, "metadata of %zu bytes, at most %d", length,
				 CELL_METADATA_MAX);
	snprintf(file, sizeof(file), "%s.json", name);
	if (cell_directory_open(cell, &cell_fd, err) < 0 ||
	    open_directory_at(cell_fd, CELL_METADATA_DIRECTORY, &fd, err) < 0 ||
	    write_for_task(cell, fd, file, text, length, err) < 0)
		return error_wrap(err, "metadata");
	return 0;
}

// --- What the shim wrote ---

// Opens a regular file that the task's uid may have replaced by anything else: a link, a FIFO, a
// device.
static int open_untrusted(const struct cell *cell, const char *directory, const char *file,
			  int *ret_fd, struct error *err)
{
	scoped_fd int cell_fd = -1, directory_fd = -1, fd = -1;
	struct stat status;

	if (cell_directory_open(cell, &cell_fd, err) < 0 ||
	    open_directory_at(cell_fd, directory, &directory_fd, err) < 0)
		return -err->code;
	fd = openat(directory_fd, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &status) < 0)
		return error_errno(err, "open %s", file);
	// A second name may be a link to a file of someone else.
	if (!S_ISREG(status.st_mode) || status.st_nlink > 1)
		return error_set(err, EPERM, "%s is not a plain file of its own", file);
	*ret_fd = take_fd(&fd);
	return 0;
}

int cell_log_open(const struct cell *cell, const char *container, bool rotated, int *ret_fd,
		  struct error *err)
{
	char file[NAME_MAX + 1];

	if (container && !cell_container_name_is_valid(container))
		return error_set(err, EINVAL, "\"%s\" is not a container name", container);
	cell_log_file(container ? container : CELL_CONSOLE_LOG, rotated, file);
	return open_untrusted(cell, container ? CELL_LOGS_DIRECTORY : CELL_SHIM_DIRECTORY, file,
			      ret_fd, err);
}

int cell_status_read(const struct cell *cell, struct cell_status *ret_status, struct error *err)
{
	struct cell_status status;
	scoped_fd int fd = -1;
	ssize_t count;

	if (open_untrusted(cell, CELL_SHIM_DIRECTORY, CELL_STATUS_FILE, &fd, err) < 0)
		return error_wrap(err, "status of %s", cell->task);
	count = read(fd, &status, sizeof(status));
	if (count < 0)
		return error_errno(err, "read status of %s", cell->task);
	if (count != sizeof(status))
		return error_set(err, EBADMSG, "status of %s: %zd bytes, expected %zu", cell->task,
				 count, sizeof(status));
	if (cell_status_check(&status, err) < 0)
		return error_wrap(err, "status of %s", cell->task);
	*ret_status = status;
	return 0;
}

int64_t cell_status_saved_ms(const struct cell *cell)
{
	struct error ignored = {0};
	struct stat status;
	scoped_fd int fd = -1;

	if (open_untrusted(cell, CELL_SHIM_DIRECTORY, CELL_STATUS_FILE, &fd, &ignored) < 0 ||
	    fstat(fd, &status) < 0)
		return 0;
	return status.st_mtim.tv_sec * 1000LL;
}

// --- What is there ---

int cell_remains(const struct cell *cell, struct cell_remains *ret_remains, struct error *err)
{
	struct cell_remains remains = {0};
	scoped_fd int fd = -1;
	bool empty;
	int result = cell_directory_open(cell, &fd, err);

	if (result < 0 && result != -ENOENT)
		return result;
	error_clear(err);
	remains.directory = result == 0;
	remains.record = cell_record_exists(cell);
	remains.cgroup = cgroup_exists(cell->tree, cell->task);
	if (cgroup_is_empty(cell->tree, cell->task, &empty, err) < 0)
		return -err->code;
	remains.populated = !empty;
	*ret_remains = remains;
	return 0;
}

int cell_list(const struct cgroup_tree *tree, const char *state_directory, struct arena *arena,
	      const char ***ret_tasks, size_t *ret_count, struct error *err)
{
	struct name_list names = {.arena = arena};
	const char **with_cgroup;
	char path[PATH_MAX];
	size_t count;

	if (cells_path(state_directory, path, err) < 0 ||
	    name_list_add_directories(&names, path, err) < 0 ||
	    cgroup_list(tree, arena, &with_cgroup, &count, err) < 0)
		return error_wrap(err, "list cells");
	for (size_t i = 0; i < count; i++)
		name_list_add(&names, with_cgroup[i]);
	name_list_finish(&names, ret_tasks, ret_count);
	return 0;
}
