// SPDX-License-Identifier: Apache-2.0
// The store on a real file: objects, turns, events, compaction, refusals.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "agent/base/file.h"
#include "agent/base/scope.h"
#include "agent/store/store.h"

struct fixture {
	char directory[64];
	char path[96];
	struct store *store;
	struct arena arena;
};

static struct store *open_store(struct fixture *fixture, uint64_t event_limit, const char *boot_id)
{
	struct store_options options = {
		.path = fixture->path, .boot_id = boot_id, .event_limit = event_limit};
	struct error err = {0};
	struct store *store = NULL;

	if (store_open(&options, &store, &err) < 0)
		fail_msg("%s", err.message);
	return store;
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/test-store-XXXXXX");
	assert_non_null(mkdtemp(fixture->directory));
	snprintf(fixture->path, sizeof(fixture->path), "%s/store.db", fixture->directory);
	fixture->store = open_store(fixture, 0, "boot-1");
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	struct error err = {0};

	store_close(fixture->store);
	arena_release(&fixture->arena);
	assert_int_equal(directory_remove(AT_FDCWD, fixture->directory, &err), 0);
	free(fixture);
	return 0;
}

static uint64_t put(struct store *store, const char *id, const char *spec, const char *status)
{
	struct store_change change = {.kind = "vpcs", .id = id, .spec = spec, .status = status};
	struct error err = {0};
	uint64_t revision = 0;

	if (store_object_put(store, &change, &revision, &err) < 0)
		fail_msg("%s", err.message);
	return revision;
}

static void commit(struct store *store)
{
	struct error err = {0};

	if (store_turn_commit(store, true, &err) < 0)
		fail_msg("%s", err.message);
}

static void reopen(struct fixture *fixture, uint64_t event_limit, const char *boot_id)
{
	store_close(fixture->store);
	fixture->store = open_store(fixture, event_limit, boot_id);
}

static void test_object_life(void **state)
{
	struct fixture *f = *state;
	struct store_object object;
	struct error err = {0};
	uint64_t revision = 0;

	assert_int_equal(put(f->store, "a", "{\"n\":1}", NULL), 1);
	assert_int_equal(put(f->store, "a", NULL, "{\"s\":1}"), 2);
	commit(f->store);
	assert_int_equal(store_object_get(f->store, "vpcs", "a", &f->arena, &object, &err), 0);
	assert_int_equal(object.revision, 2);
	assert_string_equal(object.spec, "{\"n\":1}");
	assert_string_equal(object.status, "{\"s\":1}");
	put(f->store, "a", "{\"n\":2}", NULL);
	assert_int_equal(store_object_get(f->store, "vpcs", "a", &f->arena, &object, &err), 0);
	assert_string_equal(object.spec, "{\"n\":2}");
	assert_string_equal(object.status, "{\"s\":1}");
	put(f->store, "a", NULL, "");
	assert_int_equal(store_object_get(f->store, "vpcs", "a", &f->arena, &object, &err), 0);
	assert_string_equal(object.spec, "{\"n\":2}");
	assert_null(object.status);
	assert_int_equal(store_object_delete(f->store, "vpcs", "a", &revision, &err), 0);
	assert_int_equal(revision, 5);
	assert_int_equal(store_object_get(f->store, "vpcs", "a", &f->arena, &object, &err),
			 -ENOENT);
	assert_int_equal(store_object_delete(f->store, "vpcs", "a", NULL, &err), 0);
	assert_int_equal(store_revision(f->store), 5);
}

static void test_quotes_are_only_text(void **state)
{
	struct fixture *f = *state;
	struct store_object object;
	struct error err = {0};
	const char *text = "'); DROP TABLE objects; -- \" \xe2\x82\xac";

	put(f->store, text, text, text);
	commit(f->store);
	assert_int_equal(store_object_get(f->store, "vpcs", text, &f->arena, &object, &err), 0);
	assert_string_equal(object.spec, text);
	assert_string_equal(object.id, text);
}

static void test_rollback_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	struct store_object object;
	struct error err = {0};

	put(f->store, "a", "{}", NULL);
	commit(f->store);
	put(f->store, "b", "{}", NULL);
	assert_int_equal(store_revision(f->store), 2);
	store_turn_rollback(f->store);
	assert_int_equal(store_revision(f->store), 1);
	assert_int_equal(store_object_get(f->store, "vpcs", "b", &f->arena, &object, &err),
			 -ENOENT);
	assert_int_equal(put(f->store, "c", "{}", NULL), 2);
}

static void test_committed_survives_and_open_turn_does_not(void **state)
{
	struct fixture *f = *state;
	struct store_object object;
	struct error err = {0};
	char epoch[STORE_EPOCH_SIZE];

	snprintf(epoch, sizeof(epoch), "%s", store_epoch(f->store));
	put(f->store, "a", "{}", NULL);
	commit(f->store);
	put(f->store, "b", "{}", NULL);
	reopen(f, 0, "boot-1");
	assert_string_equal(store_epoch(f->store), epoch);
	assert_int_equal(store_revision(f->store), 1);
	assert_int_equal(store_object_get(f->store, "vpcs", "a", &f->arena, &object, &err), 0);
	assert_int_equal(store_object_get(f->store, "vpcs", "b", &f->arena, &object, &err),
			 -ENOENT);
}

static int count_lease(const struct store_lease *lease, void *context)
{
	(void)lease;
	++*(int *)context;
	return 0;
}

static void test_host_reboot_renews_the_epoch_and_frees_leases(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};
	char epoch[STORE_EPOCH_SIZE];
	int leases = 0;

	snprintf(epoch, sizeof(epoch), "%s", store_epoch(f->store));
	store_lease_put(f->store, &(struct store_lease){"s", "10.0.0.4", 1000}, &err);
	store_lease_put(f->store, &(struct store_lease){"s", "10.0.0.5", 2000}, &err);
	store_lease_put(f->store, &(struct store_lease){"s", "10.0.0.5", 3000}, &err);
	store_lease_expire(f->store, 1000, &err);
	commit(f->store);
	assert_int_equal(store_lease_each(f->store, count_lease, &leases, &err), 0);
	assert_int_equal(leases, 1);
	reopen(f, 0, "boot-2");
	assert_string_not_equal(store_epoch(f->store), epoch);
	leases = 0;
	assert_int_equal(store_lease_each(f->store, count_lease, &leases, &err), 0);
	assert_int_equal(leases, 0);
}

struct seen {
	unsigned count, deleted;
	uint64_t first, last;
	char spec[32];
};

static int see_event(const struct store_event *event, void *context)
{
	struct seen *seen = context;

	if (seen->count++ == 0)
		seen->first = event->revision;
	seen->last = event->revision;
	seen->deleted += event->deleted;
	assert_int_equal(event->object.revision, event->revision);
	snprintf(seen->spec, sizeof(seen->spec), "%s", event->object.spec);
	return 0;
}

static void test_events_carry_the_object_as_it_was(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};
	struct seen seen = {0};

	put(f->store, "a", "one", NULL);
	put(f->store, "a", NULL, "status");
	put(f->store, "a", "two", NULL);
	store_object_delete(f->store, "vpcs", "a", NULL, &err);
	commit(f->store);
	assert_int_equal(store_event_each(f->store, 0, 2, see_event, &seen, &err), 0);
	assert_int_equal(seen.count, 2);
	assert_string_equal(seen.spec, "one");
	seen = (struct seen){0};
	assert_int_equal(store_event_each(f->store, 2, 10, see_event, &seen, &err), 0);
	assert_int_equal(seen.first, 3);
	assert_int_equal(seen.last, 4);
	assert_int_equal(seen.deleted, 1);
	assert_string_equal(seen.spec, "two");
}

static void test_compaction_keeps_the_newest_and_live_specs(void **state)
{
	struct fixture *f = *state;
	struct store_object object;
	struct error err = {0};
	struct seen seen = {0};

	reopen(f, 10, "boot-1");
	put(f->store, "still", "precious", NULL);
	for (int i = 0; i < 100; i++)
		put(f->store, "a", i % 3 ? NULL : "text", "status");
	commit(f->store);
	assert_int_equal(store_compacted_revision(f->store), 91);
	assert_int_equal(store_event_each(f->store, 91, 100, see_event, &seen, &err), 0);
	assert_int_equal(seen.count, 10);
	assert_int_equal(store_object_get(f->store, "vpcs", "still", &f->arena, &object, &err), 0);
	assert_string_equal(object.spec, "precious");
	reopen(f, 3, "boot-1");
	assert_int_equal(store_compacted_revision(f->store), 91);
	put(f->store, "a", NULL, "status");
	assert_int_equal(store_compacted_revision(f->store), 99);
	store_turn_rollback(f->store);
	assert_int_equal(store_compacted_revision(f->store), 91);
}

static int count_specs(const struct fixture *f)
{
	sqlite3 *database;
	sqlite3_stmt *statement;
	int count;

	assert_int_equal(sqlite3_open(f->path, &database), SQLITE_OK);
	sqlite3_prepare_v2(database, "SELECT count(*) FROM specs", -1, &statement, NULL);
	assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
	count = sqlite3_column_int(statement, 0);
	sqlite3_finalize(statement);
	sqlite3_close(database);
	return count;
}

static void test_a_spec_that_no_event_names_goes_with_its_successor(void **state)
{
	struct fixture *f = *state;

	reopen(f, 2, "boot-1");
	for (int i = 0; i < 4; i++) {
		put(f->store, "quiet", "changed", NULL);
		for (int k = 0; k < 4; k++)
			put(f->store, "busy", k ? NULL : "text", "status");
	}
	commit(f->store);
	assert_int_equal(count_specs(f), 2);
}

static int join_user(const struct store_reference *user, void *context)
{
	strncat(context, user->id, 30);
	return 0;
}

static void test_references_name_the_users(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};
	char users[64] = "";
	const struct store_reference vpc[] = {{"vpcs", "v"}, {"vpcs", "v"}};

	put(f->store, "v", "{}", NULL);
	assert_int_equal(store_references_set(f->store, "subnets", "s2", vpc, 2, &err), 0);
	assert_int_equal(store_references_set(f->store, "subnets", "s1", vpc, 1, &err), 0);
	assert_int_equal(store_users_each(f->store, "vpcs", "v", join_user, users, &err), 0);
	assert_string_equal(users, "s1s2");
	assert_int_equal(store_references_set(f->store, "subnets", "s1", NULL, 0, &err), 0);
	users[0] = '\0';
	assert_int_equal(store_users_each(f->store, "vpcs", "v", join_user, users, &err), 0);
	assert_string_equal(users, "s2");
}

static void test_file_is_private(void **state)
{
	struct fixture *f = *state;
	const char *const suffixes[] = {"", "-wal", "-shm", ".lock"};
	char path[128];
	struct stat status;

	put(f->store, "a", "{}", NULL);
	commit(f->store);
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

	put(f->store, "a", "{}", NULL);
	commit(f->store);
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

	put(f->store, "a", "{}", NULL);
	commit(f->store);
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

static void test_meta(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};
	const char *value = NULL;

	assert_int_equal(store_meta_get(f->store, "x", &f->arena, &value, &err), -ENOENT);
	store_meta_set(f->store, "x", "1", &err);
	store_meta_set(f->store, "x", "2", &err);
	assert_int_equal(store_meta_get(f->store, "x", &f->arena, &value, &err), 0);
	assert_string_equal(value, "2");
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
	commit(f->store);
	before = file_size(f->path);
	for (int i = 0; i < 300; i++) {
		put(f->store, "a", spec, NULL);
		commit(f->store);
	}
	assert_true(store_checkpoint_is_due(f->store, true));
	assert_int_equal(file_size(f->path), before);
	put(f->store, "a", "{}", NULL);
	assert_int_equal(store_checkpoint(f->store, &err), 0); // a turn is open: not now
	assert_true(store_checkpoint_is_due(f->store, true));
	commit(f->store);
	assert_int_equal(store_checkpoint(f->store, &err), 0);
	assert_false(store_checkpoint_is_due(f->store, true));
	assert_true(file_size(f->path) > before + 4 * 1024 * 1024);
	put(f->store, "a", "{\"n\":1}", NULL);
	commit(f->store);
	assert_false(store_checkpoint_is_due(f->store, true)); // the log begins anew
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		CASE(test_object_life),
		CASE(test_quotes_are_only_text),
		CASE(test_rollback_leaves_nothing),
		CASE(test_committed_survives_and_open_turn_does_not),
		CASE(test_host_reboot_renews_the_epoch_and_frees_leases),
		CASE(test_events_carry_the_object_as_it_was),
		CASE(test_compaction_keeps_the_newest_and_live_specs),
		CASE(test_a_spec_that_no_event_names_goes_with_its_successor),
		CASE(test_references_name_the_users),
		CASE(test_file_is_private),
		CASE(test_second_writer_is_refused_and_a_reader_is_not),
		CASE(test_reader_alone),
		CASE(test_newer_schema_is_refused),
		CASE(test_damage_is_reported),
		CASE(test_meta),
		CASE(test_checkpoints_are_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
