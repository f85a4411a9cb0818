// SPDX-License-Identifier: Apache-2.0
// What a shim and its VMM may reach: of a real one, whose VMM is a shell.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/base/file.h"
#include "agent/base/scope.h"
#include "cell_fixture.h"

// Its descriptor does not let a VMM grow its disk.
static void test_a_vmm_writes_no_further_than_its_disk(void **state)
{
	// Builtins of the shell: a VMM starts no process.
	static const char script[] = "/bin/sh\0-c\0printf %8192s x >&3 && echo full; printf x >&3";
	const struct shim_slot slot = {VMM_ATTACH_DISK_WRITE, 0};
	struct fixture *fixture = fixture_of(state);
	static struct vmm_launch launch;
	scoped_fd int disk = memfd_create("disk", MFD_CLOEXEC);
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
	assert_memory_equal(fixture_console(fixture), "full\n", 5);
}

// Starts vmm_walls.c in the VMM's place, by a descriptor: its root has nothing but /usr.
static void launch_walls(struct fixture *fixture, const char *wall)
{
	const struct shim_slot slot = {VMM_ATTACH_KERNEL, 0};
	scoped_fd int program = open(PENSTOCK_VMM_WALLS, O_RDONLY | O_CLOEXEC);
	static struct vmm_launch launch;
	struct error err = {0};
	int length;

	assert_true(program >= 0);
	assert_int_equal(shim_attach(fixture->channel_fd, &slot, &program, 1, &err), 0);
	launch = (struct vmm_launch){.argument_count = 2,
				     .fd_count = 1,
				     .fds = {{VMM_ATTACH_KERNEL, 0, 3}},
				     .drop_identity = true};
	length = snprintf(launch.arguments, sizeof(launch.arguments), "/proc/self/fd/3%c%s", 0,
			  wall);
	launch.argument_bytes = (uint32_t)length + 1;
	assert_int_equal(shim_launch(fixture->channel_fd, &launch, &err), 0);
	fixture_wait(fixture, vmm_has_exited);
}

// A VMM that was taken over does not get far: test_sandbox.c has every call of the filter, these
// are the walls that matter most, seen from the process of a real shim.
static void test_vmm_walls(void **state)
{
	static const char expected[] = "vsock socket: Operation not permitted\n"
				       "inet socket: Operation not permitted\n"
				       "unix socket: Operation not permitted\n"
				       "fork: Operation not permitted\n"
				       "io_uring: Function not implemented\n"
				       "signal the shim: Operation not permitted\n"
				       "signal the shim by thread: Function not implemented\n"
				       "signal the shim by descriptor: Function not implemented\n"
				       "limit the shim: Function not implemented\n"
				       "detach the tap: Function not implemented\n"
				       "core limit: 0 0\n";
	struct fixture *fixture = fixture_of(state);

	launch_walls(fixture, "refused");
	assert_string_equal(fixture_console(fixture), expected);
	assert_int_equal(fixture->status.vmm_exit_code, 0);
}

static void expect_killed(struct fixture *fixture, const char *wall)
{
	launch_walls(fixture, wall);
	assert_int_equal(fixture->status.vmm_exit_code, 128 + SIGSYS);
	assert_non_null(strstr(fixture->status.vmm_failure, "filter forbids"));
}

static void test_vmm_is_killed_for_bpf(void **state)
{
	expect_killed(fixture_of(state), "bpf");
}

static void test_vmm_is_killed_for_x32(void **state)
{
	expect_killed(fixture_of(state), "x32");
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
	scoped_fd int netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
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
	snprintf(expected, sizeof(expected), "1\n%s\n", link); // pid 1 of its own
	assert_string_equal(fixture_console(fixture), expected);
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

	fixture_launch(fixture, argv, 0);
	fixture_wait(fixture, vmm_has_exited);
	assert_string_equal(fixture_console(fixture), "    lo\n");
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
	text = fixture_console(fixture);
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

static void test_vmm_has_no_shared_memory(void **state)
{
	const char *const argv[] = {"/bin/sh", "-c", "readlink /proc/self/ns/ipc", NULL};
	struct fixture *fixture = fixture_of(state);
	char ours[64] = {0};

	assert_true(readlink("/proc/self/ns/ipc", ours, sizeof(ours) - 1) > 0);
	fixture_launch(fixture, argv, 0);
	fixture_wait(fixture, vmm_has_exited);
	assert_memory_equal(fixture_console(fixture), "ipc:[", 5);
	assert_null(strstr(fixture_console(fixture), ours));
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
	assert_string_equal(fixture_console(fixture), expected);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CELL_TEST(test_a_vmm_writes_no_further_than_its_disk),
		CELL_TEST(test_vmm_walls),
		CELL_TEST(test_vmm_is_killed_for_bpf),
		CELL_TEST(test_vmm_is_killed_for_x32),
		CELL_TEST(test_shim_is_confined),
		CELL_TEST(test_vmm_has_no_network),
		CELL_TEST(test_vmm_has_no_files),
		CELL_TEST(test_vmm_has_no_shared_memory),
		cmocka_unit_test_setup_teardown(test_namespaces, open_root_cell, fixture_teardown),
		// The last: it leaves the process in a mount namespace of its own.
		cmocka_unit_test_setup_teardown(test_kvm_is_the_vmms_own, open_kvm_cell,
						fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
