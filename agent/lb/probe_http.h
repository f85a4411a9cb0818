// SPDX-License-Identifier: Apache-2.0
// The start of an HTTP/1 response, all that a health check needs of it.
#pragma once

#include <stddef.h>

enum { PROBE_STATUS_LENGTH = 13 }; // "HTTP/1.1 200 ": no more is ever read

// The status code (100 ... 599), 0 when more bytes are needed, -EBADMSG for anything
// that is not the start of an HTTP/1.0 or 1.1 response.
int probe_http_status(const char *bytes, size_t length);
