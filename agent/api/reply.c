// SPDX-License-Identifier: Apache-2.0
// Replies: the stable error codes and the objects as their reader may see them.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/api/internal.h"
#include "agent/base/json.h"
#include "agent/base/scope.h"

// The table that openapi.yaml's `ErrorCode` repeats.
static const struct {
	unsigned status;
	const char *name;
} codes[REPLY_CODE_COUNT] = {
	[REPLY_INVALID_REQUEST] = {400, "InvalidRequest"},
	[REPLY_INVALID_PARAMETER] = {400, "InvalidParameter"},
	[REPLY_REFERENCE_NOT_FOUND] = {400, "ReferenceNotFound"},
	[REPLY_ACCESS_DENIED] = {403, "AccessDenied"},
	[REPLY_NOT_FOUND] = {404, "NotFound"},
	[REPLY_METHOD_NOT_ALLOWED] = {405, "MethodNotAllowed"},
	[REPLY_CONFLICT] = {409, "Conflict"},
	[REPLY_IN_USE] = {409, "InUse"},
	[REPLY_INSUFFICIENT_CAPACITY] = {409, "InsufficientCapacity"},
	[REPLY_COMPACTED] = {410, "Compacted"},
	[REPLY_EPOCH_CHANGED] = {410, "EpochChanged"},
	[REPLY_REVISION_MISMATCH] = {412, "RevisionMismatch"},
	[REPLY_REQUEST_TOO_LARGE] = {413, "RequestTooLarge"},
	[REPLY_HEAD_TOO_LARGE] = {431, "RequestTooLarge"},
	[REPLY_NOT_IMPLEMENTED] = {501, "InvalidRequest"},
	[REPLY_VERSION_NOT_SUPPORTED] = {505, "InvalidRequest"},
	[REPLY_TOO_MANY_STREAMS] = {429, "TooManyStreams"},
	[REPLY_INTERNAL_ERROR] = {500, "InternalError"},
	[REPLY_STORE_UNAVAILABLE] = {503, "StoreUnavailable"},
	[REPLY_TOO_MANY_CONNECTIONS] = {503, "TooManyConnections"},
	[REPLY_UNAVAILABLE] = {503, "Unavailable"},
	[REPLY_INSUFFICIENT_STORAGE] = {507, "InsufficientStorage"},
};

static const struct {
	int code;
	enum reply_code reply;
} errno_replies[] = {
	{EINVAL, REPLY_INVALID_PARAMETER}, {EFBIG, REPLY_REQUEST_TOO_LARGE},
	{ENOENT, REPLY_NOT_FOUND},         {EBUSY, REPLY_IN_USE},
	{EEXIST, REPLY_CONFLICT},          {ENOSPC, REPLY_INSUFFICIENT_CAPACITY},
	{EAGAIN, REPLY_UNAVAILABLE},       {EACCES, REPLY_ACCESS_DENIED},
	{EIO, REPLY_STORE_UNAVAILABLE},    {EDQUOT, REPLY_INSUFFICIENT_STORAGE},
};

struct buffer *reply_begin(struct exchange *exchange, unsigned status, const char *content_type)
{
	buffer_release(&exchange->reply);
	exchange->status = status;
	exchange->content_type = content_type;
	return &exchange->reply;
}

struct buffer *reply_json(struct exchange *exchange, unsigned status)
{
	return reply_begin(exchange, status, "application/json");
}

void reply_error(struct exchange *exchange, enum reply_code code, const struct fault_list *faults,
		 const char *format, ...)
{
	va_list args;
	scoped_free char *message = NULL;
	struct buffer *out = reply_json(exchange, codes[code].status);

	va_start(args, format);
	if (vasprintf(&message, format, args) < 0)
		message = NULL;
	va_end(args);
	model_error_render(codes[code].name, message ? message : codes[code].name, faults, out);
	exchange->wait.wanted = false;
	exchange->etag = 0;
	exchange->object_changed = false;
	exchange->ends_agent = false;
}

void reply_errno(struct exchange *exchange, int result, const struct fault_list *faults,
		 const struct error *err)
{
	const char *message = err->message[0] ? err->message : NULL;

	if (!message && faults && faults->count > 0)
		message = faults->faults[0].message;
	if (result == -EINVAL && faults && fault_list_is_missing_only(faults)) {
		reply_error(exchange, REPLY_REFERENCE_NOT_FOUND, faults, "%s",
			    message ? message : strerror(-result));
		return;
	}
	for (size_t i = 0; i < ARRAY_LENGTH(errno_replies); i++) {
		if (errno_replies[i].code == -result) {
			reply_error(exchange, errno_replies[i].reply, faults, "%s",
				    message ? message : strerror(-result));
			return;
		}
	}
	reply_error(exchange, REPLY_INTERNAL_ERROR, faults, "%s",
		    message ? message : strerror(-result));
}

// The spec for readers: without the values of the environment and the arguments of commands. A spec
// that does not parse, which cannot happen, is withheld.
static const char *spec_redacted(const struct store_object *object, struct arena *arena)
{
	struct fault_list *faults = arena_new(arena, struct fault_list);
	scoped(buffer_release) struct buffer out = {0};
	struct model_object parsed;

	faults->arena = arena;
	if (model_parse(MODEL_TASK, object->id, object->spec, strlen(object->spec), arena, &parsed,
			faults) < 0)
		return "{}";
	model_render(&parsed, MODEL_RENDER_REDACTED, &out);
	return arena_strdup(arena, buffer_text(&out));
}

// What is stored was written as JSON, but a disk may give other bytes back. They are kept out of
// the replies: one of them would make a list unreadable for everybody. {} stands in their place.
static const char *readable(const char *name, const char *text, struct arena *arena,
			    struct model_envelope *envelope)
{
	static const struct json_limits limits = {.max_bytes = 16 << 20, .max_depth = 64};
	struct json_fault fault;

	if (!text || (text[0] == '{' && json_check(text, strlen(text), &limits, &fault) == 0))
		return text;
	envelope->error =
		arena_printf(arena,
			     "the record of this %s cannot be read: its %s is damaged in the "
			     "database",
			     envelope->kind, name);
	return "{}";
}

struct model_envelope envelope_of(const struct exchange *exchange,
				  const struct store_object *object, struct arena *arena)
{
	struct model_envelope envelope = {
		.kind = object->kind,
		.id = object->id,
		.revision = object->revision,
		.created_ms = object->created_ms,
		.changed_ms = object->changed_ms,
	};

	envelope.spec = readable("spec", object->spec, arena, &envelope);
	envelope.status = readable("status", object->status, arena, &envelope);
	if (!exchange_may_write(exchange) && strcmp(object->kind, model_kind_name(MODEL_TASK)) == 0)
		envelope.spec = spec_redacted(object, arena);
	return envelope;
}

void reply_object(struct exchange *exchange, unsigned status, const struct store_object *object)
{
	struct model_envelope envelope = envelope_of(exchange, object, &exchange->arena);

	model_envelope_render(&envelope, reply_json(exchange, status));
	exchange->etag = object->revision;
}
