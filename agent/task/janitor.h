// SPDX-License-Identifier: Apache-2.0
// Janitors: child processes for what may block longer than a millisecond (mkfs,
// unpacking an image, removing a big disk or many links). The loop only hears how it ended.
//
// Work must be idempotent and found again by identity: a janitor dies with the
// agent, and the restarted agent starts the same work anew.
//
//     static int reap_work(const char *argument, struct error *err) { ... }
//     janitor_start(&janitors, "prod web", -1, reap_work, on_done, task, err);
#pragma once

#include <event2/event.h>
#include <stdbool.h>

#include "agent/base/clock.h"
#include "agent/base/error.h"

enum { JANITOR_ARGUMENT_MAX = 512 };

// Runs in the child, which holds no descriptor of the agent but standard error.
typedef int (*janitor_work)(const char *argument, struct error *err);

// Runs in the agent. `err->code` is 0 when the work succeeded.
typedef void (*janitor_done)(void *owner, const struct error *err);

struct janitors {
	struct event_base *base;
	unsigned running;
	struct janitor *first;
};

// Starts `work(argument)`; `done(owner)` is called once, later, unless janitor_forget() comes
// first. `argument` is copied. `kept_fd` (or -1) is the one descriptor that the child keeps, as
// number 3.
int janitor_start(struct janitors *janitors, const char *argument, int kept_fd, janitor_work work,
		  janitor_done done, void *owner, struct error *err);

// Nobody waits for this owner's janitors any more; they go on.
void janitor_forget(struct janitors *janitors, const void *owner);

// One kind of clearing up that is done over and over, never twice at once: retired ENIs, trashed
// disks and cells. What fails is logged, and tried again with the next kick or reaper_retry().
struct reaper {
	struct janitors *janitors;
	const char *name; // for the log
	janitor_work work;
	char argument[JANITOR_ARGUMENT_MAX];
	bool running, again, failed;
	unsigned waiting; // things, for the timer or for more of them
	struct event *timer;
	struct boot_time began, reaped; // the last run, and the last that succeeded
};

enum { REAPER_DELAY_S = 1, REAPER_WAITING_MAX = 64 };

void reaper_kick(struct reaper *reaper); // at once
// When it is a second old, or with so many others that they are worth a run.
void reaper_add(struct reaper *reaper);
void reaper_flush(struct reaper *reaper); // what was added, at once
void reaper_retry(struct reaper *reaper); // from time to time
bool reaper_is_done(const struct reaper *reaper);
void reaper_close(struct reaper *reaper); // a run goes on

// Ends all of them (their work is done again after a restart) and frees everything.
void janitors_close(struct janitors *janitors);
