// SPDX-License-Identifier: Apache-2.0
// The route table: every path of openapi.yaml, in the order in which they are tried.
#include <errno.h>
#include <string.h>

#include "agent/api/internal.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"

const struct route api_routes[] = {
	{"GET", "/healthz", ACCESS_READ, handle_healthz, ""},
	{"GET", "/readyz", ACCESS_READ, handle_readyz, ""},
	{"GET", "/metrics", ACCESS_READ, handle_metrics, ""},
	{"GET", "/openapi.yaml", ACCESS_READ, handle_openapi, ""},
	{"GET", "/v1/host", ACCESS_READ, handle_host, ""},
	{"GET", "/v1/enis", ACCESS_READ, handle_enis, ""},
	{"GET", "/v1/enis/{id}", ACCESS_READ, handle_eni, ""},
	{"GET", "/v1/events", ACCESS_READ, handle_events, "since epoch follow kind id"},
	{"POST", "/v1/shutdown", ACCESS_WRITE, handle_shutdown, "stopTasks"},
	{"GET", "/v1/target-groups/{id}/targets", ACCESS_READ, handle_targets, ""},
	{"PUT", "/v1/tasks/{id}", ACCESS_WRITE, handle_task_put, "dryRun wait timeout"},
	{"DELETE", "/v1/tasks/{id}", ACCESS_WRITE, handle_task_delete, "dryRun"},
	{"POST", "/v1/tasks/{id}/stop", ACCESS_WRITE, handle_task_stop, "wait timeout"},
	{"POST", "/v1/tasks/{id}/adopt", ACCESS_WRITE, handle_task_adopt, "end wait timeout"},
	{"GET", "/v1/tasks/{id}/logs", ACCESS_READ, handle_task_logs, "container follow format"},
	{"GET", "/v1/tasks/{id}", ACCESS_READ, handle_object_get, "wait timeout"},
	{"GET", "/v1/{kind}", ACCESS_READ, handle_object_list, ""},
	{"GET", "/v1/{kind}/{id}", ACCESS_READ, handle_object_get, ""},
	{"PUT", "/v1/{kind}/{id}", ACCESS_WRITE, handle_object_put, "dryRun"},
	{"DELETE", "/v1/{kind}/{id}", ACCESS_WRITE, handle_object_delete, "dryRun"},
};

const size_t api_route_count = ARRAY_LENGTH(api_routes);

// The next segment of a path: moves *path behind it. False at the end.
static bool segment_next(const char **path, const char **ret_start, size_t *ret_length)
{
	if (**path != '/')
		return false;
	*ret_start = *path + 1;
	*ret_length = strcspn(*ret_start, "/");
	*path = *ret_start + *ret_length;
	return true;
}

// A path of the design that is not there yet; NULL: just no path.
static const char *not_built(const char *path)
{
	static const char access_points[] = "/v1/access-points";

	return strncmp(path, access_points, strlen(access_points)) == 0
		       ? "access points are not built yet"
		       : NULL;
}

struct match {
	enum model_kind kind;
	const char *id;
};

static bool segment_matches(const char *pattern, size_t pattern_length, const char *segment,
			    struct match *match)
{
	if (pattern_length == strlen("{kind}") && memcmp(pattern, "{kind}", pattern_length) == 0)
		return model_kind_from_path(segment, &match->kind) == 0;
	if (pattern_length == strlen("{id}") && memcmp(pattern, "{id}", pattern_length) == 0) {
		match->id = segment;
		return true;
	}
	// A kind that the pattern names is a kind all the same.
	model_kind_from_path(segment, &match->kind);
	return strlen(segment) == pattern_length && memcmp(pattern, segment, pattern_length) == 0;
}

static bool path_matches(const char *pattern, const char *path, struct arena *arena,
			 struct match *match)
{
	const char *part, *segment;
	size_t part_length, segment_length;

	while (segment_next(&pattern, &part, &part_length)) {
		if (!segment_next(&path, &segment, &segment_length) ||
		    !segment_matches(part, part_length,
				     arena_strndup(arena, segment, segment_length), match))
			return false;
	}
	return *path == '\0' && *pattern == '\0';
}

// The methods of a path, each once: a route of tasks and one of every kind may both match it.
static void allow(struct buffer *methods, const char *method)
{
	if (!strstr(buffer_text(methods), method))
		buffer_addf(methods, "%s%s", methods->length ? ", " : "", method);
}

const struct route *route_match(struct exchange *exchange, const char *path)
{
	scoped(buffer_release) struct buffer allowed = {0};

	for (size_t i = 0; i < api_route_count; i++) {
		struct match match = {.kind = MODEL_TASK};

		if (!path_matches(api_routes[i].pattern, path, &exchange->arena, &match))
			continue;
		allow(&allowed, api_routes[i].method);
		if (strcmp(api_routes[i].method, exchange->method) != 0)
			continue;
		exchange->kind = match.kind;
		exchange->id = match.id;
		if (!match.id || id_is_valid(match.id))
			return &api_routes[i];
		reply_error(exchange, REPLY_INVALID_REQUEST, NULL,
			    "id \"%.80s\": an id is 1 to 63 of a-z, 0-9 and '-', not beginning "
			    "with '-'",
			    match.id);
		return NULL;
	}
	if (allowed.length > 0) {
		exchange->allow = arena_strdup(&exchange->arena, allowed.data);
		reply_error(exchange, REPLY_METHOD_NOT_ALLOWED, NULL, "%s does not take %s", path,
			    exchange->method);
	} else if (not_built(path)) {
		reply_error(exchange, REPLY_NOT_FOUND, NULL, "%s", not_built(path));
	} else {
		reply_error(exchange, REPLY_NOT_FOUND, NULL,
			    "no such path: %.200s (see /openapi.yaml)", path);
	}
	return NULL;
}
