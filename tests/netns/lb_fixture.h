// SPDX-License-Identifier: Apache-2.0
// For test_lb.c and test_lb_vpcs.c: a VPC "prod" with three tasks that serve, a client, and the
// loop to drive.
#pragma once

#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/scope.h"
#include "agent/lb/lb.h"
#include "tests/netns/harness.h"

enum { TASKS = 3, PORT = 8080, VIP_PORT = 80, CLOSED_PORT = 9, CONNECTIONS_MAX = 64 };
enum { DEADLINE_US = 60000000 }; // bounds a hang
// Between two checks, and for the answer: as long as nobody's health fails by a slow machine, or
// short, for who waits for failures.
enum { PATIENT_MS = 60000, IMPATIENT_MS = 300 };

#define VIP     UINT32_C(0x0a000109)
#define CLIENT  UINT32_C(0x0a000120)
#define TASK(i) (UINT32_C(0x0a000110) + (uint32_t)(i))

// Between this process, the servers and the load client.
struct shared {
	struct {
		volatile int status;        // answered to GET; 0: never answer
		volatile uint32_t asked_by; // the last GET's source
		volatile unsigned answered;
	} servers[TASKS];
	volatile int stop;
	volatile unsigned succeeded, failed; // of the load client
};

extern struct shared *shared;
extern struct netif *netif;
extern struct lb *lb;
extern int task_fds[TASKS], client_fd;
extern struct error err;

int house_build(void **state); // once
int house_raze(void **state);
int lb_setup(void **state); // per test
int lb_teardown(void **state);

pid_t fork_child(void); // killed with its parent
void end_child(pid_t child);
// One connection from a namespace to the VIP; who answered, or -1. *ret_fd: left open there.
int ask(int namespace_fd, int *ret_fd);
// A process that connects and connects until load_end(); counts in `shared`.
pid_t load_start(void);
void load_end(pid_t child);

struct wanted {
	enum lb_event_kind kind;
	const char *state; // of TARGET_STATE
	int task;
	enum lb_reason reason; // LB_REASON_NONE: any
};

// Turns the loop once, waits for at most `wait_us`; true when the event came.
bool turn(int64_t wait_us, const struct wanted *wanted, struct lb_event *ret_event);
struct lb_event await(enum lb_event_kind kind, const char *state, int task);
// "unhealthy" for this reason, whatever the reasons before it.
void await_unhealthy(int task, enum lb_reason reason);
// Goes on for a while; what happens meanwhile is not waited for.
void run_for(int64_t duration_us);
// Goes on until one of the counters of `shared` has grown by `count`.
void run_until(volatile unsigned *counter, unsigned count);

struct lb_target target_of(int task);
void register_task(int task);
void deregister_task(int task, int64_t delay_ms);
struct lb_target_status status_of(int task);
void await_state(int task, enum lb_state state);
struct lb_group group_of(enum lb_protocol protocol, uint32_t interval_ms);
struct lb_balancer front(void); // before the group of group_of()
void open_lb(void);
void configure(enum lb_protocol protocol);
void await_healthy(int tasks);
