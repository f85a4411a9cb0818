// SPDX-License-Identifier: Apache-2.0
#include "agent/lb/probe_http.h"

#include <errno.h>
#include <stdbool.h>

// '#' is a digit, '?' ends the code.
static const char form[PROBE_STATUS_LENGTH + 1] = "HTTP/1.x ###?";

static bool fits(char wanted, char byte)
{
	switch (wanted) {
	case 'x':
		return byte == '0' || byte == '1';
	case '#':
		return byte >= '0' && byte <= '9';
	case '?':
		return byte == ' ' || byte == '\r' || byte == '\n';
	default:
		return byte == wanted;
	}
}

int probe_http_status(const char *bytes, size_t length)
{
	int status;

	for (size_t i = 0; i < length && i < PROBE_STATUS_LENGTH; i++)
		if (!fits(form[i], bytes[i]))
			return -EBADMSG;
	if (length < PROBE_STATUS_LENGTH)
		return 0;
	status = (bytes[9] - '0') * 100 + (bytes[10] - '0') * 10 + (bytes[11] - '0');
	return status >= 100 && status <= 599 ? status : -EBADMSG;
}
