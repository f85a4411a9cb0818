// SPDX-License-Identifier: Apache-2.0
// Real files, real mkfs, in a directory of its own.
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/process.h"
#include "agent/base/scope.h"
#include "ephemeral/ephemeral.h"

static char state_directory[] = "/tmp/penstock-ephemeral-XXXXXX";
static struct ephemeral pool = EPHEMERAL_NONE;
static struct error err;

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(state_directory))
		return -1;
	return ephemeral_open(state_directory, &pool, &err);
}

static int teardown(void **state)
{
	(void)state;
	ephemeral_close(&pool);
	return directory_remove(AT_FDCWD, state_directory, &err);
}

static void path_of(const char *name, char path[256])
{
	snprintf(path, 256, "%s/%s", state_directory, name);
}

static void test_capacity(void **state)
{
	struct ephemeral_capacity capacity = {
		.pool_gib = 100, .promised_gib = 85, .headroom_gib = 3};

	(void)state;
	assert_int_equal(ephemeral_capacity_free_gib(&capacity), 12);
	assert_int_equal(ephemeral_capacity_admit(&capacity, 12, &err), 0);
	assert_int_equal(ephemeral_capacity_admit(&capacity, 40, &err), -ENOSPC);
	assert_string_equal(err.message, "ephemeral storage: 40 GiB asked, 12 GiB free of 100 GiB "
					 "(85 promised, 3 headroom)");
	capacity.promised_gib = UINT32_MAX; // more promised than there is: nothing is free
	assert_int_equal(ephemeral_capacity_free_gib(&capacity), 0);
	assert_int_equal(ephemeral_capacity_admit(&capacity, 1, &err), -ENOSPC);
}

static void test_template(void **state)
{
	char path[256];
	const char *const check[] = {"/sbin/e2fsck", "-fn", path, NULL};
	struct stat status;
	int stale_fd;

	(void)state;
	assert_false(ephemeral_template_exists(&pool, 20));
	assert_int_equal(ephemeral_disk_create(&pool, "t-1", 20, 0, 0, &err), -ENOMEDIUM);
	// A builder that was killed left this; it is in nobody's way.
	path_of("templates/.new-20", path);
	stale_fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(stale_fd >= 0);
	close(stale_fd);
	assert_int_equal(ephemeral_template_build(&pool, 20, &err), 0);
	assert_true(stat(path, &status) < 0);
	assert_int_equal(ephemeral_template_build(&pool, 20, &err), 0); // again: nothing to do
	assert_true(ephemeral_template_exists(&pool, 20));
	assert_int_equal(ephemeral_template_build(&pool, 201, &err), -EINVAL);

	path_of("templates/20-v1.img", path);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_size, INT64_C(20) << 30);
	assert_true(status.st_blocks * 512 < 1 << 20);
	assert_int_equal(process_run(check, &err), 0);
}

static void test_disk(void **state)
{
	struct ephemeral_disk_fds fds;
	struct stat status;
	uint64_t used;
	char path[256];

	(void)state;
	assert_int_equal(ephemeral_disk_check(&pool, "t-1", 20, 1000, 1001, &err), -ENOENT);
	assert_int_equal(ephemeral_disk_create(&pool, "t-1", 20, 1000, 1001, &err), 0);
	assert_int_equal(ephemeral_disk_create(&pool, "t-1", 20, 1000, 1001, &err), 0);
	assert_int_equal(ephemeral_disk_check(&pool, "t-1", 20, 1000, 1001, &err), 0);
	assert_int_equal(ephemeral_disk_create(&pool, "t-1", 20, 1000, 7, &err), -EEXIST);
	assert_string_equal(err.message,
			    "ephemeral disk t-1.img: belongs to 1000:1001, not 1000:7");
	assert_int_equal(ephemeral_disk_check(&pool, "t-1", 21, 1000, 1001, &err), -EEXIST);
	assert_int_equal(ephemeral_disk_create(&pool, "../t", 20, 0, 0, &err), -EINVAL);
	assert_int_equal(ephemeral_disk_create(&pool, "t-2", 0, 0, 0, &err), -EINVAL);

	path_of("disks/t-1.img", path);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);

	assert_int_equal(ephemeral_disk_open(&pool, "t-1", 20, &fds, &err), 0);
	assert_int_equal(fcntl(fds.read_fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(fcntl(fds.write_fd, F_GETFL) & O_ACCMODE, O_RDWR);
	assert_int_equal(fcntl(fds.read_fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(fds.write_fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(pwrite(fds.write_fd, path, sizeof(path), INT64_C(10) << 30), sizeof(path));
	assert_int_equal(fsync(fds.write_fd), 0);
	assert_int_equal(ephemeral_disk_used(&pool, "t-1", &used, &err), 0);
	assert_in_range(used, 1, 1 << 20);
	close(fds.read_fd);
	close(fds.write_fd);
	assert_int_equal(ephemeral_disk_open(&pool, "t-0", 20, &fds, &err), -ENOENT);
	assert_int_equal(ephemeral_disk_used(&pool, "t-0", &used, &err), -ENOENT);
}

// The clone is the template, byte by byte, where it has data.
static void test_clone_is_whole(void **state)
{
	char template_path[256], disk_path[256];
	const char *const compare[] = {"/usr/bin/cmp", "-n",      "4194304",
				       template_path,  disk_path, NULL};
	const char *const check[] = {"/sbin/e2fsck", "-fn", disk_path, NULL};

	(void)state;
	path_of("templates/20-v1.img", template_path);
	path_of("disks/t-whole.img", disk_path);
	assert_int_equal(ephemeral_disk_create(&pool, "t-whole", 20, 0, 0, &err), 0);
	assert_int_equal(process_run(compare, &err), 0);
	assert_int_equal(process_run(check, &err), 0);
}

static void test_destroy(void **state)
{
	uint64_t used;

	(void)state;
	assert_true(ephemeral_trash_is_empty(&pool));
	assert_int_equal(ephemeral_disk_destroy(&pool, "t-1", &err), 0);
	assert_int_equal(ephemeral_disk_used(&pool, "t-1", &used, &err), -ENOENT);
	assert_int_equal(ephemeral_disk_destroy(&pool, "t-1", &err), 0); // gone: fine
	// The same name once more before the janitor came.
	assert_int_equal(ephemeral_disk_create(&pool, "t-1", 20, 5, 5, &err), 0);
	assert_int_equal(ephemeral_disk_destroy(&pool, "t-1", &err), 0);
	assert_false(ephemeral_trash_is_empty(&pool));
	assert_int_equal(ephemeral_reap(&pool, &err), 0);
	assert_true(ephemeral_trash_is_empty(&pool));
	assert_int_equal(ephemeral_reap(&pool, &err), 0);
}

static size_t count_kind(enum ephemeral_kind kind)
{
	struct ephemeral_entry *entries;
	size_t count, found = 0;

	assert_int_equal(ephemeral_list(&pool, &entries, &count, &err), 0);
	for (size_t i = 0; i < count; i++)
		found += entries[i].kind == kind;
	free(entries);
	return found;
}

static void touch(const char *name)
{
	char path[256];
	int fd;

	path_of(name, path);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
}

static void test_list(void **state)
{
	struct ephemeral_entry *entries;
	char path[256];
	size_t count;
	int lock_fd;

	(void)state;
	assert_int_equal(ephemeral_disk_create(&pool, "t-7", 20, 7, 7, &err), 0);
	touch("disks/.new-t-8.img");
	touch("disks/Something");
	touch("templates/.new-30");
	touch("templates/ 20-v1.img");
	assert_int_equal(count_kind(EPHEMERAL_DISK), 2); // t-whole and t-7
	assert_int_equal(count_kind(EPHEMERAL_TEMPLATE), 1);
	assert_int_equal(count_kind(EPHEMERAL_FOREIGN), 2);
	assert_int_equal(count_kind(EPHEMERAL_UNFINISHED), 2);

	// While a builder lives, its unfinished template is no orphan.
	path_of("templates", path);
	lock_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(flock(lock_fd, LOCK_EX), 0);
	assert_int_equal(count_kind(EPHEMERAL_UNFINISHED), 1);
	close(lock_fd);

	assert_int_equal(ephemeral_list(&pool, &entries, &count, &err), 0);
	for (size_t i = 0; i < count; i++) {
		if (strcmp(entries[i].name, "t-7.img") == 0) {
			assert_string_equal(entries[i].task_id, "t-7");
			assert_int_equal(entries[i].size_bytes, INT64_C(20) << 30);
			assert_int_equal(entries[i].uid, 7);
		}
		assert_int_equal(ephemeral_remove(&pool, &entries[i], &err),
				 entries[i].kind == EPHEMERAL_FOREIGN ? -EPERM : 0);
	}
	free(entries);
	assert_int_equal(ephemeral_reap(&pool, &err), 0);
	assert_int_equal(ephemeral_list(&pool, &entries, &count, &err), 0);
	assert_int_equal(count, 2); // what is not ours stays
	free(entries);
}

static void test_pool_size(void **state)
{
	unsigned size_gib = 0;

	(void)state;
	assert_int_equal(ephemeral_pool_size_gib(&pool, &size_gib, &err), 0);
	assert_true(size_gib > 0);
}

static int compare_times(const void *left, const void *right)
{
	int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;

	return (a > b) - (a < b);
}

static void test_clone_time(void **state)
{
	enum { ROUNDS = 200 };
	int64_t times_us[ROUNDS], p50_us, p99_us;
	char name[16];

	(void)state;
	assert_int_equal(ephemeral_template_build(&pool, 200, &err), 0);
	for (int i = 0; i < ROUNDS; i++) {
		int64_t start_us = clock_monotonic_us();

		snprintf(name, sizeof(name), "t-%d", i);
		assert_int_equal(ephemeral_disk_create(&pool, name, 200, 0, 0, &err), 0);
		times_us[i] = clock_monotonic_us() - start_us;
		assert_int_equal(ephemeral_disk_destroy(&pool, name, &err), 0);
	}
	qsort(times_us, ROUNDS, sizeof(times_us[0]), compare_times);
	p50_us = times_us[ROUNDS / 2];
	p99_us = times_us[ROUNDS * 99 / 100];
	print_message("figure disk_clone_p50 %.3f ms\n", (double)p50_us / 1000);
	print_message("figure disk_clone_p99 %.3f ms\n", (double)p99_us / 1000);
	assert_int_equal(ephemeral_reap(&pool, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_capacity),  cmocka_unit_test(test_template),
		cmocka_unit_test(test_disk),      cmocka_unit_test(test_clone_is_whole),
		cmocka_unit_test(test_destroy),   cmocka_unit_test(test_list),
		cmocka_unit_test(test_pool_size), cmocka_unit_test(test_clone_time),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
