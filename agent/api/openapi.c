// SPDX-License-Identifier: Apache-2.0
// openapi.yaml as it stands in the source tree, for GET /openapi.yaml.
#include "agent/api/openapi.h"

__asm__("	.section .rodata\n"
	"	.global api_openapi_text\n"
	"	.global api_openapi_end\n"
	"api_openapi_text:\n"
	"	.incbin \"" PENSTOCK_OPENAPI_FILE "\"\n"
	"api_openapi_end:\n"
	"	.byte 0\n"
	"	.previous\n");
