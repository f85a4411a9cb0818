// SPDX-License-Identifier: Apache-2.0
#include "agent/guest/http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/base/http_head.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"

void http_reader_open(struct http_reader *reader, enum http_kind kind, size_t body_max)
{
	*reader = (struct http_reader){
		.kind = kind,
		.body_max = body_max,
		.capacity = HTTP_HEAD_MAX + body_max,
	};
	reader->data = malloc(reader->capacity);
	if (!reader->data)
		abort();
}

void http_reader_close(struct http_reader *reader)
{
	free(reader->data);
	*reader = (struct http_reader){0};
}

size_t http_reader_space(struct http_reader *reader, char **ret_place)
{
	*ret_place = reader->data + reader->length;
	return reader->capacity - reader->length;
}

void http_reader_advance(struct http_reader *reader, size_t count)
{
	reader->length += count;
}

static enum http_progress fault(struct http_reader *reader, unsigned status)
{
	reader->fault_status = status;
	return HTTP_FAULT;
}

static enum http_method method_of(const char *word)
{
	if (strcmp(word, "GET") == 0)
		return HTTP_GET;
	return strcmp(word, "POST") == 0 ? HTTP_POST : HTTP_METHOD_OTHER;
}

// The path and the query of a request's target. 0 or the status of the fault.
static unsigned take_target(struct http_message *message, char *target)
{
	char *query;

	if (strlen(target) > HTTP_TARGET_MAX)
		return 414;
	if (target[0] != '/')
		return 400;
	query = strchr(target, '?');
	if (query)
		*query++ = '\0';
	message->path = target;
	message->query = query ? query : "";
	return 0;
}

struct framing {
	bool has_length, expects_continue;
};

static unsigned parse_content_length(struct http_reader *reader, struct framing *framing,
				     const char *value)
{
	uint64_t length;
	int result = parse_u64(value, SIZE_MAX, &length);

	if (result == -EINVAL || framing->has_length)
		return 400;
	framing->has_length = true;
	if (result < 0 || length > reader->body_max)
		return 413;
	reader->message.body_length = (size_t)length;
	return 0;
}

static unsigned parse_header(struct http_reader *reader, struct framing *framing, const char *name,
			     const char *value)
{
	if (strcasecmp(name, "Content-Length") == 0)
		return parse_content_length(reader, framing, value);
	if (strcasecmp(name, "Transfer-Encoding") == 0)
		return 501;
	if (strcasecmp(name, "Connection") == 0) {
		if (strcasecmp(value, "close") == 0)
			reader->message.keep_alive = false;
	} else if (strcasecmp(name, "Authorization") == 0) {
		if (strncmp(value, "Bearer ", 7) == 0 && strlen(value + 7) <= HTTP_BEARER_MAX)
			reader->message.bearer = value + 7;
	} else if (strcasecmp(name, "Expect") == 0) {
		if (strcasecmp(value, "100-continue") != 0)
			return 417;
		framing->expects_continue = true;
	}
	return 0;
}

// Parses the head in place. 0 or the status of the fault.
static unsigned parse_head(struct http_reader *reader)
{
	struct framing framing = {0};
	struct http_head head;
	struct http_message *message = &reader->message;
	unsigned status;

	*message = (struct http_message){.path = "", .query = "", .bearer = ""};
	status = reader->kind == HTTP_REQUEST
			 ? http_request_head_parse(reader->data, reader->head_length, &head)
			 : http_response_head_parse(reader->data, reader->head_length, &head);
	if (status)
		return status;
	message->status = head.status;
	message->keep_alive = head.minor == 1;
	if (reader->kind == HTTP_REQUEST) {
		message->method = method_of(head.method);
		status = take_target(message, head.target);
	}
	for (unsigned i = 0; i < head.count && !status; i++)
		status = parse_header(reader, &framing, head.fields[i].name, head.fields[i].value);
	message->body = reader->data + reader->head_length;
	if (reader->kind == HTTP_RESPONSE && (message->status < 200 || message->status == 204))
		message->body_length = 0; // whatever the head says (RFC 9112, 6.3)
	reader->expects_continue = framing.expects_continue && message->body_length;
	return status;
}

// RFC 9110, 15.2: interim answers come before the final one, which is what was asked for.
static bool is_interim(const struct http_reader *reader)
{
	return reader->kind == HTTP_RESPONSE && reader->message.status < 200 &&
	       reader->message.status != 101;
}

static enum http_progress read_head(struct http_reader *reader)
{
	unsigned status;

	reader->head_length = http_head_find(reader->data, reader->length, &reader->scanned);
	if (reader->head_length > HTTP_HEAD_MAX ||
	    (!reader->head_length && reader->length >= HTTP_HEAD_MAX))
		return fault(reader, 431);
	if (!reader->head_length)
		return HTTP_PARTIAL;
	status = parse_head(reader);
	return status ? fault(reader, status) : HTTP_COMPLETE;
}

enum http_progress http_reader_next(struct http_reader *reader, struct http_message *ret_message)
{
	if (reader->fault_status)
		return HTTP_FAULT;
	while (!reader->head_length) {
		enum http_progress progress = read_head(reader);

		if (progress != HTTP_COMPLETE)
			return progress;
		if (is_interim(reader))
			http_reader_consume(reader);
	}
	if (reader->length - reader->head_length < reader->message.body_length)
		return HTTP_PARTIAL;
	*ret_message = reader->message;
	return HTTP_COMPLETE;
}

void http_reader_consume(struct http_reader *reader)
{
	size_t taken = reader->head_length + reader->message.body_length;

	memmove(reader->data, reader->data + taken, reader->length - taken);
	reader->length -= taken;
	reader->head_length = reader->scanned = 0;
	reader->expects_continue = false;
}

void http_response_head(struct buffer *out, unsigned status, const char *content_type,
			size_t body_length, bool keep_alive)
{
	buffer_addf(out, "HTTP/1.1 %u %s\r\n", status, http_reason(status));
	if (content_type)
		buffer_addf(out, "Content-Type: %s\r\n", content_type);
	if (status != 204)
		buffer_addf(out, "Content-Length: %zu\r\n", body_length);
	buffer_addf(out, "Connection: %s\r\n\r\n", keep_alive ? "keep-alive" : "close");
}

void http_request_head(struct buffer *out, enum http_method method, const char *target,
		       const char *host, const char *bearer, size_t body_length)
{
	buffer_addf(out, "%s %s HTTP/1.1\r\nHost: %s\r\n", method == HTTP_POST ? "POST" : "GET",
		    target, host);
	if (bearer)
		buffer_addf(out, "Authorization: Bearer %s\r\n", bearer);
	if (method == HTTP_POST)
		buffer_addf(out, "Content-Length: %zu\r\n", body_length);
	buffer_adds(out, "\r\n");
}
