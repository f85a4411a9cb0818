// SPDX-License-Identifier: Apache-2.0
// Shared by the files of this module.
#pragma once

#include "ephemeral/ephemeral.h"

#define EPHEMERAL_GIB (UINT64_C(1) << 30)

// Changes with the mkfs options: an older template is then simply not found.
#define EPHEMERAL_TEMPLATE_VERSION "v1"

// What starts with this was not finished by its maker.
#define EPHEMERAL_UNFINISHED_PREFIX ".new-"

void ephemeral_template_name(unsigned size_gib, char ret_name[EPHEMERAL_NAME_SIZE]);
int ephemeral_size_check(unsigned size_gib, struct error *err);

// Locks the template directory against other builders (`operation` as in flock(2)) until
// *ret_fd is closed. -EWOULDBLOCK with LOCK_NB.
int ephemeral_templates_lock(const struct ephemeral *pool, int operation, int *ret_fd);
