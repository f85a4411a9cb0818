// SPDX-License-Identifier: Apache-2.0
// The walk over a table of five recording steps: every step made to fail, to wait, to be
// late, and its undo to fail; in the end nothing stands that should not.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/task/walk.h"

enum { STEPS = 5 };

static struct {
	bool stands[STEPS];
	int apply_result[STEPS], undo_result[STEPS];
	unsigned undone[STEPS];
	size_t failed_step;
	int failed_code;
	struct walk_time time[STEPS];
	int64_t now_us;
	char order[64];
} world;

static int64_t world_clock(void)
{
	return ++world.now_us;
}

static void note(char direction, size_t step)
{
	char text[3] = {direction, (char)('0' + step), '\0'};

	strncat(world.order, text, sizeof(world.order) - 1 - strlen(world.order));
}

static int apply(size_t step, struct error *err)
{
	note('+', step);
	world.stands[step] = true; // even a failing step leaves something behind
	if (world.apply_result[step] < 0)
		return error_set(err, -world.apply_result[step], "step %zu", step);
	return world.apply_result[step];
}

static int undo(size_t step, struct error *err)
{
	note('-', step);
	world.undone[step]++;
	if (world.undo_result[step] < 0)
		return error_set(err, -world.undo_result[step], "undo %zu", step);
	if (world.undo_result[step] == WALK_WAIT)
		return WALK_WAIT;
	world.stands[step] = false;
	return 0;
}

#define STEP(n)                                                                                    \
	static int apply_##n(void *object, struct error *err)                                      \
	{                                                                                          \
		(void)object;                                                                      \
		return apply(n, err);                                                              \
	}                                                                                          \
	static int undo_##n(void *object, struct error *err)                                       \
	{                                                                                          \
		(void)object;                                                                      \
		return undo(n, err);                                                               \
	}
STEP(0)
STEP(1)
STEP(2)
STEP(3)
STEP(4)

static const struct walk_step steps[STEPS] = {
	{"zero", apply_0, undo_0, 0, NULL, 20},       {"one", apply_1, undo_1, 10, "too late", 20},
	{"two", apply_2, undo_2, 10, "too late", 20}, {"three", apply_3, undo_3, 10, NULL, 20},
	{"four", apply_4, undo_4, 10, NULL, 20},
};

static void on_step(void *object, size_t step, enum walk_direction direction,
		    const struct walk_time *time, int result, const struct error *err)
{
	(void)object;
	(void)direction;
	assert_true(time->own_us > 0 && time->own_us <= time->duration_us);
	world.time[step] = *time;
	if (result < 0) {
		world.failed_step = step;
		world.failed_code = err->code;
	}
}

static const struct walk_observer observer = {.stepped = on_step};

static struct walk new_walk(void)
{
	memset(&world, 0, sizeof(world));
	return (struct walk){.steps = steps, .count = STEPS, .clock_us = world_clock};
}

static void assert_nothing_stands(void)
{
	for (size_t i = 0; i < STEPS; i++)
		assert_false(world.stands[i]);
}

static void test_up_and_down(void **state)
{
	struct walk walk = new_walk();

	(void)state;
	assert_true(walk_advance(&walk, NULL, &observer));
	assert_true(walk_is_up(&walk));
	walk_turn_down(&walk);
	assert_true(walk_advance(&walk, NULL, &observer));
	assert_true(walk_is_down(&walk));
	assert_string_equal(world.order, "+0+1+2+3+4-4-3-2-1-0");
	assert_nothing_stands();
}

static void test_each_step_fails(void **state)
{
	(void)state;
	for (size_t failing = 0; failing < STEPS; failing++) {
		struct walk walk = new_walk();

		world.apply_result[failing] = -EIO;
		assert_true(walk_advance(&walk, NULL, &observer));
		assert_true(walk_is_down(&walk));
		assert_int_equal(world.failed_step, failing);
		assert_int_equal(world.failed_code, EIO);
		assert_int_equal(world.undone[failing], 1);
		assert_nothing_stands();
	}
}

static void test_waiting_step_is_called_again(void **state)
{
	struct walk walk = new_walk();

	(void)state;
	world.apply_result[0] = WALK_WAIT; // no deadline
	assert_false(walk_advance(&walk, NULL, &observer));
	assert_int_equal(walk_wake_us(&walk), INT64_MAX);
	world.now_us += 1000000;
	assert_false(walk_advance(&walk, NULL, &observer));
	world.apply_result[0] = 0;
	assert_true(walk_advance(&walk, NULL, &observer));
	assert_string_equal(world.order, "+0+0+0+1+2+3+4");
	assert_true(world.time[0].duration_us > 1000000);
	// Three calls of 1 each, and two looks at the deadline.
	assert_int_equal(world.time[0].own_us, 5);
	assert_int_equal(world.time[1].own_us, 1);
}

static void test_late_step_is_undone(void **state)
{
	struct walk walk = new_walk();

	(void)state;
	world.apply_result[2] = WALK_WAIT;
	assert_false(walk_advance(&walk, NULL, &observer));
	assert_true(walk_wake_us(&walk) > world.now_us);
	world.now_us = walk_wake_us(&walk);
	assert_true(walk_advance(&walk, NULL, &observer));
	assert_int_equal(world.failed_code, ETIMEDOUT);
	assert_string_equal(world.order, "+0+1+2+2-2-1-0");
	assert_nothing_stands();
}

static void test_turned_while_waiting(void **state)
{
	struct walk walk = new_walk();

	(void)state;
	world.apply_result[3] = WALK_WAIT;
	assert_false(walk_advance(&walk, NULL, &observer));
	walk_turn_down(&walk);
	walk_turn_down(&walk);
	assert_true(walk_advance(&walk, NULL, &observer));
	assert_string_equal(world.order, "+0+1+2+3-3-2-1-0");
	assert_nothing_stands();
}

static void test_failing_undo_is_retried_with_the_rest_standing(void **state)
{
	struct walk walk = new_walk();
	int64_t first_wake;

	(void)state;
	walk_advance(&walk, NULL, &observer);
	world.undo_result[2] = -EBUSY;
	walk_turn_down(&walk);
	assert_false(walk_advance(&walk, NULL, &observer));
	assert_true(world.stands[0] && world.stands[1] && world.stands[2]);
	first_wake = walk_wake_us(&walk) - world.now_us;
	assert_false(walk_advance(&walk, NULL, &observer)); // too early: not even asked
	assert_int_equal(world.undone[2], 1);
	world.now_us = walk_wake_us(&walk);
	assert_false(walk_advance(&walk, NULL, &observer));
	assert_int_equal(world.undone[2], 2);
	assert_true(walk_wake_us(&walk) - world.now_us > first_wake);
	world.undo_result[2] = 0;
	world.now_us = walk_wake_us(&walk);
	assert_true(walk_advance(&walk, NULL, &observer));
	assert_nothing_stands();
}

static void test_what_an_earlier_life_left_is_undone(void **state)
{
	struct walk walk = new_walk();

	(void)state;
	walk.left = STEPS;
	walk_turn_down(&walk); // before any step was looked at
	assert_true(walk_advance(&walk, NULL, &observer));
	assert_string_equal(world.order, "-4-3-2-1-0");
	assert_nothing_stands();
}

static void test_a_step_of_an_earlier_life_gets_another_chance(void **state)
{
	struct walk walk = new_walk();

	(void)state;
	walk.left = STEPS;
	world.apply_result[2] = -ENOBUFS;
	assert_false(walk_advance(&walk, NULL, &observer));
	assert_int_equal(walk.direction, WALK_UP);
	world.apply_result[2] = 0;
	world.now_us = walk_wake_us(&walk);
	assert_true(walk_advance(&walk, NULL, &observer));
	assert_true(walk_is_up(&walk));
	assert_string_equal(world.order, "+0+1+2+2+3+4");

	walk = new_walk();
	walk.left = STEPS;
	world.apply_result[2] = -EIO;
	while (!walk_advance(&walk, NULL, &observer))
		world.now_us = walk_wake_us(&walk);
	assert_true(walk_is_down(&walk)); // but not for ever
	assert_nothing_stands();
}

static void test_what_stood_is_looked_at_again(void **state)
{
	struct walk walk = new_walk();

	(void)state;
	world.apply_result[4] = WALK_WAIT;
	assert_false(walk_advance(&walk, NULL, &observer));
	assert_true(walk_waits_at(&walk, 4) && !walk_waits_at(&walk, 3));
	walk_look_again(&walk, 2);
	world.apply_result[2] = -ENOBUFS;
	assert_false(walk_advance(&walk, NULL, &observer));
	assert_int_equal(walk.direction, WALK_UP); // it stood, so it gets another chance
	assert_false(walk_waits_at(&walk, 4) || walk_waits_at(&walk, 2));
	assert_string_equal(world.order, "+0+1+2+3+4+2");
	walk_turn_down(&walk);
	assert_true(walk_advance(&walk, NULL, &observer));
	assert_string_equal(world.order, "+0+1+2+3+4+2-4-3-2-1-0");
	walk_look_again(&walk, 2); // not on the way down
	assert_nothing_stands();
}

static void test_an_undo_that_hangs_is_reported_and_asked_again(void **state)
{
	struct walk walk = new_walk();

	(void)state;
	walk_advance(&walk, NULL, &observer);
	walk_turn_down(&walk);
	world.undo_result[4] = WALK_WAIT;
	assert_false(walk_advance(&walk, NULL, &observer));
	assert_int_equal(world.failed_code, 0);
	world.now_us = walk_wake_us(&walk);
	assert_false(walk_advance(&walk, NULL, &observer));
	assert_int_equal(world.failed_code, ETIMEDOUT);
	world.undo_result[4] = 0;
	world.now_us = walk_wake_us(&walk);
	assert_true(walk_advance(&walk, NULL, &observer));
	assert_nothing_stands();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_up_and_down),
		cmocka_unit_test(test_each_step_fails),
		cmocka_unit_test(test_waiting_step_is_called_again),
		cmocka_unit_test(test_late_step_is_undone),
		cmocka_unit_test(test_turned_while_waiting),
		cmocka_unit_test(test_failing_undo_is_retried_with_the_rest_standing),
		cmocka_unit_test(test_what_an_earlier_life_left_is_undone),
		cmocka_unit_test(test_a_step_of_an_earlier_life_gets_another_chance),
		cmocka_unit_test(test_what_stood_is_looked_at_again),
		cmocka_unit_test(test_an_undo_that_hangs_is_reported_and_asked_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
