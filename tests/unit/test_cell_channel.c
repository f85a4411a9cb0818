// SPDX-License-Identifier: Apache-2.0
// The socket between agent and shim: taken up again, replaced, abused, left unread.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/scope.h"
#include "cell_fixture.h"

static void test_agent_reconnects(void **state)
{
	struct fixture *fixture = fixture_of(state);
	scoped(process_close) struct process adopted = PROCESS_NONE;
	struct error err = {0};
	int first = fixture->channel_fd;

	fixture_launch(fixture, fixture_sleeper, 0);
	fixture_wait(fixture, vmm_is_running);
	close_fd(&first); // the agent died
	assert_int_equal(cell_adopt(&fixture->cell, fixture->shim.pid, fixture->shim.start_time,
				    &adopted, &fixture->channel_fd, &err),
			 0);
	assert_int_equal(adopted.pid, fixture->shim.pid);
	fixture_wait(fixture, vmm_is_running);
	assert_int_equal(shim_kill(fixture->channel_fd, &err), 0);
	fixture_wait(fixture, vmm_has_exited);
}

static void test_newer_connection_replaces_older(void **state)
{
	struct fixture *fixture = fixture_of(state);
	scoped(process_close) struct process adopted = PROCESS_NONE;
	scoped_fd int newer = -1;
	struct error err = {0};

	fixture_wait(fixture, cell_is_anything);
	assert_int_equal(cell_adopt(&fixture->cell, fixture->shim.pid, fixture->shim.start_time,
				    &adopted, &newer, &err),
			 0);
	fixture_wait_closed(fixture->channel_fd);
}

static void test_adoption_doubts(void **state)
{
	struct fixture *fixture = fixture_of(state);
	scoped(process_close) struct process adopted = PROCESS_NONE;
	struct error err = {0};
	uint64_t start_time;
	int fd = -1;

	fixture_wait(fixture, cell_is_anything);
	assert_int_equal(cell_adopt(&fixture->cell, fixture->shim.pid, fixture->shim.start_time + 1,
				    &adopted, &fd, &err),
			 -ESRCH);
	assert_int_equal(process_start_time(getpid(), &start_time), 0);
	assert_int_equal(cell_adopt(&fixture->cell, getpid(), start_time, &adopted, &fd, &err),
			 -ESRCH); // lives, but not in this cgroup
	fixture_kill(fixture);
	waitpid(fixture->shim.pid, NULL, 0);
	assert_int_equal(cell_adopt(&fixture->cell, fixture->shim.pid, fixture->shim.start_time,
				    &adopted, &fd, &err),
			 -ESRCH);
	assert_int_equal(fd, -1);
}

static void test_too_many_open_files_do_not_mean_gone(void **state)
{
	int next_fd =
		open("/dev/null",
		     O_RDONLY | O_CLOEXEC); // the first free one: for the pidfd, but for no more
	struct rlimit all, few;
	uint64_t start_time;

	(void)state;
	assert_int_equal(process_start_time(getpid(), &start_time), 0);
	close(next_fd);
	getrlimit(RLIMIT_NOFILE, &all);
	few = (struct rlimit){(rlim_t)next_fd + 1, all.rlim_max};
	setrlimit(RLIMIT_NOFILE, &few);
	assert_int_equal(process_open(getpid(), start_time), -EMFILE);
	setrlimit(RLIMIT_NOFILE, &all);
}

static void test_malformed_messages_are_refused(void **state)
{
	struct fixture *fixture = fixture_of(state);
	scoped(process_close) struct process adopted = PROCESS_NONE;
	struct error err = {0};
	int first = fixture->channel_fd;

	fixture_wait(fixture, cell_is_anything);
	assert_int_equal(send(first, "short", 5, MSG_NOSIGNAL), 5);
	fixture_wait_closed(first);
	close_fd(&first);
	// The shim itself goes on.
	assert_int_equal(cell_adopt(&fixture->cell, fixture->shim.pid, fixture->shim.start_time,
				    &adopted, &fixture->channel_fd, &err),
			 0);
	fixture_wait(fixture, cell_is_anything);
}

static void test_slow_agent_gets_the_latest(void **state)
{
	struct fixture *fixture = fixture_of(state);
	const struct shim_slot slot = {VMM_ATTACH_KERNEL, 0};
	scoped_fd int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct error err = {0};
	unsigned sent = 0;

	// Far more changes than snapshots fit the socket; none is read meanwhile.
	while (sent < 500) {
		int result = shim_attach(fixture->channel_fd, &slot, &null, 1, &err);

		if (result == -EAGAIN)
			fixture_wait_fd(fixture->channel_fd, POLLOUT);
		else
			sent += result == 0;
	}
	fixture_launch(fixture, fixture_sleeper, 0);
	fixture_wait(fixture, vmm_is_running);
	assert_true(fixture->status.revision >= 501);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CELL_TEST(test_agent_reconnects),
		CELL_TEST(test_newer_connection_replaces_older),
		CELL_TEST(test_adoption_doubts),
		cmocka_unit_test(test_too_many_open_files_do_not_mean_gone),
		CELL_TEST(test_malformed_messages_are_refused),
		CELL_TEST(test_slow_agent_gets_the_latest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
