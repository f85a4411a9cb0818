// SPDX-License-Identifier: Apache-2.0
// The last steps of a container's process: whom it runs as, with which capabilities, where,
// with which environment, and what.
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "agent/guest/init.h"

#include "agent/base/file.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"

enum { ACCOUNTS_MAX = 1024 * 1024, GROUPS_MAX = 64, ID_MAX = INT32_MAX };

static const char default_path[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// Docker's default set without MKNOD: no device cgroup stands between a node and a disk here.
static const uint64_t default_capabilities =
	1ull << CAP_CHOWN | 1ull << CAP_DAC_OVERRIDE | 1ull << CAP_FSETID | 1ull << CAP_FOWNER |
	1ull << CAP_NET_RAW | 1ull << CAP_SETGID | 1ull << CAP_SETUID | 1ull << CAP_SETFCAP |
	1ull << CAP_SETPCAP | 1ull << CAP_NET_BIND_SERVICE | 1ull << CAP_SYS_CHROOT |
	1ull << CAP_KILL | 1ull << CAP_AUDIT_WRITE;

struct identity {
	uid_t uid;
	gid_t gid;
	gid_t groups[GROUPS_MAX];
	size_t group_count;
	char name[64]; // "" when the passwd file does not know the user
	char home[256];
};

// ---------------------------------------------------------------- passwd and group

// A link of the image may lead anywhere in its own root, but not through /proc to what some
// process holds open.
static int open_of_image(const char *path, uint64_t flags)
{
	struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_NO_MAGICLINKS};

	return (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
}

enum { FIELDS_MAX = 7 };

// Splits a line of a colon file; returns the number of fields.
static size_t split_line(char *line, char *fields[FIELDS_MAX])
{
	size_t count = 0;

	while (line && count < FIELDS_MAX)
		fields[count++] = strsep(&line, ":");
	return count;
}

static int read_accounts(const char *path, char **ret_text)
{
	scoped_fd int fd = open_of_image(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	struct error ignored;

	return fd < 0 ? -errno : file_read_fd(fd, path, ACCOUNTS_MAX, ret_text, NULL, &ignored);
}

// Looks the user up by name, or by number when it is one.
static bool find_user(const char *user, struct identity *identity)
{
	scoped_free char *text = NULL;
	char *rest, *line, *fields[FIELDS_MAX];
	uint32_t number;
	bool numeric = parse_u32(user, ID_MAX, &number) == 0;

	if (read_accounts("/etc/passwd", &text) < 0)
		return false;
	for (rest = text; (line = strsep(&rest, "\n"));) {
		uint32_t uid, gid;

		if (split_line(line, fields) < 6 || parse_u32(fields[2], ID_MAX, &uid) < 0 ||
		    parse_u32(fields[3], ID_MAX, &gid) < 0)
			continue;
		if (numeric ? uid != number : strcmp(fields[0], user) != 0)
			continue;
		identity->uid = uid;
		identity->gid = gid;
		snprintf(identity->name, sizeof(identity->name), "%s", fields[0]);
		snprintf(identity->home, sizeof(identity->home), "%s", fields[5]);
		return true;
	}
	return false;
}

static bool is_member(char *members, const char *name)
{
	char *member;

	while ((member = strsep(&members, ",")))
		if (strcmp(member, name) == 0)
			return true;
	return false;
}

// The gid of `group`; when that is NULL, the supplementary groups of the user: as with Docker, a
// group that is named is the only one.
static bool find_groups(const char *group, struct identity *identity)
{
	scoped_free char *text = NULL;
	char *rest, *line, *fields[FIELDS_MAX];
	bool found = !group || parse_u32(group, ID_MAX, &identity->gid) == 0;

	if (read_accounts("/etc/group", &text) < 0)
		return found;
	for (rest = text; (line = strsep(&rest, "\n"));) {
		uint32_t gid;

		if (split_line(line, fields) < 4 || parse_u32(fields[2], ID_MAX, &gid) < 0)
			continue;
		if (!found && strcmp(fields[0], group) == 0) {
			identity->gid = gid;
			found = true;
		}
		if (!group && identity->name[0] && identity->group_count < GROUPS_MAX &&
		    is_member(fields[3], identity->name))
			identity->groups[identity->group_count++] = gid;
	}
	return found;
}

static int find_identity(const char *spec, struct identity *ret_identity, struct error *err)
{
	struct identity identity = {.home = "/"};
	char text[256];
	char *group = text, *user;

	if (snprintf(text, sizeof(text), "%s", *spec ? spec : "0") >= (int)sizeof(text))
		return error_set(err, EINVAL, "user %s: too long", spec);
	user = strsep(&group, ":");
	if (!find_user(user, &identity) && parse_u32(user, ID_MAX, &identity.uid) < 0)
		return error_set(err, ENOENT,
				 "unable to find user %s: no matching entries in passwd file",
				 user);
	if (!find_groups(group, &identity))
		return error_set(err, ENOENT,
				 "unable to find group %s: no matching entries in group file",
				 group);
	*ret_identity = identity;
	return 0;
}

// ---------------------------------------------------------------- becoming

static int drop_bounding_set(struct error *err)
{
	for (unsigned long capability = 0; capability < 64; capability++) {
		if (default_capabilities >> capability & 1)
			continue;
		if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) {
			if (errno == EINVAL) // past the last one this kernel knows
				return 0;
			return error_errno(err, "drop capability %lu", capability);
		}
	}
	return 0;
}

static int set_capabilities(uint64_t set, struct error *err)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {
		{.effective = (uint32_t)set, .permitted = (uint32_t)set},
		{.effective = (uint32_t)(set >> 32), .permitted = (uint32_t)(set >> 32)},
	};

	if (syscall(SYS_capset, &header, data) < 0)
		return error_errno(err, "set capabilities");
	return 0;
}

// What Fargate gives. Where it may not be raised (netns driver without CAP_SYS_RESOURCE) it stays.
static void set_limits(void)
{
	const struct rlimit files = {65535, 65535};

	setrlimit(RLIMIT_NOFILE, &files);
}

static int become(const struct identity *identity, struct error *err)
{
	int result = drop_bounding_set(err);

	if (result < 0)
		return result;
	set_limits();
	if (setgroups(identity->group_count, identity->groups) < 0 ||
	    setresgid(identity->gid, identity->gid, identity->gid) < 0 ||
	    setresuid(identity->uid, identity->uid, identity->uid) < 0)
		return error_errno(err, "become user %u:%u", identity->uid, identity->gid);
	// Any other user has lost them all with setresuid.
	return identity->uid ? 0 : set_capabilities(default_capabilities, err);
}

// ---------------------------------------------------------------- environment and exec

static const char *variable(const char *const *environment, const char *name)
{
	size_t length = strlen(name);

	for (; *environment; environment++)
		if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=')
			return *environment + length + 1;
	return NULL;
}

static const char **make_environment(const struct guest_container *spec,
				     const struct identity *identity, struct arena *arena)
{
	const char **environment = arena_array(arena, const char *, spec->environment_count + 5);
	uint32_t count = spec->environment_count;
	char hostname[65] = "";

	memcpy(environment, spec->environment, count * sizeof(*environment));
	gethostname(hostname, sizeof(hostname) - 1);
	if (!variable(environment, "PATH"))
		environment[count++] = arena_printf(arena, "PATH=%s", default_path);
	if (!variable(environment, "HOSTNAME"))
		environment[count++] = arena_printf(arena, "HOSTNAME=%s", hostname);
	if (!variable(environment, "HOME"))
		environment[count++] = arena_printf(arena, "HOME=%s", identity->home);
	if (!variable(environment, "ECS_CONTAINER_METADATA_URI_V4"))
		environment[count++] =
			arena_printf(arena, "ECS_CONTAINER_METADATA_URI_V4=http://%s%s%s",
				     GUEST_HOST, GUEST_PATH_METADATA, spec->id);
	return environment;
}

static int enter_directory(const char *path, struct error *err)
{
	scoped_fd int fd = open_of_image(*path ? path : "/", O_PATH | O_DIRECTORY);

	if (fd < 0 || fchdir(fd) < 0)
		return error_errno(err, "working directory %s", path);
	return 0;
}

static void execute(const char *path, const char *const *arguments, const char *const *environment)
{
	execve(path, (char *const *)(uintptr_t)arguments, (char *const *)(uintptr_t)environment);
}

// Returns only when nothing could be executed.
static int search_and_execute(const char *const *arguments, const char *const *environment,
			      struct error *err)
{
	const char *directory = variable(environment, "PATH");
	int failure = ENOENT;

	if (strchr(arguments[0], '/')) {
		execute(arguments[0], arguments, environment);
		return error_errno(err, "exec \"%s\"", arguments[0]);
	}
	while (directory && *directory) {
		size_t length = strcspn(directory, ":");
		char path[PATH_MAX];

		if (snprintf(path, sizeof(path), "%.*s/%s", (int)length, directory, arguments[0]) <
		    PATH_MAX)
			execute(path, arguments, environment);
		if (errno != ENOENT && errno != ENOTDIR)
			failure = errno;
		directory += length + (directory[length] == ':');
	}
	if (failure == ENOENT)
		return error_set(err, ENOENT, "exec \"%s\": executable file not found in $PATH",
				 arguments[0]);
	return error_code(err, failure, "exec \"%s\"", arguments[0]);
}

int init_identity_exec(const struct guest_container *spec, const char *const *arguments,
		       struct error *err)
{
	scoped(arena_release) struct arena arena = {0};
	struct identity identity;
	int result = find_identity(spec->user, &identity, err);

	if (result == 0)
		result = enter_directory(spec->directory, err);
	if (result == 0)
		result = init_filter_install(err);
	if (result == 0)
		result = become(&identity, err);
	if (result < 0)
		return result;
	return search_and_execute(arguments, make_environment(spec, &identity, &arena), err);
}
