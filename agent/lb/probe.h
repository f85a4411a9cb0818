// SPDX-License-Identifier: Apache-2.0
// penstock-probe's inside: checks, their timers, their connections.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/lb/probe_http.h"
#include "agent/lb/probe_protocol.h"

struct probe_check {
	uint32_t number, generation;
	uint32_t address, source;
	enum probe_protocol protocol;
	uint16_t port;
	uint8_t matcher[PROBE_MATCHER_BYTES];
	uint32_t interval_ms, timeout_ms;
	char *request;          // HTTP
	int64_t due_us;         // idle: the next attempt; under way: its deadline
	size_t heap_place;      // in the timers
	int64_t eager_until_us; // see probe_attempt.c
	uint32_t retry_ms;
	int fd;             // the attempt's connection, -1: idle
	int64_t started_us; // the attempt
	size_t sent;
	struct probe_http http; // the answer so far
};

// A heap of checks, the one due first on top.
struct probe_timers {
	struct probe_check **checks;
	size_t count, capacity;
};

void probe_timers_add(struct probe_timers *timers, struct probe_check *check);
void probe_timers_remove(struct probe_timers *timers, struct probe_check *check);
void probe_timers_moved(struct probe_timers *timers, struct probe_check *check); // due_us changed
struct probe_check *probe_timers_first(const struct probe_timers *timers);       // NULL: none
void probe_timers_release(struct probe_timers *timers);

// ---- Attempts. They end with *ret_result filled in and true; false: under way.

// Validates and builds a check (NULL: the command makes no sense).
struct probe_check *probe_check_new(const struct probe_command *command, int64_t now_us);
void probe_check_free(struct probe_check *check);

// Connects; adds the connection to the epoll instance.
bool probe_attempt_start(struct probe_check *check, int epoll_fd, int64_t now_us,
			 struct probe_result *ret_result);
bool probe_attempt_ready(struct probe_check *check, int epoll_fd, int64_t now_us,
			 struct probe_result *ret_result);
bool probe_attempt_timeout(struct probe_check *check, int64_t now_us,
			   struct probe_result *ret_result);
// After an end: sets the next due time. False: the result is not to be told (a new
// target that does not listen yet is tried again soon instead).
bool probe_attempt_finish(struct probe_check *check, const struct probe_result *result,
			  int64_t now_us);
