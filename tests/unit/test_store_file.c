// SPDX-License-Identifier: Apache-2.0
// The store's file: who may use it, what it may be, when its log is folded in.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "agent/base/file.h"
#include "agent/base/scope.h"
#include "store_fixture.h"

static void test_file_is_private(void **state)
{
	struct fixture *f = *state;
	const char *const suffixes[] = {"", "-wal", "-shm", ".lock"};
	char path[128];
	struct stat status;

	fixture_put(f->store, "a", "{}", NULL);
	fixture_commit(f->store);
	for (size_t i = 0; i < ARRAY_LENGTH(suffixes); i++) {
		snprintf(path, sizeof(path), "%s%s", f->path, suffixes[i]);
		assert_int_equal(stat(path, &status), 0);
		assert_int_equal(status.st_mode & 07777, 0600);
	}
}

// In another process: the lock is one between processes. Its exit status is 0 when it was refused
// rightly.
static int second_writer(const struct store_options *options)
{
	struct error err = {0};
	struct store *other = NULL;
	pid_t pid = fork();
	int status = -1;

	if (pid == 0)
		_exit(store_open(options, &other, &err) != -EBUSY ||
		      !strstr(err.message, "in use by another penstockd"));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void test_second_writer_is_refused_and_a_reader_is_not(void **state)
{
	struct fixture *f = *state;
	struct store_options options = {.path = f->path, .boot_id = "boot-1"};
	struct store_object object;
	struct error err = {0};
	struct store *other = NULL;

	fixture_put(f->store, "a", "{}", NULL);
	fixture_commit(f->store);
	assert_int_equal(second_writer(&options), 0);
	options.read_only = true;
	options.boot_id = NULL;
	assert_int_equal(store_open(&options, &other, &err), 0);
	assert_int_equal(store_object_get(other, "vpcs", "a", &f->arena, &object, &err), 0);
	assert_string_equal(store_epoch(other), store_epoch(f->store));
	store_close(other);
}

static void test_reader_alone(void **state)
{
	struct fixture *f = *state;
	struct store_options options = {.path = f->path, .read_only = true};
	struct store_object object;
	struct error err = {0};
	struct store *reader = NULL;
	char none[96];

	fixture_put(f->store, "a", "{}", NULL);
	fixture_commit(f->store);
	store_close(f->store);
	f->store = NULL;
	assert_int_equal(store_open(&options, &reader, &err), 0);
	assert_int_equal(store_object_get(reader, "vpcs", "a", &f->arena, &object, &err), 0);
	store_close(reader);
	snprintf(none, sizeof(none), "%s/none", f->directory);
	options.path = none;
	assert_int_equal(store_open(&options, &reader, &err), -ENOENT);
}

static void overwrite(const char *path, off_t offset, const void *bytes, size_t length)
{
	scoped_fd int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, length, offset), length);
}

static void test_newer_schema_is_refused(void **state)
{
	struct fixture *f = *state;
	struct store_options options = {.path = f->path, .boot_id = "boot-1"};
	const unsigned char version[4] = {0, 0, 0, 99};
	struct error err = {0};
	struct store *store = NULL;

	store_close(f->store);
	f->store = NULL;
	overwrite(f->path, 60, version, sizeof(version)); // user_version of the file format
	assert_int_equal(store_open(&options, &store, &err), -EPROTO);
	assert_non_null(strstr(err.message, "schema version 99"));
}

static void test_damage_is_reported(void **state)
{
	struct fixture *f = *state;
	struct store_options options = {.path = f->path, .boot_id = "boot-1"};
	char noise[4096];
	struct error err = {0};
	struct store *store = NULL;

	store_close(f->store);
	f->store = NULL;
	memset(noise, 0x5a, sizeof(noise));
	overwrite(f->path, 4096, noise, sizeof(noise));
	assert_int_equal(store_open(&options, &store, &err), -EILSEQ);
	assert_non_null(strstr(err.message, "damaged"));
	overwrite(f->path, 0, noise, sizeof(noise));
	assert_int_equal(store_open(&options, &store, &err), -EILSEQ);
}

static off_t file_size(const char *path)
{
	struct stat status;

	assert_int_equal(stat(path, &status), 0);
	return status.st_size;
}

// No commit folds the log into the file: that is for a moment when nobody waits.
static void test_checkpoints_are_asked_for(void **state)
{
	struct fixture *f = *state;
	scoped_free char *spec = calloc(1, 16 * 1024);
	struct error err = {0};
	off_t before;

	memset(spec, ' ', 16 * 1024 - 1);
	fixture_commit(f->store);
	before = file_size(f->path);
	for (int i = 0; i < 300; i++) {
		fixture_put(f->store, "a", spec, NULL);
		fixture_commit(f->store);
	}
	assert_true(store_checkpoint_is_due(f->store, true));
	assert_int_equal(file_size(f->path), before);
	fixture_put(f->store, "a", "{}", NULL);
	assert_int_equal(store_checkpoint(f->store, &err), 0); // a turn is open: not now
	assert_true(store_checkpoint_is_due(f->store, true));
	fixture_commit(f->store);
	assert_int_equal(store_checkpoint(f->store, &err), 0);
	assert_false(store_checkpoint_is_due(f->store, true));
	assert_true(file_size(f->path) > before + 4 * 1024 * 1024);
	fixture_put(f->store, "a", "{\"n\":1}", NULL);
	fixture_commit(f->store);
	assert_false(store_checkpoint_is_due(f->store, true)); // the log begins anew
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_file_is_private),
		STORE_TEST(test_second_writer_is_refused_and_a_reader_is_not),
		STORE_TEST(test_reader_alone),
		STORE_TEST(test_newer_schema_is_refused),
		STORE_TEST(test_damage_is_reported),
		STORE_TEST(test_checkpoints_are_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
