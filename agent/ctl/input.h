// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cjson/cJSON.h>

// The JSON document of a file ("-": standard input), strictly read; NULL after saying what is
// wrong.
cJSON *input_read(const char *file);
const char *input_name(const char *file); // for messages
