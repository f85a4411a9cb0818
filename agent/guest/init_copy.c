// SPDX-License-Identifier: Apache-2.0
// Copies a directory of an image: files, directories, symbolic links and fifos with their owner,
// mode, times and extended attributes (file capabilities and ACLs are such). Device nodes and
// sockets are left out: a volume is mounted without devices. Of a file with several hard links
// each becomes a file of its own.
//
// The image is not trusted: no name in it is ever followed, and the depth is bounded.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "agent/guest/init.h"

#include "agent/base/scope.h"

enum {
	DEPTH_MAX = 128, // three descriptors each
	ATTRIBUTE_NAMES_MAX = 4096,
	ATTRIBUTE_VALUE_MAX = 65536, // the kernel's own limit
	COPY_CHUNK = 1 << 20,
};

static int copy_attributes(int from_fd, int to_fd, struct error *err)
{
	static char value[ATTRIBUTE_VALUE_MAX];
	char names[ATTRIBUTE_NAMES_MAX];
	ssize_t length = flistxattr(from_fd, names, sizeof(names));

	if (length < 0)
		return errno == EOPNOTSUPP ? 0 : error_errno(err, "list attributes");
	for (const char *name = names; name < names + length; name += strlen(name) + 1) {
		ssize_t size = fgetxattr(from_fd, name, value, sizeof(value));

		if (size < 0 ||
		    (fsetxattr(to_fd, name, value, (size_t)size, 0) < 0 && errno != EOPNOTSUPP))
			return error_errno(err, "attribute %s", name);
	}
	return 0;
}

// The owner comes first: a change of it takes away set-user-id bits and capabilities.
static int finish(int from_fd, int to_fd, const struct stat *status, struct error *err)
{
	const struct timespec times[2] = {status->st_atim, status->st_mtim};

	if (fchown(to_fd, status->st_uid, status->st_gid) < 0 ||
	    fchmod(to_fd, status->st_mode & 07777) < 0)
		return error_errno(err, "set owner and mode");
	if (copy_attributes(from_fd, to_fd, err) < 0)
		return -err->code;
	if (futimens(to_fd, times) < 0)
		return error_errno(err, "set times");
	return 0;
}

static int copy_file(int from, int to, const char *name, const struct stat *status,
		     struct error *err)
{
	scoped_fd int from_fd = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	scoped_fd int to_fd =
		openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	ssize_t count;

	if (from_fd < 0 || to_fd < 0)
		return error_errno(err, "open");
	do
		count = sendfile(to_fd, from_fd, NULL, COPY_CHUNK);
	while (count > 0);
	if (count < 0)
		return error_errno(err, "copy");
	return finish(from_fd, to_fd, status, err);
}

static int copy_link(int from, int to, const char *name, const struct stat *status,
		     struct error *err)
{
	const struct timespec times[2] = {status->st_atim, status->st_mtim};
	char target[PATH_MAX];
	ssize_t length = readlinkat(from, name, target, sizeof(target) - 1);

	if (length < 0)
		return error_errno(err, "read the link");
	target[length] = '\0';
	if (symlinkat(target, to, name) < 0 ||
	    fchownat(to, name, status->st_uid, status->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    utimensat(to, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, "make the link");
	return 0;
}

static int copy_fifo(int to, const char *name, const struct stat *status, struct error *err)
{
	// It is made with its mode: a container that has the volume could put a link in its place,
	// which fchmodat() would follow.
	mode_t mask = umask(0);
	int result = mkfifoat(to, name, status->st_mode & 0777);

	umask(mask);
	if (result < 0 ||
	    fchownat(to, name, status->st_uid, status->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, "make the fifo");
	return 0;
}

static int copy_directory(int from_fd, int to_fd, unsigned depth, struct error *err);

static int copy_entry(int from, int to, const char *name, unsigned depth, struct error *err)
{
	struct stat status;

	if (fstatat(from, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, "look at it");
	if (S_ISREG(status.st_mode))
		return copy_file(from, to, name, &status, err);
	if (S_ISLNK(status.st_mode))
		return copy_link(from, to, name, &status, err);
	if (S_ISFIFO(status.st_mode))
		return copy_fifo(to, name, &status, err);
	if (S_ISDIR(status.st_mode)) {
		const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
		scoped_fd int from_fd = openat(from, name, flags);
		scoped_fd int to_fd = mkdirat(to, name, 0700) < 0 ? -1 : openat(to, name, flags);

		if (from_fd < 0 || to_fd < 0)
			return error_errno(err, "make the directory");
		return copy_directory(from_fd, to_fd, depth + 1, err);
	}
	return 0;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int copy_directory(int from_fd, int to_fd, unsigned depth, struct error *err)
{
	scoped_directory DIR *directory = NULL;
	const struct dirent *entry;
	struct stat status;

	if (depth > DEPTH_MAX)
		return error_set(err, ELOOP, "deeper than %d directories", DEPTH_MAX);
	directory = fdopendir(fcntl(from_fd, F_DUPFD_CLOEXEC, 0));
	if (!directory || fstat(from_fd, &status) < 0)
		return error_errno(err, "read the directory");
	while ((entry = readdir(directory)))
		if (!is_dots(entry->d_name) &&
		    copy_entry(from_fd, to_fd, entry->d_name, depth, err) < 0)
			return error_wrap(err, "%.64s", entry->d_name);
	return finish(from_fd, to_fd, &status, err); // its times change with what is made in it
}

int init_copy_tree(int from_fd, int to_fd, struct error *err)
{
	return copy_directory(from_fd, to_fd, 0, err);
}
