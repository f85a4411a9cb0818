// SPDX-License-Identifier: Apache-2.0
// What a VMM may say to the shim. The first byte says how the rest is cut into pieces.
#include <stddef.h>
#include <stdint.h>

#include "agent/base/scope.h"
#include "agent/vmm/qmp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	scoped(qmp_close) struct qmp qmp;
	size_t piece = size ? data[0] + 1u : 1;

	qmp_open(&qmp);
	qmp_powerdown(&qmp);
	for (size_t at = 1; at < size; at += piece) {
		const char *text;

		qmp_feed(&qmp, (const char *)data + at, size - at < piece ? size - at : piece);
		qmp_sent(&qmp, qmp_output(&qmp, &text));
	}
	return 0;
}
