// SPDX-License-Identifier: Apache-2.0
// Output of containers on its way to the shim. A stream holds at most one chunk: when
// it is full the pipe is not read any more, and a container that writes faster than its
// log is taken waits in write(2). No memory grows.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/guest/init.h"

#include "agent/base/scope.h"

void init_log_open(struct log_stream *stream, int fd)
{
	*stream = (struct log_stream){.fd = fd, .data = malloc(GUEST_LOG_CHUNK_MAX), .sequence = 1};
	if (!stream->data)
		abort();
}

bool init_log_has_room(const struct log_stream *stream)
{
	return stream->fd >= 0 && stream->length < GUEST_LOG_CHUNK_MAX;
}

void init_log_read(struct log_stream *stream)
{
	ssize_t count = read(stream->fd, stream->data + stream->length,
			     GUEST_LOG_CHUNK_MAX - stream->length);

	if (count > 0)
		stream->length += (size_t)count;
	else if (count == 0 || (errno != EAGAIN && errno != EINTR))
		close_fd(&stream->fd);
}

size_t init_log_chunk(struct log_stream *stream)
{
	if (!stream->in_flight)
		stream->in_flight = stream->length;
	return stream->in_flight;
}

void init_log_sent(struct log_stream *stream)
{
	memmove(stream->data, stream->data + stream->in_flight, stream->length - stream->in_flight);
	stream->length -= stream->in_flight;
	stream->in_flight = 0;
	stream->sequence++;
}
