// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>

#include "agent/lb/probe.h"

static void put(struct probe_timers *timers, size_t place, struct probe_check *check)
{
	timers->checks[place] = check;
	check->heap_place = place;
}

static void rise(struct probe_timers *timers, struct probe_check *check)
{
	size_t place = check->heap_place;

	while (place > 0 && timers->checks[(place - 1) / 2]->due_us > check->due_us) {
		put(timers, place, timers->checks[(place - 1) / 2]);
		place = (place - 1) / 2;
	}
	put(timers, place, check);
}

static void sink(struct probe_timers *timers, struct probe_check *check)
{
	size_t place = check->heap_place;

	for (;;) {
		size_t child = place * 2 + 1;

		if (child + 1 < timers->count &&
		    timers->checks[child + 1]->due_us < timers->checks[child]->due_us)
			child++;
		if (child >= timers->count || timers->checks[child]->due_us >= check->due_us)
			break;
		put(timers, place, timers->checks[child]);
		place = child;
	}
	put(timers, place, check);
}

void probe_timers_add(struct probe_timers *timers, struct probe_check *check)
{
	if (timers->count == timers->capacity) {
		timers->capacity = timers->capacity ? timers->capacity * 2 : 64;
		timers->checks = reallocarray(timers->checks, timers->capacity,
					      sizeof(struct probe_check *));
		if (!timers->checks)
			abort();
	}
	put(timers, timers->count++, check);
	rise(timers, check);
}

void probe_timers_remove(struct probe_timers *timers, struct probe_check *check)
{
	struct probe_check *last = timers->checks[--timers->count];

	if (last == check)
		return;
	put(timers, check->heap_place, last);
	probe_timers_moved(timers, last);
}

void probe_timers_moved(struct probe_timers *timers, struct probe_check *check)
{
	rise(timers, check);
	sink(timers, check);
}

struct probe_check *probe_timers_first(const struct probe_timers *timers)
{
	return timers->count ? timers->checks[0] : NULL;
}

void probe_timers_release(struct probe_timers *timers)
{
	free(timers->checks);
	*timers = (struct probe_timers){0};
}
