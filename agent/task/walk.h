// SPDX-License-Identifier: Apache-2.0
// The walk: one task's way up and down a table of reversible steps. It knows
// nothing of the kernel, only the table, a clock and what the steps say.
//
// Going up it applies the steps in order; a failed or late step turns the walk, and
// it is undone itself before those below it. Going down it undoes from where it stands;
// an undo that fails is tried again later, with everything below it still standing.
// A step that has to wait says so and is called again when something happened: steps are
// idempotent and look at what is there, not at what was done last time. For the same
// reason a walk after a crash starts at the bottom again and passes quickly over what stands.
//
//     struct walk walk = {.steps = task_steps, .count = TASK_STEP_COUNT,
//                         .clock_us = clock_monotonic_us};
//     walk_advance(&walk, task, &observer);
//     ... something happened, or walk_wake_us() has come: walk_advance() again ...
//     walk_turn_down(&walk);    // stop it
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/error.h"

enum {
	WALK_WAIT = 1, // what a step returns instead of 0: call me again when something happened
	WALK_RETRY_FIRST_MS = 100,
	WALK_RETRY_LAST_MS = 5000,
	WALK_ADOPT_RETRIES = 5, // of a step that an earlier life had applied already
};

struct walk_step {
	const char *name;
	// 0: it stands. WALK_WAIT. Negative: it cannot, `err` says why.
	int (*apply)(void *object, struct error *err);
	// 0: nothing of it is left. WALK_WAIT. Negative: it is tried again.
	int (*undo)(void *object, struct error *err);
	unsigned deadline_ms;      // of apply, from its first call; 0: none
	const char *late;          // what the error says then
	unsigned undo_deadline_ms; // an undo that waits longer is reported and tried again; 0: none
};

enum walk_direction { WALK_UP, WALK_DOWN };

struct walk {
	const struct walk_step *steps;
	size_t count;
	int64_t (*clock_us)(void);
	size_t standing; // steps that stand or may stand: the first is steps[0]
	size_t left;     // steps that may stand from an earlier life: going down begins there
	enum walk_direction direction;
	int64_t entered_us; // when the present step was first called, 0: not yet
	int64_t own_us;     // spent on it since: in its calls, and what its table adds to that
	int64_t retry_us;   // not called before this time
	unsigned retries;   // of the present step
};

struct walk_time {
	int64_t duration_us; // from the step's first call to its end
	int64_t own_us;      // of that: without what it waited for
};

// Told of every step that ends: `result` 0, or negative with `err`. May be called several times
// for one failing undo.
struct walk_observer {
	void (*stepped)(void *object, size_t step, enum walk_direction direction,
			const struct walk_time *time, int result, const struct error *err);
	// Asked before a step's success counts; a negative answer makes it a failure. NULL: no one
	// asks.
	int (*judge)(void *object, size_t step, enum walk_direction direction, struct error *err);
};

// Goes as far as it can. True when it arrived: every step stands, or none does.
bool walk_advance(struct walk *walk, void *object, const struct walk_observer *observer);

// Turns it downwards, from the step it is at; going down already is fine.
void walk_turn_down(struct walk *walk);

// Going up, it looks at this step and those above it once more: what stood may be gone.
void walk_look_again(struct walk *walk, size_t step);

// It called this step, which is to be called again.
bool walk_waits_at(const struct walk *walk, size_t step);

// When walk_advance() wants to be called at the latest (a deadline or a retry); INT64_MAX: never.
int64_t walk_wake_us(const struct walk *walk);

static inline bool walk_is_up(const struct walk *walk)
{
	return walk->direction == WALK_UP && walk->standing == walk->count;
}

static inline bool walk_is_down(const struct walk *walk)
{
	return walk->direction == WALK_DOWN && walk->standing == 0;
}
