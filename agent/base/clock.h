// SPDX-License-Identifier: Apache-2.0
// Time, with its unit in every name. Deadlines and durations use the monotonic
// clock; what people and bills read uses the wall clock.
#pragma once

#include <stddef.h>
#include <stdint.h>

int64_t clock_monotonic_us(void);
int64_t clock_thread_us(void); // CPU time of the calling thread: does not go on while it waits
int64_t clock_wall_ms(void);   // since 1970-01-01T00:00:00Z

// The last one with four digits of year, which is all that RFC 3339 has: 9999-12-31T23:59:59.999Z.
#define CLOCK_WALL_MS_MAX INT64_C(253402300799999)

enum { CLOCK_RFC3339_SIZE = 32 };

// "2026-01-31T09:08:07.654Z"; a time before 1970 or after the last is the nearest of those. Returns
// `text`.
char *clock_format_rfc3339(int64_t wall_ms, char text[CLOCK_RFC3339_SIZE]);
