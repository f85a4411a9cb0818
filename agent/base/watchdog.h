// SPDX-License-Identifier: Apache-2.0
// Ends this process when its event loop stops coming round.
//
//     watchdog_start(30, &err);
//     for (;;) {
//             event_base_loop(base, EVLOOP_ONCE);
//             ...
//             watchdog_feed();
//     }
//     watchdog_stop();
//
// An idle loop must come round too: the caller needs a timer of at most watchdog_heartbeat_ms().
// One watchdog per process. A child of fork() has none, and neither has a program after exec().
#pragma once

#include "agent/base/error.h"

int watchdog_start(unsigned seconds, struct error *err);
// The loop came round: the time begins again.
void watchdog_feed(void);
void watchdog_stop(void);
unsigned watchdog_heartbeat_ms(void);
