// SPDX-License-Identifier: Apache-2.0
// The store: objects, turns, events, compaction.
#include <errno.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "store_fixture.h"

static void test_object_life(void **state)
{
	struct fixture *f = *state;
	struct store_object object;
	struct error err = {0};
	uint64_t revision = 0;

	assert_int_equal(fixture_put(f->store, "a", "{\"n\":1}", NULL), 1);
	assert_int_equal(fixture_put(f->store, "a", NULL, "{\"s\":1}"), 2);
	fixture_commit(f->store);
	assert_int_equal(store_object_get(f->store, "vpcs", "a", &f->arena, &object, &err), 0);
	assert_int_equal(object.revision, 2);
	assert_string_equal(object.spec, "{\"n\":1}");
	assert_string_equal(object.status, "{\"s\":1}");
	fixture_put(f->store, "a", "{\"n\":2}", NULL);
	assert_int_equal(store_object_get(f->store, "vpcs", "a", &f->arena, &object, &err), 0);
	assert_string_equal(object.spec, "{\"n\":2}");
	assert_string_equal(object.status, "{\"s\":1}");
	fixture_put(f->store, "a", NULL, "");
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

	fixture_put(f->store, text, text, text);
	fixture_commit(f->store);
	assert_int_equal(store_object_get(f->store, "vpcs", text, &f->arena, &object, &err), 0);
	assert_string_equal(object.spec, text);
	assert_string_equal(object.id, text);
}

static void test_rollback_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	struct store_object object;
	struct error err = {0};

	fixture_put(f->store, "a", "{}", NULL);
	fixture_commit(f->store);
	fixture_put(f->store, "b", "{}", NULL);
	assert_int_equal(store_revision(f->store), 2);
	store_turn_rollback(f->store);
	assert_int_equal(store_revision(f->store), 1);
	assert_int_equal(store_object_get(f->store, "vpcs", "b", &f->arena, &object, &err),
			 -ENOENT);
	assert_int_equal(fixture_put(f->store, "c", "{}", NULL), 2);
}

static void test_committed_survives_and_open_turn_does_not(void **state)
{
	struct fixture *f = *state;
	struct store_object object;
	struct error err = {0};
	char epoch[STORE_EPOCH_SIZE];

	snprintf(epoch, sizeof(epoch), "%s", store_epoch(f->store));
	fixture_put(f->store, "a", "{}", NULL);
	fixture_commit(f->store);
	fixture_put(f->store, "b", "{}", NULL);
	fixture_reopen(f, 0, "boot-1");
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
	fixture_commit(f->store);
	assert_int_equal(store_lease_each(f->store, count_lease, &leases, &err), 0);
	assert_int_equal(leases, 1);
	fixture_reopen(f, 0, "boot-2");
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

	fixture_put(f->store, "a", "one", NULL);
	fixture_put(f->store, "a", NULL, "status");
	fixture_put(f->store, "a", "two", NULL);
	store_object_delete(f->store, "vpcs", "a", NULL, &err);
	fixture_commit(f->store);
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

	fixture_reopen(f, 10, "boot-1");
	fixture_put(f->store, "still", "precious", NULL);
	for (int i = 0; i < 100; i++)
		fixture_put(f->store, "a", i % 3 ? NULL : "text", "status");
	fixture_commit(f->store);
	assert_int_equal(store_compacted_revision(f->store), 91);
	assert_int_equal(store_event_each(f->store, 91, 100, see_event, &seen, &err), 0);
	assert_int_equal(seen.count, 10);
	assert_int_equal(store_object_get(f->store, "vpcs", "still", &f->arena, &object, &err), 0);
	assert_string_equal(object.spec, "precious");
	fixture_reopen(f, 3, "boot-1");
	assert_int_equal(store_compacted_revision(f->store), 91);
	fixture_put(f->store, "a", NULL, "status");
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

	fixture_reopen(f, 2, "boot-1");
	for (int i = 0; i < 4; i++) {
		fixture_put(f->store, "quiet", "changed", NULL);
		for (int k = 0; k < 4; k++)
			fixture_put(f->store, "busy", k ? NULL : "text", "status");
	}
	fixture_commit(f->store);
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

	fixture_put(f->store, "v", "{}", NULL);
	assert_int_equal(store_references_set(f->store, "subnets", "s2", vpc, 2, &err), 0);
	assert_int_equal(store_references_set(f->store, "subnets", "s1", vpc, 1, &err), 0);
	assert_int_equal(store_users_each(f->store, "vpcs", "v", join_user, users, &err), 0);
	assert_string_equal(users, "s1s2");
	assert_int_equal(store_references_set(f->store, "subnets", "s1", NULL, 0, &err), 0);
	users[0] = '\0';
	assert_int_equal(store_users_each(f->store, "vpcs", "v", join_user, users, &err), 0);
	assert_string_equal(users, "s2");
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_object_life),
		STORE_TEST(test_quotes_are_only_text),
		STORE_TEST(test_rollback_leaves_nothing),
		STORE_TEST(test_committed_survives_and_open_turn_does_not),
		STORE_TEST(test_host_reboot_renews_the_epoch_and_frees_leases),
		STORE_TEST(test_events_carry_the_object_as_it_was),
		STORE_TEST(test_compaction_keeps_the_newest_and_live_specs),
		STORE_TEST(test_a_spec_that_no_event_names_goes_with_its_successor),
		STORE_TEST(test_references_name_the_users),
		STORE_TEST(test_meta),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
