// SPDX-License-Identifier: Apache-2.0
// Finding the cgroup mounts. A line of /proc/self/mountinfo is
// "36 35 98:0 /root /mount/point options [optional fields] - type source super-options";
// the super-options of a v1 mount name its controllers.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/file.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/cell/cgroup.h"

enum { MOUNTINFO_MAX_BYTES = 4 * 1024 * 1024, CONTROLLERS_MAX_BYTES = 4096 };

static const struct {
	enum cgroup_controller controller;
	const char *v1_option;
	const char *v2_name;
} controller_names[] = {
	{CGROUP_CPU, "cpu", "cpu"},          {CGROUP_CPUACCT, "cpuacct", "cpu"},
	{CGROUP_MEMORY, "memory", "memory"}, {CGROUP_PIDS, "pids", "pids"},
	{CGROUP_IO, "blkio", "io"},
};

struct mount_line {
	char point[CGROUP_MOUNT_MAX];
	char type[16];
	char super_options[256];
};

// True when `word` stands in `list`, whose words are separated by `separators`.
static bool list_has(const char *list, const char *separators, const char *word)
{
	size_t length = strlen(word);

	while (*list) {
		size_t span = strcspn(list, separators);

		if (span == length && strncmp(list, word, length) == 0)
			return true;
		list += span;
		list += strspn(list, separators);
	}
	return false;
}

static bool parse_line(const char *line, struct mount_line *ret_line)
{
	const char *end = strchrnul(line, '\n');
	const char *separator = strstr(line, " - ");
	struct mount_line parsed = {0};

	if (!separator || separator > end)
		return false;
	if (sscanf(line, "%*s %*s %*s %*s %255s", parsed.point) != 1 ||
	    sscanf(separator, " - %15s %*s %255[^\n]", parsed.type, parsed.super_options) != 2)
		return false;
	*ret_line = parsed;
	return parsed.point[0] == '/';
}

static void take_mount(struct cgroup_mount *mount, const char *point, bool v2)
{
	if (mount->path[0] == '\0')
		snprintf(mount->path, sizeof(mount->path), "%s", point);
	mount->v2 = v2;
}

static void take_line(const struct mount_line *line, struct cgroup_tree *tree)
{
	if (strcmp(line->type, "cgroup2") == 0)
		take_mount(&tree->mounts[CGROUP_UNIFIED], line->point, true);
	if (strcmp(line->type, "cgroup") != 0)
		return;
	for (size_t i = 0; i < ARRAY_LENGTH(controller_names); i++)
		if (list_has(line->super_options, ",", controller_names[i].v1_option))
			take_mount(&tree->mounts[controller_names[i].controller], line->point,
				   false);
}

// A controller is in one hierarchy only: what the v2 tree has, it has there.
static void prefer_v2(const char *v2_controllers, struct cgroup_tree *tree)
{
	for (size_t i = 0; i < ARRAY_LENGTH(controller_names); i++)
		if (list_has(v2_controllers, " \n", controller_names[i].v2_name))
			tree->mounts[controller_names[i].controller] = tree->mounts[CGROUP_UNIFIED];
}

static enum cgroup_mode mode_of(const struct cgroup_mount *mounts)
{
	static const enum cgroup_controller needed[] = {CGROUP_CPU, CGROUP_MEMORY, CGROUP_PIDS};
	size_t v2 = 0, found = 0;

	for (size_t i = 0; i < ARRAY_LENGTH(needed); i++) {
		found += mounts[needed[i]].path[0] != '\0';
		v2 += mounts[needed[i]].path[0] != '\0' && mounts[needed[i]].v2;
	}
	if (v2 == ARRAY_LENGTH(needed))
		return CGROUP_MODE_V2;
	return found > 0 ? CGROUP_MODE_V1 : CGROUP_MODE_NONE;
}

void cgroup_tree_parse(const char *mountinfo, const char *v2_controllers,
		       struct cgroup_tree *ret_tree)
{
	struct mount_line line;

	memset(ret_tree->mounts, 0, sizeof(ret_tree->mounts));
	for (const char *text = mountinfo; *text; text = strchrnul(text, '\n')) {
		text += *text == '\n';
		if (parse_line(text, &line))
			take_line(&line, ret_tree);
	}
	if (ret_tree->mounts[CGROUP_UNIFIED].path[0] != '\0')
		prefer_v2(v2_controllers, ret_tree);
	ret_tree->mode = mode_of(ret_tree->mounts);
}

static int read_v2_controllers(const char *mount, char **ret_text, struct error *err)
{
	char path[CGROUP_MOUNT_MAX + 32];

	snprintf(path, sizeof(path), "%s/cgroup.controllers", mount);
	return file_read(AT_FDCWD, path, CONTROLLERS_MAX_BYTES, ret_text, NULL, err);
}

int cgroup_tree_find(const char *install, struct cgroup_tree *ret_tree, struct error *err)
{
	scoped_free char *mountinfo = NULL, *controllers = NULL;
	struct cgroup_tree tree = {0};

	if (!id_is_valid(install))
		return error_set(err, EINVAL, "install name \"%s\" is not an id", install);
	snprintf(tree.install, sizeof(tree.install), "%s", install);
	if (file_read(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX_BYTES, &mountinfo, NULL,
		      err) < 0)
		return error_wrap(err, "find cgroups");
	cgroup_tree_parse(mountinfo, "", &tree);
	if (tree.mounts[CGROUP_UNIFIED].path[0] != '\0') {
		if (read_v2_controllers(tree.mounts[CGROUP_UNIFIED].path, &controllers, err) < 0)
			return error_wrap(err, "find cgroups");
		cgroup_tree_parse(mountinfo, controllers, &tree);
	}
	*ret_tree = tree;
	return 0;
}
