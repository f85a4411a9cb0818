// SPDX-License-Identifier: Apache-2.0
// All that a guest can send to its shim, through real connections: HTTP, routes, documents, logs.
// The session is taken and its token is thirty-two times '0', so that every path can be reached;
// with a leading '!' it is not taken yet. A byte 0x1e goes on with the next connection.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/scope.h"
#include "agent/cell/shim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CONNECTIONS = 3, NEXT_CONNECTION = 0x1e };

static struct shim shim;
static char directory[] = "/dev/shm/penstock-fuzz-XXXXXX";

static void remove_directory(void)
{
	static const char *const files[] = {"web.log", "web.log.1", "status", "status.new"};

	for (size_t i = 0; i < ARRAY_LENGTH(files); i++)
		unlinkat(shim.cell_fd, files[i], 0);
	rmdir(directory);
}

static void open_once(void)
{
	int fd;

	if (shim.cell_fd > 0)
		return;
	if (!mkdtemp(directory) || (fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		abort();
	shim.task = "t-1";
	shim.log_max_bytes = 65536;
	shim.cell_fd = shim.metadata_fd = shim.logs_fd = shim.shim_fd = fd;
	shim.agent.listener_fd = shim.agent.channel_fd = -1;
	shim_vmm_open(&shim);
	shim_guest_open(&shim);
	atexit(remove_directory);
}

static void begin(bool session_taken)
{
	struct shim_guest *guest = &shim.guest;

	shim.status = (struct cell_status){
		.magic = CELL_STATUS_MAGIC, .version = SHIM_PROTOCOL_VERSION, .vmm = VMM_RUNNING};
	memset(guest->token, '0', GUEST_TOKEN_LENGTH);
	memset(guest->sequences, 0, sizeof(guest->sequences));
	guest->session_taken = session_taken;
	guest->container_count = 1;
	if (guest->logs[0].directory_fd == 0)
		log_file_open(&guest->logs[0], shim.logs_fd, "web", shim.log_max_bytes);
}

// Returns the peer's end, with all that it will ever send.
static int connect_guest(struct guest_connection *connection, const uint8_t *data, size_t size)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		abort();
	connection->fd = pair[0];
	http_reader_open(&connection->reader, HTTP_REQUEST, GUEST_BODY_MAX);
	connection->deadline_us = clock_monotonic_us() + SHIM_REQUEST_DEADLINE_US;
	if (size > 0 && send(pair[1], data, size, MSG_NOSIGNAL) < 0)
		abort();
	shutdown(pair[1], SHUT_WR);
	return pair[1];
}

static size_t connect_all(const uint8_t *data, size_t size, int peers[CONNECTIONS])
{
	size_t count = 0;

	while (count < CONNECTIONS) {
		const uint8_t *end = memchr(data, NEXT_CONNECTION, size);
		size_t length = end && count + 1 < CONNECTIONS ? (size_t)(end - data) : size;

		peers[count] = connect_guest(&shim.guest.connections[count], data, length);
		count++;
		if (length == size)
			break;
		data += length + 1;
		size -= length + 1;
	}
	return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool fresh = size > 0 && data[0] == '!';
	int peers[CONNECTIONS];
	struct error err = {0};
	size_t count;

	if (size == 0 || size > 16384) // less than the socket takes at once
		return 0;
	open_once();
	begin(!fresh);
	count = connect_all(data + fresh, size - fresh, peers);
	for (int turn = 0; turn < 64; turn++)
		for (size_t i = 0; i < count; i++)
			if (shim.guest.connections[i].fd >= 0)
				shim_guest_handle(&shim, &shim.guest.connections[i], POLLIN);
	shim_guest_wake(&shim);
	shim_guest_deadlines(&shim, INT64_MAX);
	shim_guest_drop_all(&shim);
	for (size_t i = 0; i < count; i++)
		close(peers[i]);
	if (cell_status_check(&shim.status, &err) < 0)
		abort();
	return 0;
}
