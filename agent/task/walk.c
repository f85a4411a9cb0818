// SPDX-License-Identifier: Apache-2.0
#include "agent/task/walk.h"

#include <errno.h>

static void enter(struct walk *walk, int64_t now_us)
{
	walk->entered_us = now_us;
	walk->own_us = 0;
}

static void leave(struct walk *walk)
{
	walk->entered_us = 0;
	walk->retry_us = 0;
	walk->retries = 0;
}

static size_t present_step(const struct walk *walk)
{
	return walk->direction == WALK_UP ? walk->standing : walk->standing - 1;
}

void walk_turn_down(struct walk *walk)
{
	if (walk->direction == WALK_DOWN)
		return;
	// What was begun may have left something behind: it counts as standing.
	if (walk->standing < walk->count && walk->entered_us != 0)
		walk->standing++;
	if (walk->standing < walk->left)
		walk->standing = walk->left;
	walk->direction = WALK_DOWN;
	leave(walk);
}

void walk_look_again(struct walk *walk, size_t step)
{
	size_t begun = walk->standing + (walk->entered_us != 0);

	if (walk->direction == WALK_DOWN || walk->standing <= step)
		return;
	if (walk->left < begun)
		walk->left = begun;
	walk->standing = step;
	leave(walk);
}

bool walk_waits_at(const struct walk *walk, size_t step)
{
	return walk->entered_us != 0 && present_step(walk) == step;
}

static int64_t deadline_us(const struct walk *walk)
{
	const struct walk_step *step = &walk->steps[present_step(walk)];
	unsigned deadline_ms =
		walk->direction == WALK_UP ? step->deadline_ms : step->undo_deadline_ms;

	return deadline_ms ? walk->entered_us + (int64_t)deadline_ms * 1000 : INT64_MAX;
}

int64_t walk_wake_us(const struct walk *walk)
{
	if (walk->retry_us)
		return walk->retry_us;
	if (walk_is_up(walk) || walk_is_down(walk) || walk->entered_us == 0)
		return INT64_MAX;
	return deadline_us(walk);
}

static int call_step(struct walk *walk, void *object, const struct walk_observer *observer,
		     struct error *err)
{
	size_t index = present_step(walk);
	const struct walk_step *step = &walk->steps[index];
	int result =
		walk->direction == WALK_UP ? step->apply(object, err) : step->undo(object, err);

	if (result == 0 && observer->judge)
		result = observer->judge(object, index, walk->direction, err);
	if (result == WALK_WAIT && walk->clock_us() >= deadline_us(walk))
		result = error_set(err, ETIMEDOUT, "%s",
				   walk->direction == WALK_UP && step->late ? step->late
									    : "deadline exceeded");
	return result;
}

static void schedule_retry(struct walk *walk, int64_t now_us)
{
	int64_t delay_ms = WALK_RETRY_FIRST_MS;

	for (unsigned i = 0; i < walk->retries && delay_ms < WALK_RETRY_LAST_MS; i++)
		delay_ms *= 2;
	if (delay_ms > WALK_RETRY_LAST_MS)
		delay_ms = WALK_RETRY_LAST_MS;
	walk->retries++;
	walk->entered_us = 0;
	walk->retry_us = now_us + delay_ms * 1000;
}

// An undo is tried until it succeeds. Going up, a step that stood before the crash gets another
// chance: a passing fault of the agent's must not end what runs well.
static bool may_retry(const struct walk *walk, size_t index, enum walk_direction direction)
{
	if (direction == WALK_DOWN)
		return true;
	return walk->direction == WALK_UP && index < walk->left &&
	       walk->retries < WALK_ADOPT_RETRIES;
}

// One call of one step. False when there is nothing more to do now.
static bool advance_once(struct walk *walk, void *object, const struct walk_observer *observer)
{
	size_t index = present_step(walk);
	enum walk_direction direction = walk->direction;
	struct error err = {0};
	int64_t called_us = walk->clock_us(), now_us;
	struct walk_time time;
	int result;

	if (called_us < walk->retry_us)
		return false;
	if (walk->entered_us == 0)
		enter(walk, called_us);
	result = call_step(walk, object, observer, &err);
	now_us = walk->clock_us();
	walk->own_us += now_us - called_us;
	if (result == WALK_WAIT) {
		walk->retry_us = 0;
		return false;
	}
	time = (struct walk_time){now_us - walk->entered_us, walk->own_us};
	if (result == 0) {
		walk->standing = direction == WALK_UP ? walk->standing + 1 : walk->standing - 1;
		leave(walk);
	} else if (may_retry(walk, index, direction)) {
		schedule_retry(walk, now_us);
	} else {
		walk_turn_down(walk);
	}
	observer->stepped(object, index, direction, &time, result, &err);
	return true;
}

bool walk_advance(struct walk *walk, void *object, const struct walk_observer *observer)
{
	while (!walk_is_up(walk) && !walk_is_down(walk))
		if (!advance_once(walk, object, observer))
			return false;
	return true;
}
