// SPDX-License-Identifier: Apache-2.0
// What a microVM needs before anything else. The initramfs cannot be pivoted away from
// (pivot_root says EINVAL), so init moves onto a tmpfs first: a container's own
// pivot_root then works, and a container's root has no way back.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/guest/init.h"

#include "agent/base/buffer.h"
#include "agent/base/file.h"
#include "agent/base/scope.h"

static int modules_fd = -1; // the initramfs's /modules; it stays reachable only through this

static const struct {
	const char *source, *target, *type;
	unsigned long flags;
	const char *options;
} file_systems[] = {
	{"proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
	{"sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
	{"devtmpfs", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755"},
};

static int mount_file_systems(struct error *err)
{
	for (size_t i = 0; i < ARRAY_LENGTH(file_systems); i++) {
		if (mount(file_systems[i].source, file_systems[i].target, file_systems[i].type,
			  file_systems[i].flags, file_systems[i].options) < 0)
			return error_errno(err, "mount %s", file_systems[i].target);
	}
	return 0;
}

// "nfs.nfs4_unique_id=t-42" on the command line is "nfs4_unique_id=t-42" to nfs.ko. The kernel
// gives such words only to what is built in; for modules that is modprobe's work, and here ours.
static void module_parameters(const char *name, const char *const *words, struct buffer *parameters)
{
	size_t length = strcspn(name, ".") + 1;

	for (; *words; words++)
		if (strncmp(*words, name, length) == 0)
			buffer_addf(parameters, "%s ", *words + length);
}

static int load_module(const char *name, const char *const *words, struct error *err)
{
	scoped(buffer_release) struct buffer parameters = {0};
	scoped_fd int fd = openat(modules_fd, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_errno(err, "module %s", name);
	module_parameters(name, words, &parameters);
	if (syscall(SYS_finit_module, fd, buffer_text(&parameters), 0) < 0 && errno != EEXIST)
		return error_errno(err, "load module %s", name);
	unlinkat(modules_fd, name, 0); // frees its memory
	return 0;
}

static int load_list(const char *list, struct error *err)
{
	scoped(arena_release) struct arena arena = {0};
	scoped_free char *names = NULL;
	const char **words = NULL;
	char *rest, *name;

	if (file_read(modules_fd, list, 64 * 1024, &names, NULL, err) < 0 ||
	    init_boot_words(&arena, &words, err) < 0)
		return -err->code;
	for (rest = names; (name = strsep(&rest, "\n"));)
		if (*name && load_module(name, words, err) < 0)
			return -err->code;
	return 0;
}

static int move_to_tmpfs(struct error *err)
{
	static const char root[] = "/run";
	static const char *const directories[] = {"proc", "sys", "dev", "mnt"};

	if (mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=16m") < 0)
		return error_errno(err, "mount the root tmpfs");
	for (size_t i = 0; i < ARRAY_LENGTH(directories); i++) {
		char from[16], to[24];

		snprintf(from, sizeof(from), "/%s", directories[i]);
		snprintf(to, sizeof(to), "%s/%s", root, directories[i]);
		if (mkdir(to, 0755) < 0)
			return error_errno(err, "make %s", to);
		if (i < ARRAY_LENGTH(file_systems) && mount(from, to, NULL, MS_MOVE, NULL) < 0)
			return error_errno(err, "move %s", from);
	}
	if (chdir(root) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
	    chdir("/") < 0)
		return error_errno(err, "move to the root tmpfs");
	return 0;
}

// Containers have no use for some of these, and each is a way to more of the guest's kernel. The
// others let the kernel decide soon that it is out of memory, and never choose penstock-init's
// children that mount volumes: a working set that does not stay for min_ttl_ms is killed for. The
// kernel's default goes on reclaiming (seen: minutes at full CPU, nothing else ran).
static void set_knobs(void)
{
	static const struct {
		const char *path, *value;
	} knobs[] = {
		{"/proc/sys/user/max_user_namespaces", "0"},
		{"/proc/sys/kernel/kptr_restrict", "2"},
		{"/proc/sys/kernel/dmesg_restrict", "1"},
		{"/proc/sys/kernel/unprivileged_bpf_disabled", "1"},
		{"/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"},
		{"/sys/kernel/mm/lru_gen/enabled", "y"},
		{"/sys/kernel/mm/lru_gen/min_ttl_ms", "1000"},
		{"/proc/self/oom_score_adj", "-1000"},
	};
	struct error ignored;

	for (size_t i = 0; i < ARRAY_LENGTH(knobs); i++)
		file_write_kernel(AT_FDCWD, knobs[i].path, knobs[i].value, &ignored);
}

int init_boot(struct error *err)
{
	int result = mount_file_systems(err);

	if (result < 0)
		return result;
	modules_fd = open("/modules", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (modules_fd < 0)
		return error_errno(err, "open /modules");
	result = load_list("boot.list", err);
	if (result == 0)
		result = move_to_tmpfs(err);
	if (result == 0)
		set_knobs();
	return result;
}

int init_boot_load_nfs(struct error *err)
{
	return modules_fd < 0 ? 0 : load_list("nfs.list", err);
}

void init_boot_drop_modules(void)
{
	scoped_free char *names = NULL;
	struct error ignored;
	char *rest, *name;

	if (modules_fd < 0)
		return;
	if (file_read(modules_fd, "nfs.list", 64 * 1024, &names, NULL, &ignored) == 0)
		for (rest = names; (name = strsep(&rest, "\n"));)
			unlinkat(modules_fd, name, 0);
	close_fd(&modules_fd);
}

int init_boot_words(struct arena *arena, const char ***ret_words, struct error *err)
{
	scoped_free char *line = NULL;
	const char **words;
	char *rest, *word;
	size_t length, count = 0;
	int result = file_read(AT_FDCWD, "/proc/cmdline", 64 * 1024, &line, &length, err);

	if (result < 0)
		return result;
	words = arena_array(arena, const char *, length + 2);
	for (rest = arena_strdup(arena, line); (word = strsep(&rest, " \n"));)
		if (*word)
			words[count++] = word;
	*ret_words = words;
	return 0;
}
