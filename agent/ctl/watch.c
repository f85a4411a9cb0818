// SPDX-License-Identifier: Apache-2.0
// events and logs: what goes on for as long as one listens.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/ctl/changes.h"
#include "agent/ctl/ctl.h"

enum { LINE_BYTES_MAX = 16 * 1024 * 1024 };

// A stream that began and did not come to its own end: the agent's end, or our own trouble.
static int stream_fail(const struct ctl *ctl, int result, const struct client_reply *reply,
		       const char *hint)
{
	if (ferror(stdout))
		return EXIT_REFUSED; // main() says why
	if (result == 0 || reply->err.code == ECONNRESET)
		return fail(ctl, EXIT_UNREACHABLE, NULL, "the agent ended, or is being restarted",
			    hint);
	return fail(ctl, EXIT_REFUSED, NULL,
		    reply->err.code ? reply->err.message : strerror(-result), hint);
}

// --- events ---

static void event_print(const cJSON *event, struct changes *changes)
{
	const cJSON *object = member_at(event, "object");
	scoped(buffer_release) struct buffer changed = {0};
	const char *state = member_text(object, "status.lastStatus");
	const char *reason = member_text(object, "status.stoppedReason");

	if (strcmp(reason, "-") == 0)
		reason = member_text(object, "status.error"); // of a network object
	if (strcmp(member_text(event, "type"), "PUT") == 0)
		changes_take(changes, object, &changed);
	printf("%8s  %s  %-8s %s/%s%s%s%s%s%s%s%s\n", member_text(event, "revision"),
	       member_text(event, "time"), member_text(event, "type"), member_text(object, "kind"),
	       member_text(object, "id"), strcmp(state, "-") ? "  " : "",
	       strcmp(state, "-") ? state : "", strcmp(reason, "-") ? "  " : "",
	       strcmp(reason, "-") ? reason : "", changed.length ? "  (" : "",
	       buffer_text(&changed), changed.length ? ")" : "");
}

int lines_receive(const char *bytes, size_t count, void *context)
{
	struct lines *lines = context;

	while (count > 0) {
		const char *end = memchr(bytes, '\n', count);
		size_t length = end ? (size_t)(end - bytes) : count;

		if (lines->line.length + length > LINE_BYTES_MAX)
			return -EMSGSIZE;
		buffer_add(&lines->line, bytes, length);
		if (end) {
			lines->take(buffer_text(&lines->line), lines->context);
			lines->line.length = 0;
		}
		bytes += length + (end ? 1 : 0);
		count -= length + (end ? 1 : 0);
	}
	return fflush(stdout) == 0 ? 0 : -errno;
}

struct events {
	bool json;
	char revision[24]; // of the last event; before one, that from which the stream begins
	bool overflow;
	struct changes changes;
};

static void event_take(const char *line, void *context)
{
	struct events *events = context;
	scoped(document_release) cJSON *event = cJSON_Parse(line);

	if (cJSON_IsNumber(member_at(event, "revision")))
		snprintf(events->revision, sizeof(events->revision), "%s",
			 member_text(event, "revision"));
	events->overflow = strcmp(member_text(event, "type"), "OVERFLOW") == 0;
	if (events->json)
		puts(line);
	else if (event && !events->overflow)
		event_print(event, &events->changes);
}

// The value is put in as it is: it was checked, and cannot mean anything else.
static void query_add(struct buffer *path, const char *name, const char *value)
{
	if (value)
		buffer_addf(path, "&%s=%s", name, value);
}

static int events_show(const struct ctl *ctl, const char *path, const char *since, bool follow)
{
	scoped(client_reply_release) struct client_reply reply = {0};
	struct events events = {.json = ctl->json};
	struct lines lines = {.take = event_take, .context = &events};
	const struct client_request request = {
		.socket_path = ctl->socket_path,
		.method = "GET",
		.path = path,
		.receive = lines_receive,
		.context = &lines,
	};
	char next[128];
	int result;

	snprintf(events.revision, sizeof(events.revision), "%s", since ? since : "");
	result = client_perform(&request, &reply);
	buffer_release(&lines.line);
	changes_release(&events.changes);
	snprintf(next, sizeof(next), "What comes next: penstockctl events%s --since %s%s%s",
		 follow ? " -f" : "", events.revision, reply.epoch[0] ? " --epoch " : "",
		 reply.epoch);
	if (reply.status != 200)
		return reply_fail(ctl, NULL, &reply);
	if (events.overflow)
		return fail(ctl, EXIT_REFUSED, NULL, "this reader was too slow and was cut off",
			    next);
	if (follow) // sees no other end than the agent's
		return stream_fail(ctl, result, &reply, next);
	return result == 0 ? EXIT_DONE : stream_fail(ctl, result, &reply, NULL);
}

// Where a follower begins that was not told: with the next event. Known from the start, it can be
// gone on from even when none came.
static int revision_now(const struct ctl *ctl, struct buffer *ret_revision)
{
	scoped(document_release) cJSON *list = NULL;
	int result = document_get(ctl, "/v1/vpcs", &list);

	if (result == EXIT_DONE)
		buffer_adds(ret_revision, member_text(list, "revision"));
	return result;
}

static int run_events(const struct ctl *ctl, int argc, char **argv)
{
	const char *since = NULL, *epoch = NULL, *kind = NULL, *id = NULL;
	bool follow = false;
	const struct option_value options[] = {
		{"--follow", "-f", NULL, &follow}, {"--since", NULL, &since, NULL},
		{"--epoch", NULL, &epoch, NULL},   {"--kind", NULL, &kind, NULL},
		{"--id", NULL, &id, NULL},
	};
	scoped(buffer_release) struct buffer path = {0}, now = {0};
	uint64_t revision;
	int result;

	options_take(&verb_events, argc, argv, options, ARRAY_LENGTH(options));
	if (since && parse_u64(since, INT64_MAX, &revision) < 0)
		return usage_error(&verb_events, "--since takes a revision, not ", since);
	if (epoch && epoch[strspn(epoch, "0123456789abcdef")])
		return usage_error(&verb_events, "--epoch takes hexadecimal digits, not ", epoch);
	if (kind && !kind_name(kind))
		return usage_error(&verb_events, "there is no kind ", kind);
	if (id && !id_is_valid(id))
		return usage_error(&verb_events, "no object can be named ", id);
	if (follow && !since) {
		result = revision_now(ctl, &now);
		if (result != EXIT_DONE)
			return result;
		since = buffer_text(&now);
	}
	buffer_addf(&path, "/v1/events?follow=%s", follow ? "true" : "false");
	query_add(&path, "since", since);
	query_add(&path, "epoch", epoch);
	query_add(&path, "kind", kind ? kind_name(kind) : NULL);
	query_add(&path, "id", id);
	return events_show(ctl, buffer_text(&path), since, follow);
}

const struct verb verb_events = {
	.name = "events",
	.arguments = "[-f] [--since REVISION [--epoch EPOCH]] [--kind KIND] [--id ID]",
	.summary = "what changed, and with -f what changes",
	// clang-format off
	.help = "One line per change of an object, in the order of revisions: the kept ones, or with\n"
		"-f those from now on; in brackets what differs from the event before of the same\n"
		"object. In -o json each line is the event with the whole object.\n"
		"A follower ends with the agent (exit code 3), or when it reads too slowly (1), and\n"
		"is told the revision and epoch from which to go on: no event is missed.\n"
		"\n"
		"  -f, --follow         go on\n"
		"  --since REVISION     those behind this revision\n"
		"  --epoch EPOCH        refuse when the revisions are of another history by now\n"
		"  --kind KIND          vpc, subnet, security-group, load-balancer, target-group,\n"
		"                       file-system or task\n"
		"  --id ID\n"
		"\n"
		"Example: penstockctl events -f --kind task",
	// clang-format on
	.run = run_events,
};

// --- logs ---

static int write_through(const char *bytes, size_t count, void *context)
{
	(void)context;
	if (fwrite(bytes, 1, count, stdout) != count || fflush(stdout) != 0)
		return -errno;
	return 0;
}

// Which containers there are, and what to type.
static int containers_tell(const struct ctl *ctl, const char *task, bool follow,
			   const struct client_reply *refusal)
{
	scoped(document_release) cJSON *document = NULL;
	scoped(buffer_release) struct buffer path = {0};
	const cJSON *containers, *container;

	if (!ctl->json && object_path(task, &path) &&
	    document_get(ctl, buffer_text(&path), &document) == EXIT_DONE) {
		containers = member_at(document, "spec.containerDefinitions");
		fprintf(stderr, "penstockctl: %s has %d containers; say which:\n", task,
			cJSON_GetArraySize(containers));
		cJSON_ArrayForEach(container, containers) {
			fprintf(stderr, "  penstockctl logs%s %s %s\n", follow ? " -f" : "", task,
				member_text(container, "name"));
		}
	} else {
		reply_fail(ctl, NULL, refusal);
	}
	return EXIT_USAGE;
}

static int run_logs(const struct ctl *ctl, int argc, char **argv)
{
	bool follow = false;
	const struct option_value options[] = {{"--follow", "-f", NULL, &follow}};
	int count = options_take(&verb_logs, argc, argv, options, ARRAY_LENGTH(options));
	scoped(buffer_release) struct buffer path = {0};
	scoped(client_reply_release) struct client_reply reply = {0};
	struct client_request request = {
		.socket_path = ctl->socket_path, .method = "GET", .receive = write_through};
	int result;

	if (!task_path(&verb_logs, argv[1], &path))
		return EXIT_USAGE;
	buffer_addf(&path, "/logs?follow=%s&format=%s", follow ? "true" : "false",
		    ctl->json ? "ndjson" : "text");
	if (count == 2) {
		if (argv[2][strspn(argv[2], "abcdefghijklmnopqrstuvwxyz"
					    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")])
			return usage_error(&verb_logs, "no container can be named ", argv[2]);
		buffer_addf(&path, "&container=%s", argv[2]);
	}
	request.path = buffer_text(&path);
	result = client_perform(&request, &reply);
	if (reply.status == 400 && count == 1)
		return containers_tell(ctl, argv[1], follow, &reply);
	if (reply.status != 200)
		return reply_fail(ctl, NULL, &reply);
	return result < 0 ? stream_fail(ctl, result, &reply, NULL) : EXIT_DONE;
}

const struct verb verb_logs = {
	.name = "logs",
	.arguments = "TASK [CONTAINER] [-f]",
	.arguments_min = 1,
	.arguments_max = 2,
	.summary = "what a container wrote",
	// clang-format off
	.help = "Standard output and error of a container, the rotated part first. The container may\n"
		"be left out when the task has only one. With -o json each line is an object with\n"
		"its time and stream. A follower whose agent ends is told so (exit code 3); the\n"
		"task and its log go on.\n"
		"\n"
		"  -f, --follow    go on until the task has stopped\n"
		"\n"
		"Example: penstockctl logs -f web-1 web",
	// clang-format on
	.run = run_logs,
};
