// SPDX-License-Identifier: Apache-2.0
// Paths inside the cgroup trees, for the files of this folder.
#pragma once

#include "agent/cell/cgroup.h"

enum { CGROUP_PATH_MAX = 512 };

// <mount>/penstock-<install>[/<task>[/<file>]]; task and file may be NULL. Names are valid
// ids, so the path always fits.
void cgroup_path(const struct cgroup_tree *tree, const char *mount, const char *task,
		 const char *file, char ret_path[CGROUP_PATH_MAX]);

// The distinct mounts in use; the v2 tree, when there is one, comes last. Returns the count.
size_t cgroup_roots(const struct cgroup_tree *tree,
		    const char *ret_mounts[CGROUP_CONTROLLER_COUNT]);

// The mount whose membership counts: the v2 tree if any. NULL when nothing is mounted.
const char *cgroup_main_root(const struct cgroup_tree *tree);

int cgroup_check_task(const char *task, struct error *err);
