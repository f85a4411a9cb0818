// SPDX-License-Identifier: Apache-2.0
// A store on a real file, for each test its own.
#pragma once

#include <stdint.h>

#include "agent/base/arena.h"
#include "agent/store/store.h"

struct fixture {
	char directory[64];
	char path[96];
	struct store *store;
	struct arena arena;
};

int fixture_setup(void **state);
int fixture_teardown(void **state);
#define STORE_TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

// Each fails the test when it fails.
struct store *fixture_open(struct fixture *fixture, uint64_t event_limit, const char *boot_id);
void fixture_reopen(struct fixture *fixture, uint64_t event_limit, const char *boot_id);
uint64_t fixture_put(struct store *store, const char *id, const char *spec, const char *status);
void fixture_commit(struct store *store);
