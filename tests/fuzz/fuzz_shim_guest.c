// SPDX-License-Identifier: Apache-2.0
// All that a guest can send to its shim, through a real connection: HTTP, routes, documents, logs.
// The session is taken and its token is thirty-two times '0', so that every path can be reached.
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

static void begin(void)
{
	struct shim_guest *guest = &shim.guest;

	shim.status = (struct cell_status){
		.magic = CELL_STATUS_MAGIC, .version = SHIM_PROTOCOL_VERSION, .vmm = VMM_RUNNING};
	memset(guest->token, '0', GUEST_TOKEN_LENGTH);
	memset(guest->sequences, 0, sizeof(guest->sequences));
	guest->session_taken = true;
	guest->container_count = 1;
	if (guest->logs[0].directory_fd == 0)
		log_file_open(&guest->logs[0], shim.logs_fd, "web", shim.log_max_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct guest_connection *connection = &shim.guest.connections[0];
	struct error err = {0};
	int pair[2];

	if (size > 16384) // less than the socket takes at once
		return 0;
	open_once();
	begin();
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		abort();
	connection->fd = pair[0];
	http_reader_open(&connection->reader, HTTP_REQUEST, GUEST_BODY_MAX);
	connection->deadline_us = clock_monotonic_us() + SHIM_REQUEST_DEADLINE_US;
	if (send(pair[1], data, size, MSG_NOSIGNAL) < 0 && size > 0)
		abort();
	shutdown(pair[1], SHUT_WR);
	for (int i = 0; i < 64 && connection->fd >= 0; i++)
		shim_guest_handle(&shim, connection, POLLIN);
	shim_guest_wake(&shim);
	shim_guest_deadlines(&shim, INT64_MAX);
	shim_guest_drop_all(&shim);
	close(pair[1]);
	if (cell_status_check(&shim.status, &err) < 0)
		abort();
	return 0;
}
