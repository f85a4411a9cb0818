// SPDX-License-Identifier: Apache-2.0
// The API's whole way from bytes to replies, over a socket pair, with the fake backend. Nothing
// that a request changes is kept, so every input meets the same empty store.
//
// The first byte says in pieces of what size the rest is sent, the second what the client does:
// read the replies as they come, only at the end, or never; and whether it says that it has sent
// all.
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include "agent/api/api.h"
#include "agent/base/buffer.h"
#include "agent/base/file.h"
#include "agent/base/scope.h"
#include "tests/unit/api_fake.h"

enum {
	READS_LATE = 1,
	READS_NEVER = 2,
	ENDS = 4,
	INPUT_MAX = 64 * 1024,
	TURNS_AT_END = 8,
	REPLIES_MAX = 8 * 1024 * 1024,
};

static char directory[] = "/tmp/fuzz-api-XXXXXX";

static void directory_clean(void)
{
	struct error err = {0};

	directory_remove(AT_FDCWD, directory, &err);
}

static struct fake *fake_of_process(void)
{
	static struct api_fake_options options = {
		.directory = directory, .reader_gid = (gid_t)-1, .follow_buffer_bytes = 16 * 1024};
	static struct fake *fake;

	if (fake)
		return fake;
	if (!mkdtemp(directory))
		abort();
	atexit(directory_clean);
	fake = api_fake_open(&options);
	if (!fake)
		abort();
	return fake;
}

// Reads what is there. The replies of one connection are never longer than this.
static void replies_read(int fd, struct buffer *replies)
{
	char bytes[16 * 1024];
	ssize_t count;

	while ((count = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
		buffer_add(replies, bytes, (size_t)count);
	if (replies->length > REPLIES_MAX)
		abort();
}

static void replies_check(const struct buffer *replies)
{
	static const char status[] = "HTTP/1.1 ";

	if (replies->length > 0 && strncmp(replies->data, status, strlen(status)) != 0)
		abort();
	// JSON has no bare line ends and no bare quotes: neither can be an echo of the request.
	if (replies->length > 0 && strstr(replies->data, "\r\nContent-Type: text/html"))
		abort();
	// The connections of earlier inputs must be gone.
	if (replies->length > 0 && strstr(replies->data, "{\"code\":\"TooManyConnections\""))
		abort();
}

static void pieces_send(struct fake *fake, int fd, const uint8_t *data, size_t size, size_t piece,
			unsigned manner, struct buffer *replies)
{
	while (size > 0) {
		ssize_t count =
			send(fd, data, size < piece ? size : piece, MSG_DONTWAIT | MSG_NOSIGNAL);

		api_fake_try_turn(fake);
		if (!(manner & (READS_LATE | READS_NEVER)))
			replies_read(fd, replies);
		if (count < 0) // it is not read any further, or was refused
			return;
		data += count;
		size -= (size_t)count;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fake *fake = fake_of_process();
	scoped(buffer_release) struct buffer replies = {0};
	int pair[2];

	if (size < 3 || size > INPUT_MAX)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		abort();
	api_serve(api_fake_api(fake), pair[1]);
	pieces_send(fake, pair[0], data + 2, size - 2, 16u * data[0] + 1, data[1], &replies);
	if (data[1] & ENDS)
		shutdown(pair[0], SHUT_WR);
	for (int i = 0; i < TURNS_AT_END; i++) {
		api_fake_try_turn(fake);
		if (!(data[1] & READS_NEVER))
			replies_read(pair[0], &replies);
	}
	replies_check(&replies);
	close(pair[0]);
	for (int i = 0; i < TURNS_AT_END; i++)
		api_fake_try_turn(fake);
	return 0;
}
