// SPDX-License-Identifier: Apache-2.0
// Memory of a microVM's containers.
//
// A machine without swap that runs full reclaims the text of its programs again and again, and
// takes minutes before its kernel decides that this is out of memory; meanwhile nothing runs, and
// penstock-init cannot speak. So the containers are held to less than the machine has:
//
//     INIT_BASE/cgroup/            cgroup2; penstock-init and the kernel's threads stay here
//         task/                    memory.max: what is free after the boot, less a reserve
//             0/ 1/ ...            one per container; memory.max: its own `memory`, if it has one
//
// The kernel kills in the cgroup that is full, at once, and counts it there: the reason of a
// container that ended is known, not guessed. The reserve is for penstock-init and for what the
// kernel charges to nobody. Measured: a guest of 512 MiB has 470 MiB, 437 MiB of them free after
// the boot; the containers get 422. Behind that stands MGLRU's min_ttl_ms (init_boot.c), for memory
// that is charged to no container.
//
// In the netns driver the host's cgroup of the cell is the limit; nothing here is done.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

#include "agent/guest/init.h"

#include "agent/base/file.h"
#include "agent/base/scope.h"

#define CGROUP_ROOT INIT_BASE "/cgroup"

static const uint64_t mib = UINT64_C(1) << 20;

enum { RESERVE_MIB = 8, RESERVE_SHARE = 64, TEXT_MAX = 16 * 1024 };

static int make_group(const char *path, uint64_t limit_bytes, struct error *err)
{
	char file[128], text[32];

	if (mkdir(path, 0755) < 0)
		return error_errno(err, "make %s", path);
	if (limit_bytes == 0)
		return 0;
	snprintf(file, sizeof(file), "%s/memory.max", path);
	snprintf(text, sizeof(text), "%" PRIu64, limit_bytes);
	return file_write_kernel(AT_FDCWD, file, text, err);
}

static uint64_t task_limit_bytes(void)
{
	struct sysinfo info;
	uint64_t free_bytes;

	if (sysinfo(&info) < 0)
		return 0;
	free_bytes = (uint64_t)info.freeram * info.mem_unit;
	return free_bytes - free_bytes / RESERVE_SHARE - RESERVE_MIB * mib;
}

static int make_tree(struct error *err)
{
	if (mkdir(CGROUP_ROOT, 0755) < 0 ||
	    mount("cgroup2", CGROUP_ROOT, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return error_errno(err, "mount " CGROUP_ROOT);
	if (file_write_kernel(AT_FDCWD, CGROUP_ROOT "/cgroup.subtree_control", "+memory", err) <
		    0 ||
	    make_group(CGROUP_ROOT "/task", task_limit_bytes(), err) < 0)
		return -err->code;
	return file_write_kernel(AT_FDCWD, CGROUP_ROOT "/task/cgroup.subtree_control", "+memory",
				 err);
}

int init_memory_open(const struct init_settings *settings, struct error *err)
{
	return settings->virtual_machine ? make_tree(err) : 0;
}

int init_memory_container(const struct init_settings *settings, struct container *container,
			  uint32_t index, struct error *err)
{
	char path[64];

	if (!settings->virtual_machine)
		return 0;
	snprintf(path, sizeof(path), CGROUP_ROOT "/task/%u", index);
	if (make_group(path, container->spec->memory_mib * mib, err) < 0)
		return -err->code;
	container->cgroup_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return container->cgroup_fd < 0 ? error_errno(err, "open %s", path) : 0;
}

int init_memory_join(const struct container *container)
{
	struct error ignored;

	return container->cgroup_fd < 0
		       ? 0
		       : file_write_kernel(container->cgroup_fd, "cgroup.procs", "0", &ignored);
}

// The number behind `name` in a file of "name number" lines; 0 when it is not there.
static uint64_t read_counter(int directory_fd, const char *file, const char *name)
{
	scoped_free char *text = NULL;
	size_t length = strlen(name);
	struct error ignored;

	if (file_read(directory_fd, file, TEXT_MAX, &text, NULL, &ignored) < 0)
		return 0;
	for (char *rest = text, *line; (line = strsep(&rest, "\n"));)
		if (strncmp(line, name, length) == 0 && line[length] == ' ')
			return strtoull(line + length, NULL, 10);
	return 0;
}

bool init_memory_killed(const struct container *container)
{
	return container->cgroup_fd >= 0 &&
	       read_counter(container->cgroup_fd, "memory.events", "oom_kill") > 0;
}

uint64_t init_memory_used(const struct container *container)
{
	scoped_free char *text = NULL;
	struct error ignored;
	uint64_t used, cold;

	if (container->cgroup_fd < 0 ||
	    file_read(container->cgroup_fd, "memory.current", 64, &text, NULL, &ignored) < 0)
		return 0;
	used = strtoull(text, NULL, 10);
	cold = read_counter(container->cgroup_fd, "memory.stat", "inactive_file");
	return used > cold ? used - cold : 0;
}
