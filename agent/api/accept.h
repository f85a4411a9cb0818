// SPDX-License-Identifier: Apache-2.0
// Content negotiation (RFC 9110, 12.4.2 and 12.5.1), pure.
#pragma once

#include <stdbool.h>

// Whether the client of /metrics would rather have OpenMetrics 1.0.0 than the text format:
// `accept` is its Accept header, or NULL. Each format has the quality of the most specific range
// that it fits; of equal ones the text format wins, unless OpenMetrics is named. A client that
// takes neither gets the text format.
bool accept_prefers_openmetrics(const char *accept);
