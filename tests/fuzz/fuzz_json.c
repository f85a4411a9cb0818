// SPDX-License-Identifier: Apache-2.0
// The bounded JSON reader. What it takes must be printable and readable again.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_fault(const struct json_fault *fault)
{
	if (memchr(fault->pointer, '\0', sizeof(fault->pointer)) == NULL ||
	    memchr(fault->message, '\0', sizeof(fault->message)) == NULL ||
	    fault->message[0] == '\0' || (fault->pointer[0] != '\0' && fault->pointer[0] != '/'))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct json_fault fault;
	cJSON *value = NULL, *again = NULL;
	char *printed;

	if (json_read((const char *)data, size, &json_limits_api, &value, &fault) < 0) {
		check_fault(&fault);
		return 0;
	}
	printed = cJSON_PrintUnformatted(value);
	// cJSON prints integers over 2^53 with an exponent and 17 digits, which the reader refuses.
	if (json_read(printed, strlen(printed), &json_limits_api, &again, &fault) < 0) {
		if (!strstr(fault.message, "loses precision"))
			abort();
	} else if (!cJSON_Compare(value, again, true)) {
		abort();
	}
	cJSON_Delete(value);
	cJSON_Delete(again);
	free(printed);
	return 0;
}
