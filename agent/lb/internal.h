// SPDX-License-Identifier: Apache-2.0
// The inside of agent/lb, shared by its files.
//
//   lb.c       the door: open, VPCs, poll descriptor, deadline, dispatch, events
//   config.c   balancers and groups
//   member.c   targets: register, deregister, health, status
//   checks.c   what the probe is to test, sent in pieces; its results
//   prober.c   the probe's process
//   flush.c    from health to the provider's plan
//   drain.c    waiting for connections to end
#pragma once

#include "agent/base/process.h"
#include "agent/lb/lb.h"
#include "agent/lb/probe_protocol.h"
#include "agent/lb/provider.h"

enum { LB_NO_CHECK = UINT32_MAX };

struct lb_vpc;

// A target in its group.
struct lb_member {
	struct lb_target target;
	struct lb_group_entry *group;
	struct lb_health health;
	bool in_service; // wanted; what the kernel has, the provider knows
	uint32_t check;  // its number at the probe, LB_NO_CHECK: none
	unsigned http_status, check_latency_us;
	int check_failure; // errno, as in struct probe_result
	// While draining:
	bool withdrawn; // the kernel sends it no new connections any more
	bool counting;  // was withdrawn before the running count began
	int64_t drain_deadline_us;
	unsigned open_connections;
};

struct lb_group_entry {
	struct lb_group_entry *next;
	struct lb_vpc *vpc;
	struct lb_group group;
	struct lb_member **members; // in the order of registration
	size_t count, capacity;
	bool used;       // by a listener
	uint32_t source; // of its health checks: the VIP of the first balancer that uses it
	bool changed;    // to be looked at by the next flush
};

struct lb_balancer_entry {
	struct lb_balancer_entry *next;
	struct lb_balancer balancer;
};

// One number of the probe.
struct lb_check_slot {
	struct lb_member *member; // NULL: to be removed at the probe, or free
	uint32_t generation;      // of what was sent last
	uint32_t next;            // of those to be sent, or of the free ones
	bool set;                 // the probe tests it
	bool changed;             // to be sent
};

enum lb_watch_kind { LB_WATCH_PROBE_SOCKET, LB_WATCH_PROBE_PROCESS, LB_WATCH_COUNT };

struct lb_watch {
	enum lb_watch_kind kind;
	struct lb_vpc *vpc;
};

struct lb_id {
	char text[LB_ID_SIZE];
};

struct lb_vpc {
	struct lb_vpc *next;
	struct lb *lb;
	char id[LB_ID_SIZE];
	struct lb_group_entry *groups;
	struct lb_balancer_entry *balancers;

	struct lb_provider *provider;
	bool synced;           // false: the provider is given everything
	bool services_changed; // listeners
	struct lb_id *removed; // groups that are to go
	size_t removed_count;
	int64_t retry_us;     // 0, or no flush before
	struct error failure; // of the last flush

	struct process probe; // pid -1: not running
	int probe_fd;
	int64_t probe_start_us; // not started again before
	struct lb_check_slot *slots;
	uint32_t slot_count;
	uint32_t free_slots, changed_slots; // the first of each, LB_NO_CHECK: none
	bool probe_blocked;                 // its socket is full: wait for EPOLLOUT

	size_t draining_count;
	int count_fd;     // a running count, -1: none
	int64_t count_us; // the next one; INT64_MAX: none is needed
	int64_t count_wait_us;
	struct netif_connections *counts;
	size_t count_count;

	struct lb_watch probe_socket_watch, probe_process_watch, count_watch;
};

struct lb {
	struct netif *netif;
	char *install;
	char *probe_path;
	uid_t probe_uid;
	gid_t probe_gid;
	bool keep_identity;
	const struct lb_provider_ops *provider;
	int epoll_fd;
	struct lb_vpc *vpcs;
	struct lb_event *events; // not yet taken, oldest first
	size_t event_count, event_capacity;
};

// ---- lb.c
struct lb_vpc *lb_vpc_find(const struct lb *lb, const char *vpc_id);
int lb_vpc_get(const struct lb *lb, const char *vpc_id, struct lb_vpc **ret_vpc, struct error *err);
void lb_event_member(struct lb *lb, enum lb_event_kind kind, const struct lb_member *member);
void lb_event_error(struct lb_vpc *vpc, const struct error *err);
int lb_watch_add(struct lb_watch *watch, int fd, uint32_t events, struct error *err);
void lb_watch_change(struct lb_watch *watch, int fd, uint32_t events);
void lb_watch_remove(struct lb_watch *watch, int fd); // before it is closed; -1 is fine

// ---- config.c
struct lb_group_entry *lb_group_find(const struct lb *lb, const char *group_id);
struct lb_group_entry *lb_vpc_group_find(const struct lb_vpc *vpc, const char *group_id);
void lb_balancers_free(struct lb_vpc *vpc);
void lb_group_free(struct lb_group_entry *group);

// ---- member.c
struct lb_member *lb_member_find(const struct lb_group_entry *group, uint32_t address,
				 uint16_t port);
void lb_member_event(struct lb_member *member, enum lb_health_event event, enum lb_reason reason);
void lb_member_use(struct lb_member *member); // its group's use or check changed
void lb_member_remove(struct lb_member *member);

// ---- checks.c
int lb_check_take(struct lb_member *member, struct error *err);
void lb_check_release(struct lb_member *member);
void lb_check_changed(struct lb_member *member);
void lb_checks_sync(struct lb_vpc *vpc);    // sends what is to be sent
void lb_checks_restart(struct lb_vpc *vpc); // a new probe knows nothing
void lb_results_read(struct lb_vpc *vpc, bool *ret_eof);

// ---- prober.c
int lb_prober_start(struct lb_vpc *vpc, struct error *err);
void lb_prober_stop(struct lb_vpc *vpc);
void lb_prober_ended(struct lb_vpc *vpc); // its process or socket says so

// ---- flush.c
bool lb_vpc_is_changed(const struct lb_vpc *vpc);
void lb_vpc_flush(struct lb_vpc *vpc, int64_t now_us);

// ---- drain.c
void lb_drain_begin(struct lb_member *member, int64_t left_ms);
void lb_drain_withdrawn(struct lb_vpc *vpc); // a flush succeeded
void lb_drain_count_ready(struct lb_vpc *vpc);
void lb_drain_run(struct lb_vpc *vpc, int64_t now_us);
int64_t lb_drain_deadline_us(const struct lb_vpc *vpc);
void lb_drain_stop(struct lb_vpc *vpc);
