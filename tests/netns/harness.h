// SPDX-License-Identifier: Apache-2.0
// For tests against the real kernel: a "host" of the test's own, and tasks in it.
// Everything fails the running cmocka test instead of returning an error.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <netinet/in.h>

#include "agent/base/scope.h"
#include "netif/netif.h"

enum { EXIT_SKIPPED = 77 };

// Puts this process into new network and mount namespaces with an empty /run. Exits with
// EXIT_SKIPPED, and a loud line, where that is not allowed.
void sandbox_enter(void);

// Fails with the message of `err` unless `result` is zero or more.
#define assert_ok(result, err)                                                                     \
	do {                                                                                       \
		if ((result) < 0)                                                                  \
			fail_msg("%s", (err)->message);                                            \
	} while (0)

// The process's descriptors, to see that none leaks.
size_t descriptor_count(void);

// The identity of this thread's network namespace.
unsigned long namespace_identity(void);

// An rtnetlink socket of a VPC, for looking behind the door (rtnl_close()).
struct nl_sock *rtnl_inside(struct netif *netif, const char *vpc);

// Two interfaces joined by a cable, both in this thread's namespace, both down.
void cable_create(const char *one, const char *other);

// A descriptor that is only held open.
#define held_fd scoped_fd __attribute__((unused))

// An ENI of vpc "prod" in the /24 subnet of its address.
struct netif_eni eni_of(enum netif_eni_kind kind, const char *id, uint32_t address);
// netif_eni_create() and netif_eni_check(), which must succeed.
int eni_make(struct netif *netif, const struct netif_eni *eni);
unsigned eni_faults(struct netif *netif, const struct netif_eni *eni);
// A veth ENI made and linked, its task configured, packets passing; returns the task's namespace.
int task_start(struct netif *netif, const struct netif_eni *eni);

// What penstock-init does inside a task: lo and eth0 up, address, gateway, default route.
void task_configure(int task_fd, const struct netif_eni *eni);

// Waits until a link that is up carries packets.
void wait_running(int namespace_fd, const char *interface);

// socket(AF_INET, type | SOCK_NONBLOCK) inside a namespace.
int socket_inside(int namespace_fd, int type);
// The same, bound to a port of any address; listening if it is a stream.
int server_inside(int namespace_fd, int type, unsigned short port);

// Waits until the descriptor has one of `events`; fails after a deadline.
void wait_for(int fd, short events);
// Connects; 0 or a negative errno once the peer has decided.
int connect_to(int fd, uint32_t address, unsigned short port);
// Waits for a connection, for a client is connected a moment before its server may accept.
// ret_peer: may be NULL.
int accept_from(int listener, struct sockaddr_in *ret_peer);
