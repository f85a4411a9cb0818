// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/ctl/client.h"

enum { LINE_MAX_BYTES = 16 * 1024, READ_SIZE = 16 * 1024, BODY_MAX_BYTES = 256 * 1024 * 1024 };

static const char cut_off[] = "the agent closed the connection before its reply was complete";
static const char too_late[] = "the agent does not answer in time";

static int64_t deadline_of(const struct client_request *request)
{
	uint32_t seconds = request->timeout_seconds;

	if (seconds == 0)
		seconds = CLIENT_TIMEOUT_SECONDS;
	return clock_monotonic_us() + (int64_t)seconds * 1000000;
}

// What is left until the deadline bounds the next call on the socket.
static int time_left_set(int fd, int64_t deadline_us, struct error *err)
{
	int64_t left_us = deadline_us ? deadline_us - clock_monotonic_us() : 0;
	const struct timeval timeout = {.tv_sec = left_us / 1000000, .tv_usec = left_us % 1000000};

	if (deadline_us && left_us <= 0)
		return error_set(err, ETIMEDOUT, "%s", too_late);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0)
		return error_errno(err, "set the socket's timeout");
	return 0;
}

// What errno means; a socket's timeout is told as EAGAIN.
static int socket_error(struct error *err, const char *what)
{
	if (errno == EAGAIN)
		return error_set(err, ETIMEDOUT, "%s", too_late);
	return error_errno(err, "%s", what);
}

// What is read from the socket, with what is left over from the last read.
struct source {
	int fd;
	int64_t deadline_us; // 0: none
	char bytes[READ_SIZE];
	size_t begin, end;
};

static int client_connect(const char *path, int64_t deadline_us, int *ret_fd, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char what[sizeof(address.sun_path) + 16];
	scoped_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return error_errno(err, "socket");
	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(err, ENAMETOOLONG, "socket path %s is too long", path);
	memcpy(address.sun_path, path, strlen(path) + 1);
	snprintf(what, sizeof(what), "connect to %s", path);
	if (time_left_set(fd, deadline_us, err) < 0)
		return -err->code;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return socket_error(err, what);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int request_send(int fd, int64_t deadline_us, const struct client_request *request,
			struct error *err)
{
	scoped(buffer_release) struct buffer text = {0};
	size_t length = request->body ? strlen(request->body) : 0, sent = 0;

	buffer_addf(&text, "%s %s HTTP/1.1\r\nHost: penstock\r\nConnection: close\r\n",
		    request->method, request->path);
	if (request->if_match)
		buffer_addf(&text, "If-Match: \"%s\"\r\n", request->if_match);
	if (request->body)
		buffer_addf(&text, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
			    length);
	buffer_adds(&text, "\r\n");
	buffer_add(&text, request->body ? request->body : "", length);
	while (sent < text.length) {
		ssize_t count;

		if (time_left_set(fd, deadline_us, err) < 0)
			return -err->code;
		count = send(fd, text.data + sent, text.length - sent, MSG_NOSIGNAL);
		if (count < 0 && (errno == EPIPE || errno == ECONNRESET))
			return 0; // refused early: the reply says why
		if (count < 0 && errno != EINTR)
			return socket_error(err, "send the request");
		sent += count > 0 ? (size_t)count : 0;
	}
	return 0;
}

// 1: there are bytes, 0: end of file.
static int source_fill(struct source *source, struct error *err)
{
	ssize_t count;

	if (source->begin < source->end)
		return 1;
	if (time_left_set(source->fd, source->deadline_us, err) < 0)
		return -err->code;
	do
		count = read(source->fd, source->bytes, sizeof(source->bytes));
	while (count < 0 && errno == EINTR);
	if (count < 0 && errno == ECONNRESET)
		count = 0;
	if (count < 0)
		return socket_error(err, "read the reply");
	source->begin = 0;
	source->end = (size_t)count;
	return count > 0;
}

// One line without its line end, in `line`.
static int line_read(struct source *source, struct buffer *line, struct error *err)
{
	line->length = 0;
	for (;;) {
		int result = source_fill(source, err);
		char *start = source->bytes + source->begin, *end;
		size_t length;

		if (result < 0)
			return result;
		if (result == 0)
			return error_set(err, ECONNRESET, "%s", cut_off);
		end = memchr(start, '\n', source->end - source->begin);
		length = end ? (size_t)(end - start) : source->end - source->begin;
		buffer_add(line, start, length);
		source->begin += length + (end ? 1 : 0);
		if (line->length > LINE_MAX_BYTES)
			return error_set(err, EBADMSG, "the reply has a line without end");
		if (!end)
			continue;
		if (line->length > 0 && line->data[line->length - 1] == '\r')
			line->data[--line->length] = '\0';
		return 0;
	}
}

struct head {
	int status;
	char reason[48], epoch[24];
	bool chunked, has_length;
	uint64_t length;
};

static void header_read(struct head *head, const char *line)
{
	static const char length_name[] = "Content-Length: ", epoch_name[] = "Penstock-Epoch: ";

	if (strcasecmp(line, "Transfer-Encoding: chunked") == 0)
		head->chunked = true;
	else if (strncasecmp(line, length_name, strlen(length_name)) == 0)
		head->has_length =
			parse_u64(line + strlen(length_name), INT64_MAX, &head->length) == 0;
	else if (strncasecmp(line, epoch_name, strlen(epoch_name)) == 0)
		snprintf(head->epoch, sizeof(head->epoch), "%s", line + strlen(epoch_name));
}

static int head_read(struct source *source, struct head *ret_head, struct error *err)
{
	scoped(buffer_release) struct buffer line = {0};
	struct head head = {0};
	char digits[4];
	uint32_t status = 0;
	int result = line_read(source, &line, err);

	if (result < 0)
		return result;
	if (sscanf(buffer_text(&line), "HTTP/1.1 %3[0-9] %47[ -~]", digits, head.reason) < 1)
		return error_set(err, EBADMSG, "this is not an HTTP reply");
	parse_u32(digits, 999, &status);
	head.status = (int)status;
	while ((result = line_read(source, &line, err)) == 0 && line.length > 0)
		header_read(&head, line.data);
	if (result == 0)
		*ret_head = head;
	return result;
}

struct sink {
	const struct client_request *request;
	struct client_reply *reply;
};

static int sink_take(struct sink *sink, const char *bytes, size_t count, struct error *err)
{
	if (sink->request->receive && sink->reply->status / 100 == 2)
		return sink->request->receive(bytes, count, sink->request->context);
	if (count > BODY_MAX_BYTES - sink->reply->body.length)
		return error_set(err, EBADMSG, "the reply is larger than %d bytes", BODY_MAX_BYTES);
	buffer_add(&sink->reply->body, bytes, count);
	return 0;
}

// Passes `count` bytes on, or (UINT64_MAX) all up to the end.
static int body_pass(struct source *source, uint64_t count, struct sink *sink, struct error *err)
{
	while (count > 0) {
		int result = source_fill(source, err);
		size_t part = source->end - source->begin;

		if (result < 0)
			return result;
		if (result == 0)
			return count == UINT64_MAX ? 0 : error_set(err, ECONNRESET, "%s", cut_off);
		if (part > count)
			part = (size_t)count;
		result = sink_take(sink, source->bytes + source->begin, part, err);
		if (result < 0)
			return result;
		source->begin += part;
		if (count != UINT64_MAX)
			count -= part;
	}
	return 0;
}

// A chunk's length: hexadecimal digits, perhaps an extension behind them.
static int chunk_size(const char *line, uint64_t *ret_size)
{
	size_t digits = strspn(line, "0123456789abcdefABCDEF");

	if (digits == 0 || digits > 15 || (line[digits] && line[digits] != ';'))
		return -EBADMSG;
	*ret_size = strtoull(line, NULL, 16);
	return 0;
}

static int chunks_pass(struct source *source, struct sink *sink, struct error *err)
{
	scoped(buffer_release) struct buffer line = {0};

	for (;;) {
		uint64_t size;
		int result = line_read(source, &line, err);

		if (result < 0)
			return result;
		if (chunk_size(buffer_text(&line), &size) < 0)
			return error_set(err, EBADMSG, "the reply has a bad chunk");
		if (size == 0)
			return 0;
		result = body_pass(source, size, sink, err);
		if (result == 0)
			result = line_read(source, &line, err);
		if (result < 0)
			return result;
	}
}

static int reply_read(struct source *source, struct sink *sink, struct error *err)
{
	struct head head = {0};
	int result = head_read(source, &head, err);

	if (result < 0)
		return result;
	sink->reply->status = head.status;
	memcpy(sink->reply->reason, head.reason, sizeof(head.reason));
	memcpy(sink->reply->epoch, head.epoch, sizeof(head.epoch));
	if (sink->request->receive && sink->request->timeout_seconds == 0 && head.status / 100 == 2)
		source->deadline_us = 0; // it may be silent for as long as it likes
	if (sink->request->begun && head.status / 100 == 2)
		result = sink->request->begun(sink->request->context);
	if (result < 0)
		return result;
	if (head.chunked)
		return chunks_pass(source, sink, err);
	if (head.status == 204)
		return 0;
	return body_pass(source, head.has_length ? head.length : UINT64_MAX, sink, err);
}

int client_perform(const struct client_request *request, struct client_reply *ret_reply)
{
	scoped_free struct source *source = calloc(1, sizeof(*source));
	scoped_fd int fd = -1;
	struct sink sink = {request, ret_reply};
	struct error *err = &ret_reply->err;
	int result;

	*ret_reply = (struct client_reply){0};
	if (!source)
		return error_set(err, ENOMEM, "out of memory");
	source->deadline_us = deadline_of(request);
	result = client_connect(request->socket_path, source->deadline_us, &fd, err);
	if (result == 0)
		result = request_send(fd, source->deadline_us, request, err);
	source->fd = fd;
	return result < 0 ? result : reply_read(source, &sink, err);
}

void client_reply_release(struct client_reply *reply)
{
	buffer_release(&reply->body);
}
