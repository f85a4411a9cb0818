// SPDX-License-Identifier: Apache-2.0
// ?wait=STATE&timeout=SECONDS: the reply comes when the task has got that far.
//
// Reached: the reply as it would be without waiting (200, 201). Not reached – time is
// up, or the task ended on the way – : 202 with the task as it is, which says why.
#include <errno.h>
#include <string.h>

#include "agent/api/internal.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"

enum { TIMEOUT_DEFAULT_SECONDS = 60, TIMEOUT_MAX_SECONDS = 3600 };

bool wait_read(struct exchange *exchange)
{
	const char *state = exchange_query(exchange, "wait");
	const char *timeout = exchange_query(exchange, "timeout");
	uint32_t seconds = TIMEOUT_DEFAULT_SECONDS;

	if (state && task_state_from_name(state, &exchange->wait.state) < 0)
		reply_error(exchange, REPLY_INVALID_REQUEST, NULL,
			    "query parameter wait must be a task's state, as RUNNING or STOPPED");
	else if (timeout && !state)
		reply_error(exchange, REPLY_INVALID_REQUEST, NULL,
			    "query parameter timeout is for use with wait");
	else if (timeout && parse_u32(timeout, TIMEOUT_MAX_SECONDS, &seconds) < 0)
		reply_error(exchange, REPLY_INVALID_REQUEST, NULL,
			    "query parameter timeout must be whole seconds from 0 to %d",
			    TIMEOUT_MAX_SECONDS);
	else if (!state || exchange_may_hold(exchange)) {
		exchange->wait.wanted = state != NULL;
		exchange->wait.timeout_ms = seconds * 1000;
		return true;
	}
	return false;
}

enum progress { NOT_YET, REACHED, NEVER };

// The states are in the order in which a task goes through them, and it never goes back.
// RUNNING is not reached by a task that left it behind or skipped it.
static enum progress progress_of(struct wait *wait, const struct store_object *object,
				 struct arena *arena)
{
	struct task_status status;
	struct error err = {0};

	if (object->revision == wait->seen_revision)
		return NOT_YET; // it was another task that changed
	wait->seen_revision = object->revision;
	if (!object->status ||
	    task_status_parse(object->status, strlen(object->status), arena, &status, &err) < 0)
		return NOT_YET;
	if (status.last_status == wait->state)
		return REACHED;
	if (status.last_status < wait->state)
		return NOT_YET;
	if (wait->state > TASK_RUNNING)
		return REACHED; // passed
	return status.last_status == TASK_STOPPED || wait->state == TASK_RUNNING ? NEVER : REACHED;
}

// Looks at the task; when it is decided, or `finally`, the reply is made.
static enum progress wait_look(struct exchange *exchange, bool finally)
{
	scoped(arena_release) struct arena arena = {0};
	struct store_object object;
	struct error err = {0};
	enum progress progress;
	int result = store_object_get(exchange->api->store, model_kind_name(MODEL_TASK),
				      exchange->id, &arena, &object, &err);

	if (result < 0) { // forgotten meanwhile, or the store is broken
		reply_errno(exchange, result, NULL, &err);
		return NEVER;
	}
	progress = progress_of(&exchange->wait, &object, &arena);
	if (progress != NOT_YET || finally)
		reply_object(exchange, progress == REACHED ? exchange->status : 202, &object);
	return progress;
}

static void wait_end(struct exchange *exchange)
{
	exchange_unhold(exchange);
	exchange_finish(exchange);
}

static void on_timeout(evutil_socket_t fd, short what, void *context)
{
	struct exchange *exchange = context;

	(void)fd;
	(void)what;
	wait_look(exchange, true);
	wait_end(exchange);
}

void wait_begin(struct exchange *exchange)
{
	const struct timeval timeout = {
		.tv_sec = exchange->wait.timeout_ms / 1000,
		.tv_usec = exchange->wait.timeout_ms % 1000 * 1000,
	};

	if (wait_look(exchange, false) != NOT_YET || !exchange->connection) {
		exchange_finish(exchange);
		return;
	}
	exchange->wait.timer = evtimer_new(exchange->api->base, on_timeout, exchange);
	exchange_hold(exchange, &exchange->api->waiting);
	event_add(exchange->wait.timer, &timeout);
}

void waits_check(struct api *api)
{
	struct exchange *exchange = TAILQ_FIRST(&api->waiting);

	while (exchange) {
		struct exchange *next = TAILQ_NEXT(exchange, link);

		if (wait_look(exchange, false) != NOT_YET)
			wait_end(exchange);
		exchange = next;
	}
}
