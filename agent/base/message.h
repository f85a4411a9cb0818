// SPDX-License-Identifier: Apache-2.0
// Fixed-size messages with descriptors over SOCK_SEQPACKET sockets.
//
// A message is one struct of fixed size. What has another size, or more
// descriptors than asked for, is refused whole: nothing is parsed twice and
// nothing leaks.
#pragma once

#include <stddef.h>

#include "agent/base/error.h"

enum { MESSAGE_FDS_MAX = 8 };

// Sends `size` bytes and `fd_count` descriptors (copies: the caller keeps its own).
// -EAGAIN on a non-blocking socket whose peer does not read.
int message_send(int socket_fd, const void *message, size_t size, const int *fds, size_t fd_count,
		 struct error *err);

// Receives exactly `size` bytes and up to `fd_max` descriptors (CLOEXEC; the caller
// owns them; unused places are -1). Returns 1, or 0 at end of file; -EAGAIN when
// nothing is there; -EBADMSG for a message of the wrong form (its descriptors are closed).
int message_receive(int socket_fd, void *message, size_t size, int *ret_fds, size_t fd_max,
		    struct error *err);

// A listening, non-blocking SOCK_SEQPACKET socket called `name` in the directory
// `directory_fd` (so that a long path never meets the 108 bytes of sun_path), mode 0600;
// a left-over socket file of that name is replaced.
int message_listen(int directory_fd, const char *name, int *ret_fd, struct error *err);

// A non-blocking connection to it. -ECONNREFUSED or -ENOENT when nobody listens,
// -EAGAIN when the listener's backlog is full.
int message_connect(int directory_fd, const char *name, int *ret_fd, struct error *err);
