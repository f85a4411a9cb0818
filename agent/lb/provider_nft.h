// SPDX-License-Identifier: Apache-2.0
// The nft provider's inside: what the kernel serves, and the batch for a plan.
#pragma once

#include "agent/lb/provider.h"
#include "netif/nft.h"

#define LB_NFT_TABLE        "penstock_lb"
#define LB_NFT_GROUP_PREFIX "group-" // of a group's chain and map

extern const struct nft_set lb_nft_services_map;

struct lb_nft_served_group {
	struct lb_nft_served_group *next;
	char id[64];
	struct lb_endpoint *endpoints;
	size_t count;
};

struct lb_nft_service {
	uint32_t address;
	uint16_t port;
	char group_id[64];
	char balancer_id[64]; // whose it is
};

// What stands in the kernel, as far as we know.
struct lb_nft_served {
	struct lb_nft_served_group *groups;
	struct lb_nft_service *services;
	size_t service_count;
};

void lb_nft_served_release(struct lb_nft_served *served);
struct lb_nft_served_group *lb_nft_served_group_find(const struct lb_nft_served *served,
						     const char *id);

// What stands after `plan` (deep copy).
void lb_nft_served_after(const struct lb_nft_served *before, const struct lb_plan *plan,
			 struct lb_nft_served *ret_after);
// Reads the groups back from the kernel; without the table there are none.
int lb_nft_served_read(int netfilter_socket, struct lb_nft_served *ret_served, struct error *err);

struct nft_value lb_nft_service_key(uint32_t address, uint16_t port);
// Pure: the operations that lead from one to the other. `new_table`: from nothing, the table is
// made anew, atomically, with this comment; NULL: it stands.
void lb_nft_plan_batch(const struct lb_nft_served *before, const struct lb_nft_served *after,
		       const char *new_table, struct nft_batch *batch);
