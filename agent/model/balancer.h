// SPDX-License-Identifier: Apache-2.0
// Load balancers and target groups, as parsed by model_parse() (model.h).
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { LISTENERS_MAX = 50, HEALTH_CHECK_PATH_MAX = 1024, MATCHER_RANGES_MAX = 32 };

enum balancer_protocol { BALANCER_TCP };

struct listener_spec {
	enum balancer_protocol protocol;
	uint32_t port; // 1–65535, each once
	const char *target_group;
};

struct load_balancer_spec {
	const char *subnet_id;
	const char **security_groups; // 1–5
	uint32_t security_group_count;
	struct listener_spec *listeners; // 0–LISTENERS_MAX
	uint32_t listener_count;
};

enum health_check_protocol { HEALTH_CHECK_TCP, HEALTH_CHECK_HTTP };

// HTTP status codes that count as healthy, first–last.
struct matcher_range {
	uint32_t first, last;
};

struct target_health_check {
	enum health_check_protocol protocol;
	const char *path; // HTTP; "/" by default
	uint32_t port;    // 0: the target's own port ("traffic-port")
	uint32_t interval_seconds, timeout_seconds;
	uint32_t healthy_threshold_count, unhealthy_threshold_count;
	const char *matcher;                  // HTTP; "200" by default, "200,202-299"
	struct matcher_range *matcher_ranges; // the same
	uint32_t matcher_range_count;
};

enum target_provider { PROVIDER_NFT };

struct target_group_spec {
	const char *vpc_id;
	enum balancer_protocol protocol;
	uint32_t port; // default of targets; tasks register with their containerPort
	struct target_health_check health_check;
	uint32_t deregistration_delay_seconds;
	enum target_provider provider;
};
