// SPDX-License-Identifier: Apache-2.0
// The nft provider's inside: what the kernel serves, and the batch for a plan.
#pragma once

#include "agent/lb/provider.h"
#include "netif/nft.h"

#define LB_NFT_TABLE "penstock_lb"

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

// Pure: the operations that lead from one to the other (from nothing: the table is made
// anew, atomically).
void nft_plan_batch(const struct nft_served *before, const struct nft_served *after, bool resync,
		    struct nft_batch *batch);
