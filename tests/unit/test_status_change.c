// SPDX-License-Identifier: Apache-2.0
// What a snapshot means for the record, and how often that is told.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "agent/task/status_change.h"

static struct {
	struct container_spec container_specs[2];
	struct container_health_check check;
	struct task_spec spec;
	struct container_status containers[2];
	struct task_status status;
	struct cell_status before, said;
} world;

static int setup(void **state)
{
	(void)state;
	memset(&world, 0, sizeof(world));
	world.container_specs[0].essential = true;
	world.container_specs[0].health_check = &world.check;
	world.spec.containers = world.container_specs;
	world.status.containers = world.containers;
	world.spec.container_count = world.status.container_count = 2;
	world.containers[0].exit_code = world.containers[1].exit_code = CONTAINER_EXIT_NONE;
	world.said.guest.container_count = 2;
	for (size_t i = 0; i < 2; i++) {
		world.said.guest.containers[i].state = GUEST_CONTAINER_RUNNING;
		world.said.guest.containers[i].started_ms = 1000;
		world.said.guest.containers[i].exit_code = GUEST_EXIT_NONE;
	}
	return 0;
}

static enum status_change take(void)
{
	enum status_change change =
		status_change_take(&world.spec, &world.before, &world.said, &world.status);

	world.before = world.said;
	return change;
}

static void test_kinds(void **state)
{
	struct guest_container_status *web = &world.said.guest.containers[0];

	(void)state;
	assert_int_equal(take(), STATUS_CHANGE_STATE);
	assert_int_equal(world.containers[1].last_status, CONTAINER_RUNNING);
	world.said.requests++;
	assert_int_equal(take(), STATUS_CHANGE_NONE);
	web->health = GUEST_HEALTH_HEALTHY;
	world.said.guest.disk_used_bytes = 1 << 20;
	assert_int_equal(take(), STATUS_CHANGE_HEALTH);
	assert_int_equal(world.status.health, HEALTH_HEALTHY);
	world.said.guest.disk_used_bytes += 1;
	assert_int_equal(take(), STATUS_CHANGE_NONE);
	world.said.guest.disk_used_bytes += 1 << 20;
	assert_int_equal(take(), STATUS_CHANGE_DISK);
	strcpy(web->reason, "restless");
	assert_int_equal(take(), STATUS_CHANGE_HEALTH);
	web->state = GUEST_CONTAINER_STOPPED;
	web->exit_code = 3;
	assert_int_equal(take(), STATUS_CHANGE_STATE);
	assert_int_equal(world.containers[0].exit_code, 3);
}

static void say_container(int state, int exit_code, int64_t started_ms, int64_t finished_ms)
{
	struct guest_container_status *web = &world.said.guest.containers[0];

	web->state = (enum guest_container_state)state;
	web->exit_code = exit_code;
	web->started_ms = started_ms;
	web->finished_ms = finished_ms;
}

// A shim that was taken over says something else each time: little of that is ever recorded.
static void test_states_go_forward_only(void **state)
{
	struct container_status *web = &world.containers[0];
	unsigned recorded = 0;

	(void)state;
	for (int i = 0; i < 300; i++) {
		say_container(i % 3, i % 200, 1000 + i, 2000 + i);
		recorded += take() == STATUS_CHANGE_STATE;
	}
	assert_in_range(recorded, 1, 5);
	assert_int_equal(web->last_status, CONTAINER_STOPPED);
	assert_int_equal(web->exit_code, 2); // of the first STOPPED
	assert_int_equal(web->started_ms, 1000);
	assert_int_equal(web->finished_ms, 2000);
}

// The agent may close a container of a dead guest before it reads the last words of the shim.
static void test_an_exit_code_that_comes_later(void **state)
{
	struct container_status *web = &world.containers[0];

	(void)state;
	*web = (struct container_status){.last_status = CONTAINER_STOPPED,
					 .exit_code = CONTAINER_EXIT_NONE};
	say_container(GUEST_CONTAINER_STOPPED, 7, 1000, 2000);
	assert_int_equal(take(), STATUS_CHANGE_STATE);
	assert_int_equal(web->exit_code, 7);
}

// However often a guest changes its mind, one change and what is left of the others at a sweep.
static void test_a_restless_guest_is_held_back(void **state)
{
	struct status_change_limit limit = {0};
	unsigned told = 0;

	(void)state;
	for (int i = 0; i < 100; i++)
		told += status_change_pass(&limit, STATUS_CHANGE_HEALTH) != STATUS_CHANGE_NONE;
	assert_int_equal(told, 1);
	assert_int_equal(status_change_sweep(&limit), STATUS_CHANGE_HEALTH);
	assert_int_equal(status_change_pass(&limit, STATUS_CHANGE_HEALTH),
			 STATUS_CHANGE_NONE); // the sweep told one
	assert_int_equal(status_change_sweep(&limit), STATUS_CHANGE_HEALTH);
	assert_int_equal(status_change_sweep(&limit), STATUS_CHANGE_NONE);
	assert_int_equal(status_change_pass(&limit, STATUS_CHANGE_HEALTH), STATUS_CHANGE_HEALTH);
}

static void test_the_larger_is_held(void **state)
{
	struct status_change_limit limit = {.spent = true};

	(void)state;
	status_change_pass(&limit, STATUS_CHANGE_HEALTH);
	status_change_pass(&limit, STATUS_CHANGE_DISK);
	assert_int_equal(status_change_sweep(&limit), STATUS_CHANGE_HEALTH);
}

static void test_a_state_is_told_at_once_with_all_that_was_held(void **state)
{
	struct status_change_limit limit = {.spent = true, .held = STATUS_CHANGE_HEALTH};

	(void)state;
	assert_int_equal(status_change_pass(&limit, STATUS_CHANGE_STATE), STATUS_CHANGE_STATE);
	assert_int_equal(status_change_pass(&limit, STATUS_CHANGE_STATE), STATUS_CHANGE_STATE);
	assert_int_equal(status_change_sweep(&limit), STATUS_CHANGE_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_kinds, setup),
		cmocka_unit_test_setup(test_states_go_forward_only, setup),
		cmocka_unit_test_setup(test_an_exit_code_that_comes_later, setup),
		cmocka_unit_test(test_a_restless_guest_is_held_back),
		cmocka_unit_test(test_the_larger_is_held),
		cmocka_unit_test(test_a_state_is_told_at_once_with_all_that_was_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
