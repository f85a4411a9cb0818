// SPDX-License-Identifier: Apache-2.0
// What penstock-probe reads from a target: at once, and cut into pieces as the first byte says. How
// it is cut changes nothing.
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/lb/probe_http.h"

static int read_all(const uint8_t *data, size_t size, size_t piece)
{
	struct probe_http http = {0};
	int status = 0;

	for (size_t at = 0; at < size && status == 0;) {
		size_t length = probe_http_room(&http);
		char *bytes;

		length = length < piece ? length : piece;
		length = length < size - at ? length : size - at;
		bytes = malloc(length); // of exactly this length: reading further is seen
		if (!bytes)
			abort();
		memcpy(bytes, data + at, length);
		status = probe_http_take(&http, bytes, length);
		free(bytes);
		at += length;
	}
	return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int status = read_all(data, size, SIZE_MAX);

	if (status != -EBADMSG && status != 0 && (status < 100 || status > 599))
		abort();
	if (size > 0 && read_all(data, size, data[size - 1] % 16U + 1) != status)
		abort();
	return 0;
}
