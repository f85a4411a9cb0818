// SPDX-License-Identifier: Apache-2.0
// A real cell for tests: own cgroup root, state directory in /tmp, a real shim, driven as the
// agent does it. Needs root and a writable cgroup tree; without them the tests are skipped.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/cell/cell.h"

enum { FIXTURE_UID = 71234, FIXTURE_WAIT_MS = 60000 };

struct fixture {
	char install[32];
	char state_directory[64];
	struct cgroup_tree tree;
	struct cell cell;
	bool kvm; // of the shim's options
	struct process shim;
	int channel_fd;
	struct cell_status status; // the latest snapshot
	uint16_t port;             // of the guest listener
};

// False: this machine cannot, and why was printed.
bool fixture_possible(void);

// The fixture a test got from its setup; skips the test where there is none.
struct fixture *fixture_of(void **state);

void fixture_open(struct fixture *fixture, const char *name);
void fixture_close(
	struct fixture *fixture); // kills and removes everything, asserts that it is gone

// Spawns and releases the shim (uid 0 is allowed).
void fixture_start(struct fixture *fixture);

// Setup and teardown of one test: a cell with a manifest and a running shim.
int fixture_setup(void **state);
int fixture_teardown(void **state);
#define CELL_TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

// A manifest with containers "web" and "sidecar", metadata, and a listener on 127.0.0.1.
void fixture_write_manifest(struct fixture *fixture);
void fixture_attach_listener(struct fixture *fixture);

// A VMM that does nothing for long.
extern const char *const fixture_sleeper[];

// argv NULL-terminated; `boot_timeout_ms` 0: none. Waits until the socket has room.
void fixture_launch(struct fixture *fixture, const char *const *argv, uint32_t boot_timeout_ms);

typedef bool (*fixture_condition)(const struct cell_status *status);
// Takes snapshots until the condition holds; fails the test after FIXTURE_WAIT_MS.
void fixture_wait(struct fixture *fixture, fixture_condition condition);

bool cell_is_anything(const struct cell_status *status);
bool vmm_is_running(const struct cell_status *status);
bool vmm_has_exited(const struct cell_status *status);

// What the VMM wrote; valid until the next call.
const char *fixture_console(const struct fixture *fixture);

// Polls for `events`; fails the test after FIXTURE_WAIT_MS.
void fixture_wait_fd(int fd, short events);

// Reads until the shim has closed the connection.
void fixture_wait_closed(int channel_fd);

// Kills the cgroup and waits until it is empty.
void fixture_kill(struct fixture *fixture);
void fixture_wait_empty(struct fixture *fixture);

// One HTTP exchange on a new connection to the shim's listener. Returns the status, 0 when the
// connection ended without an answer; the whole answer is in `ret_answer`.
enum { FIXTURE_ANSWER_SIZE = 65536 };
unsigned fixture_http(const struct fixture *fixture, const char *request, size_t length,
		      char ret_answer[FIXTURE_ANSWER_SIZE]);
int fixture_dial(const struct fixture *fixture);
