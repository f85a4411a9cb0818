// SPDX-License-Identifier: Apache-2.0
// Damping of repairs. Whoever damages an object again and again makes us repair it again and again;
// the damper bounds the part of the loop's time that goes into that.
//
// The pause before the next repair follows from the price of the last one, not from a fixed
// interval: a repair that took 1 ms may be repeated 9 ms later, one of 100 ms only after 0.9 s. So
// the first damage is repaired at once, cheap repairs follow each other quickly, and no damage, at
// any rate, takes more than a tenth of the time. The pause is never longer than a second: a repair
// may also have taken long because somebody else on the host held the kernel's rtnl lock, for
// seconds while thousands of interfaces are deleted. Without that bound a VPC was seen damaged for
// 24 s.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { DAMPER_PAUSE_FACTOR = 9, DAMPER_PAUSE_MAX_US = 1000000 };

struct damper {
	int64_t next_us; // monotonic: not again before; 0: at any time
};

static inline bool damper_allows(const struct damper *damper, int64_t now_us)
{
	return now_us >= damper->next_us;
}

// The work was done from `began_us` to `ended_us`.
static inline void damper_worked(struct damper *damper, int64_t began_us, int64_t ended_us)
{
	int64_t pause_us = DAMPER_PAUSE_FACTOR * (ended_us - began_us);

	damper->next_us =
		ended_us + (pause_us < DAMPER_PAUSE_MAX_US ? pause_us : DAMPER_PAUSE_MAX_US);
}
