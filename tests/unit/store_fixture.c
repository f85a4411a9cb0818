// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/base/file.h"
#include "store_fixture.h"

struct store *fixture_open(struct fixture *fixture, uint64_t event_limit, const char *boot_id)
{
	struct store_options options = {
		.path = fixture->path, .boot_id = boot_id, .event_limit = event_limit};
	struct error err = {0};
	struct store *store = NULL;

	if (store_open(&options, &store, &err) < 0)
		fail_msg("%s", err.message);
	return store;
}

int fixture_setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/test-store-XXXXXX");
	assert_non_null(mkdtemp(fixture->directory));
	snprintf(fixture->path, sizeof(fixture->path), "%s/store.db", fixture->directory);
	fixture->store = fixture_open(fixture, 0, "boot-1");
	*state = fixture;
	return 0;
}

int fixture_teardown(void **state)
{
	struct fixture *fixture = *state;
	struct error err = {0};

	store_close(fixture->store);
	arena_release(&fixture->arena);
	assert_int_equal(directory_remove(AT_FDCWD, fixture->directory, &err), 0);
	free(fixture);
	return 0;
}

uint64_t fixture_put(struct store *store, const char *id, const char *spec, const char *status)
{
	struct store_change change = {.kind = "vpcs", .id = id, .spec = spec, .status = status};
	struct error err = {0};
	uint64_t revision = 0;

	if (store_object_put(store, &change, &revision, &err) < 0)
		fail_msg("%s", err.message);
	return revision;
}

void fixture_commit(struct store *store)
{
	struct error err = {0};

	if (store_turn_commit(store, true, &err) < 0)
		fail_msg("%s", err.message);
}

void fixture_reopen(struct fixture *fixture, uint64_t event_limit, const char *boot_id)
{
	store_close(fixture->store);
	fixture->store = fixture_open(fixture, event_limit, boot_id);
}
