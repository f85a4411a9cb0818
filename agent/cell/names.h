// SPDX-License-Identifier: Apache-2.0
// Collects the task ids that name subdirectories, from several places, each once.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/arena.h"
#include "agent/base/error.h"

struct name_list {
	struct arena *arena;
	const char **names;
	size_t count, capacity;
};

// Adds every subdirectory of `path` whose name is an id. A missing `path` adds nothing.
int name_list_add_directories(struct name_list *list, const char *path, struct error *err);
void name_list_add(struct name_list *list, const char *name);
// Sorted, without doubles; never NULL.
void name_list_finish(struct name_list *list, const char ***ret_names, size_t *ret_count);
