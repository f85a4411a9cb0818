// SPDX-License-Identifier: Apache-2.0
#include "agent/lb/probe_http.h"

#include <assert.h>
#include <errno.h>

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

enum { SWITCHING_PROTOCOLS = 101 };

static int take_line(struct probe_http *http, char byte)
{
	int status;

	if (!fits(form[http->line_length], byte))
		return -EBADMSG;
	http->line[http->line_length++] = byte;
	if (http->line_length < PROBE_STATUS_LENGTH)
		return 0;
	status = (http->line[9] - '0') * 100 + (http->line[10] - '0') * 10 + (http->line[11] - '0');
	if (status < 100 || status > 599)
		return -EBADMSG;
	if (status >= 200 || status == SWITCHING_PROTOCOLS)
		return status;
	http->interim = true;
	http->line_begun = byte != '\n';
	return 0;
}

// A head ends with an empty line.
static void take_interim(struct probe_http *http, char byte)
{
	if (byte == '\n' && !http->line_begun) {
		http->interim = false;
		http->line_length = 0;
	} else if (byte == '\n') {
		http->line_begun = false;
	} else if (byte != '\r') {
		http->line_begun = true;
	}
}

size_t probe_http_room(const struct probe_http *http)
{
	return http->interim ? PROBE_INTERIM_MAX : PROBE_STATUS_LENGTH - http->line_length;
}

int probe_http_take(struct probe_http *http, const char *bytes, size_t length)
{
	assert(length <= probe_http_room(http));
	for (size_t i = 0; i < length; i++) {
		int status = 0;

		if (++http->read > PROBE_INTERIM_MAX)
			return -EBADMSG;
		if (http->interim)
			take_interim(http, bytes[i]);
		else
			status = take_line(http, bytes[i]);
		if (status != 0)
			return status;
	}
	return 0;
}
