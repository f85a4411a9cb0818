// SPDX-License-Identifier: Apache-2.0
// penstock-init where it does not belong.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/wait.h>

#include "agent/base/process.h"
#include "agent/base/scope.h"

enum { NOBODY = 65534 };

// As a user who may neither mount nor power off: a failure of this test costs nothing.
static void test_by_hand_it_does_nothing(void **state)
{
	static const char *const argv[] = {"/proc/self/fd/3", NULL};
	scoped_fd int program = open(PENSTOCK_INIT, O_RDONLY | O_CLOEXEC);
	const struct spawn_fd fd = {program, 3};
	const struct spawn_options options = {.argv = argv,
					      .fds = &fd,
					      .fd_count = 1,
					      .netns_fd = -1,
					      .drop_identity = true,
					      .uid = NOBODY,
					      .gid = NOBODY};
	scoped(process_close) struct process child = PROCESS_NONE;
	struct error err = {0};
	int status;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(process_spawn(&options, &child, &err), 0);
	assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_by_hand_it_does_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
