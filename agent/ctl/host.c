// SPDX-License-Identifier: Apache-2.0
// host and shutdown: the agent itself.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"

static void print_member(const cJSON *member, const char *prefix)
{
	const cJSON *total = cJSON_GetObjectItemCaseSensitive(member, "total");

	if (total)
		printf("%s%-18s %s of %s promised\n", prefix, member->string,
		       member_text(member, "promised"), member_text(member, "total"));
	else
		printf("%s%-18s %s\n", prefix, member->string, member_text(member, ""));
}

static int run_host(const struct ctl *ctl, int argc, char **argv)
{
	scoped(document_release) cJSON *host = NULL;
	const cJSON *member, *inner;
	int result;

	options_take(&verb_host, argc, argv, NULL, 0);
	result = document_get(ctl, "/v1/host", &host);
	if (result != EXIT_DONE)
		return result;
	if (ctl->json) {
		document_print(host);
		return EXIT_DONE;
	}
	cJSON_ArrayForEach(member, host) {
		if (!cJSON_IsObject(member)) {
			print_member(member, "");
			continue;
		}
		printf("%s:\n", member->string);
		cJSON_ArrayForEach(inner, member) {
			print_member(inner, "  ");
		}
	}
	return EXIT_DONE;
}

const struct verb verb_host = {
	.name = "host",
	.arguments = "",
	.summary = "this agent: capacity, versions, driver",
	.help = "What the agent has to promise and has promised, the accelerator it chose, the\n"
		"kernels, how cgroups are used. (Is the host fit? penstockctl doctor.)",
	.run = run_host,
};

// --- shutdown ---

struct ending {
	const struct ctl *ctl;
	bool stop_tasks;
	uint32_t timeout_seconds;
	int result;   // of asking for it
	bool cut_off; // from the stream, while the agent goes on
	cJSON *ended; // an object whose members are the ids of the tasks that were reported
};

static int end_ask(void *context)
{
	struct ending *ending = context;
	const struct client_request request = {
		.socket_path = ending->ctl->socket_path,
		.method = "POST",
		.path = ending->stop_tasks ? "/v1/shutdown?stopTasks=true" : "/v1/shutdown",
		.timeout_seconds = ending->timeout_seconds,
	};
	scoped(client_reply_release) struct client_reply reply = {0};

	if (client_perform(&request, &reply) == 0 && reply.status == 202)
		return 0;
	ending->result = reply_fail(ending->ctl, NULL, &reply);
	return -ECANCELED;
}

// Reports each task once, when it has stopped.
static void ending_take(const char *line, void *context)
{
	struct ending *ending = context;
	scoped(document_release) cJSON *event = cJSON_Parse(line);
	const cJSON *task = member_at(event, "object");
	const char *id = member_text(task, "id");

	if (strcmp(member_text(event, "type"), "OVERFLOW") == 0)
		ending->cut_off = true;
	if (strcmp(member_text(event, "type"), "PUT") != 0 ||
	    strcmp(member_text(task, "status.lastStatus"), "STOPPED") != 0 ||
	    cJSON_HasObjectItem(ending->ended, id))
		return;
	cJSON_AddTrueToObject(ending->ended, id);
	if (!ending->ctl->json)
		printf("%s stopped: %s\n", id, member_text(task, "status.stoppedReason"));
}

static int ending_begun(void *context)
{
	return end_ask(((struct lines *)context)->context);
}

static int unwatched(const struct ctl *ctl, const char *why)
{
	return fail(ctl, EXIT_NOT_REACHED, NULL, "the agent ends, but nobody watches it end", why);
}

// A follower's stream ends when the agent does: that is how its end is seen. It begins before the
// agent is asked to end, and so it cannot be that of a successor. It is one of tasks if they are to
// stop; else no object is named "none", and all that can come is OVERFLOW.
static int agent_end(const struct ctl *ctl, bool stop_tasks, uint32_t timeout_seconds)
{
	scoped(document_release) cJSON *ended = cJSON_CreateObject();
	struct ending ending = {.ctl = ctl,
				.stop_tasks = stop_tasks,
				.timeout_seconds = timeout_seconds,
				.ended = ended};
	struct lines lines = {.take = ending_take, .context = &ending};
	const struct client_request follow = {
		.socket_path = ctl->socket_path,
		.method = "GET",
		.path = stop_tasks ? "/v1/events?follow=true&kind=task"
				   : "/v1/events?follow=true&id=none",
		.begun = ending_begun,
		.receive = lines_receive,
		.context = &lines,
		.timeout_seconds = timeout_seconds,
	};
	scoped(client_reply_release) struct client_reply stream = {0};
	int result = client_perform(&follow, &stream);

	buffer_release(&lines.line);
	// Other followers must not keep the agent from being ended.
	if (stream.status == 429 && end_ask(&ending) == 0)
		return unwatched(ctl, "The agent has as many followers as it takes.");
	if (ending.result != EXIT_DONE)
		return ending.result;
	if (ending.cut_off)
		return unwatched(ctl, "The stream of its events was cut off.");
	if (stream.status == 200 && stream.err.code == ETIMEDOUT)
		return fail(ctl, EXIT_NOT_REACHED, NULL, "the agent has not ended in time",
			    "It goes on ending: what was asked for holds.");
	if (stream.status == 200 && (result == 0 || stream.err.code == ECONNRESET))
		return EXIT_DONE;
	return reply_fail(ctl, NULL, &stream);
}

static int run_shutdown(const struct ctl *ctl, int argc, char **argv)
{
	const char *timeout = "0";
	bool stop_tasks = false;
	const struct option_value options[] = {
		{"--stop-tasks", NULL, NULL, &stop_tasks},
		{"--timeout", NULL, &timeout, NULL},
	};
	uint32_t seconds;

	options_take(&verb_shutdown, argc, argv, options, ARRAY_LENGTH(options));
	if (parse_u32(timeout, 86400, &seconds) < 0)
		return usage_error(&verb_shutdown, "--timeout takes 0 to 86400 seconds, not ",
				   timeout);
	return agent_end(ctl, stop_tasks, seconds);
}

const struct verb verb_shutdown = {
	.name = "shutdown",
	.arguments = "[--stop-tasks] [--timeout SECONDS]",
	.summary = "end the agent; tasks go on unless told otherwise",
	// clang-format off
	.help = "Returns when the agent has ended. Tasks keep running and a new agent takes them up\n"
		"again; with --stop-tasks all of them are drained and stopped first, and a line says\n"
		"of each that it has stopped, and why.\n"
		"\n"
		"  --stop-tasks         stop all tasks\n"
		"  --timeout SECONDS    wait no longer (exit code 5); default 0: until it has ended\n"
		"\n"
		"What each task goes through meanwhile: penstockctl events -f --kind task",
	// clang-format on
	.run = run_shutdown,
};
