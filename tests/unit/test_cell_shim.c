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
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/file.h"
#include "agent/base/scope.h"
#include "cell_fixture.h"

static char *read_from(int fd)
{
	static char text[65536];
	ssize_t count = read(fd, text, sizeof(text) - 1);

	text[count < 0 ? 0 : count] = '\0';
	return text;
}

static void test_launch_and_exit_status(void **state)
{
	struct fixture *fixture = fixture_of(state);
	const char *const argv[] = {"/bin/sh", "-c", "echo hello; id -u; exit 7", NULL};
	struct cell_status saved;
	struct error err = {0};
	scoped_fd int console = -1;
	char expected[64];

	fixture_launch(fixture, argv, 0);
	fixture_wait(fixture, vmm_has_exited);
	assert_int_equal(fixture->status.vmm_exit_code, 7);
	assert_string_equal(fixture->status.vmm_failure, "");
	assert_true(fixture->status.vmm_exited_ms >= fixture->status.vmm_started_ms);
	assert_int_equal(cell_status_read(&fixture->cell, &saved, &err), 0);
	assert_int_equal(saved.vmm, VMM_EXITED);
	assert_int_equal(saved.vmm_exit_code, 7);
	assert_int_equal(cell_log_open(&fixture->cell, NULL, false, &console, &err), 0);
	snprintf(expected, sizeof(expected), "hello\n%d\n", FIXTURE_UID);
	assert_string_equal(read_from(console), expected);
}

static void test_attached_descriptors_reach_the_vmm(void **state)
{
	struct fixture *fixture = fixture_of(state);
	const struct shim_slot slots[] = {{VMM_ATTACH_DISK_READ, 0}, {VMM_ATTACH_IMAGE, 9}};
	static struct vmm_launch launch;
	scoped_fd int console = -1;
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
	assert_int_equal(cell_log_open(&fixture->cell, NULL, false, &console, &err), 0);
	// 0-4 and the directory that ls reads: nothing of the shim's leaked.
	assert_memory_equal(read_from(console), "disk\0image6\n", 12);
}

// Its descriptor does not let a VMM grow its disk.
static void test_a_vmm_writes_no_further_than_its_disk(void **state)
{
	static const char script[] = "/bin/sh\0-c\0head -c 8192 /dev/urandom >&3 && echo full; "
				     "head -c 1 /dev/urandom >&3; exit $?";
	const struct shim_slot slot = {VMM_ATTACH_DISK_WRITE, 0};
	struct fixture *fixture = fixture_of(state);
	static struct vmm_launch launch;
	scoped_fd int disk = memfd_create("disk", MFD_CLOEXEC), console = -1;
	struct error err = {0};
	struct stat status;

	assert_int_equal(ftruncate(disk, 8192), 0);
	assert_int_equal(shim_attach(fixture->channel_fd, &slot, &disk, 1, &err), 0);
	launch = (struct vmm_launch){.argument_bytes = sizeof(script),
				     .argument_count = 3,
				     .fd_count = 1,
				     .fds = {{VMM_ATTACH_DISK_WRITE, 0, 3}},
				     .drop_identity = true};
	memcpy(launch.arguments, script, sizeof(script));
	assert_int_equal(shim_launch(fixture->channel_fd, &launch, &err), 0);
	fixture_wait(fixture, vmm_has_exited);
	assert_int_equal(fixture->status.vmm_exit_code, 128 + SIGXFSZ);
	assert_int_equal(fstat(disk, &status), 0);
	assert_int_equal(status.st_size, 8192);
	assert_int_equal(cell_log_open(&fixture->cell, NULL, false, &console, &err), 0);
	assert_memory_equal(read_from(console), "full\n", 5);
}

// The netns driver: the shim stays root and makes namespaces; LINK is the task's network namespace.
static int open_root_cell(void **state)
{
	static struct fixture fixture;

	*state = NULL;
	if (!fixture_possible())
		return 0;
	fixture_open(&fixture, "netns");
	fixture.cell.uid = fixture.cell.gid = 0;
	assert_int_equal(cell_directory_ensure(&fixture.cell, &(struct error){0}), 0);
	fixture_write_manifest(&fixture);
	fixture_start(&fixture);
	*state = &fixture;
	return 0;
}

static void test_namespaces(void **state)
{
	static const char script[] = "/bin/sh\0-c\0echo $$; readlink /proc/self/ns/net";
	struct fixture *fixture = fixture_of(state);
	const struct shim_slot slot = {VMM_ATTACH_LINK, 0};
	scoped_fd int netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), console = -1;
	static struct vmm_launch launch;
	char link[64] = {0}, expected[128];
	struct error err = {0};

	launch = (struct vmm_launch){.namespaces = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS |
						   CLONE_NEWIPC,
				     .enter_link = true,
				     .argument_bytes = sizeof(script),
				     .argument_count = 3};
	memcpy(launch.arguments, script, sizeof(script));
	assert_true(readlink("/proc/self/ns/net", link, sizeof(link) - 1) > 0);
	assert_int_equal(shim_attach(fixture->channel_fd, &slot, &netns, 1, &err), 0);
	assert_int_equal(shim_launch(fixture->channel_fd, &launch, &err), 0);
	fixture_wait(fixture, vmm_has_exited);
	assert_int_equal(fixture->status.vmm_exit_code, 0);
	assert_int_equal(cell_log_open(&fixture->cell, NULL, false, &console, &err), 0);
	snprintf(expected, sizeof(expected), "1\n%s\n", link); // pid 1 of its own
	assert_string_equal(read_from(console), expected);
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

static void test_shim_is_confined(void **state)
{
	struct fixture *fixture = fixture_of(state);
	char path[64];
	scoped_free char *status = NULL;
	struct stat memory;
	struct error err = {0};

	fixture_launch(fixture, fixture_sleeper, 0);
	fixture_wait(fixture, vmm_is_running);
	snprintf(path, sizeof(path), "/proc/%d/status", fixture->shim.pid);
	assert_int_equal(file_read(AT_FDCWD, path, 65536, &status, NULL, &err), 0);
	assert_non_null(strstr(status, "Uid:\t71234\t71234\t71234\t71234"));
	assert_non_null(strstr(status, "CapEff:\t0000000000000000"));
	assert_non_null(strstr(status, "NoNewPrivs:\t1"));
	snprintf(path, sizeof(path), "/proc/%d/mem", fixture->shim.pid);
	assert_int_equal(stat(path, &memory), 0);
	assert_int_equal(memory.st_uid, 0); // not dumpable: its /proc files are root's
	print_message("%.*s\n", (int)strcspn(strstr(status, "VmRSS"), "\n"),
		      strstr(status, "VmRSS"));
}

// All that a VMM may reach is what it was handed: not even the host's loopback.
static void test_vmm_has_no_network(void **state)
{
	struct fixture *fixture = fixture_of(state);
	const char *const argv[] = {"/bin/sh", "-c", "tail -n +3 /proc/self/net/dev | cut -d: -f1",
				    NULL};
	scoped_fd int console = -1;
	struct error err = {0};

	fixture_launch(fixture, argv, 0);
	fixture_wait(fixture, vmm_has_exited);
	assert_int_equal(cell_log_open(&fixture->cell, NULL, false, &console, &err), 0);
	assert_string_equal(read_from(console), "    lo\n");
}

static char *read_console(const struct fixture *fixture)
{
	scoped_fd int console = -1;
	struct error err = {0};

	assert_int_equal(cell_log_open(&fixture->cell, NULL, false, &console, &err), 0);
	return read_from(console);
}

// Nothing of the host's but programs; no other process; nowhere to write.
static void test_vmm_has_no_files(void **state)
{
	static const char script[] = "echo / /*; echo /dev/*; "
				     "cat /etc/passwd; cat /proc/1/cmdline; cat /proc/cpuinfo; "
				     "echo >/x; echo >/dev/x; echo >/usr/x; echo ok >/dev/null; "
				     "head -c 4 /dev/urandom | wc -c";
	const char *const argv[] = {"/bin/sh", "-c", script, NULL};
	struct fixture *fixture = fixture_of(state);
	const char *text;

	fixture_launch(fixture, argv, 0);
	fixture_wait(fixture, vmm_has_exited);
	text = read_console(fixture);
	assert_non_null(strstr(text, "/ /bin /dev /lib /lib64 /proc /usr\n"));
	assert_non_null(strstr(text, "/dev/null /dev/urandom\n"));
	assert_null(strstr(text, "kvm"));
	assert_non_null(strstr(text, "/etc/passwd: No such file"));
	assert_non_null(strstr(text, "/proc/1/cmdline: No such file"));
	assert_non_null(strstr(text, "/proc/cpuinfo: No such file"));
	assert_non_null(strstr(text, "create /x: Read-only"));
	assert_non_null(strstr(text, "create /dev/x: Read-only"));
	assert_non_null(strstr(text, "create /usr/x: Read-only"));
	assert_non_null(strstr(text, "\n4\n"));
}

// A host with KVM, whether this one has it or not: only the node is looked at.
static int open_kvm_cell(void **state)
{
	static struct fixture fixture;

	*state = NULL;
	if (!fixture_possible())
		return 0;
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	assert_int_equal(mount("test", "/dev", "tmpfs", 0, NULL), 0);
	assert_int_equal(mknod("/dev/null", S_IFCHR | 0666, makedev(1, 3)), 0);
	assert_int_equal(mknod("/dev/urandom", S_IFCHR | 0666, makedev(1, 9)), 0);
	assert_int_equal(mknod("/dev/kvm", S_IFCHR | 0600, makedev(10, 232)), 0);
	fixture_open(&fixture, "kvm");
	fixture.kvm = true;
	fixture_write_manifest(&fixture);
	fixture_start(&fixture);
	*state = &fixture;
	return 0;
}

static void test_kvm_is_the_vmms_own(void **state)
{
	const char *const argv[] = {"/bin/sh", "-c", "stat -c '%u %a %t:%T' /dev/kvm", NULL};
	struct fixture *fixture = fixture_of(state);
	char expected[64];

	fixture_launch(fixture, argv, 0);
	fixture_wait(fixture, vmm_has_exited);
	snprintf(expected, sizeof(expected), "%d 600 a:e8\n", FIXTURE_UID);
	assert_string_equal(read_console(fixture), expected);
}

static void test_vmm_has_no_shared_memory(void **state)
{
	const char *const argv[] = {"/bin/sh", "-c", "readlink /proc/self/ns/ipc", NULL};
	struct fixture *fixture = fixture_of(state);
	char ours[64] = {0};

	assert_true(readlink("/proc/self/ns/ipc", ours, sizeof(ours) - 1) > 0);
	fixture_launch(fixture, argv, 0);
	fixture_wait(fixture, vmm_has_exited);
	assert_memory_equal(read_console(fixture), "ipc:[", 5);
	assert_null(strstr(read_console(fixture), ours));
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
	result = cell_status_read(&fixture->cell, &status, &err);
	assert_true(result == -ENOENT || (result == 0 && status.vmm == VMM_RUNNING));
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
	assert_int_equal(cell_status_read(&fixture->cell, &saved, &err), -ENOENT);
	fixture_wait(fixture, cell_is_anything);
	assert_int_equal(fixture->status.vmm, VMM_NOT_STARTED);
}

static void test_status_file_is_not_trusted(void **state)
{
	struct fixture *fixture = fixture_of(state);
	struct cell_status status;
	struct error err = {0};
	scoped_fd int cell_fd = -1;
	int log = -1;

	assert_int_equal(cell_directory_open(&fixture->cell, &cell_fd, &err), 0);
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
		CELL_TEST(test_a_vmm_writes_no_further_than_its_disk),
		CELL_TEST(test_missing_attachment),
		CELL_TEST(test_missing_program),
		CELL_TEST(test_kill),
		CELL_TEST(test_kill_before_launch),
		CELL_TEST(test_stop_presses_the_power_button),
		CELL_TEST(test_second_launch_is_ignored),
		CELL_TEST(test_hanging_boot),
		CELL_TEST(test_shim_is_confined),
		CELL_TEST(test_vmm_has_no_network),
		CELL_TEST(test_vmm_has_no_files),
		CELL_TEST(test_vmm_has_no_shared_memory),
		CELL_TEST(test_a_vmm_that_kills_its_shim_dies_with_it),
		CELL_TEST(test_exit_takes_the_vmm_along),
		CELL_TEST(test_unreleased_shim_ends),
		CELL_TEST(test_second_shim_starts_fresh),
		CELL_TEST(test_status_file_is_not_trusted),
		CELL_TEST(test_list_and_remains),
		cmocka_unit_test_setup_teardown(test_namespaces, open_root_cell, fixture_teardown),
		// The last: it leaves the process in a mount namespace of its own.
		cmocka_unit_test_setup_teardown(test_kvm_is_the_vmms_own, open_kvm_cell,
						fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
