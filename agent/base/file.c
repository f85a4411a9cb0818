// SPDX-License-Identifier: Apache-2.0
#include "agent/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/scope.h"

int file_read_fd(int fd, const char *path, size_t max_bytes, char **ret_text, size_t *ret_length,
		 struct error *err)
{
	size_t capacity = 4096, length = 0;
	scoped_free char *text = malloc(capacity + 1);

	for (;;) {
		ssize_t count;

		if (!text)
			return error_set(err, ENOMEM, "read %s: out of memory", path);
		count = read(fd, text + length, capacity - length);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return error_errno(err, "read %s", path);
		if (count == 0)
			break;
		length += (size_t)count;
		if (length > max_bytes)
			return error_set(err, EFBIG, "read %s: more than %zu bytes", path,
					 max_bytes);
		if (length == capacity) {
			char *larger = realloc(text, capacity * 2 + 1);

			if (!larger)
				return error_set(err, ENOMEM, "read %s: out of memory", path);
			text = larger;
			capacity *= 2;
		}
	}
	text[length] = '\0';
	if (ret_length)
		*ret_length = length;
	*ret_text = take_ptr(&text);
	return 0;
}

int file_read(int directory_fd, const char *path, size_t max_bytes, char **ret_text,
	      size_t *ret_length, struct error *err)
{
	scoped_fd int fd = openat(directory_fd, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return error_errno(err, "open %s", path);
	return file_read_fd(fd, path, max_bytes, ret_text, ret_length, err);
}

static int write_all(int fd, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t count = write(fd, bytes, length);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return -errno;
		bytes += count;
		length -= (size_t)count;
	}
	return 0;
}

static int sync_parent(int directory_fd, const char *path, struct error *err)
{
	char parent[PATH_MAX];
	char *slash;

	snprintf(parent, sizeof(parent), "%s", path);
	slash = strrchr(parent, '/');
	if (!slash)
		snprintf(parent, sizeof(parent), ".");
	else
		slash[slash == parent ? 1 : 0] = '\0';

	scoped_fd int fd = openat(directory_fd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return error_errno(err, "sync directory %s", parent);
	return 0;
}

// It has its mode and group before its name: nobody meets it half made.
static int write_temporary(int directory_fd, const char *path, const void *bytes, size_t length,
			   const struct file_replacement *how, struct error *err)
{
	scoped_fd int fd = openat(directory_fd, path,
				  O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, how->mode);
	int result;

	if (fd < 0)
		return error_errno(err, "create %s", path);
	result = write_all(fd, bytes, length);
	if (result < 0)
		return error_code(err, result, "write %s", path);
	if (fchown(fd, (uid_t)-1, how->gid) < 0 || fchmod(fd, how->mode) < 0)
		return error_errno(err, "give %s to group %u", path, how->gid);
	if (how->durable && fsync(fd) < 0)
		return error_errno(err, "sync %s", path);
	return 0;
}

int file_replace(int directory_fd, const char *path, const void *bytes, size_t length,
		 const struct file_replacement *how, struct error *err)
{
	char temporary[PATH_MAX];
	int result;

	if ((size_t)snprintf(temporary, sizeof(temporary), "%s.new", path) >= sizeof(temporary))
		return error_set(err, ENAMETOOLONG, "path %s is too long", path);
	result = write_temporary(directory_fd, temporary, bytes, length, how, err);
	if (result == 0 && renameat(directory_fd, temporary, directory_fd, path) < 0)
		result = error_errno(err, "rename %s to %s", temporary, path);
	if (result < 0) {
		unlinkat(directory_fd, temporary, 0);
		return result;
	}
	return how->durable ? sync_parent(directory_fd, path, err) : 0;
}

// The blocks of the spare are those of the value before last, so nothing has to be allocated.
static int write_spare(int directory_fd, const char *spare, const void *bytes, size_t length,
		       bool durable, struct error *err)
{
	scoped_fd int fd =
		openat(directory_fd, spare,
		       O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0640);
	int result;

	if (fd < 0)
		return error_errno(err, "open %s", spare);
	result = write_all(fd, bytes, length);
	if (result < 0)
		return error_code(err, result, "write %s", spare);
	if (ftruncate(fd, (off_t)length) < 0)
		return error_errno(err, "truncate %s", spare);
	if (durable && fsync(fd) < 0)
		return error_errno(err, "sync %s", spare);
	return 0;
}

int file_swap(int directory_fd, const char *path, const void *bytes, size_t length, bool durable,
	      struct error *err)
{
	char spare[PATH_MAX];
	int result;

	if ((size_t)snprintf(spare, sizeof(spare), "%s.spare", path) >= sizeof(spare))
		return error_set(err, ENAMETOOLONG, "path %s is too long", path);
	result = write_spare(directory_fd, spare, bytes, length, durable, err);
	if (result < 0)
		return result;
	result = renameat2(directory_fd, spare, directory_fd, path, RENAME_EXCHANGE);
	// The first time there is nothing to exchange it with; a few file systems never do.
	if (result < 0 && (errno == ENOENT || errno == EINVAL))
		result = renameat(directory_fd, spare, directory_fd, path);
	if (result < 0)
		return error_errno(err, "rename %s to %s", spare, path);
	return durable ? sync_parent(directory_fd, path, err) : 0;
}

int file_write_atomic(int directory_fd, const char *path, const void *bytes, size_t length,
		      mode_t mode, struct error *err)
{
	const struct file_replacement how = {.mode = mode, .gid = (gid_t)-1, .durable = true};

	return file_replace(directory_fd, path, bytes, length, &how, err);
}

int file_write_kernel(int directory_fd, const char *path, const char *text, struct error *err)
{
	scoped_fd int fd = openat(directory_fd, path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return error_errno(err, "open %s", path);
	if (write(fd, text, strlen(text)) < 0)
		return error_errno(err, "write \"%s\" to %s", text, path);
	return 0;
}

// With just this mode, whatever the umask: others may have to find their way through.
static int make_one(const char *path, mode_t mode, struct error *err)
{
	if (mkdir(path, mode) < 0)
		return errno == EEXIST ? 0 : error_errno(err, "create directory %s", path);
	return chmod(path, mode) < 0 ? error_errno(err, "chmod %s", path) : 0;
}

int directory_make(const char *path, mode_t mode, struct error *err)
{
	char partial[PATH_MAX];
	size_t length = strlen(path);

	if (length >= sizeof(partial))
		return error_set(err, ENAMETOOLONG, "path %s is too long", path);
	memcpy(partial, path, length + 1);
	for (char *c = partial + 1; *c; c++) {
		if (*c != '/')
			continue;
		*c = '\0';
		if (make_one(partial, 0755, err) < 0)
			return -err->code;
		*c = '/';
	}
	return make_one(partial, mode, err);
}

// --- Removing ---
//
// Who may write in a directory may make it deeper than there is stack, or than there are
// descriptors. Therefore nothing recurses: what a subdirectory holds in directories is moved up to
// the directory that is being emptied, in passes, until no subdirectory has any. A mount point is
// left alone (a rename of one says EBUSY, too), so that a leaked mount costs nobody's data.

struct removal {
	int top_fd;     // the directory that is being emptied
	unsigned moved; // directories that were moved up to it
};

typedef int (*take_directory)(struct removal *removal, int directory_fd, const char *name,
			      struct error *err);

// Removes the files in `fd` and hands over its directories.
static int take_entries(struct removal *removal, int fd, take_directory take, struct error *err)
{
	scoped_fd int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	scoped_directory DIR *directory = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;

	if (!directory)
		return error_errno(err, "list a directory");
	take_fd(&copy);
	while ((errno = 0, entry = readdir(directory))) {
		const char *name = entry->d_name;

		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
		    unlinkat(fd, name, 0) == 0 || errno == ENOENT)
			continue;
		if (errno != EISDIR && errno != EPERM)
			return error_errno(err, "remove %s", name);
		if (take(removal, fd, name, err) < 0)
			return -err->code;
	}
	return errno ? error_errno(err, "list a directory") : 0;
}

static int move_up(struct removal *removal, int directory_fd, const char *name, struct error *err)
{
	char moved[32];
	int result;

	do {
		snprintf(moved, sizeof(moved), ".removed-%u", removal->moved++);
		result = renameat2(directory_fd, name, removal->top_fd, moved, RENAME_NOREPLACE);
	} while (result < 0 && errno == EEXIST);
	return result < 0 ? error_errno(err, "move %s", name) : 0;
}

static int open_unmounted(int directory_fd, const char *name, int *ret_fd, struct error *err)
{
	scoped_fd int fd =
		openat(directory_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct statx status;

	if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &status) < 0)
		return error_errno(err, "open %s", name);
	if (status.stx_attributes & STATX_ATTR_MOUNT_ROOT)
		return error_set(err, EBUSY, "remove %s: something is mounted there", name);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int remove_flat(struct removal *removal, int directory_fd, const char *name,
		       struct error *err)
{
	scoped_fd int fd = -1;

	if (open_unmounted(directory_fd, name, &fd, err) < 0)
		return -err->code;
	if (take_entries(removal, fd, move_up, err) < 0)
		return error_wrap(err, "%s", name);
	if (unlinkat(directory_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return error_errno(err, "remove directory %s", name);
	return 0;
}

static int empty_directory(int fd, struct error *err)
{
	struct removal removal = {.top_fd = fd};
	unsigned before;

	do {
		before = removal.moved;
		if (take_entries(&removal, fd, remove_flat, err) < 0)
			return -err->code;
	} while (removal.moved != before);
	return 0;
}

int directory_clear(const char *path, struct error *err)
{
	scoped_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return error_errno(err, "open %s", path);
	return empty_directory(fd, err) < 0 ? error_wrap(err, "%s", path) : 0;
}

int directory_remove(int directory_fd, const char *path, struct error *err)
{
	scoped_fd int fd = -1;

	if (unlinkat(directory_fd, path, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return error_errno(err, "remove %s", path);
	if (open_unmounted(directory_fd, path, &fd, err) < 0)
		return -err->code;
	if (empty_directory(fd, err) < 0)
		return error_wrap(err, "%s", path);
	if (unlinkat(directory_fd, path, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return error_errno(err, "remove directory %s", path);
	return 0;
}
