// SPDX-License-Identifier: Apache-2.0
#include "agent/cell/shim_paths.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/number.h"

static bool consists_of(const char *text, const char *characters, size_t length_max)
{
	size_t length = strlen(text);

	return length >= 1 && length <= length_max && strspn(text, characters) == length;
}

bool cell_container_id_is_valid(const char *id)
{
	return consists_of(id, "0123456789abcdef-", CELL_CONTAINER_ID_MAX);
}

bool cell_container_name_is_valid(const char *name)
{
	return consists_of(name, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-",
			   CELL_CONTAINER_NAME_MAX);
}

void cell_log_file(const char *name, bool rotated, char ret_file[NAME_MAX + 1])
{
	const char *end = rotated ? ".log.1" : ".log";

	if (strlen(name) + strlen(".log.1") <= NAME_MAX)
		snprintf(ret_file, NAME_MAX + 1, "%s%s", name, end);
	else
		snprintf(ret_file, NAME_MAX + 1, "%.200s.%016" PRIx64 "%s", name,
			 hash_pair(name, ""), end);
}
