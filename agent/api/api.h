// SPDX-License-Identifier: Apache-2.0
// The door of the API: HTTP/1.1 + JSON on a Unix socket (openapi.yaml says it all).
//
// It checks, stores and answers; what a change means for the host is the backend's business.
// Objects other than tasks are stored here; tasks are stored by the backend, for it chooses
// their identities in the same turn.
//
//     api_open(&options, &api, &err);
//     for (;;) {
//         event_base_loop(base, EVLOOP_ONCE);            // handlers run, nothing is answered yet
//         int result = store_turn_commit(store, api_turn_acknowledges(api), &err);
//         api_turn_end(api, result < 0 ? &err : NULL);   // answers, feeds watchers, wakes waiters
//     }
//
// Replies are held until api_turn_end(): what a client reads is on the disk. After a failed commit
// the turn's replies become 503 StoreUnavailable; nothing of the turn happened, so the caller must
// not go on with what it planned in it (ending and starting again is the simple way).
//
// Nothing blocks but the store. Errors of api_open: those of socket(2), bind(2); -EADDRINUSE
// when another process answers on the socket.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/base/arena.h"
#include "agent/base/buffer.h"
#include "agent/base/error.h"
#include "agent/model/model.h"
#include "agent/model/stop.h"
#include "agent/store/store.h"

struct api;
struct event_base;

// One finished request, for the backend's histograms. `route` is the pattern ("/v1/tasks/{id}").
struct api_request_sample {
	const char *method, *route;
	unsigned status;
	int64_t duration_us;
};

// What the rest of the agent does for the API. Every call returns at once; int results are 0 or a
// negative errno, which becomes the reply:
//     -EINVAL 400 (with `faults`)   -ENOENT 404   -EBUSY 409 InUse   -EEXIST 409 Conflict
//     -ENOSPC 409 InsufficientCapacity   -EAGAIN 503 Unavailable   -EIO (the store's)
//     503 StoreUnavailable   others 500
// err->message is what the client reads. Text ops append JSON to `out`.
struct api_backend {
	void *context;

	// Inside the turn, before a network object is stored (`change` says what it is to become)
	// or deleted (`object` NULL). References and users are checked already. May refuse; may
	// set *ret_status (arena or static text) to be stored with it, as a balancer's address.
	int (*object_check)(void *context, enum model_kind kind, const char *id,
			    const struct model_object *object, bool dry_run, struct arena *arena,
			    const char **ret_status, struct fault_list *faults, struct error *err);
	// After the commit: the object is now what the store says (or gone).
	void (*object_changed)(void *context, enum model_kind kind, const char *id);

	// A new task, checked; `spec` is its canonical text. Chooses every identity and puts the
	// object with its status and references into the store, in this turn. The struct lives
	// only during the call.
	int (*task_create)(void *context, const struct model_object *task, const char *spec,
			   struct fault_list *faults, struct error *err);
	// What task_create would choose, as one JSON object; nothing is kept.
	int (*task_plan)(void *context, const struct model_object *task, struct buffer *out,
			 struct fault_list *faults, struct error *err);
	// Stopping and stopped tasks: 0.
	int (*task_stop)(void *context, const char *id, const struct task_stop_request *stop,
			 struct error *err);
	// Forgets a STOPPED task: deletes it from the store in this turn. Else -EBUSY.
	int (*task_delete)(void *context, const char *id, bool dry_run, struct error *err);
	// Takes a cell back that the store has no record of (`end`: and stops it), in this turn. 1:
	// it had nothing to be taken back from and is killed. -EEXIST with `faults`: the objects to
	// be put first.
	int (*cell_adopt)(void *context, const char *id, bool end, struct fault_list *faults,
			  struct error *err);
	// A container's log file (or the older, rotated one), CRI lines; the caller closes it.
	int (*task_log_open)(void *context, const char *id, const char *container, bool rotated,
			     int *ret_fd, struct error *err);

	// A JSON array of the ENIs, or (id not NULL) one JSON object.
	int (*enis_render)(void *context, const char *id, struct buffer *out, struct error *err);
	// A JSON array of {target{id, port}, task, targetHealth{state, reason,
	// description}}.
	int (*targets_render)(void *context, const char *target_group, struct buffer *out,
			      struct error *err);
	void (*host_render)(void *context, struct buffer *out); // one JSON object
	// A slice of the exposition (`*position` 0: the first); true when it was the last. Called
	// again in the next turn of the loop.
	bool (*metrics_render)(void *context, bool openmetrics, unsigned *position,
			       struct buffer *out);
	// False with the reason in `err` while the agent is not ready for work.
	bool (*ready)(void *context, struct error *err);
	void (*request_observed)(void *context, const struct api_request_sample *sample);
	// POST /v1/shutdown: SIGTERM's way, after stopping every task when asked. Called
	// from the loop once the reply is sent.
	void (*shutdown)(void *context, bool stop_tasks);
};

#define API_NO_GROUP ((gid_t)-1)

enum {
	API_BODY_BYTES_MAX = 1024 * 1024,
	API_CONNECTIONS_DEFAULT = 128,
	API_REQUEST_DEADLINE_DEFAULT_MS = 30000,
	API_FOLLOW_BUFFER_DEFAULT_BYTES = 256 * 1024,
	API_FOLLOW_LAG_DEFAULT = 2000,
};

struct api_options {
	struct event_base *base;
	struct store *store;
	const struct api_backend *backend; // borrowed, outlives the api
	const char *socket_path;           // a stale socket file is replaced
	gid_t writer_gid, reader_gid;      // besides root; API_NO_GROUP: nobody

	// Limits; 0: the default.
	unsigned connections_max;     // further ones get 503
	unsigned request_deadline_ms; // for a whole request to arrive, and for its reply to be read
	size_t follow_buffer_bytes;   // unread by a follower before it has to wait for it
	uint64_t follow_lag;          // events a follower may be behind then, before it is cut off
};

int api_open(const struct api_options *options, struct api **ret_api, struct error *err);
// Closes the socket, removes its file and cuts all connections. NULL is fine.
void api_close(struct api *api);

// Serves a connected socket that was not accepted here, and owns it from now on.
void api_serve(struct api *api, int fd);

// Whether this turn holds a reply that promises something: the commit must be durable.
bool api_turn_acknowledges(const struct api *api);
// After the commit: `commit_error` NULL when it succeeded.
void api_turn_end(struct api *api, const struct error *commit_error);
