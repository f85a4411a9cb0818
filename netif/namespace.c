// SPDX-License-Identifier: Apache-2.0
#include "netif/namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "agent/base/file.h"
#include "agent/base/scope.h"

enum { SETTING_SIZE = 64, MARK_SIZE = 256 };

static const char current_namespace[] = "/proc/thread-self/ns/net";

// Writing "all" sets every interface and "default".
const struct namespace_setting namespace_ipv6_off[1] = {
	{"ipv6/conf/all/disable_ipv6", "1", .optional = true},
};

int namespace_enter(struct namespace_visit *visit, int namespace_fd, struct error *err)
{
	if (setns(namespace_fd, CLONE_NEWNET) < 0)
		return error_errno(err, "enter the network namespace");
	visit->away = true;
	return 0;
}

int namespace_enter_new(struct namespace_visit *visit, struct error *err)
{
	if (unshare(CLONE_NEWNET) < 0)
		return error_errno(err, "make a network namespace");
	visit->away = true;
	return 0;
}

void namespace_leave(struct namespace_visit *visit)
{
	int saved = errno;

	if (visit->away && setns(visit->home_fd, CLONE_NEWNET) < 0) {
		fprintf(stderr, "cannot return to the host's network namespace: %m\n");
		abort();
	}
	visit->away = false;
	errno = saved;
}

int namespace_open_current(int *ret_fd, struct error *err)
{
	int fd = open(current_namespace, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_errno(err, "open %s", current_namespace);
	*ret_fd = fd;
	return 0;
}

// --- Settings ---

// Reads before it writes: what is right already needs no writable /proc/sys.
static int configure(int directory_fd, const struct namespace_setting *setting, struct error *err)
{
	scoped_fd int fd = openat(directory_fd, setting->path, O_RDONLY | O_CLOEXEC);
	char value[SETTING_SIZE] = "";
	ssize_t length;

	if (fd < 0 && errno == ENOENT && setting->optional)
		return 0;
	if (fd < 0)
		return error_errno(err, "open /proc/sys/net/%s", setting->path);
	length = read(fd, value, sizeof(value) - 1);
	if (length < 0)
		return error_errno(err, "read /proc/sys/net/%s", setting->path);
	value[strcspn(value, "\n")] = '\0';
	if (strcmp(value, setting->value) == 0)
		return 0;
	return file_write_kernel(directory_fd, setting->path, setting->value, err);
}

int namespace_configure(const struct namespace_setting *settings, size_t count, struct error *err)
{
	// Below this directory each look-up takes the thread's namespace.
	scoped_fd int directory_fd = open("/proc/sys/net", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (directory_fd < 0)
		return error_errno(err, "open /proc/sys/net");
	for (size_t i = 0; i < count; i++)
		if (configure(directory_fd, &settings[i], err) < 0)
			return -err->code;
	return 0;
}

// --- Files ---

static int read_mark(int fd, char mark[MARK_SIZE], struct error *err)
{
	ssize_t length = pread(fd, mark, MARK_SIZE - 1, 0);

	if (length < 0)
		return error_errno(err, "read");
	mark[length] = '\0';
	mark[strcspn(mark, "\n")] = '\0';
	return 0;
}

int namespace_open(const char *path, const char *mark, int *ret_fd, enum namespace_file *ret_file,
		   struct error *err)
{
	scoped_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	char content[MARK_SIZE];
	struct statfs file_system;

	if (fd < 0 && errno == ENOENT) {
		*ret_file = NAMESPACE_NONE;
		return 0;
	}
	if (fd < 0 || fstatfs(fd, &file_system) < 0)
		return error_errno(err, "open %s", path);
	if (file_system.f_type == NSFS_MAGIC) {
		*ret_fd = take_fd(&fd);
		*ret_file = NAMESPACE_PINNED;
		return 0;
	}
	if (read_mark(fd, content, err) < 0)
		return error_wrap(err, "%s", path);
	*ret_file = strcmp(content, mark) == 0 ? NAMESPACE_OURS : NAMESPACE_OTHER;
	return 0;
}

// As iproute2 does: a mount of its own, shared, so that unpinning reaches the copies
// of it in other mount namespaces.
static int share_directory(struct error *err)
{
	static const char *const directory = NAMESPACE_DIRECTORY;

	if (directory_make(directory, 0755, err) < 0)
		return -err->code;
	if (mount("", directory, "none", MS_SHARED | MS_REC, NULL) == 0)
		return 0;
	if (errno != EINVAL) // EINVAL: no mount point yet
		return error_errno(err, "share %s", directory);
	if (mount(directory, directory, "none", MS_BIND | MS_REC, NULL) < 0)
		return error_errno(err, "bind %s to itself", directory);
	if (mount("", directory, "none", MS_SHARED | MS_REC, NULL) < 0)
		return error_errno(err, "share %s", directory);
	return 0;
}

// The file appears at once with its content.
static int create_file(const char *path, const char *mark, struct error *err)
{
	scoped_fd int fd = open(NAMESPACE_DIRECTORY, O_TMPFILE | O_RDWR | O_CLOEXEC, 0444);
	char self[32];

	if (fd < 0)
		return error_errno(err, "create a file in %s", NAMESPACE_DIRECTORY);
	if (dprintf(fd, "%s\n", mark) < 0)
		return error_errno(err, "write a file in %s", NAMESPACE_DIRECTORY);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0)
		return error_errno(err, "create %s", path);
	return 0;
}

int namespace_pin(const char *path, const char *mark, struct error *err)
{
	enum namespace_file file;
	int namespace_fd = -1;

	if (share_directory(err) < 0 || namespace_open(path, mark, &namespace_fd, &file, err) < 0)
		return -err->code;
	close_fd(&namespace_fd);
	if (file == NAMESPACE_PINNED || file == NAMESPACE_OTHER)
		return error_set(err, EEXIST, "%s exists and is not ours", path);
	if (file == NAMESPACE_NONE && create_file(path, mark, err) < 0)
		return -err->code;
	if (mount(current_namespace, path, "none", MS_BIND, NULL) < 0)
		return error_errno(err, "pin the namespace at %s", path);
	return 0;
}

int namespace_unpin(const char *path, struct error *err)
{
	// EINVAL: nothing is mounted on it.
	if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
		return error_errno(err, "unmount %s", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return error_errno(err, "remove %s", path);
	return 0;
}
