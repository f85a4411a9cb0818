// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/process.h"
#include "agent/base/scope.h"
#include "cell_fixture.h"

static const char v1_mounts[] =
	"20 1 0:20 / /proc rw,relatime - proc proc rw\n"
	"31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup "
	"rw,cpu,cpuacct\n"
	"32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	"33 30 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
	"34 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
	"35 30 0:31 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
static const char v2_mounts[] =
	"29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,memory_recursiveprot\n";

static void test_find_v1(void **state)
{
	struct cgroup_tree tree = {0};

	(void)state;
	cgroup_tree_parse(v1_mounts, "", &tree);
	assert_int_equal(tree.mode, CGROUP_MODE_V1);
	assert_string_equal(tree.mounts[CGROUP_CPU].path, "/sys/fs/cgroup/cpu,cpuacct");
	assert_string_equal(tree.mounts[CGROUP_CPUACCT].path, "/sys/fs/cgroup/cpu,cpuacct");
	assert_string_equal(tree.mounts[CGROUP_MEMORY].path, "/sys/fs/cgroup/memory");
	assert_string_equal(tree.mounts[CGROUP_IO].path, "");
	assert_string_equal(tree.mounts[CGROUP_UNIFIED].path, "/sys/fs/cgroup/unified");
	assert_false(tree.mounts[CGROUP_CPU].v2);
}

static void test_find_v2(void **state)
{
	struct cgroup_tree tree = {0};

	(void)state;
	cgroup_tree_parse(v2_mounts, "cpuset cpu io memory hugetlb pids\n", &tree);
	assert_int_equal(tree.mode, CGROUP_MODE_V2);
	assert_string_equal(tree.mounts[CGROUP_IO].path, "/sys/fs/cgroup");
	assert_true(tree.mounts[CGROUP_CPU].v2);
}

static void test_find_mixed(void **state)
{
	struct cgroup_tree tree = {0};

	(void)state;
	cgroup_tree_parse(v1_mounts, "io pids\n", &tree);
	assert_int_equal(tree.mode, CGROUP_MODE_V1);
	assert_string_equal(tree.mounts[CGROUP_PIDS].path, "/sys/fs/cgroup/unified");
	assert_string_equal(tree.mounts[CGROUP_CPU].path, "/sys/fs/cgroup/cpu,cpuacct");
}

static void test_find_nothing(void **state)
{
	struct cgroup_tree tree = {0};

	(void)state;
	cgroup_tree_parse("garbage\n - \n1 2 3 4\n\n", "cpu", &tree);
	assert_int_equal(tree.mode, CGROUP_MODE_NONE);
}

static void test_names_are_checked(void **state)
{
	struct cgroup_tree tree = {0};
	struct cgroup_limits limits = {0};
	struct error err = {0};

	(void)state;
	assert_int_equal(cgroup_tree_find("../x", &tree, &err), -EINVAL);
	assert_int_equal(cgroup_ensure(&tree, "..", &limits, &err), -EINVAL);
	assert_int_equal(cgroup_kill(&tree, "a/b", &err), -EINVAL);
	assert_int_equal(cgroup_remove(&tree, "", &err), -EINVAL);
}

// A v2 tree of plain files: what is written where, and what is read. No kernel needed.
static const char *const v2_files[][2] = {
	{"cgroup.subtree_control", ""},
	{"penstock-x/cgroup.subtree_control", ""},
	{"penstock-x/t-1/cpu.max", ""},
	{"penstock-x/t-1/memory.max", ""},
	{"penstock-x/t-1/memory.swap.max", ""},
	{"penstock-x/t-1/pids.max", ""},
	{"penstock-x/t-1/cpu.stat", "nr_periods 1\nusage_usec 1234567\nuser_usec 1\n"},
	{"penstock-x/t-1/memory.current", "1048576\n"},
	{"penstock-x/t-1/memory.stat", "anon 5\nnot_inactive_file 7\ninactive_file 48576\n"},
	{"penstock-x/t-1/memory.events", "low 0\noom 4\noom_kill 3\n"},
	{"penstock-x/t-1/io.stat", "8:0 rbytes=100 wbytes=7 rios=1\n8:16 rbytes=11 wbytes=5\n"},
	{"penstock-x/t-1/pids.current", "9\n"},
};

static void make_v2_tree(const char *mount, struct cgroup_tree *tree)
{
	struct error err = {0};
	char path[128];

	snprintf(path, sizeof(path), "%s/penstock-x/t-1", mount);
	assert_int_equal(directory_make(path, 0755, &err), 0);
	for (size_t i = 0; i < ARRAY_LENGTH(v2_files); i++) {
		snprintf(path, sizeof(path), "%s/%s", mount, v2_files[i][0]);
		assert_int_equal(file_write_atomic(AT_FDCWD, path, v2_files[i][1],
						   strlen(v2_files[i][1]), 0644, &err),
				 0);
	}
	*tree = (struct cgroup_tree){.mode = CGROUP_MODE_V2, .install = "x"};
	for (int i = 0; i < CGROUP_CONTROLLER_COUNT; i++) {
		tree->mounts[i].v2 = true;
		snprintf(tree->mounts[i].path, sizeof(tree->mounts[i].path), "%s", mount);
	}
}

static void assert_file(const char *mount, const char *file, const char *expected)
{
	scoped_free char *text = NULL;
	struct error err = {0};
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", mount, file);
	assert_int_equal(file_read(AT_FDCWD, path, 4096, &text, NULL, &err), 0);
	assert_string_equal(text, expected);
}

static void test_v2_files(void **state)
{
	char mount[] = "/tmp/penstock-v2-XXXXXX";
	struct cgroup_limits limits = {.cpu_units = 256, .memory_bytes = 1U << 29, .pids = 40};
	struct cgroup_usage usage;
	struct cgroup_tree tree;
	struct error err = {0};

	(void)state;
	assert_non_null(mkdtemp(mount));
	make_v2_tree(mount, &tree);
	assert_int_equal(cgroup_ensure(&tree, "t-1", &limits, &err), 0);
	assert_file(mount, "penstock-x/t-1/cpu.max", "25000 100000");
	assert_file(mount, "penstock-x/t-1/memory.max", "536870912");
	assert_file(mount, "penstock-x/t-1/memory.swap.max", "0");
	assert_file(mount, "penstock-x/t-1/pids.max", "40");
	assert_file(mount, "cgroup.subtree_control", "+cpu +memory +pids +io ");
	assert_file(mount, "penstock-x/cgroup.subtree_control", "+cpu +memory +pids +io ");
	assert_int_equal(cgroup_usage_read(&tree, "t-1", &usage, &err), 0);
	assert_int_equal(usage.cpu_usec, 1234567);
	assert_int_equal(usage.memory_working_set_bytes, 1000000);
	assert_int_equal(usage.io_read_bytes, 111);
	assert_int_equal(usage.io_write_bytes, 12);
	assert_int_equal(cgroup_cpu_set(&tree, "t-1", 512, &err), 0);
	assert_file(mount, "penstock-x/t-1/cpu.max", "50000 100000");
	assert_int_equal(directory_remove(AT_FDCWD, mount, &err), 0);
}

static void test_v2_without_limits_or_swap(void **state)
{
	char mount[] = "/tmp/penstock-v2-XXXXXX", path[128];
	const struct cgroup_limits unlimited = {0};
	struct cgroup_tree tree;
	struct error err = {0};

	(void)state;
	assert_non_null(mkdtemp(mount));
	make_v2_tree(mount, &tree);
	snprintf(path, sizeof(path), "%s/penstock-x/t-1/memory.swap.max", mount);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(cgroup_ensure(&tree, "t-1", &unlimited, &err), 0);
	assert_file(mount, "penstock-x/t-1/cpu.max", "max 100000");
	assert_file(mount, "penstock-x/t-1/memory.max", "max");
	assert_file(mount, "penstock-x/t-1/pids.max", "max");
	assert_int_equal(directory_remove(AT_FDCWD, mount, &err), 0);
}

static int open_cell(void **state)
{
	static struct fixture fixture;

	*state = NULL;
	if (fixture_possible()) {
		fixture_open(&fixture, "cgroup");
		*state = &fixture;
	}
	return 0;
}

static int close_cell(void **state)
{
	if (*state)
		fixture_close(*state);
	return 0;
}

static void test_life_of_a_cgroup(void **state)
{
	struct fixture *fixture = fixture_of(state);
	scoped(arena_release) struct arena arena = {0};
	const char *const argv[] = {"/bin/sh", "-c", "while :; do :; done", NULL};
	scoped(process_close) struct process child = PROCESS_NONE;
	struct spawn_options options = {.argv = argv, .netns_fd = -1};
	struct cgroup_usage usage;
	struct error err = {0};
	const char **tasks;
	size_t count;
	pid_t *pids;
	bool has;

	options.cgroup_procs = cgroup_procs_files(&fixture->tree, "t-1", &arena);
	assert_int_equal(process_spawn(&options, &child, &err), 0);
	assert_int_equal(cgroup_pids(&fixture->tree, "t-1", &arena, &pids, &count, &err), 0);
	assert_int_equal(count, 1);
	assert_int_equal(pids[0], child.pid);
	assert_int_equal(cgroup_has_pid(&fixture->tree, "t-1", getpid(), &has, &err), 0);
	assert_false(has);
	assert_int_equal(cgroup_list(&fixture->tree, &arena, &tasks, &count, &err), 0);
	assert_int_equal(count, 1);
	assert_string_equal(tasks[0], "t-1");
	assert_int_equal(cgroup_remove(&fixture->tree, "t-1", &err), -EBUSY);

	fixture_kill(fixture);
	assert_int_equal(waitpid(child.pid, NULL, 0), child.pid);
	assert_int_equal(cgroup_usage_read(&fixture->tree, "t-1", &usage, &err), 0);
	assert_true(usage.has_cpu && usage.has_memory);
}

static uint64_t times_throttled(const struct fixture *fixture)
{
	static const char key[] = "nr_throttled ";
	scoped_free char *text = NULL;
	struct error err = {0};
	const char *found;
	char path[512];

	snprintf(path, sizeof(path), "%s/penstock-%s/t-1/cpu.stat",
		 fixture->tree.mounts[CGROUP_CPU].path, fixture->install);
	assert_int_equal(file_read(AT_FDCWD, path, 4096, &text, NULL, &err), 0);
	found = strstr(text, key);
	return found ? strtoull(found + strlen(key), NULL, 10) : 0;
}

// A busy loop meets its quota again and again, and uses no more than that of the time it took. The
// quota is small, 1/32 of a CPU, so that it is met on a machine that has little time to give, too.
static void test_cpu_quota_holds(void **state)
{
	enum { UNITS = 32, PERIODS = 8, SLACK_US = 200000 }; // a tick, or a stall of the hypervisor
	struct fixture *fixture = fixture_of(state);
	scoped(arena_release) struct arena arena = {0};
	const char *const argv[] = {"/bin/sh", "-c", "while :; do :; done", NULL};
	const struct cgroup_limits limits = {
		.cpu_units = UNITS, .memory_bytes = 256U << 20, .pids = 64};
	scoped(process_close) struct process child = PROCESS_NONE;
	struct spawn_options options = {.argv = argv, .netns_fd = -1};
	int64_t start_us = clock_monotonic_us(), took_us;
	struct cgroup_usage usage;
	struct error err = {0};

	assert_int_equal(cgroup_ensure(&fixture->tree, "t-1", &limits, &err), 0);
	options.cgroup_procs = cgroup_procs_files(&fixture->tree, "t-1", &arena);
	assert_int_equal(process_spawn(&options, &child, &err), 0);
	while (times_throttled(fixture) < PERIODS) {
		assert_true(clock_monotonic_us() - start_us < FIXTURE_WAIT_MS * 1000LL);
		poll(NULL, 0, 20);
	}
	fixture_kill(fixture);
	assert_int_equal(waitpid(child.pid, NULL, 0), child.pid);
	took_us = clock_monotonic_us() - start_us;
	assert_int_equal(cgroup_usage_read(&fixture->tree, "t-1", &usage, &err), 0);
	assert_in_range(usage.cpu_usec, 1, took_us * UNITS / 1024 + SLACK_US);
}

static void test_repeats_are_harmless(void **state)
{
	struct fixture *fixture = fixture_of(state);
	struct cgroup_limits limits = {.cpu_units = 256, .memory_bytes = 128U << 20, .pids = 32};
	struct error err = {0};
	bool empty;

	assert_int_equal(cgroup_ensure(&fixture->tree, "t-1", &limits, &err), 0);
	assert_int_equal(cgroup_ensure(&fixture->tree, "t-1", &(struct cgroup_limits){0}, &err), 0);
	assert_int_equal(cgroup_kill(&fixture->tree, "t-1", &err), 0);
	assert_int_equal(cgroup_remove(&fixture->tree, "t-1", &err), 0);
	assert_int_equal(cgroup_remove(&fixture->tree, "t-1", &err), 0);
	assert_int_equal(cgroup_kill(&fixture->tree, "t-1", &err), 0);
	assert_false(cgroup_exists(&fixture->tree, "t-1"));
	assert_int_equal(cgroup_is_empty(&fixture->tree, "t-1", &empty, &err), 0);
	assert_true(empty);
	assert_int_equal(cgroup_ensure(&fixture->tree, "t-1", &limits, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find_v1),
		cmocka_unit_test(test_find_v2),
		cmocka_unit_test(test_find_mixed),
		cmocka_unit_test(test_find_nothing),
		cmocka_unit_test(test_names_are_checked),
		cmocka_unit_test(test_v2_files),
		cmocka_unit_test(test_v2_without_limits_or_swap),
		cmocka_unit_test_setup_teardown(test_life_of_a_cgroup, open_cell, close_cell),
		cmocka_unit_test_setup_teardown(test_cpu_quota_holds, open_cell, close_cell),
		cmocka_unit_test_setup_teardown(test_repeats_are_harmless, open_cell, close_cell),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
