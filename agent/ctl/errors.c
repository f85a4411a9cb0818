// SPDX-License-Identifier: Apache-2.0
// What penstockctl says on standard error when the agent refuses or does not answer: the API's
// error object, as text or (-o json) as it is, one object per line.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"

static void details_show(const cJSON *details)
{
	const cJSON *detail;

	cJSON_ArrayForEach(detail, details) {
		const char *pointer = member_text(detail, "pointer");
		bool whole = pointer[0] != '/' || strncmp(pointer, "/v1/", 4) == 0;

		fprintf(stderr, "  %s%s%s\n", whole ? "" : pointer, whole ? "" : ": ",
			member_text(detail, "message"));
	}
}

void error_show(const struct ctl *ctl, const char *object, cJSON *error)
{
	const cJSON *details = member_at(error, "details");
	const char *message = member_text(error, "message");
	const char *first = details ? member_text(details->child, "message") : "-";
	// A message that only repeats the first detail is said once, with its place.
	bool repeated = strcmp(message, first) == 0;

	fflush(stdout); // so that both streams in one file read in order
	if (ctl->json) {
		scoped_free char *text = NULL;

		if (object)
			cJSON_AddStringToObject(error, "object", object);
		text = cJSON_PrintUnformatted(error);
		fprintf(stderr, "%s\n", text ? text : "");
		return;
	}
	fprintf(stderr, "penstockctl: %s%s%s:%s%s\n", object ? object : "", object ? ": " : "",
		member_text(error, "code"), repeated ? "" : " ", repeated ? "" : message);
	details_show(details);
	if (cJSON_IsTrue(member_at(error, "more")))
		fprintf(stderr, "  and more\n");
}

cJSON *error_make(const char *code, const char *message, const char *hint)
{
	cJSON *error = cJSON_CreateObject(), *details, *detail;

	cJSON_AddStringToObject(error, "code", code);
	cJSON_AddStringToObject(error, "message", message);
	details = cJSON_AddArrayToObject(error, "details");
	if (hint) {
		detail = cJSON_CreateObject();
		cJSON_AddStringToObject(detail, "pointer", "");
		cJSON_AddStringToObject(detail, "message", hint);
		cJSON_AddItemToArray(details, detail);
	}
	return error;
}

int fail(const struct ctl *ctl, int result, const char *object, const char *message,
	 const char *hint)
{
	static const char *const codes[] = {
		[EXIT_REFUSED] = "Failed",
		[EXIT_UNREACHABLE] = "Unreachable",
		[EXIT_NOT_FOUND] = "NotFound",
		[EXIT_NOT_REACHED] = "NotReached",
	};
	scoped(document_release) cJSON *error = error_make(codes[result], message, hint);

	error_show(ctl, object, error);
	return result;
}

static int unreachable(const struct ctl *ctl, const struct error *err)
{
	const char *hint = NULL;

	if (err->code == ENOENT || err->code == ECONNREFUSED)
		hint = "Is penstockd running? Another socket: --socket PATH or PENSTOCK_SOCKET.";
	else if (err->code == EACCES)
		hint = "Only root and the configured groups may use the socket.";
	else if (err->code == ECONNRESET)
		hint = "It ended, or is being restarted. What it acknowledged holds; ask again.";
	else if (err->code == ETIMEDOUT)
		hint = "It hangs, or the host is overloaded: its log may say more.";
	return fail(ctl, EXIT_UNREACHABLE, NULL, err->message, hint);
}

int reply_fail(const struct ctl *ctl, const char *object, const struct client_reply *reply)
{
	scoped(document_release) cJSON *error = NULL;
	char message[96];

	if (reply->err.code)
		return unreachable(ctl, &reply->err);
	error = cJSON_Parse(buffer_text(&reply->body));
	if (cJSON_IsString(member_at(error, "code"))) {
		error_show(ctl, object, error);
		return reply->status == 404 ? EXIT_NOT_FOUND : EXIT_REFUSED;
	}
	snprintf(message, sizeof(message), "the agent answers %d %s", reply->status, reply->reason);
	return fail(ctl, EXIT_REFUSED, object, message, NULL);
}
