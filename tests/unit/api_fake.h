// SPDX-License-Identifier: Apache-2.0
// The real API on a real socket and store, with a fake backend: tasks are rows in the store
// that become RUNNING after a moment and STOPPED after a stop; nothing else of the agent runs.
//
// Task ids steer it: "stuck-…" stays PENDING, "fail-…" is STOPPED at once,
// "full-…" does not fit (no capacity). A log file is DIRECTORY/<task>.<container>.log (and .log.1).
// Deleting the VPC "busy" is refused by the backend.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct api_fake_options {
	const char *directory; // holds api.sock and store.db
	gid_t reader_gid;      // (gid_t)-1: nobody
	unsigned connections_max, request_deadline_ms;
	uint64_t event_limit, follow_lag;
	size_t follow_buffer_bytes;
	const char *fail_commit_id; // a turn that put this object fails to commit; NULL: none
};

struct api;
struct fake;

// For tests that drive it by hand: NULL when it cannot be opened. The options must outlive it.
struct fake *api_fake_open(const struct api_fake_options *options);
void api_fake_close(struct fake *fake);
struct api *api_fake_api(struct fake *fake);
// One turn of what is ready now; nothing of it is kept in the store.
void api_fake_try_turn(struct fake *fake);

// Serves until SIGTERM; returns the exit code of the process.
int api_fake_serve(const struct api_fake_options *options);
