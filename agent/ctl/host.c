// SPDX-License-Identifier: Apache-2.0
// host and shutdown: the agent itself.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static int ignore_bytes(const char *bytes, size_t count, void *context)
{
	(void)bytes;
	(void)count;
	(void)context;
	return 0;
}

// A follower's stream ends when the agent does: that is how its end is seen.
static int agent_end_wait(const struct ctl *ctl, bool stop_tasks)
{
	const struct client_request shut_down = {
		.socket_path = ctl->socket_path,
		.method = "POST",
		.path = stop_tasks ? "/v1/shutdown?stopTasks=true" : "/v1/shutdown",
	};
	const struct client_request follow = {
		.socket_path = ctl->socket_path,
		.method = "GET",
		.path = "/v1/events?follow=true&id=none",
		.receive = ignore_bytes,
	};
	scoped(client_reply_release) struct client_reply reply = {0}, stream = {0};

	if (client_perform(&shut_down, &reply) < 0 || reply.status != 202)
		return reply_fail(ctl, NULL, &reply);
	// Whatever ends it – an ended stream, a cut connection, nobody listening – the agent has
	// gone.
	client_perform(&follow, &stream);
	return stream.status == 200 || stream.err.code == ECONNREFUSED ||
			       stream.err.code == ENOENT || stream.err.code == ECONNRESET
		       ? EXIT_DONE
		       : reply_fail(ctl, NULL, &stream);
}

static int run_shutdown(const struct ctl *ctl, int argc, char **argv)
{
	bool stop_tasks = false;
	const struct option_value options[] = {{"--stop-tasks", NULL, NULL, &stop_tasks}};

	options_take(&verb_shutdown, argc, argv, options, ARRAY_LENGTH(options));
	return agent_end_wait(ctl, stop_tasks);
}

const struct verb verb_shutdown = {
	.name = "shutdown",
	.arguments = "[--stop-tasks]",
	.summary = "end the agent; tasks go on unless told otherwise",
	// clang-format off
	.help = "Returns when the agent has ended. Tasks keep running and a new agent takes them up\n"
		"again; with --stop-tasks all of them are drained and stopped first.",
	// clang-format on
	.run = run_shutdown,
};
