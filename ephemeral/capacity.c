// SPDX-License-Identifier: Apache-2.0
#include <errno.h>

#include "ephemeral/internal.h"

unsigned ephemeral_capacity_free_gib(const struct ephemeral_capacity *capacity)
{
	uint64_t taken = (uint64_t)capacity->promised_gib + capacity->headroom_gib;

	return taken >= capacity->pool_gib ? 0 : capacity->pool_gib - (unsigned)taken;
}

int ephemeral_capacity_admit(const struct ephemeral_capacity *capacity, unsigned asked_gib,
			     struct error *err)
{
	unsigned free_gib = ephemeral_capacity_free_gib(capacity);

	if (asked_gib <= free_gib)
		return 0;
	return error_set(err, ENOSPC,
			 "ephemeral storage: %u GiB asked, %u GiB free of %u GiB "
			 "(%u promised, %u headroom)",
			 asked_gib, free_gib, capacity->pool_gib, capacity->promised_gib,
			 capacity->headroom_gib);
}

int ephemeral_size_check(unsigned size_gib, struct error *err)
{
	if (size_gib >= 1 && size_gib <= EPHEMERAL_SIZE_MAX_GIB)
		return 0;
	return error_set(err, EINVAL, "ephemeral disk of %u GiB: must be 1 to %d GiB", size_gib,
			 EPHEMERAL_SIZE_MAX_GIB);
}
