// SPDX-License-Identifier: Apache-2.0
#include "agent/base/clock.h"

#include <stdio.h>
#include <time.h>

int64_t clock_monotonic_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_thread_us(void)
{
	struct timespec used;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return (int64_t)used.tv_sec * 1000000 + used.tv_nsec / 1000;
}

int64_t clock_wall_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct boot_time clock_boot(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (struct boot_time){(uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000};
}

uint64_t boot_time_since_ms(struct boot_time later, struct boot_time earlier)
{
	return later.ms > earlier.ms ? later.ms - earlier.ms : 0;
}

struct boot_time boot_time_latest(struct boot_time one, struct boot_time other)
{
	return one.ms > other.ms ? one : other;
}

int64_t boot_time_monotonic_us(struct boot_time time)
{
	return clock_monotonic_us() - (int64_t)boot_time_since_ms(clock_boot(), time) * 1000;
}

char *clock_format_rfc3339(int64_t wall_ms, char text[CLOCK_RFC3339_SIZE])
{
	int64_t ms = wall_ms < 0 ? 0 : wall_ms > CLOCK_WALL_MS_MAX ? CLOCK_WALL_MS_MAX : wall_ms;
	time_t seconds = (time_t)(ms / 1000);
	struct tm utc;
	char date[CLOCK_RFC3339_SIZE - 8];

	gmtime_r(&seconds, &utc);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(text, CLOCK_RFC3339_SIZE, "%s.%03dZ", date, (int)(ms % 1000));
	return text;
}
