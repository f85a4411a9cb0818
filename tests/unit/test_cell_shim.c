// SPDX-License-Identifier: Apache-2.0
// A real shim, driven over its socket; its VMM is a shell.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/file.h"
#include "agent/base/scope.h"
#include "cell_fixture.h"

static void test_launch_and_exit_status(void **state)
{
	struct fixture *fixture = fixture_of(state);
	const char *const argv[] = {"/bin/sh", "-c", "echo hello; id -u; exit 7", NULL};
	struct cell_status saved;
	struct error err = {0};
	char expected[64];

	fixture_launch(fixture, argv, 0);
	fixture_wait(fixture, vmm_has_exited);
	assert_int_equal(fixture->status.vmm_exit_code, 7);
	assert_string_equal(fixture->status.vmm_failure, "");
	assert_true(fixture->status.vmm_exited_ms >= fixture->status.vmm_started_ms);
	assert_int_equal(cell_status_read(&fixture->cell, &saved, &err), 0);
	assert_int_equal(saved.vmm, VMM_EXITED);
	assert_int_equal(saved.vmm_exit_code, 7);
	snprintf(expected, sizeof(expected), "hello\n%d\n", FIXTURE_UID);
	assert_string_equal(fixture_console(fixture), expected);
}

static void test_attached_descriptors_reach_the_vmm(void **state)
{
	struct fixture *fixture = fixture_of(state);
	const struct shim_slot slots[] = {{VMM_ATTACH_DISK_READ, 0}, {VMM_ATTACH_IMAGE, 9}};
	static struct vmm_launch launch;
	struct error err = {0};
	int pipes[2][2], fds[2];

	for (int i = 0; i < 2; i++) {
		assert_int_equal(pipe2(pipes[i], O_CLOEXEC), 0);
		assert_int_equal(write(pipes[i][1], i == 0 ? "disk" : "image", 5), 5);
		close(pipes[i][1]);
		fds[i] = pipes[i][0];
	}
	assert_int_equal(shim_attach(fixture->channel_fd, slots, fds, 2, &err), 0);
	close(fds[0]);
	close(fds[1]);
	launch = (struct vmm_launch){
		.fd_count = 2, .fds = {{VMM_ATTACH_DISK_READ, 0, 3}, {VMM_ATTACH_IMAGE, 9, 4}}};
	memcpy(launch.arguments, "/bin/sh\0-c\0cat <&3; cat <&4; ls /proc/self/fd | wc -l", 54);
	launch.argument_bytes = 54;
	launch.argument_count = 3;
	assert_int_equal(shim_launch(fixture->channel_fd, &launch, &err), 0);
	fixture_wait(fixture, vmm_has_exited);
	assert_int_equal(fixture->status.attached, shim_slot_bit(VMM_ATTACH_DISK_READ, 0) |
							   shim_slot_bit(VMM_ATTACH_IMAGE, 9));
	// 0-4 and the directory that ls reads: nothing of the shim's leaked.
	assert_memory_equal(fixture_console(fixture), "disk\0image6\n", 12);
}

static void test_missing_attachment(void **state)
{
	struct fixture *fixture = fixture_of(state);
	static struct vmm_launch launch;
	struct error err = {0};

	launch = (struct vmm_launch){.fd_count = 1, .fds = {{VMM_ATTACH_IMAGE, 3, 3}}};
	memcpy(launch.arguments, "/bin/true", 10);
	launch.argument_bytes = 10;
	launch.argument_count = 1;
	assert_int_equal(shim_launch(fixture->channel_fd, &launch, &err), 0);
	fixture_wait(fixture, vmm_has_exited);
	assert_non_null(strstr(fixture->status.vmm_failure, "attachment 4.3 is missing"));
}

static void test_missing_program(void **state)
{
	struct fixture *fixture = fixture_of(state);
	const char *const argv[] = {"/nonexistent/vmm", NULL};

	fixture_launch(fixture, argv, 0);
	fixture_wait(fixture, vmm_has_exited);
	assert_non_null(strstr(fixture->status.vmm_failure, "/nonexistent/vmm"));
	assert_int_equal(fixture->status.vmm_exit_code, 127);
}

static void test_kill(void **state)
{
	struct fixture *fixture = fixture_of(state);
	struct error err = {0};

	fixture_launch(fixture, fixture_sleeper, 0);
	fixture_wait(fixture, vmm_is_running);
	assert_int_equal(shim_kill(fixture->channel_fd, &err), 0);
	fixture_wait(fixture, vmm_has_exited);
	assert_int_equal(fixture->status.vmm_exit_code, 128 + SIGKILL);
}

static void test_kill_before_launch(void **state)
{
	struct fixture *fixture = fixture_of(state);
	const struct shim_slot slot = {VMM_ATTACH_KERNEL, 0};
	scoped_fd int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct error err = {0};

	assert_int_equal(shim_kill(fixture->channel_fd, &err), 0);
	fixture_launch(fixture, fixture_sleeper, 0);
	assert_int_equal(shim_attach(fixture->channel_fd, &slot, &null, 1, &err), 0);
	do
		fixture_wait(fixture, cell_is_anything);
	while (fixture->status.attached == 0);
	assert_int_equal(fixture->status.vmm, VMM_NOT_STARTED);
}

// A VMM that speaks QMP, played by a shell: it ends with 5 when its power button is pressed.
static const char power_button_script[] =
	"/bin/sh\0-c\0"
	"echo '{\"QMP\": {}}' >&3; read greeting <&3; echo '{\"return\": {}}' >&3; read command "
	"<&3; "
	"case $command in *system_powerdown*) exit 5;; esac; exit 6";

static void test_stop_presses_the_power_button(void **state)
{
	struct fixture *fixture = fixture_of(state);
	static struct vmm_launch launch;
	struct error err = {0};

	launch = (struct vmm_launch){.argument_bytes = sizeof(power_button_script),
				     .argument_count = 3,
				     .fd_count = 1,
				     .fds = {{VMM_ATTACH_QMP, 0, 3}},
				     .wants_qmp = true};
	memcpy(launch.arguments, power_button_script, sizeof(power_button_script));
	assert_int_equal(shim_launch(fixture->channel_fd, &launch, &err), 0);
	fixture_wait(fixture, vmm_is_running);
	assert_int_equal(shim_stop(fixture->channel_fd, &err), 0);
	fixture_wait(fixture, vmm_has_exited);
	assert_int_equal(fixture->status.vmm_exit_code, 5);
	assert_int_equal(fixture->status.stop_requested, 1);
}

static void test_second_launch_is_ignored(void **state)
{
	struct fixture *fixture = fixture_of(state);
	const char *const argv[] = {"/bin/sh", "-c", "exit 1", NULL};
	struct error err = {0};

	fixture_launch(fixture, fixture_sleeper, 0);
	fixture_launch(fixture, argv, 0);
	assert_int_equal(shim_kill(fixture->channel_fd, &err), 0);
	fixture_wait(fixture, vmm_has_exited);
	assert_int_equal(fixture->status.vmm_exit_code, 128 + SIGKILL);
	assert_int_equal(fixture->status.boots, 1);
}

// A guest that never speaks is started once more, then given up.
static void test_hanging_boot(void **state)
{
	struct fixture *fixture = fixture_of(state);

	fixture_launch(fixture, fixture_sleeper, 100);
	fixture_wait(fixture, vmm_has_exited);
	assert_int_equal(fixture->status.boots, 2);
	assert_non_null(strstr(fixture->status.vmm_failure, "did not speak within 100 ms"));
}

// A VMM may signal its shim: that is the end of the cell, and of the VMM.
static void test_a_vmm_that_kills_its_shim_dies_with_it(void **state)
{
	struct fixture *fixture = fixture_of(state);
	const char *const argv[] = {"/bin/sh", "-c", "kill -KILL $PPID; exec sleep 60", NULL};
	struct pollfd ended = {.fd = fixture->shim.pidfd, .events = POLLIN};
	struct cell_status status;
	struct error err = {0};
	bool empty = false;
	int result;

	fixture_launch(fixture, argv, 0);
	assert_int_equal(poll(&ended, 1, FIXTURE_WAIT_MS), 1);
	waitpid(fixture->shim.pid, NULL, 0);
	while (!empty)
		assert_int_equal(cgroup_is_empty(&fixture->tree, "t-1", &empty, &err), 0);
	do
		result = cell_status_receive(fixture->channel_fd, &status, &err);
	while (result == 1);
	assert_int_equal(result, 0);
	// How the VMM ended nobody saw: the file says what was so before.
	assert_int_equal(cell_status_read(&fixture->cell, &status, &err), 0);
	assert_int_not_equal(status.vmm, VMM_EXITED);
}

static void test_exit_takes_the_vmm_along(void **state)
{
	struct fixture *fixture = fixture_of(state);
	struct cell_status saved;
	struct error err = {0};

	fixture_launch(fixture, fixture_sleeper, 0);
	fixture_wait(fixture, vmm_is_running);
	assert_int_equal(shim_exit(fixture->channel_fd, &err), 0);
	fixture_wait_fd(fixture->shim.pidfd, POLLIN);
	waitpid(fixture->shim.pid, NULL, 0);
	fixture_wait_empty(fixture);
	assert_int_equal(cell_status_read(&fixture->cell, &saved, &err), 0);
	assert_int_equal(saved.vmm, VMM_RUNNING); // its last word
}

static void test_unreleased_shim_ends(void **state)
{
	struct fixture *fixture = fixture_of(state);
	struct cell_shim_options options = {.shim_path = PENSTOCK_SHIM, .log_max_mib = 1};
	scoped(process_close) struct process shim = PROCESS_NONE;
	struct error err = {0};
	scoped_fd int channel = -1;
	int status;

	assert_int_equal(cell_shim_spawn(&fixture->cell, &options, &shim, &channel, &err), 0);
	close_fd(&shim.gate_fd); // the agent dies before it has recorded it
	assert_int_equal(waitpid(shim.pid, &status, 0), shim.pid);
	assert_true(WIFEXITED(status));
}

// A shim that died is replaced: nothing that it said counts, its log is kept.
static void test_second_shim_starts_fresh(void **state)
{
	struct fixture *fixture = fixture_of(state);
	struct cell_status saved;
	struct error err = {0};

	fixture_launch(fixture, fixture_sleeper, 0);
	fixture_wait(fixture, vmm_is_running);
	fixture_kill(fixture);
	waitpid(fixture->shim.pid, NULL, 0);
	close_fd(&fixture->channel_fd);
	process_close(&fixture->shim);
	assert_int_equal(cell_status_read(&fixture->cell, &saved, &err), 0);
	fixture_start(fixture);
	fixture_wait(fixture, cell_is_anything);
	assert_int_equal(fixture->status.vmm, VMM_NOT_STARTED);
	assert_int_equal(cell_status_read(&fixture->cell, &saved, &err), 0);
	assert_int_equal(saved.vmm, VMM_NOT_STARTED);
}

static void test_status_file_is_not_trusted(void **state)
{
	struct fixture *fixture = fixture_of(state);
	struct cell_status status;
	struct error err = {0};
	scoped_fd int cell_fd = -1;
	int log = -1;

	assert_int_equal(cell_directory_open(&fixture->cell, &cell_fd, &err), 0);
	fixture_wait(fixture, cell_is_anything); // by now the shim has saved its first status
	assert_int_equal(cell_status_read(&fixture->cell, &status, &err), 0);
	unlinkat(cell_fd, "shim/status", 0);
	assert_int_equal(cell_status_read(&fixture->cell, &status, &err), -ENOENT);
	assert_int_equal(symlinkat("/etc/passwd", cell_fd, "shim/status"), 0);
	assert_int_equal(cell_status_read(&fixture->cell, &status, &err), -ELOOP);
	unlinkat(cell_fd, "shim/status", 0);
	assert_int_equal(mkfifoat(cell_fd, "shim/status", 0600), 0);
	assert_int_equal(cell_status_read(&fixture->cell, &status, &err), -EPERM);
	unlinkat(cell_fd, "shim/status", 0);
	assert_int_equal(file_write_atomic(cell_fd, "shim/status", "short", 5, 0600, &err), 0);
	assert_int_equal(cell_status_read(&fixture->cell, &status, &err), -EBADMSG);
	assert_int_equal(linkat(cell_fd, "shim/status", cell_fd, "logs/web.log", 0), 0);
	assert_int_equal(cell_log_open(&fixture->cell, "web", false, &log, &err), -EPERM);
	assert_int_equal(cell_log_open(&fixture->cell, "../manifest", false, &log, &err), -EINVAL);
}

static void test_list_and_remains(void **state)
{
	struct fixture *fixture = fixture_of(state);
	scoped(arena_release) struct arena arena = {0};
	struct cell_remains remains;
	struct error err = {0};
	const char **tasks;
	size_t count;

	assert_int_equal(
		cell_list(&fixture->tree, fixture->state_directory, &arena, &tasks, &count, &err),
		0);
	assert_int_equal(count, 1);
	assert_string_equal(tasks[0], "t-1");
	assert_int_equal(cell_remains(&fixture->cell, &remains, &err), 0);
	assert_true(remains.directory && remains.cgroup && remains.populated);
	assert_int_equal(cell_directory_ensure(&fixture->cell, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CELL_TEST(test_launch_and_exit_status),
		CELL_TEST(test_attached_descriptors_reach_the_vmm),
		CELL_TEST(test_missing_attachment),
		CELL_TEST(test_missing_program),
		CELL_TEST(test_kill),
		CELL_TEST(test_kill_before_launch),
		CELL_TEST(test_stop_presses_the_power_button),
		CELL_TEST(test_second_launch_is_ignored),
		CELL_TEST(test_hanging_boot),
		CELL_TEST(test_a_vmm_that_kills_its_shim_dies_with_it),
		CELL_TEST(test_exit_takes_the_vmm_along),
		CELL_TEST(test_unreleased_shim_ends),
		CELL_TEST(test_second_shim_starts_fresh),
		CELL_TEST(test_status_file_is_not_trusted),
		CELL_TEST(test_list_and_remains),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
