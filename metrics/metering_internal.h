// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "metrics/metering.h"

// Every line begins with its key: `{"version":1,"task":"t-1","startedAt":"...",`
// and no other line of the file begins so.
void metering_format_key(const struct metering_record *record, struct buffer *text);
