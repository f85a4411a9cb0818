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

static int read_all(int fd, const char *path, size_t max_bytes, char **ret_text, size_t *ret_length,
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
	scoped_fd int fd = openat(directory_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return error_errno(err, "open %s", path);
	return read_all(fd, path, max_bytes, ret_text, ret_length, err);
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

static int write_temporary(int directory_fd, const char *path, const void *bytes, size_t length,
			   mode_t mode, struct error *err)
{
	scoped_fd int fd = openat(directory_fd, path,
				  O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	int result;

	if (fd < 0)
		return error_errno(err, "create %s", path);
	result = write_all(fd, bytes, length);
	if (result < 0)
		return error_code(err, result, "write %s", path);
	if (fsync(fd) < 0)
		return error_errno(err, "sync %s", path);
	return 0;
}

int file_write_atomic(int directory_fd, const char *path, const void *bytes, size_t length,
		      mode_t mode, struct error *err)
{
	char temporary[PATH_MAX];
	int result;

	if ((size_t)snprintf(temporary, sizeof(temporary), "%s.new", path) >= sizeof(temporary))
		return error_set(err, ENAMETOOLONG, "path %s is too long", path);
	result = write_temporary(directory_fd, temporary, bytes, length, mode, err);
	if (result == 0 && renameat(directory_fd, temporary, directory_fd, path) < 0)
		result = error_errno(err, "rename %s to %s", temporary, path);
	if (result < 0) {
		unlinkat(directory_fd, temporary, 0);
		return result;
	}
	return sync_parent(directory_fd, path, err);
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
		if (mkdir(partial, 0755) < 0 && errno != EEXIST)
			return error_errno(err, "create directory %s", partial);
		*c = '/';
	}
	if (mkdir(partial, mode) < 0 && errno != EEXIST)
		return error_errno(err, "create directory %s", path);
	return 0;
}

static int remove_below(int fd, const char *path, dev_t device, struct error *err);

// Removes one entry of the directory `directory_fd`; what is not on `device` is a mount point
// and is left alone, so that a leaked mount never costs somebody's data.
static int remove_entry(int directory_fd, const char *name, dev_t device, struct error *err)
{
	scoped_fd int fd = -1;
	struct stat status;

	if (unlinkat(directory_fd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return error_errno(err, "remove %s", name);
	fd = openat(directory_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &status) < 0)
		return error_errno(err, "open %s", name);
	if (device != 0 && status.st_dev != device)
		return error_set(err, EBUSY, "remove %s: another file system is mounted there",
				 name);
	if (remove_below(fd, name, status.st_dev, err) < 0)
		return error_wrap(err, "%s", name);
	if (unlinkat(directory_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return error_errno(err, "remove directory %s", name);
	return 0;
}

static int remove_below(int fd, const char *path, dev_t device, struct error *err)
{
	scoped_fd int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	scoped_directory DIR *directory = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;

	if (!directory)
		return error_errno(err, "list %s", path);
	take_fd(&copy);
	while ((entry = readdir(directory))) {
		int result;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		result = remove_entry(fd, entry->d_name, device, err);
		if (result < 0)
			return result;
	}
	return 0;
}

int directory_remove(int directory_fd, const char *path, struct error *err)
{
	return remove_entry(directory_fd, path, 0, err);
}
