// SPDX-License-Identifier: Apache-2.0
// The nft provider's inside: what the kernel serves, and the batch for a plan.
#pragma once

#include "agent/lb/provider.h"
#include "netif/nft.h"

#define LB_NFT_TABLE        "penstock_lb"
#define LB_NFT_GROUP_PREFIX "group-" // of a group's chain and map

extern const struct nft_set nft_services_map;

struct nft_served_group {
	struct nft_served_group *next;
	char id[64];
	struct lb_endpoint *endpoints;
	size_t count;
};

struct nft_service {
	uint32_t address;
	uint16_t port;
	char group_id[64];
	char balancer_id[64]; // whose it is
};

// What stands in the kernel, as far as we know.
struct nft_served {
	struct nft_served_group *groups;
	struct nft_service *services;
	size_t service_count;
};

void nft_served_release(struct nft_served *served);
struct nft_served_group *nft_served_group_find(const struct nft_served *served, const char *id);

// What stands after `plan` (deep copy).
void nft_served_after(const struct nft_served *before, const struct lb_plan *plan,
		      struct nft_served *ret_after);
// Reads the groups back from the kernel; without the table there are none.
int nft_served_read(int netfilter_socket, struct nft_served *ret_served, struct error *err);

// Host order, of the field that begins at `offset`.
uint32_t nft_ipv4_at(const struct nft_value *value, size_t offset);
uint16_t nft_port_at(const struct nft_value *value, size_t offset);

struct nft_value nft_service_key(uint32_t address, uint16_t port);
// Pure: the operations that lead from one to the other. `new_table`: from nothing, the table is
// made anew, atomically, with this comment; NULL: it stands.
void nft_plan_batch(const struct nft_served *before, const struct nft_served *after,
		    const char *new_table, struct nft_batch *batch);
