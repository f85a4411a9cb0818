// SPDX-License-Identifier: Apache-2.0
// events and logs: what goes on for as long as one listens.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"

static int write_through(const char *bytes, size_t count, void *context)
{
	(void)context;
	if (fwrite(bytes, 1, count, stdout) != count || fflush(stdout) != 0)
		return -1;
	return 0;
}

// --- events ---

static void print_event(const cJSON *event)
{
	const cJSON *object = member_at(event, "object");
	const char *state = member_text(object, "status.lastStatus");
	const char *reason = member_text(object, "status.stoppedReason");

	printf("%8s  %s  %-8s %s/%s%s%s%s%s\n", member_text(event, "revision"),
	       member_text(event, "time"), member_text(event, "type"), member_text(object, "kind"),
	       member_text(object, "id"), strcmp(state, "-") ? "  " : "",
	       strcmp(state, "-") ? state : "", strcmp(reason, "-") ? "  " : "",
	       strcmp(reason, "-") ? reason : "");
}

struct lines {
	struct buffer line;
	bool overflow;
};

static void line_take(struct lines *lines)
{
	scoped(document_release) cJSON *event = cJSON_Parse(buffer_text(&lines->line));

	if (strcmp(member_text(event, "type"), "OVERFLOW") == 0)
		lines->overflow = true;
	else if (event)
		print_event(event);
	lines->line.length = 0;
}

static int events_receive(const char *bytes, size_t count, void *context)
{
	struct lines *lines = context;

	while (count > 0) {
		const char *end = memchr(bytes, '\n', count);
		size_t length = end ? (size_t)(end - bytes) : count;

		buffer_add(&lines->line, bytes, length);
		if (end)
			line_take(lines);
		bytes += length + (end ? 1 : 0);
		count -= length + (end ? 1 : 0);
	}
	return fflush(stdout) == 0 ? 0 : -1;
}

// The query's value is put in as it is: only what cannot mean anything else is let through.
static bool query_add(struct buffer *path, const char *name, const char *value)
{
	if (!value)
		return true;
	if (!id_is_valid(value))
		return false;
	buffer_addf(path, "&%s=%s", name, value);
	return true;
}

static int run_events(const struct ctl *ctl, int argc, char **argv)
{
	const char *since = NULL, *kind = NULL, *id = NULL;
	bool follow = false;
	const struct option_value options[] = {
		{"--follow", "-f", NULL, &follow},
		{"--since", NULL, &since, NULL},
		{"--kind", NULL, &kind, NULL},
		{"--id", NULL, &id, NULL},
	};
	int count = options_take(&verb_events, argc, argv, options, ARRAY_LENGTH(options));
	scoped(buffer_release) struct buffer path = {0};
	scoped(client_reply_release) struct client_reply reply = {0};
	struct lines lines = {0};
	const struct client_request request = {
		.socket_path = ctl->socket_path,
		.method = "GET",
		.receive = ctl->json ? write_through : events_receive,
		.context = &lines,
	};
	struct client_request placed = request;
	int result;

	if (count != 0)
		return count < 0 ? EXIT_USAGE
				 : usage_error(&verb_events, "unexpected argument ", argv[1]);
	if (kind && !kind_path(kind))
		return usage_error(&verb_events, "there is no kind ", kind);
	buffer_addf(&path, "/v1/events?follow=%s", follow ? "true" : "false");
	if (!query_add(&path, "since", since) || !query_add(&path, "kind", kind) ||
	    !query_add(&path, "id", id))
		return usage_error(&verb_events,
				   "--since takes a revision, --kind a kind, --id an id", "");
	placed.path = buffer_text(&path);
	result = client_perform(&placed, &reply);
	buffer_release(&lines.line);
	if (result < 0 || reply.status != 200)
		return reply_fail(&reply);
	if (lines.overflow)
		fprintf(stderr, "penstockctl: this reader was too slow and was cut off\n");
	return lines.overflow ? EXIT_REFUSED : EXIT_DONE;
}

const struct verb verb_events = {
	.name = "events",
	.arguments = "[-f] [--since REVISION] [--kind KIND] [--id ID]",
	.summary = "what changed, and with -f what changes",
	.help = "One line per change of an object, in the order of revisions: the kept ones, or "
		"with\n"
		"-f those from now on. In -o json each line is the event with the whole object.\n"
		"\n"
		"  -f, --follow         go on\n"
		"  --since REVISION     those behind this revision\n"
		"  --kind KIND          vpc, subnet, security-group, load-balancer, target-group,\n"
		"                       file-system or task\n"
		"  --id ID\n"
		"\n"
		"Example: penstockctl events -f --kind task",
	.run = run_events,
};

// --- logs ---

static int run_logs(const struct ctl *ctl, int argc, char **argv)
{
	bool follow = false;
	const struct option_value options[] = {{"--follow", "-f", NULL, &follow}};
	int count = options_take(&verb_logs, argc, argv, options, ARRAY_LENGTH(options));
	scoped(buffer_release) struct buffer path = {0};
	scoped(client_reply_release) struct client_reply reply = {0};
	struct client_request request = {
		.socket_path = ctl->socket_path, .method = "GET", .receive = write_through};
	const char *kind;

	if (count < 0)
		return EXIT_USAGE;
	if (count < 1 || count > 2)
		return usage_error(&verb_logs, "give a task, and perhaps a container", "");
	if (!object_path(argv[1], &path, &kind))
		return EXIT_USAGE;
	if (strcmp(kind, "task") != 0)
		return usage_error(&verb_logs, "only tasks have logs, not ", argv[1]);
	buffer_addf(&path, "/logs?follow=%s&format=%s", follow ? "true" : "false",
		    ctl->json ? "ndjson" : "text");
	if (count == 2) {
		if (argv[2][strspn(argv[2], "abcdefghijklmnopqrstuvwxyz"
					    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")])
			return usage_error(&verb_logs, "no container can be named ", argv[2]);
		buffer_addf(&path, "&container=%s", argv[2]);
	}
	request.path = buffer_text(&path);
	if (client_perform(&request, &reply) < 0 || reply.status != 200)
		return reply_fail(&reply);
	return EXIT_DONE;
}

const struct verb verb_logs = {
	.name = "logs",
	.arguments = "TASK [CONTAINER] [-f]",
	.summary = "what a container wrote",
	.help = "Standard output and error of a container, the rotated part first. The container "
		"may\n"
		"be left out when the task has only one. With -o json each line is an object with\n"
		"its time and stream.\n"
		"\n"
		"  -f, --follow    go on until the task has stopped\n"
		"\n"
		"Example: penstockctl logs -f web-1 web",
	.run = run_logs,
};
