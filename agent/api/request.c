// SPDX-License-Identifier: Apache-2.0
#include "agent/api/request.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "agent/base/http_head.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"

enum {
	CHUNK_LINE_MAX = 1024, // size and extensions
	TRAILER_MAX = 4096,
};

static enum request_progress request_fault(struct request_reader *reader, unsigned status,
					   const char *what)
{
	reader->fault_status = status;
	reader->fault = what;
	return REQUEST_FAULT;
}

// --- The head ---

// "GET http://host/path" is "GET /path" (RFC 9112, 3.2.2: a server must take both).
static char *target_origin(char *target)
{
	static const char scheme[] = "http://";
	char *path;

	if (strncasecmp(target, scheme, strlen(scheme)) != 0)
		return target;
	path = strchr(target + strlen(scheme), '/');
	return path ? path : target;
}

static unsigned target_read(struct request_reader *reader, char *target)
{
	char *query;

	for (const char *byte = target; *byte; byte++)
		if (*byte <= 0x20 || *byte >= 0x7f || *byte == '#')
			return 400;
	target = target_origin(target);
	if (target[0] != '/')
		return 400;
	query = strchr(target, '?');
	if (query)
		*query++ = '\0';
	reader->request.path = target;
	reader->request.query = query ? query : "";
	return 0;
}

// Whether a list of words, separated by commas, has this one.
static bool list_has(const char *list, const char *word)
{
	size_t length = strlen(word);

	while (*list) {
		size_t part = strcspn(list, ",");

		while (part > 0 && (*list == ' ' || *list == '\t')) {
			list++;
			part--;
		}
		if (strncasecmp(list, word, length) == 0 && part >= length &&
		    strspn(list + length, " \t") == part - length)
			return true;
		list += part;
		list += *list == ',';
	}
	return false;
}

struct framing {
	unsigned lengths, codings, hosts; // how often such a header came
};

static enum request_progress take_length(struct request_reader *reader, const char *value)
{
	int result = parse_u64(value, INT64_MAX, &reader->request.content_length);

	if (result == -EINVAL)
		return request_fault(reader, 400, "Content-Length must be a number");
	if (result < 0 || reader->request.content_length > reader->body_max)
		return request_fault(reader, 413, "the body is too long");
	reader->request.has_body = reader->request.content_length > 0;
	return REQUEST_HEAD;
}

static enum request_progress take_field(struct request_reader *reader, struct framing *framing,
					const struct http_field *field)
{
	struct request *request = &reader->request;

	if (strcasecmp(field->name, "Content-Length") == 0) {
		if (framing->lengths++)
			return request_fault(reader, 400, "Content-Length is given twice");
		return take_length(reader, field->value);
	}
	if (strcasecmp(field->name, "Transfer-Encoding") == 0) {
		if (framing->codings++ || strcasecmp(field->value, "chunked") != 0)
			return request_fault(reader, 501,
					     "chunked is the only Transfer-Encoding taken");
		request->has_body = request->chunked = true;
	} else if (strcasecmp(field->name, "Host") == 0) {
		framing->hosts++;
	} else if (strcasecmp(field->name, "Connection") == 0) {
		if (list_has(field->value, "close"))
			request->keep_alive = false;
		else if (request->minor == 0 && list_has(field->value, "keep-alive"))
			request->keep_alive = true;
	} else if (strcasecmp(field->name, "Expect") == 0) {
		request->expects_continue = strcasecmp(field->value, "100-continue") == 0;
	} else if (strcasecmp(field->name, "If-Match") == 0) {
		if (request->if_match)
			return request_fault(reader, 400, "If-Match is given twice");
		request->if_match = field->value;
	} else if (strcasecmp(field->name, "Accept") == 0 && !request->accept) {
		request->accept = field->value;
	}
	return REQUEST_HEAD;
}

static enum request_progress framing_check(struct request_reader *reader,
					   const struct framing *framing)
{
	const struct request *request = &reader->request;

	if (framing->lengths && framing->codings)
		return request_fault(reader, 400,
				     "Content-Length and Transfer-Encoding exclude each other");
	if (framing->codings && request->minor == 0)
		return request_fault(reader, 400, "HTTP/1.0 has no Transfer-Encoding");
	if (framing->hosts > 1 || (framing->hosts == 0 && request->minor == 1))
		return request_fault(reader, 400, "HTTP/1.1 asks for one Host header");
	return REQUEST_HEAD;
}

static enum request_progress head_parse(struct request_reader *reader)
{
	struct framing framing = {0};
	struct request *request = &reader->request;
	enum request_progress progress = REQUEST_HEAD;
	struct http_head head;
	unsigned status = http_request_head_parse(reader->head.data, reader->head.length, &head);

	if (status == 0)
		status = target_read(reader, head.target);
	if (status == 505)
		return request_fault(reader, status, "HTTP/1.1 and HTTP/1.0 are taken");
	if (status == 431)
		return request_fault(reader, status, "too many headers");
	if (status)
		return request_fault(reader, status, "the request's head is malformed");
	request->method = head.method;
	request->minor = head.minor;
	request->keep_alive = head.minor == 1;
	for (unsigned i = 0; i < head.count && progress == REQUEST_HEAD; i++)
		progress = take_field(reader, &framing, &head.fields[i]);
	if (progress == REQUEST_HEAD)
		progress = framing_check(reader, &framing);
	reader->left = request->content_length;
	reader->state = !request->has_body ? REQUEST_AT_END
			: request->chunked ? REQUEST_AT_CHUNK_SIZE
					   : REQUEST_AT_BODY;
	return progress;
}

// One empty line before a request is skipped (RFC 9112, 2.2).
static void skip_lone_line_end(struct request_reader *reader)
{
	if (reader->lone_line_end || reader->head.length < 2)
		return;
	reader->lone_line_end = true;
	if (memcmp(reader->head.data, "\r\n", 2) != 0)
		return;
	reader->head.length -= 2;
	reader->scanned = 0;
	memmove(reader->head.data, reader->head.data + 2, reader->head.length + 1);
}

// Takes bytes up to the end of the head; what comes after it stays with the caller.
static enum request_progress head_feed(struct request_reader *reader, const char *bytes,
				       size_t count, size_t *ret_taken)
{
	size_t before = reader->head.length, length;

	if (count > REQUEST_HEAD_MAX - before)
		count = REQUEST_HEAD_MAX - before;
	buffer_add(&reader->head, bytes, count);
	*ret_taken = count;
	before = reader->head.length;
	skip_lone_line_end(reader);
	length = http_head_find(reader->head.data, reader->head.length, &reader->scanned);
	if (length == 0 && before == REQUEST_HEAD_MAX)
		return request_fault(reader, 431, "the request's head is too long");
	if (length == 0)
		return REQUEST_PARTIAL;
	*ret_taken = count - (reader->head.length - length);
	reader->head.length = length;
	return head_parse(reader);
}

// --- The body ---

static enum request_progress body_add(struct request_reader *reader, const char *bytes,
				      size_t count, size_t *ret_taken)
{
	if (count > reader->left)
		count = (size_t)reader->left;
	*ret_taken = count;
	buffer_add(&reader->request.body, bytes, count);
	reader->left -= count;
	if (reader->left > 0)
		return REQUEST_PARTIAL;
	reader->state = reader->request.chunked ? REQUEST_AT_CHUNK_END : REQUEST_AT_END;
	reader->line = 0;
	return REQUEST_PARTIAL;
}

static int hex_digit(char byte)
{
	if (byte >= '0' && byte <= '9')
		return byte - '0';
	if ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'f')
		return (byte | 0x20) - 'a' + 10;
	return -1;
}

static enum request_progress chunk_begin(struct request_reader *reader)
{
	if (reader->left > reader->body_max - reader->request.body.length)
		return request_fault(reader, 413, "the body is too long");
	reader->state = reader->left > 0 ? REQUEST_AT_CHUNK_DATA : REQUEST_AT_TRAILER;
	reader->line = 0;
	return REQUEST_PARTIAL;
}

// One byte of a chunk's first line: 1A;name=value CRLF
static enum request_progress chunk_line(struct request_reader *reader, char byte)
{
	int digit = hex_digit(byte);

	if (++reader->line > CHUNK_LINE_MAX)
		return request_fault(reader, 400, "the line of a chunk's size is too long");
	if (reader->state == REQUEST_AT_CHUNK_SIZE_END)
		return byte == '\n' ? chunk_begin(reader)
				    : request_fault(reader, 400, "a chunk's size is malformed");
	if (reader->state == REQUEST_AT_CHUNK_SIZE && digit >= 0) {
		if (reader->left > UINT32_MAX)
			return request_fault(reader, 413, "the body is too long");
		reader->left = reader->left * 16 + (uint64_t)digit;
		return REQUEST_PARTIAL;
	}
	if (reader->state == REQUEST_AT_CHUNK_SIZE && reader->line == 1)
		return request_fault(reader, 400, "a chunk's size is malformed");
	if (byte == '\r')
		reader->state = REQUEST_AT_CHUNK_SIZE_END;
	else if (reader->state == REQUEST_AT_CHUNK_SIZE &&
		 (byte == ';' || byte == ' ' || byte == '\t'))
		reader->state = REQUEST_AT_CHUNK_EXTENSION;
	else if (reader->state == REQUEST_AT_CHUNK_SIZE ||
		 ((unsigned char)byte < 0x20 && byte != '\t') || byte == 0x7f)
		return request_fault(reader, 400, "a chunk's size is malformed");
	return REQUEST_PARTIAL;
}

static enum request_progress chunk_end(struct request_reader *reader, char byte)
{
	if (byte != (reader->line++ ? '\n' : '\r'))
		return request_fault(reader, 400, "a chunk's data has no end");
	if (reader->line == 2) {
		reader->state = REQUEST_AT_CHUNK_SIZE;
		reader->line = 0;
	}
	return REQUEST_PARTIAL;
}

// Lines that are ignored, up to an empty one.
static enum request_progress trailer(struct request_reader *reader, char byte)
{
	if (++reader->trailer > TRAILER_MAX)
		return request_fault(reader, 431, "the trailers are too long");
	if (reader->after_cr != (byte == '\n') || byte == '\0')
		return request_fault(reader, 400, "a trailer is malformed");
	reader->after_cr = byte == '\r';
	if (byte == '\n') {
		if (reader->line == 0)
			reader->state = REQUEST_AT_END;
		reader->line = 0;
	} else if (byte != '\r') {
		reader->line++;
	}
	return REQUEST_PARTIAL;
}

static enum request_progress body_feed(struct request_reader *reader, const char *bytes,
				       size_t count, size_t *ret_taken)
{
	switch (reader->state) {
	case REQUEST_AT_BODY:
	case REQUEST_AT_CHUNK_DATA:
		return body_add(reader, bytes, count, ret_taken);
	case REQUEST_AT_CHUNK_END:
		return chunk_end(reader, *bytes);
	case REQUEST_AT_TRAILER:
		return trailer(reader, *bytes);
	default:
		return chunk_line(reader, *bytes);
	}
}

enum request_progress request_reader_feed(struct request_reader *reader, const char *bytes,
					  size_t count, size_t *ret_taken)
{
	enum request_progress progress = REQUEST_PARTIAL;
	size_t taken = 0;

	*ret_taken = 0;
	if (reader->fault_status)
		return REQUEST_FAULT;
	if (reader->state == REQUEST_AT_HEAD)
		return head_feed(reader, bytes, count, ret_taken);
	while (reader->state != REQUEST_AT_END && taken < count && progress == REQUEST_PARTIAL) {
		size_t step = 1;

		progress = body_feed(reader, bytes + taken, count - taken, &step);
		taken += step;
	}
	*ret_taken = taken;
	return reader->state == REQUEST_AT_END ? REQUEST_COMPLETE : progress;
}

bool request_reader_is_idle(const struct request_reader *reader)
{
	return reader->state == REQUEST_AT_HEAD && reader->head.length == 0;
}

void request_reader_reset(struct request_reader *reader)
{
	buffer_release(&reader->head);
	buffer_release(&reader->request.body);
	*reader = (struct request_reader){.body_max = reader->body_max};
}

bool request_query_decode(char *text)
{
	char *out = text;

	for (; *text; text++) {
		if (*text == '%') {
			int high = hex_digit(text[1]), low = high < 0 ? -1 : hex_digit(text[2]);

			if (low < 0 || high * 16 + low == 0)
				return false;
			*out++ = (char)(high * 16 + low);
			text += 2;
		} else {
			*out++ = (char)(*text == '+' ? ' ' : *text);
		}
	}
	*out = '\0';
	return true;
}
