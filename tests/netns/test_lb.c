// SPDX-License-Identifier: Apache-2.0
// Load balancing with a real probe, real servers and real packets: tasks in namespaces of
// their own, a client in another, the balancer's rules in the VPC's.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/file.h"
#include "tests/netns/lb_fixture.h"

static void test_balanced(void **state)
{
	int answered[TASKS] = {0};

	(void)state;
	configure(LB_PROTOCOL_HTTP);
	await_healthy(2);
	for (int i = 0; i < 100; i++) {
		int task = ask(client_fd, NULL);

		assert_in_range(task, 0, 1);
		answered[task]++;
	}
	assert_int_equal(answered[0], 50);
	assert_int_equal(answered[1], 50);
	assert_int_equal(shared->servers[0].asked_by, VIP); // checks come from the VIP
	assert_int_equal(status_of(0).http_status, 200);
	assert_true(status_of(0).in_service);
	assert_in_range(status_of(0).check_latency_us, 1, DEADLINE_US);
	// From a task, too, and from the VPC's own namespace.
	assert_in_range(ask(task_fds[2], NULL), 0, 1);
}

static void test_from_the_namespace_itself(void **state)
{
	scoped_fd int vpc_fd = -1;

	(void)state;
	configure(LB_PROTOCOL_TCP);
	await_healthy(1);
	assert_ok(netif_vpc_open(netif, "prod", &vpc_fd, &err), &err);
	assert_int_equal(ask(vpc_fd, NULL), 0);
}

static void test_hairpin(void **state)
{
	(void)state;
	configure(LB_PROTOCOL_TCP);
	await_healthy(1);
	for (int i = 0; i < 5; i++)
		assert_int_equal(ask(task_fds[0], NULL), 0);
	await_healthy(2); // then every other one is to itself
	for (int i = 0; i < 6; i++)
		assert_in_range(ask(task_fds[0], NULL), 0, 1);
}

static void test_resize_under_load(void **state)
{
	pid_t load;

	(void)state;
	configure(LB_PROTOCOL_TCP);
	await_healthy(2);
	load = load_start();
	for (int round = 0; round < 8; round++) {
		register_task(2);
		await(LB_EVENT_TARGET_STATE, "healthy", 2);
		run_until(&shared->servers[2].answered, 5);
		deregister_task(2, -1);
		await(LB_EVENT_TARGET_GONE, NULL, 2);
		run_until(&shared->succeeded, 10);
	}
	load_end(load);
	print_message("%u connections, %u failed\n", shared->succeeded, shared->failed);
	assert_int_equal(shared->failed, 0);
}

static void await_connections(int task, unsigned count)
{
	int64_t deadline_us = clock_monotonic_us() + DEADLINE_US;

	while (status_of(task).open_connections != count) {
		turn(100000, NULL, NULL);
		assert_true(clock_monotonic_us() < deadline_us);
	}
}

static void test_drain(void **state)
{
	scoped_fd int kept = -1, other = -1;
	struct lb_event event;
	char byte = 'x';

	(void)state;
	configure(LB_PROTOCOL_TCP);
	await_healthy(2);
	while (ask(client_fd, &kept) != 0)
		close_fd(&kept);
	deregister_task(0, -1);
	assert_int_equal(status_of(0).state, LB_STATE_DRAINING);
	assert_false(status_of(0).in_service);
	for (int i = 0; i < 10; i++)
		assert_int_equal(ask(client_fd, NULL), 1);
	await_connections(0, 1);
	run_for(400000); // counted several times meanwhile, and still there
	assert_int_equal(status_of(0).open_connections, 1);
	assert_int_equal(send(kept, &byte, 1, MSG_NOSIGNAL), 1); // still there
	wait_for(kept, POLLIN);
	assert_int_equal(recv(kept, &byte, 1, 0), 1);
	assert_int_equal(byte, '0');
	close_fd(&kept);
	event = await(LB_EVENT_TARGET_GONE, NULL, 0);
	assert_int_equal(event.open_connections, 0);
	assert_string_equal(event.target.task_id, "task-0");
	assert_int_equal(lb_target_deregister(lb, "web", &event.target, (struct lb_drain){0}, &err),
			 -ENOENT);

	// The delay is over first.
	assert_int_equal(ask(client_fd, &other), 1);
	deregister_task(1, -1);
	await_connections(1, 1);
	deregister_task(1, 300); // may be shortened
	event = await(LB_EVENT_TARGET_GONE, NULL, 1);
	assert_int_equal(event.open_connections, 1);
}

static void test_drain_is_quick_without_connections(void **state)
{
	int64_t start_us;

	(void)state;
	configure(LB_PROTOCOL_TCP);
	await_healthy(2);
	for (int i = 0; i < 4; i++)
		assert_in_range(ask(client_fd, NULL), 0, 1);
	start_us = clock_monotonic_us();
	deregister_task(0, -1);
	await(LB_EVENT_TARGET_GONE, NULL, 0); // long before its delay is over
	print_message("figure drain_idle %.1f ms\n",
		      (double)(clock_monotonic_us() - start_us) / 1000);
}

static void test_taken_back(void **state)
{
	(void)state;
	configure(LB_PROTOCOL_TCP);
	await_healthy(1);
	deregister_task(0, -1);
	register_task(0);
	await(LB_EVENT_TARGET_STATE, "healthy", 0);
	lb_flush(lb);
	assert_int_equal(ask(client_fd, NULL), 0);
}

static void test_reasons(void **state)
{
	struct lb_group group = group_of(LB_PROTOCOL_HTTP, IMPATIENT_MS);

	(void)state;
	configure(LB_PROTOCOL_HTTP);
	assert_ok(lb_group_ensure(lb, &group, &err), &err);
	shared->servers[1].status = 500;
	shared->servers[2].status = 0;
	for (int i = 0; i < TASKS; i++)
		register_task(i);
	await_unhealthy(1, LB_REASON_RESPONSE_CODE_MISMATCH);
	assert_int_equal(status_of(1).http_status, 500);
	await_state(2, LB_STATE_UNHEALTHY);
	assert_int_equal(status_of(2).reason, LB_REASON_TIMEOUT);
	await_state(0, LB_STATE_HEALTHY); // 1 and 2 have no way back meanwhile
	lb_flush(lb);
	for (int i = 0; i < 4; i++)
		assert_int_equal(ask(client_fd, NULL), 0);

	// Back: the threshold of two passes.
	shared->servers[1].status = 204;
	await(LB_EVENT_TARGET_STATE, "healthy", 1);

	// Nobody listens on the port that is checked: all fail, all are served (fail open).
	group.check.port = CLOSED_PORT;
	assert_ok(lb_group_ensure(lb, &group, &err), &err);
	await_unhealthy(1, LB_REASON_FAILED_HEALTH_CHECKS);
	await_state(0, LB_STATE_UNHEALTHY);
	await_state(2, LB_STATE_UNHEALTHY);
	lb_flush(lb);
	for (int i = 0; i < TASKS; i++)
		assert_true(status_of(i).in_service);
	for (int i = 0; i < 6; i++)
		assert_in_range(ask(client_fd, NULL), 0, TASKS - 1);
}

static void change_another_group(void)
{
	struct lb_group other = group_of(LB_PROTOCOL_TCP, PATIENT_MS);

	snprintf(other.id, sizeof(other.id), "other");
	assert_ok(lb_group_ensure(lb, &other, &err), &err);
	run_for(50000);
	lb_group_remove(lb, other.id);
}

// Whatever becomes of other groups, a target is tested in its turn, and found out when it fails.
static void test_checks_while_other_groups_change(void **state)
{
	struct lb_group group = group_of(LB_PROTOCOL_HTTP, IMPATIENT_MS);
	int64_t deadline_us = clock_monotonic_us() + DEADLINE_US;

	(void)state;
	configure(LB_PROTOCOL_HTTP);
	await_healthy(1);
	shared->servers[0].asked_by = 0;
	for (int i = 0; i < 5; i++)
		change_another_group();
	assert_int_equal(shared->servers[0].asked_by, 0);

	assert_ok(lb_group_ensure(lb, &group, &err), &err);
	shared->servers[0].status = 500;
	while (status_of(0).state != LB_STATE_UNHEALTHY) {
		change_another_group();
		assert_true(clock_monotonic_us() < deadline_us);
	}
}

static void test_unused(void **state)
{
	struct lb_group group = group_of(LB_PROTOCOL_TCP, PATIENT_MS);

	(void)state;
	assert_ok(lb_group_ensure(lb, &group, &err), &err);
	register_task(0);
	run_for(50000);
	assert_int_equal(status_of(0).state, LB_STATE_UNUSED);
	configure(LB_PROTOCOL_TCP);
	await(LB_EVENT_TARGET_STATE, "healthy", 0);
	lb_balancer_remove(lb, "front");
	await(LB_EVENT_TARGET_STATE, "unused", 0);
	assert_int_equal(ask(client_fd, NULL), -1);
}

// The agent is killed and starts again: nothing is interrupted, nothing is forgotten.
static void test_restart(void **state)
{
	struct lb_group group = group_of(LB_PROTOCOL_HTTP, PATIENT_MS);
	pid_t load;

	(void)state;
	configure(LB_PROTOCOL_HTTP);
	await_healthy(2);
	load = load_start();
	run_until(&shared->succeeded, 20);
	lb_close(lb);
	open_lb();
	assert_ok(lb_group_ensure(lb, &group, &err), &err);
	register_task(2); // in another order than before
	register_task(1);
	register_task(0);
	configure(LB_PROTOCOL_HTTP);
	assert_int_equal(status_of(0).state, LB_STATE_HEALTHY);
	assert_int_equal(status_of(1).state, LB_STATE_HEALTHY);
	assert_int_equal(status_of(2).state, LB_STATE_INITIAL);
	lb_flush(lb);
	await(LB_EVENT_TARGET_STATE, "healthy", 2);
	run_until(&shared->servers[2].answered, 5);
	load_end(load);
	assert_int_equal(shared->failed, 0);
}

static bool is_probe(pid_t pid)
{
	scoped_free char *name = NULL;
	struct error ignored;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	return file_read(AT_FDCWD, path, 64, &name, NULL, &ignored) == 0 &&
	       strncmp(name, "penstock-probe", 14) == 0;
}

// Among our children; 0: none.
static pid_t find_probe(void)
{
	scoped_free char *children = NULL;
	char path[64], *place;
	pid_t pid;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	assert_ok(file_read(AT_FDCWD, path, 4096, &children, NULL, &err), &err);
	place = children;
	while ((pid = (pid_t)strtol(place, &place, 10)) > 0)
		if (is_probe(pid))
			return pid;
	return 0;
}

static pid_t await_probe_other_than(pid_t first)
{
	pid_t second = 0;

	while (second == 0 || second == first) {
		turn(50000, NULL, NULL);
		second = find_probe();
	}
	return second;
}

static void test_probe_is_started_again(void **state)
{
	struct lb_group group = group_of(LB_PROTOCOL_HTTP, IMPATIENT_MS);
	pid_t first;

	(void)state;
	configure(LB_PROTOCOL_HTTP);
	await_healthy(1);
	first = find_probe();
	assert_true(first > 0);
	kill(first, SIGKILL);
	await_probe_other_than(first);
	assert_int_equal(status_of(0).state, LB_STATE_HEALTHY); // the past still counts
	shared->servers[0].status = 500;
	assert_ok(lb_group_ensure(lb, &group, &err), &err);
	await(LB_EVENT_TARGET_STATE, "unhealthy", 0);
}

// A child of the agent that was only forked holds every descriptor for a while: what it keeps of a
// probe that ended says nothing about the next one.
static void test_the_end_of_a_probe_is_heard_once(void **state)
{
	pid_t holder, first, second;

	(void)state;
	configure(LB_PROTOCOL_TCP);
	await_healthy(1);
	first = find_probe();
	holder = fork_child();
	if (holder == 0)
		pause();
	kill(first, SIGKILL);
	second = await_probe_other_than(first);
	run_for(1500000); // longer than an ended probe is waited with
	assert_int_equal(find_probe(), second);
	end_child(holder);
}

// The probe has no identity to speak of.
static void test_probe_is_confined(void **state)
{
	char path[64], line[256];
	bool no_capabilities = false, no_new_privileges = false, unprivileged = false;
	FILE *file;

	(void)state;
	configure(LB_PROTOCOL_TCP);
	await_healthy(1);
	snprintf(path, sizeof(path), "/proc/%d/status", find_probe());
	file = fopen(path, "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		no_capabilities |= strcmp(line, "CapEff:\t0000000000000000\n") == 0;
		no_new_privileges |= strcmp(line, "NoNewPrivs:\t1\n") == 0;
		unprivileged |= strcmp(line, "Uid:\t65534\t65534\t65534\t65534\n") == 0;
	}
	fclose(file);
	assert_true(no_capabilities);
	assert_true(no_new_privileges);
	assert_true(unprivileged);
}

static void test_groups_come_and_go(void **state)
{
	struct lb_group group = group_of(LB_PROTOCOL_TCP, PATIENT_MS);

	(void)state;
	configure(LB_PROTOCOL_TCP);
	await_healthy(2);
	for (int i = 0; i < 3; i++) {
		snprintf(group.id, sizeof(group.id), "spare-%d", i);
		assert_ok(lb_group_ensure(lb, &group, &err), &err);
	}
	lb_flush(lb);
	for (int i = 0; i < 3; i++) {
		snprintf(group.id, sizeof(group.id), "spare-%d", i);
		lb_group_remove(lb, group.id);
	}
	lb_flush(lb);
	assert_int_equal(lb_next_deadline_us(lb), INT64_MAX);
	assert_in_range(ask(client_fd, NULL), 0, 1);
}

// Many come at once, go, and come again: the probe's numbers suffice.
static void test_many_targets(void **state)
{
	(void)state;
	for (int round = 0; round < 3; round++) {
		configure(LB_PROTOCOL_TCP);
		for (int i = 0; i < 40; i++) {
			struct lb_target target = target_of(0);

			target.port = (uint16_t)(PORT + i); // nobody listens but on the first
			assert_ok(lb_target_register(lb, "web", &target, &err), &err);
		}
		await_state(0, LB_STATE_HEALTHY);
		lb_group_remove(lb, "web");
		lb_flush(lb);
	}
}

#define LB_TEST(name) cmocka_unit_test_setup_teardown(name, lb_setup, lb_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LB_TEST(test_balanced),
		LB_TEST(test_from_the_namespace_itself),
		LB_TEST(test_hairpin),
		LB_TEST(test_resize_under_load),
		LB_TEST(test_drain),
		LB_TEST(test_drain_is_quick_without_connections),
		LB_TEST(test_taken_back),
		LB_TEST(test_reasons),
		LB_TEST(test_checks_while_other_groups_change),
		LB_TEST(test_unused),
		LB_TEST(test_restart),
		LB_TEST(test_probe_is_started_again),
		LB_TEST(test_the_end_of_a_probe_is_heard_once),
		LB_TEST(test_probe_is_confined),
		LB_TEST(test_groups_come_and_go),
		LB_TEST(test_many_targets),
	};

	signal(SIGPIPE, SIG_IGN);
	sandbox_enter();
	return cmocka_run_group_tests(tests, house_build, house_raze);
}
