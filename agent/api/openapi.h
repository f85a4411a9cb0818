// SPDX-License-Identifier: Apache-2.0
#pragma once

// The bytes of openapi.yaml, from the first to the one behind the last.
extern const char api_openapi_text[], api_openapi_end[];
