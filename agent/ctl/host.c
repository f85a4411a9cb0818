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
	int result; // of asking for it
	struct lines lines;
};

static int end_ask(void *context)
{
	struct ending *ending = context;
	const struct client_request request = {
		.socket_path = ending->ctl->socket_path,
		.method = "POST",
		.path = ending->stop_tasks ? "/v1/shutdown?stopTasks=true" : "/v1/shutdown",
	};
	scoped(client_reply_release) struct client_reply reply = {0};

	if (client_perform(&request, &reply) == 0 && reply.status == 202)
		return 0;
	ending->result = reply_fail(ending->ctl, NULL, &reply);
	return -ECANCELED;
}

static int end_receive(const char *bytes, size_t count, void *context)
{
	return lines_receive(bytes, count, &((struct ending *)context)->lines);
}

static void progress_show(const char *line, void *context)
{
	const struct ending *ending = context;
	scoped(document_release) cJSON *event = cJSON_Parse(line);

	if (!ending->ctl->json &&
	    strcmp(member_text(event, "object.status.lastStatus"), "STOPPED") == 0 &&
	    strcmp(member_text(event, "type"), "PUT") == 0)
		printf("task/%s: STOPPED\n", member_text(event, "object.id"));
}

// A follower's stream ends when the agent does: that is how its end is seen. It begins before the
// agent is asked to end, and so it cannot be that of a successor.
static int agent_end(const struct ctl *ctl, bool stop_tasks, uint32_t timeout_seconds)
{
	struct ending ending = {
		.ctl = ctl, .stop_tasks = stop_tasks, .lines = {progress_show, &ending, {0}}};
	const struct client_request follow = {
		.socket_path = ctl->socket_path,
		.method = "GET",
		.path = stop_tasks ? "/v1/events?follow=true&kind=task"
				   : "/v1/events?follow=true&id=none",
		.begun = end_ask,
		.receive = end_receive,
		.context = &ending,
		.timeout_seconds = timeout_seconds,
	};
	scoped(client_reply_release) struct client_reply stream = {0};
	int result = client_perform(&follow, &stream);

	buffer_release(&ending.lines.line);
	if (ending.result != EXIT_DONE)
		return ending.result;
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
		"again; with --stop-tasks all of them are drained and stopped first, and each is\n"
		"told.\n"
		"\n"
		"  --stop-tasks         stop all tasks\n"
		"  --timeout SECONDS    wait no longer (exit code 5); default 0: until it has ended",
	// clang-format on
	.run = run_shutdown,
};
