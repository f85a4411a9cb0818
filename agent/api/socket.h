// SPDX-License-Identifier: Apache-2.0
// The API's listening Unix socket and its file.
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "agent/api/api.h"

struct api_socket {
	char path[108]; // "": there is none
	dev_t device;
	ino_t inode;
};

// Makes the file and listens. A stale file (of an agent that ended) is replaced; -EADDRINUSE when a
// process that lives answers there. May wait for up to two seconds, see socket.c.
int socket_listen(const struct api_options *options, struct api_socket *ret_socket, int *ret_fd,
		  struct error *err);
// Whether the file is still the one that was made.
bool socket_is_there(const struct api_socket *socket);
void socket_remove(struct api_socket *socket);
