// SPDX-License-Identifier: Apache-2.0
// The child's way into its container: every mount the container sees, then pivot_root.
// Everything in the root is looked up with RESOLVE_IN_ROOT, once, and then named by its descriptor:
// a symbolic link of the image (/dev among them) cannot lead a mount out of the container.
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "agent/guest/init.h"

#include "agent/base/scope.h"

int init_rootfs_open(int root_fd, const char *path, uint64_t flags)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
}

// Opens the directory `path` (O_PATH), making it and its parents where they are missing.
static int make_in_root(int root_fd, const char *path, struct error *err)
{
	char partial[PATH_MAX];
	scoped_fd int at = init_rootfs_open(root_fd, "/", O_PATH | O_DIRECTORY);

	for (const char *end = path; at >= 0;) {
		const char *name = end + strspn(end, "/");
		int next;

		if (!*name)
			return take_fd(&at);
		end = name + strcspn(name, "/");
		if (snprintf(partial, sizeof(partial), "%.*s", (int)(end - path), path) >= PATH_MAX)
			return error_set(err, ENAMETOOLONG, "%s", path);
		next = init_rootfs_open(root_fd, partial, O_PATH | O_DIRECTORY);
		if (next < 0 && errno == ENOENT) {
			snprintf(partial, sizeof(partial), "%.*s", (int)(end - name), name);
			if (mkdirat(at, partial, 0755) < 0)
				break;
			next = openat(at, partial, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		}
		close_fd(&at);
		at = next;
	}
	return error_errno(err, "make %s", path);
}

// Opens the file `path` as a mount point, making an empty one where it is missing.
static int make_file_in_root(int root_fd, const char *directory, const char *name,
			     struct error *err)
{
	scoped_fd int parent = make_in_root(root_fd, directory, err);
	scoped_fd int fd = -1;
	char path[256];

	if (parent < 0)
		return parent;
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = init_rootfs_open(root_fd, path, O_PATH);
	if (fd < 0 && errno == ENOENT) {
		// A dangling link of the image gives way to the mount point.
		unlinkat(parent, name, 0);
		fd = openat(parent, name, O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			    0644);
	}
	if (fd < 0)
		return error_errno(err, "make %s", path);
	return take_fd(&fd);
}

static int mount_on(int target_fd, const char *source, const char *type, unsigned long flags,
		    const char *options)
{
	char target[32];

	snprintf(target, sizeof(target), "/proc/self/fd/%d", target_fd);
	return mount(source, target, type, flags, options);
}

// What a bind mount shows can be written to until it is mounted once more.
static int make_read_only(int root_fd, const char *path, unsigned long flags)
{
	scoped_fd int top = init_rootfs_open(root_fd, path, O_PATH); // now the mount on it

	return top < 0 ? -1
		       : mount_on(top, NULL, NULL,
				  MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | flags,
				  NULL);
}

// ---------------------------------------------------------------- /proc, /dev, /sys

static const struct {
	const char *target, *type;
	unsigned long flags;
	const char *options;
} file_systems[] = {
	{"/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
	{"/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL},
	{"/dev", "tmpfs", MS_NOSUID, "mode=0755,size=64k"},
	{"/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"},
	{"/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=64m"},
};

static int mount_file_systems(int root_fd, struct error *err)
{
	for (size_t i = 0; i < ARRAY_LENGTH(file_systems); i++) {
		scoped_fd int target = make_in_root(root_fd, file_systems[i].target, err);

		if (target < 0)
			return target;
		if (mount_on(target, file_systems[i].type, file_systems[i].type,
			     file_systems[i].flags, file_systems[i].options) < 0)
			return error_errno(err, "mount %s", file_systems[i].target);
	}
	return 0;
}

static const struct {
	const char *name;
	unsigned minor_number; // of major 1; tty is 5:0
} devices[] = {{"null", 3}, {"zero", 5}, {"full", 7}, {"random", 8}, {"urandom", 9}, {"tty", 0}};

static const struct {
	const char *name, *target;
} links[] = {
	{"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
	{"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"},
};

static int make_devices(int root_fd, struct error *err)
{
	scoped_fd int dev = make_in_root(root_fd, "/dev", err);

	if (dev < 0)
		return dev;
	for (size_t i = 0; i < ARRAY_LENGTH(devices); i++) {
		unsigned minor_number = devices[i].minor_number;
		dev_t device = makedev(minor_number ? 1 : 5, minor_number);

		if (mknodat(dev, devices[i].name, S_IFCHR | 0666, device) < 0 ||
		    fchmodat(dev, devices[i].name, 0666, 0) < 0)
			return error_errno(err, "make /dev/%s", devices[i].name);
	}
	for (size_t i = 0; i < ARRAY_LENGTH(links); i++)
		if (symlinkat(links[i].target, dev, links[i].name) < 0)
			return error_errno(err, "make /dev/%s", links[i].name);
	return 0;
}

// Parts of /proc and /sys that belong to the machine, not to the container.
static const struct {
	const char *path;
	enum { SHADE_READ_ONLY, SHADE_FILE, SHADE_DIRECTORY } shade;
} shades[] = {
	{"/proc/bus", SHADE_READ_ONLY},
	{"/proc/fs", SHADE_READ_ONLY},
	{"/proc/irq", SHADE_READ_ONLY},
	{"/proc/sys", SHADE_READ_ONLY},
	{"/proc/sysrq-trigger", SHADE_READ_ONLY},
	{"/proc/kcore", SHADE_FILE},
	{"/proc/keys", SHADE_FILE},
	{"/proc/timer_list", SHADE_FILE},
	{"/proc/cmdline", SHADE_FILE},
	{"/proc/acpi", SHADE_DIRECTORY},
	{"/proc/scsi", SHADE_DIRECTORY},
	{"/sys/firmware", SHADE_DIRECTORY},
};

static int shade_path(int root_fd, size_t index, const char *null_device)
{
	scoped_fd int target = init_rootfs_open(root_fd, shades[index].path, O_PATH);
	char self[32];

	if (target < 0)
		return errno == ENOENT ? 0 : -1;
	if (shades[index].shade == SHADE_FILE)
		return mount_on(target, null_device, NULL, MS_BIND, NULL);
	if (shades[index].shade == SHADE_DIRECTORY)
		return mount_on(target, "tmpfs", "tmpfs", MS_RDONLY, "size=0,nr_inodes=2");
	snprintf(self, sizeof(self), "/proc/self/fd/%d", target);
	if (mount_on(target, self, NULL, MS_BIND | MS_REC, NULL) < 0)
		return -1;
	return make_read_only(root_fd, shades[index].path, MS_NOEXEC);
}

static int shade_machine(int root_fd, struct error *err)
{
	scoped_fd int null_fd = init_rootfs_open(root_fd, "/dev/null", O_PATH);
	char null_device[32];

	if (null_fd < 0)
		return error_errno(err, "open /dev/null");
	snprintf(null_device, sizeof(null_device), "/proc/self/fd/%d", null_fd);
	for (size_t i = 0; i < ARRAY_LENGTH(shades); i++)
		if (shade_path(root_fd, i, null_device) < 0)
			return error_errno(err, "cover %s", shades[i].path);
	return 0;
}

// ---------------------------------------------------------------- names and volumes

static int mount_name(int root_fd, uint32_t index, const char *name, bool read_only,
		      struct error *err)
{
	scoped_fd int target = make_file_in_root(root_fd, "/etc", name, err);
	char source[96], path[32];

	if (target < 0)
		return target;
	snprintf(source, sizeof(source), INIT_BASE "/disk/containers/%u/etc/%s", index, name);
	snprintf(path, sizeof(path), "/etc/%s", name);
	if (mount_on(target, source, NULL, MS_BIND, NULL) < 0 ||
	    (read_only && make_read_only(root_fd, path, 0) < 0))
		return error_errno(err, "mount %s", path);
	return 0;
}

// As writable as the root around them.
static int mount_names(int root_fd, const struct container_plan *plan, struct error *err)
{
	static const char *const names[] = {"resolv.conf", "hosts", "hostname"};
	int result = 0;

	for (size_t i = 0; result == 0 && i < ARRAY_LENGTH(names); i++)
		result =
			mount_name(root_fd, plan->index, names[i], plan->spec->read_only_root, err);
	return result;
}

static int mount_volume(int root_fd, const struct guest_manifest *manifest,
			const struct guest_mount *place, struct error *err)
{
	scoped_fd int target = make_in_root(root_fd, place->path, err);
	char source[PATH_MAX];

	if (target < 0)
		return target;
	init_mounts_volume_path(manifest, place->volume, source);
	if (mount_on(target, source, NULL, MS_BIND, NULL) < 0)
		return error_errno(err, "mount volume %s on %s",
				   manifest->volumes[place->volume].name, place->path);
	return 0;
}

// Each volume after the one that it lies in, then the three files: a volume on /etc does not hide
// them. What they are mounted on is made in the volume around them where it is missing, as Docker
// does, so read-only volumes can be written to until all mounts are made.
static int mount_volumes_and_names(int root_fd, const struct container_plan *plan,
				   struct error *err)
{
	const struct guest_container *spec = plan->spec;
	int result = 0;

	for (uint32_t i = 0; result == 0 && i < spec->mount_count; i++)
		result = mount_volume(root_fd, plan->manifest, &spec->mounts[i], err);
	if (result == 0)
		result = mount_names(root_fd, plan, err);
	for (uint32_t i = 0; result == 0 && i < spec->mount_count; i++)
		if (spec->mounts[i].read_only &&
		    make_read_only(root_fd, spec->mounts[i].path, 0) < 0)
			result = error_errno(err, "make %s read-only", spec->mounts[i].path);
	return result;
}

// ---------------------------------------------------------------- the whole

// As with Docker, it need not be there; the root can still be written to.
static int make_working_directory(int root_fd, const char *path, struct error *err)
{
	scoped_fd int fd = make_in_root(root_fd, path, err);

	return fd < 0 ? error_wrap(err, "working directory") : 0;
}

static int pivot(const char *root, bool read_only, struct error *err)
{
	if (read_only &&
	    mount(NULL, root, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NODEV, NULL) < 0)
		return error_errno(err, "make the root file system read-only");
	// The old root comes to lie over the new one, and is detached from there.
	if (chdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
	    umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return error_errno(err, "pivot_root");
	return 0;
}

int init_rootfs_enter(const struct container_plan *plan, struct error *err)
{
	const struct guest_container *spec = plan->spec;
	scoped_fd int root_fd = -1;
	char root[64];
	int result;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_errno(err, "make the mounts private");
	snprintf(root, sizeof(root), INIT_BASE "/root/%u", plan->index);
	root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0)
		return error_errno(err, "open %s", root);
	result = init_volumes_fill(root_fd, plan, err);
	if (result == 0)
		result = mount_file_systems(root_fd, err);
	if (result == 0)
		result = make_devices(root_fd, err);
	if (result == 0)
		result = shade_machine(root_fd, err);
	if (result == 0)
		result = mount_volumes_and_names(root_fd, plan, err);
	if (result == 0)
		result = make_working_directory(root_fd, spec->directory, err);
	return result < 0 ? result : pivot(root, spec->read_only_root, err);
}
