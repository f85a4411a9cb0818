// SPDX-License-Identifier: Apache-2.0
#include "agent/guest/http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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

// Length of the head with its blank line, 0 when that has not come yet.
static size_t find_head(struct http_reader *reader)
{
	static const char blank[] = "\r\n\r\n";
	size_t from = reader->scanned > 3 ? reader->scanned - 3 : 0;
	const char *found = memmem(reader->data + from, reader->length - from, blank, 4);

	reader->scanned = reader->length;
	return found ? (size_t)(found - reader->data) + 4 : 0;
}

// Cuts the next line off *at: NUL instead of its CRLF. Other control characters
// (a bare CR or LF among them, request smuggling's tools) make it NULL.
static char *cut_line(char **at)
{
	char *line = *at;
	char *end = strstr(line, "\r\n");

	if (!end)
		return NULL;
	*end = '\0';
	*at = end + 2;
	for (const char *byte = line; *byte; byte++)
		if (((unsigned char)*byte < 0x20 && *byte != '\t') || *byte == 0x7f)
			return NULL;
	return line;
}

static enum http_method method_of(const char *word)
{
	if (strcmp(word, "GET") == 0)
		return HTTP_GET;
	return strcmp(word, "POST") == 0 ? HTTP_POST : HTTP_METHOD_OTHER;
}

// "GET /path?query HTTP/1.1"; 0 or the status of the fault.
static unsigned parse_request_line(struct http_message *message, char *line)
{
	char *target = strchr(line, ' ');
	char *version = target ? strchr(target + 1, ' ') : NULL;
	char *query;

	if (!version || target == line || strchr(version + 1, ' '))
		return 400;
	*target++ = '\0';
	*version++ = '\0';
	if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0)
		return 505;
	message->method = method_of(line);
	message->keep_alive = version[7] == '1';
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

// "HTTP/1.1 204 No Content"
static unsigned parse_status_line(struct http_message *message, const char *line)
{
	char digits[4] = {0};
	uint32_t status;

	if (strncmp(line, "HTTP/1.", 7) != 0 || (line[7] != '0' && line[7] != '1') ||
	    line[8] != ' ')
		return 400;
	strncpy(digits, line + 9, 3);
	if (parse_u32(digits, 599, &status) < 0 || status < 100 ||
	    (line[12] != ' ' && line[12] != '\0'))
		return 400;
	message->status = status;
	message->keep_alive = line[7] == '1';
	return 0;
}

struct http_head {
	bool has_length, expects_continue;
};

static unsigned parse_content_length(struct http_reader *reader, struct http_head *head,
				     const char *value)
{
	uint64_t length;
	int result = parse_u64(value, SIZE_MAX, &length);

	if (result == -EINVAL || head->has_length)
		return 400;
	head->has_length = true;
	if (result < 0 || length > reader->body_max)
		return 413;
	reader->message.body_length = (size_t)length;
	return 0;
}

static unsigned parse_header(struct http_reader *reader, struct http_head *head, const char *name,
			     const char *value)
{
	if (strcasecmp(name, "Content-Length") == 0)
		return parse_content_length(reader, head, value);
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
		head->expects_continue = true;
	}
	return 0;
}

static bool is_token(const char *name)
{
	for (const char *byte = name; *byte; byte++)
		if (!strchr("!#$%&'*+-.^_`|~", *byte) && !(*byte >= '0' && *byte <= '9') &&
		    !((*byte | 0x20) >= 'a' && (*byte | 0x20) <= 'z'))
			return false;
	return *name != '\0';
}

// Splits "Name: value" and trims the value.
static char *split_header(char *line)
{
	char *value = strchr(line, ':');
	char *end;

	if (!value)
		return NULL;
	*value++ = '\0';
	if (!is_token(line))
		return NULL;
	value += strspn(value, " \t");
	end = value + strlen(value);
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		*--end = '\0';
	return value;
}

static unsigned parse_headers(struct http_reader *reader, struct http_head *head, char *at)
{
	unsigned count = 0;

	for (;;) {
		char *line = cut_line(&at);
		char *value;
		unsigned status;

		if (!line)
			return 400;
		if (!*line)
			return 0;
		if (++count > HTTP_HEADERS_MAX)
			return 431;
		value = split_header(line);
		if (!value)
			return 400;
		status = parse_header(reader, head, line, value);
		if (status)
			return status;
	}
}

// Parses the head in place. 0 or the status of the fault.
static unsigned parse_head(struct http_reader *reader)
{
	struct http_head head = {0};
	char *at = reader->data;
	char *line;
	unsigned status;

	reader->message = (struct http_message){.path = "", .query = "", .bearer = ""};
	if (memchr(reader->data, '\0', reader->head_length))
		return 400;
	line = cut_line(&at);
	if (!line)
		return 400;
	status = reader->kind == HTTP_REQUEST ? parse_request_line(&reader->message, line)
					      : parse_status_line(&reader->message, line);
	if (!status)
		status = parse_headers(reader, &head, at);
	reader->message.body = reader->data + reader->head_length;
	reader->expects_continue = head.expects_continue && reader->message.body_length;
	return status;
}

enum http_progress http_reader_next(struct http_reader *reader, struct http_message *ret_message)
{
	if (reader->fault_status)
		return HTTP_FAULT;
	if (!reader->head_length) {
		unsigned status;

		reader->head_length = find_head(reader);
		if (reader->head_length > HTTP_HEAD_MAX ||
		    (!reader->head_length && reader->length >= HTTP_HEAD_MAX))
			return fault(reader, 431);
		if (!reader->head_length)
			return HTTP_PARTIAL;
		status = parse_head(reader);
		if (status)
			return fault(reader, status);
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

static const struct {
	unsigned status;
	const char *reason;
} reasons[] = {
	{200, "OK"},
	{204, "No Content"},
	{400, "Bad Request"},
	{403, "Forbidden"},
	{404, "Not Found"},
	{405, "Method Not Allowed"},
	{413, "Content Too Large"},
	{414, "URI Too Long"},
	{417, "Expectation Failed"},
	{431, "Request Header Fields Too Large"},
	{501, "Not Implemented"},
	{503, "Service Unavailable"},
	{505, "HTTP Version Not Supported"},
};

static const char *reason_of(unsigned status)
{
	for (size_t i = 0; i < ARRAY_LENGTH(reasons); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Unknown";
}

void http_response_head(struct buffer *out, unsigned status, const char *content_type,
			size_t body_length, bool keep_alive)
{
	buffer_addf(out, "HTTP/1.1 %u %s\r\n", status, reason_of(status));
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
