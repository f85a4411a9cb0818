// SPDX-License-Identifier: Apache-2.0
// Theory of operation. In a new mount namespace nothing propagates any more. A tmpfs goes on top of
// /tmp (some directory that every host has), is filled there, and becomes the root; the old root,
// stacked beneath it by pivot_root(".", "."), is detached with all that hangs on it.
//
// The devices are nodes of our own and not binds of the host's: who may open /dev/kvm is then no
// matter of the host's groups, which this process gives up.
#include "agent/cell/shim_root.h"

#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/base/scope.h"

#define SCRATCH "/tmp"

static int make_mount_point(const char *name, struct error *err)
{
	if (mkdir(name, 0755) < 0 || chmod(name, 0755) < 0) // whatever the umask
		return error_errno(err, "make /%s", name);
	return 0;
}

// Mounted, then mounted again: a new bind mount does not take the other flags.
static int bind_usr(struct error *err)
{
	const unsigned long flags = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV;

	if (make_mount_point("usr", err) < 0)
		return -err->code;
	if (mount("/usr", "usr", NULL, MS_BIND, NULL) < 0 ||
	    mount(NULL, "usr", NULL, flags, NULL) < 0)
		return error_errno(err, "bind /usr");
	return 0;
}

// Where a distribution has merged them with /usr.
static int link_to_usr(struct error *err)
{
	static const char *const names[] = {"bin", "lib", "lib64"};

	for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
		char target[16];

		snprintf(target, sizeof(target), "usr/%s", names[i]);
		if (symlink(target, names[i]) < 0)
			return error_errno(err, "link /%s", names[i]);
	}
	return 0;
}

// Both options are of this mount alone. A kernel before 5.8, where hidepid was one for all of a pid
// namespace, does not know them and refuses the mount.
static int mount_proc(struct error *err)
{
	if (make_mount_point("proc", err) < 0)
		return -err->code;
	if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		  "hidepid=invisible,subset=pid") < 0)
		return error_errno(err, "mount /proc");
	return 0;
}

static int make_device(const char *name, mode_t mode, uid_t uid, struct error *err)
{
	char host[32];
	const char *path = host + 1; // beneath the working directory
	struct stat status;

	snprintf(host, sizeof(host), "/dev/%s", name);
	if (stat(host, &status) < 0)
		return error_errno(err, "%s", host);
	if (mknod(path, S_IFCHR | mode, status.st_rdev) < 0 || chmod(path, mode) < 0 ||
	    chown(path, uid, (gid_t)-1) < 0)
		return error_errno(err, "make %s", host);
	return 0;
}

static int fill(uid_t uid, bool kvm, struct error *err)
{
	if (bind_usr(err) < 0 || link_to_usr(err) < 0 || mount_proc(err) < 0 ||
	    make_mount_point("dev", err) < 0 || make_device("null", 0666, 0, err) < 0 ||
	    make_device("urandom", 0444, 0, err) < 0)
		return -err->code;
	return kvm ? make_device("kvm", 0600, uid, err) : 0;
}

static int change_root(struct error *err)
{
	const unsigned long flags = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NOEXEC;

	if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return error_errno(err, "change root");
	if (mount(NULL, "/", NULL, flags, NULL) < 0)
		return error_errno(err, "make / read-only");
	return 0;
}

int shim_root_enter(uid_t uid, bool kvm, struct error *err)
{
	if (unshare(CLONE_NEWNS | CLONE_NEWIPC) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_errno(err, "leave the host's mounts");
	if (mount("penstock", SCRATCH, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k") < 0 ||
	    chdir(SCRATCH) < 0)
		return error_errno(err, "mount a root");
	if (fill(uid, kvm, err) < 0)
		return -err->code;
	return change_root(err);
}
