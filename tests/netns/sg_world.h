// SPDX-License-Identifier: Apache-2.0
// A VPC with two tasks, a and b, and a client attached to it, for tests of security groups. Where
// a test needs more it makes it itself.
#pragma once

#include "tests/netns/harness.h"

#include "sg/sg.h"

#define ADDRESS_A      UINT32_C(0x0a000105) // 10.0.1.5
#define ADDRESS_B      UINT32_C(0x0a000106)
#define ADDRESS_ROUTER UINT32_C(0x0a000101)
#define ADDRESS_VIP    UINT32_C(0x0a000120)
#define ADDRESS_CLIENT UINT32_C(0xc0a80702) // 192.168.7.2

enum { PORT = 8080 };

struct world {
	struct netif *netif;
	struct sg_vpc *sg;
	int vpc_fd, client_fd, a_fd, b_fd; // namespaces
	struct netif_eni a, b;
};

extern struct world world;

int world_setup(void **state);
int world_teardown(void **state);

int world_netfilter(void); // socket of the VPC

// Each commits at once and fails the test if anything is refused.
void set_group(const char *id, const struct sg_rule *ingress, size_t ingress_count,
	       const struct sg_rule *egress, size_t egress_count);
void set_member(const struct netif_eni *eni, const char *const *groups, size_t count);
void set_balancer(const char *const *groups, size_t count); // lb-1 at ADDRESS_VIP
void commit(struct nft_batch *batch);

#define GROUPS(...)                                                                                \
	(const char *const[]){__VA_ARGS__},                                                        \
		sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)
#define RULES(...)                                                                                 \
	(const struct sg_rule[]){__VA_ARGS__},                                                     \
		sizeof((const struct sg_rule[]){__VA_ARGS__}) / sizeof(struct sg_rule)
#define NO_RULES NULL, 0
#define ANYTHING                                                                                   \
	{                                                                                          \
		.id = "any", .protocol = -1                                                        \
	}
#define ANYTHING_FROM(group)                                                                       \
	{                                                                                          \
		.id = "any-group", .protocol = -1, .group_id = group                               \
	}
#define UDP_FROM(address, length)                                                                  \
	{                                                                                          \
		.id = "udp", .protocol = 17, .from_port = PORT, .to_port = PORT, .cidr = {         \
			address,                                                                   \
			length                                                                     \
		}                                                                                  \
	}
#define UDP_FROM_GROUP(group)                                                                      \
	{                                                                                          \
		.id = "udp-group", .protocol = 17, .from_port = PORT, .to_port = PORT,             \
		.group_id = group                                                                  \
	}

// Packets dropped for a reason: of an ENI, or with NULL of the VPC.
uint64_t drops(enum sg_drop_reason reason, const char *eni_id);
// Waits until it is more than `before`.
void wait_for_drop(enum sg_drop_reason reason, const char *eni_id, uint64_t before);

// One datagram from a fresh port of a namespace to `address`:port.
void send_datagram(int from_fd, uint32_t address, unsigned short port);
// The same, and `server` (a UDP socket) gets it; returns the source address it sees.
uint32_t assert_delivered(int from_fd, uint32_t address, int server);
void assert_dropped(int from_fd, uint32_t address, enum sg_drop_reason reason, const char *eni_id);

// A frame from a task's eth0, as a hostile guest would write it.
void send_frame(int task_fd, const struct mac_address *source, uint16_t type, const void *payload,
		size_t length);
// An IPv4 header and a UDP header with right checksums; returns the length.
size_t make_datagram(uint32_t source, uint32_t destination, uint8_t packet[28]);
