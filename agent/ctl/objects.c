// SPDX-License-Identifier: Apache-2.0
// Names of objects as people write them: KIND/ID, with short words for the long kinds.
#include <stdio.h>
#include <string.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"

// In the order in which a bundle is applied.
static const struct {
	const char *kind, *short_kind, *path;
} kinds[] = {
	{"vpc", "vpc", "vpcs"},
	{"subnet", "subnet", "subnets"},
	{"security-group", "sg", "security-groups"},
	{"file-system", "fs", "file-systems"},
	{"target-group", "tg", "target-groups"},
	{"load-balancer", "lb", "load-balancers"},
	{"task", "task", "tasks"},
};

static int kind_index(const char *word, size_t length)
{
	for (size_t i = 0; i < ARRAY_LENGTH(kinds); i++) {
		const char *names[] = {kinds[i].kind, kinds[i].short_kind, kinds[i].path};

		for (size_t j = 0; j < ARRAY_LENGTH(names); j++)
			if (strlen(names[j]) == length && memcmp(names[j], word, length) == 0)
				return (int)i;
	}
	return -1;
}

const char *kind_path(const char *kind)
{
	int index = kind_index(kind, strlen(kind));

	return index < 0 ? NULL : kinds[index].path;
}

int kind_order(const char *kind)
{
	return kind_index(kind, strlen(kind));
}

bool object_path(const char *name, struct buffer *ret_path, const char **ret_kind)
{
	const char *slash = strchr(name, '/');
	const char *id = slash ? slash + 1 : name;
	int index = slash ? kind_index(name, (size_t)(slash - name)) : kind_index("task", 4);

	if (index < 0) {
		fprintf(stderr,
			"penstockctl: %s: the kind must be vpc, subnet, sg, fs, tg, lb or task\n",
			name);
		return false;
	}
	if (!id_is_valid(id)) {
		fprintf(stderr,
			"penstockctl: %s: an id is 1 to 63 of a-z, 0-9 and '-', not beginning with "
			"'-'\n",
			name);
		return false;
	}
	buffer_addf(ret_path, "/v1/%s/%s", kinds[index].path, id);
	*ret_kind = kinds[index].kind;
	return true;
}
