// SPDX-License-Identifier: Apache-2.0
// What the agent and penstock-probe say to each other on a SOCK_SEQPACKET socket pair
// (descriptor 3 of the probe): one fixed-size struct per direction. End of file ends
// the probe. Addresses and ports are in host byte order.
#pragma once

#include <stdint.h>

enum {
	PROBE_SOCKET_FD = 3,
	PROBE_CHECKS_MAX = 16384, // numbers are 0 ... PROBE_CHECKS_MAX - 1
	PROBE_PATH_SIZE = 1025,
	PROBE_MATCHER_BYTES = 38, // codes 200 ... 499, as in lb.h
};

enum probe_command_kind { PROBE_SET, PROBE_REMOVE };
enum probe_protocol { PROBE_TCP, PROBE_HTTP };

struct probe_command {
	uint32_t kind;
	uint32_t number;     // of the check
	uint32_t generation; // of this setting of it; comes back in results
	uint32_t protocol;
	uint32_t address, port;
	uint32_t source; // address to connect from
	uint32_t interval_ms, timeout_ms;
	uint32_t eager; // nothing is known of the target yet: see probe_attempt.c
	uint8_t matcher[PROBE_MATCHER_BYTES];
	char path[PROBE_PATH_SIZE]; // NUL-terminated
};

enum probe_outcome {
	PROBE_PASS,
	PROBE_TIMED_OUT,
	PROBE_FAILED,   // refused, unreachable, closed early, no HTTP
	PROBE_MISMATCH, // another status code than wanted
	PROBE_INTERNAL, // the probe could not test
	PROBE_OUTCOME_COUNT,
};

struct probe_result {
	uint32_t number, generation;
	uint32_t outcome;
	uint32_t http_status; // 0: none was read
	uint32_t failure;     // of PROBE_FAILED: errno, 0: the answer was no HTTP, or was cut short
	uint32_t latency_us;
};
