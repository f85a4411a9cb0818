// SPDX-License-Identifier: Apache-2.0
// Time, with its unit in every name. Three clocks, each for one purpose:
//
//   clock_monotonic_us()  deadlines and durations inside one process;
//   clock_boot()          what is persisted, or compared with what another process persisted: every
//                         process of one boot of the host reads the same clock, and nobody can set
//                         it. A value means nothing after a reboot, so it is stored beside a boot
//                         id;
//   clock_wall_ms()       labels for people. Anybody may set it at any time, and it is often wrong
//                         until the network is up, so no duration, cool-down or age is computed
//                         from it (tests/layers.py refuses arithmetic on it).
#pragma once

#include <stddef.h>
#include <stdint.h>

int64_t clock_monotonic_us(void);
int64_t clock_thread_us(void); // CPU time of the calling thread: does not go on while it waits
int64_t clock_wall_ms(void);   // since 1970-01-01T00:00:00Z

// A point of CLOCK_BOOTTIME, which goes on while the host sleeps.
struct boot_time {
	uint64_t ms; // since the boot; 0: not known, or not yet
};

#define BOOT_TIME_MS_MAX (UINT64_C(1) << 53) // the largest integer that JSON carries everywhere

struct boot_time clock_boot(void);
// How long from `earlier` to `later`, both of the same boot; 0 when they are in the wrong order.
uint64_t boot_time_since_ms(struct boot_time later, struct boot_time earlier);
struct boot_time boot_time_latest(struct boot_time one, struct boot_time other);
// What clock_monotonic_us() said at that point of this boot, if the host has not slept since.
int64_t boot_time_monotonic_us(struct boot_time time);

// The last one with four digits of year, which is all that RFC 3339 has: 9999-12-31T23:59:59.999Z.
#define CLOCK_WALL_MS_MAX INT64_C(253402300799999)

enum { CLOCK_RFC3339_SIZE = 32 };

// "2026-01-31T09:08:07.654Z"; a time before 1970 or after the last is the nearest of those. Returns
// `text`.
char *clock_format_rfc3339(int64_t wall_ms, char text[CLOCK_RFC3339_SIZE]);
