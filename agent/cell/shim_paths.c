// SPDX-License-Identifier: Apache-2.0
#include "agent/cell/shim_paths.h"

#include <string.h>

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
