// SPDX-License-Identifier: Apache-2.0
// Load balancing: listeners, target groups, targets and their health.
//
// One `struct lb` serves the whole agent. It owns
//   - per VPC one penstock-probe process (unprivileged, in the VPC's namespace), which
//     only tests; it is started again when it ends, and ends with the agent;
//   - the state machine of every target (health.h), states and reasons as in ELBv2;
//   - a provider (provider.h) that makes them effective: the nft provider keeps a table
//     `inet penstock_lb` in the VPC's namespace, VIP:port -> DNAT over the targets in service.
//
// It is level-triggered: the caller says what is to be, as often as it likes (a target
// after its group; balancers and groups in any order); lb_flush() makes it effective, one batch per
// VPC. After a restart of the agent the caller says everything again, all of it before the first
// lb_flush() or lb_dispatch(); targets that the kernel still serves are taken over as healthy, so
// nothing is interrupted.
//
//     lb_vpc_ensure(lb, "vpc-1", err);
//     lb_balancer_ensure(lb, &balancer, err);       // its VIP stands on lo: netif_address_ensure()
//     lb_group_ensure(lb, &group, err);
//     lb_target_register(lb, "tg-1", &target, err); // when the task's containers run
//     lb_flush(lb);                                 // once per turn
//     ...
//     lb_target_deregister(lb, "tg-1", &target, (struct lb_drain){-1, 0}, err); // before SIGTERM
//     // and wait for LB_EVENT_TARGET_GONE of it
//
// Loop: poll lb_poll_fd() for input and wake at lb_next_deadline_us(); then call
// lb_dispatch() until it returns less than it was given room for. It flushes itself.
// Nothing here blocks, except starting a probe (fork and exec, ~1 ms).
//
// Addresses are IPv4 in host byte order. Errors: negative errno; -ENOENT names the
// object that is not there.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/base/error.h"
#include "agent/lb/health.h"
#include "netif/netif.h"

enum {
	LB_ID_SIZE = 64,
	LB_LISTENERS_MAX = 50,
	LB_TARGETS_MAX = 1000, // per group
	LB_CHECK_PATH_SIZE = 1025,
	LB_MATCHER_FIRST = 200, // HTTP codes that a matcher may name
	LB_MATCHER_LAST = 499,
	LB_MATCHER_BYTES = (LB_MATCHER_LAST - LB_MATCHER_FIRST) / 8 + 1,
};

struct lb;

struct lb_options {
	struct netif *netif;    // borrowed
	const char *install;    // the probes' mark
	const char *probe_path; // the penstock-probe executable
	uid_t probe_uid;
	gid_t probe_gid;
	bool keep_identity; // the agent is not root: the probe runs as it is
};

int lb_open(const struct lb_options *options, struct lb **ret_lb, struct error *err);
// Ends the probes. What the kernel serves goes on.
void lb_close(struct lb *lb);

// ---- What is to be

// Before anything else of the VPC. Starts its probe when the first check needs one.
int lb_vpc_ensure(struct lb *lb, const char *vpc_id, struct error *err);
// Somebody else changed what the provider had made: the next flush makes all of it anew.
void lb_vpc_resync(struct lb *lb, const char *vpc_id);
// Before the VPC's namespace is deleted: ends the probe, forgets its groups and balancers.
void lb_vpc_remove(struct lb *lb, const char *vpc_id);

struct lb_listener {
	uint16_t port; // TCP
	char group_id[LB_ID_SIZE];
};

struct lb_balancer {
	char id[LB_ID_SIZE];
	char vpc_id[LB_ID_SIZE];
	uint32_t address; // the VIP: source of health checks, must stand on lo of the VPC
	struct lb_listener listeners[LB_LISTENERS_MAX];
	size_t listener_count;
};

// One of this id in another VPC, deleted without a word, is removed first.
int lb_balancer_ensure(struct lb *lb, const struct lb_balancer *balancer, struct error *err);
void lb_balancer_remove(struct lb *lb, const char *balancer_id); // gone is fine

enum lb_protocol { LB_PROTOCOL_TCP, LB_PROTOCOL_HTTP };

struct lb_check {
	enum lb_protocol protocol;
	char path[LB_CHECK_PATH_SIZE];    // HTTP: "/healthz?x=1"
	uint16_t port;                    // 0: the target's own
	unsigned interval_ms, timeout_ms; // timeout at most the interval
	unsigned healthy_threshold, unhealthy_threshold;
	uint8_t matcher[LB_MATCHER_BYTES]; // HTTP: see lb_matcher_add()
};

struct lb_group {
	char id[LB_ID_SIZE];
	char vpc_id[LB_ID_SIZE];
	struct lb_check check;
	unsigned drain_seconds; // deregistrationDelaySeconds
};

// Likewise.
int lb_group_ensure(struct lb *lb, const struct lb_group *group, struct error *err);
// Gone is fine. Its targets go with it, without events.
void lb_group_remove(struct lb *lb, const char *group_id);

// Adds the codes first ... last; those outside of LB_MATCHER_FIRST ... LB_MATCHER_LAST are left
// out.
void lb_matcher_add(uint8_t matcher[LB_MATCHER_BYTES], unsigned first, unsigned last);
bool lb_matcher_has(const uint8_t matcher[LB_MATCHER_BYTES], unsigned code);

struct lb_target {
	uint32_t address;
	uint16_t port;
	char task_id[LB_ID_SIZE]; // whose it is; given back in events
};

// Registering what is registered is success; a target that drains is taken back.
int lb_target_register(struct lb *lb, const char *group_id, const struct lb_target *target,
		       struct error *err);
struct lb_drain {
	int64_t delay_ms;   // -1: the group's
	int64_t elapsed_ms; // of that: the drain began under a previous agent
};

// No new connections from the next flush on; gone when its connections are, or when the drain is
// over. LB_EVENT_TARGET_GONE follows. -ENOENT: it is not there (any more), no event follows.
int lb_target_deregister(struct lb *lb, const char *group_id, const struct lb_target *target,
			 struct lb_drain drain, struct error *err);

// Makes all of it effective. What fails is reported as LB_EVENT_ERROR, once as long as it fails
// with the same message, and tried again by lb_dispatch() each second.
void lb_flush(struct lb *lb);
// Why the balancers and groups of this VPC are not effective as they are to be; NULL: they are.
const struct error *lb_vpc_failure(const struct lb *lb, const char *vpc_id);

// ---- The loop

int lb_poll_fd(const struct lb *lb);              // readable: call lb_dispatch(); owned by lb
int64_t lb_next_deadline_us(const struct lb *lb); // monotonic; INT64_MAX: none

enum lb_event_kind {
	LB_EVENT_TARGET_STATE, // a target's state or reason changed
	LB_EVENT_TARGET_GONE,  // deregistration is complete
	LB_EVENT_ERROR,        // a VPC's provider or probe failed; tried again by itself
};

struct lb_event {
	enum lb_event_kind kind;
	char vpc_id[LB_ID_SIZE];
	char group_id[LB_ID_SIZE]; // of targets
	struct lb_target target;
	enum lb_state state;
	enum lb_reason reason;
	unsigned open_connections; // TARGET_GONE: cut off at the end of the delay
	char message[256];         // ERROR
};

// Handles what is ready and due, returns the number of events written (at most `max`;
// more are kept for the next call).
size_t lb_dispatch(struct lb *lb, struct lb_event *ret_events, size_t max);

// ---- What is, for the API and metrics

struct lb_target_status {
	struct lb_target target;
	enum lb_state state;
	enum lb_reason reason;
	bool in_service;           // gets new connections (fail open included)
	unsigned open_connections; // known while draining
	unsigned http_status;      // of the last check, 0: none
	unsigned check_latency_us; // of the last check
	int check_failure;         // of the last check: errno of the connection, 0: none
};

enum { LB_DESCRIPTION_SIZE = 96 };

// Pure. What is behind the reason, in words ("got 404", "Connection refused"), or "".
const char *lb_target_describe(const struct lb_target_status *status,
			       char description[LB_DESCRIPTION_SIZE]);

// All targets of a group in the order of registration; the caller frees the array.
int lb_group_status(const struct lb *lb, const char *group_id,
		    struct lb_target_status **ret_targets, size_t *ret_count, struct error *err);
// One of them; -ENOENT.
int lb_target_status(const struct lb *lb, const char *group_id, const struct lb_target *target,
		     struct lb_target_status *ret_status, struct error *err);

// ---- What is there, for fsck: needs no struct lb

enum { LB_OBJECT_NAME_SIZE = 192 };

enum lb_object_kind {      // in this order they can be deleted
	LB_OBJECT_SERVICE, // a listener; owner: the load balancer
	LB_OBJECT_CHAIN,   // owner: the target group
	LB_OBJECT_MAP,     // likewise
};

struct lb_object {
	enum lb_object_kind kind;
	char name[LB_OBJECT_NAME_SIZE]; // "10.0.1.9:80", "group-web"
	char owner[LB_ID_SIZE];         // "": it names nobody
	uint32_t address;               // of a service
	uint16_t port;
};

// Of one VPC, in the order of the kinds. The caller frees the array.
int lb_inventory(struct netif *netif, const char *vpc_id, struct lb_object **ret_objects,
		 size_t *ret_count, struct error *err);
const char *lb_object_kind_name(enum lb_object_kind kind);
// Gone is fine. An agent that runs makes its table anew if it misses what is deleted.
int lb_object_delete(struct netif *netif, const char *vpc_id, const struct lb_object *object,
		     struct error *err);
