// SPDX-License-Identifier: Apache-2.0
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "agent/base/file.h"
#include "agent/base/scope.h"
#include "metrics/metering.h"

static char directory[] = "/tmp/penstock-metering-XXXXXX";
static char path[128], rotated[160];
static struct error err;

static int setup_all(void **state)
{
	(void)state;
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/metering.ndjson", directory);
	snprintf(rotated, sizeof(rotated), "%s.1", path);
	return 0;
}

static int teardown_all(void **state)
{
	(void)state;
	return directory_remove(AT_FDCWD, directory, &err);
}

static int setup(void **state)
{
	(void)state;
	unlink(path);
	unlink(rotated);
	return 0;
}

static struct metering_record record_of(const char *task_id, int64_t started_ms, int64_t ran_ms)
{
	return (struct metering_record){.task_id = task_id,
					.family = "web",
					.cpu_units = 256,
					.memory_mib = 512,
					.started_wall_ms = started_ms,
					.stopped_wall_ms = started_ms + ran_ms,
					.ran_ms = (uint64_t)ran_ms};
}

static void test_bill(void **state)
{
	static const struct {
		int64_t ran_ms;
		uint64_t seconds;
	} cases[] = {
		{0, 60},     {1, 60},     {59999, 60},     {60000, 60},       {60001, 61},
		{61000, 61}, {61001, 62}, {3600000, 3600}, {86400000, 86400},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct metering_record record = record_of("t-1", 1700000000000, cases[i].ran_ms);
		struct metering_bill bill;

		record.extra_storage_gib = 30;
		record.stopped_wall_ms -= 5000000; // somebody set the wall clock: no matter
		metering_bill(&record, &bill);
		assert_int_equal(bill.billed_seconds, cases[i].seconds);
		assert_true(bill.vcpu_seconds * 4 == (double)cases[i].seconds);
		assert_int_equal(bill.memory_mib_seconds, 512 * cases[i].seconds);
		assert_int_equal(bill.storage_gib_seconds, 30 * cases[i].seconds);
	}
}

static void test_format(void **state)
{
	scoped(buffer_release) struct buffer text = {0};
	struct metering_record record = record_of("t-1", 1769850487654, 61500);

	(void)state;
	record.family = "we\"b\\\n";
	record.extra_storage_gib = 1;
	metering_format(&record, &text);
	assert_string_equal(
		text.data,
		"{\"version\":1,\"task\":\"t-1\",\"startedAt\":\"2026-01-31T09:08:07.654Z\","
		"\"stoppedAt\":\"2026-01-31T09:09:09.154Z\",\"family\":\"we\\\"b\\\\\\u000a\","
		"\"cpu\":256,\"memory\":512,\"extraStorageGiB\":1,\"billedSeconds\":62,"
		"\"vcpuSeconds\":15.5,\"memoryMibSeconds\":31744,\"storageGibSeconds\":62}\n");
}

static unsigned count_lines(const char *file)
{
	scoped_free char *text = NULL;
	unsigned lines = 0;

	assert_int_equal(file_read(AT_FDCWD, file, 1 << 24, &text, NULL, &err), 0);
	for (const char *byte = text; *byte; byte++)
		lines += *byte == '\n';
	return lines;
}

static void append(struct metering *metering, const char *task_id, int64_t started_ms)
{
	struct metering_record record = record_of(task_id, started_ms, 70000);

	assert_int_equal(metering_append(metering, &record, &err), 0);
}

static void test_written_once(void **state)
{
	struct metering *metering;

	(void)state;
	assert_int_equal(metering_open(path, &metering, &err), 0);
	append(metering, "t-1", 1000);
	append(metering, "t-1", 1000);
	append(metering, "t-1", 2000); // the same name, another task
	append(metering, "t-2", 1000);
	assert_int_equal(metering_sync(metering, &err), 0);
	metering_close(metering);
	assert_int_equal(count_lines(path), 3);

	// The agent died before it noted that the records are written.
	assert_int_equal(metering_open(path, &metering, &err), 0);
	append(metering, "t-1", 2000);
	append(metering, "t-2", 1000);
	append(metering, "t-3", 1000);
	metering_close(metering);
	assert_int_equal(count_lines(path), 4);
}

static void test_torn_line(void **state)
{
	struct metering *metering;
	struct stat status;

	(void)state;
	assert_int_equal(metering_open(path, &metering, &err), 0);
	append(metering, "t-1", 1000);
	append(metering, "t-2", 1000);
	metering_close(metering);
	assert_int_equal(stat(path, &status), 0);
	// Cut anywhere in the last line: the first stays, the second is written again.
	for (off_t cut = status.st_size - 1; cut > status.st_size / 2; cut -= 7) {
		assert_int_equal(truncate(path, cut), 0);
		assert_int_equal(metering_open(path, &metering, &err), 0);
		append(metering, "t-1", 1000);
		append(metering, "t-2", 1000);
		metering_close(metering);
		assert_int_equal(count_lines(path), 2);
	}
	// Nothing but half a line.
	assert_int_equal(truncate(path, 10), 0);
	assert_int_equal(metering_open(path, &metering, &err), 0);
	append(metering, "t-1", 1000);
	metering_close(metering);
	assert_int_equal(count_lines(path), 1);
}

static void test_rotation(void **state)
{
	struct metering *metering;

	(void)state;
	assert_int_equal(metering_open(path, &metering, &err), 0);
	append(metering, "t-1", 1000);
	assert_int_equal(rename(path, rotated), 0);
	append(metering, "t-1", 1000);
	append(metering, "t-2", 1000);
	assert_int_equal(count_lines(rotated), 1);
	assert_int_equal(count_lines(path), 1);
	metering_close(metering);
	// Rotated between the write and a restart.
	assert_int_equal(rename(path, rotated), 0);
	assert_int_equal(metering_open(path, &metering, &err), 0);
	append(metering, "t-2", 1000);
	assert_int_equal(count_lines(path), 0);
	metering_close(metering);
}

static void test_long_file(void **state)
{
	struct metering *metering;
	char task_id[32];

	(void)state;
	assert_int_equal(metering_open(path, &metering, &err), 0);
	for (int i = 0; i < 20000; i++) {
		snprintf(task_id, sizeof(task_id), "t-%d", i);
		append(metering, task_id, 1000);
	}
	metering_close(metering);
	assert_int_equal(metering_open(path, &metering, &err), 0);
	for (int i = 19999; i > 19999 - 4000; i--) {
		snprintf(task_id, sizeof(task_id), "t-%d", i);
		append(metering, task_id, 1000);
	}
	metering_close(metering);
	assert_int_equal(count_lines(path), 20000);
}

// A disk that is full in the middle of a line leaves no half line.
static void test_no_space(void **state)
{
	struct metering_record record = record_of("t-2", 1000, 1000);
	struct rlimit old, limit;
	struct metering *metering;
	struct stat status;

	(void)state;
	assert_int_equal(metering_open(path, &metering, &err), 0);
	append(metering, "t-1", 1000);
	assert_int_equal(stat(path, &status), 0);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	limit = (struct rlimit){(rlim_t)status.st_size + 50, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_true(metering_append(metering, &record, &err) < 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(count_lines(path), 1);
	assert_int_equal(metering_append(metering, &record, &err), 0);
	assert_int_equal(count_lines(path), 2);
	metering_close(metering);
}

// In place of libc's: a disk that fails.
static int sync_failure;

int fdatasync(int fd)
{
	errno = sync_failure;
	return sync_failure ? -1 : fsync(fd);
}

static void test_failed_sync(void **state)
{
	struct metering *metering;

	(void)state;
	assert_int_equal(metering_open(path, &metering, &err), 0);
	append(metering, "t-1", 1000);
	assert_int_equal(metering_sync(metering, &err), 0);
	append(metering, "t-2", 1000);
	sync_failure = EIO;
	assert_int_equal(metering_sync(metering, &err), -EIO);
	sync_failure = 0;
	append(metering, "t-1", 1000);
	append(metering, "t-2", 1000); // nobody knows whether the first one is on the disk
	assert_int_equal(metering_sync(metering, &err), 0);
	assert_int_equal(count_lines(path), 3);
	metering_close(metering);
}

// As many as are remembered, and some: the newest of them stand in front of older ones.
static void test_failed_sync_of_a_full_ring(void **state)
{
	struct metering *metering;
	char task_id[32];

	(void)state;
	assert_int_equal(metering_open(path, &metering, &err), 0);
	for (int i = 0; i < 8192 + 10; i++) {
		snprintf(task_id, sizeof(task_id), "t-%d", i);
		append(metering, task_id, 1000);
	}
	assert_int_equal(metering_sync(metering, &err), 0);
	append(metering, "lost-1", 1000);
	append(metering, "lost-2", 1000);
	sync_failure = EIO;
	assert_int_equal(metering_sync(metering, &err), -EIO);
	sync_failure = 0;
	append(metering, "lost-1", 1000);
	append(metering, "lost-2", 1000);
	assert_int_equal(count_lines(path), 8192 + 10 + 4);
	for (int i = 12; i < 8192 + 10; i++) {
		snprintf(task_id, sizeof(task_id), "t-%d", i);
		append(metering, task_id, 1000);
	}
	assert_int_equal(count_lines(path), 8192 + 10 + 4);
	metering_close(metering);
}

// Whose record could not be synced is not who found that out.
static void test_failed_sync_at_a_rotation(void **state)
{
	struct metering_record other = record_of("t-2", 1000, 1000);
	struct metering *metering;

	(void)state;
	assert_int_equal(metering_open(path, &metering, &err), 0);
	append(metering, "t-1", 1000);
	assert_int_equal(rename(path, rotated), 0);
	sync_failure = EIO;
	assert_int_equal(metering_append(metering, &other, &err), -EIO);
	sync_failure = 0; // a kernel tells of it once
	assert_int_equal(metering_sync(metering, &err), -EIO);
	append(metering, "t-1", 1000);
	append(metering, "t-2", 1000);
	assert_int_equal(metering_sync(metering, &err), 0);
	assert_int_equal(count_lines(path), 2);
	metering_close(metering);
}

static void test_bad_path(void **state)
{
	struct metering *metering;

	(void)state;
	assert_int_equal(metering_open("/proc/nowhere/metering", &metering, &err), -ENOENT);
	assert_int_equal(metering_open("/dev/null", &metering, &err), -EINVAL);
	assert_string_equal(err.message, "metering file /dev/null: not a regular file");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bill),
		cmocka_unit_test(test_format),
		cmocka_unit_test_setup(test_written_once, setup),
		cmocka_unit_test_setup(test_torn_line, setup),
		cmocka_unit_test_setup(test_rotation, setup),
		cmocka_unit_test_setup(test_long_file, setup),
		cmocka_unit_test_setup(test_no_space, setup),
		cmocka_unit_test_setup(test_failed_sync, setup),
		cmocka_unit_test_setup(test_failed_sync_of_a_full_ring, setup),
		cmocka_unit_test_setup(test_failed_sync_at_a_rotation, setup),
		cmocka_unit_test(test_bad_path),
	};

	return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
