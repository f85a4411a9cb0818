// SPDX-License-Identifier: Apache-2.0
// The status line that penstock-probe reads from a target: every prefix of the input.
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/lb/probe_http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int last = 0;

	for (size_t length = 0; length <= size && length <= PROBE_STATUS_LENGTH + 1; length++) {
		// A copy of exactly this length: reading further is seen.
		char *bytes = malloc(length ? length : 1);
		int status;

		if (!bytes)
			abort();
		memcpy(bytes, data, length);
		status = probe_http_status(bytes, length);
		free(bytes);
		// What was refused or known stays so, however much follows.
		if (last != 0 && status != last)
			abort();
		if (status != -EBADMSG && status != 0 && (status < 100 || status > 599))
			abort();
		last = status;
	}
	return 0;
}
