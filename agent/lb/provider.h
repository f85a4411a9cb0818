// SPDX-License-Identifier: Apache-2.0
// Providers make a load balancer effective: one small ops struct. Penstock owns the
// health state machine; a provider gets, per VPC, who is to have new connections.
//
// Level-triggered: a plan carries the wanted state of what changed, whole, and applying
// it twice is applying it once. After a failure, or when it says so itself, it is given
// everything again (`resync`).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/error.h"
#include "netif/netif.h"

// Zeroed, also for nothing not NULL; out of memory ends the process.
void *lb_allocate(size_t count, size_t size);

struct lb_endpoint {
	uint32_t address;
	uint16_t port;
};

struct lb_plan_group {
	const char *id;
	const struct lb_endpoint *endpoints; // in service, in the order of registration
	size_t count;
};

struct lb_plan_service {
	uint32_t address; // VIP
	uint16_t port;
	const char *group_id;
	const char *balancer_id; // whose listener it is
};

struct lb_plan {
	bool resync;                        // this is everything there is to be
	const struct lb_plan_group *groups; // made or changed
	size_t group_count;
	const char *const *removed; // ids of groups that are to go
	size_t removed_count;
	bool services_changed; // then these are all of them
	const struct lb_plan_service *services;
	size_t service_count;
};

struct lb_provider; // one per VPC

struct lb_provider_ops {
	const char *name;
	// Reads what an earlier life of the agent left in effect.
	int (*open)(struct netif *netif, const char *vpc_id, struct lb_provider **ret_provider,
		    struct error *err);
	void (*close)(struct lb_provider *provider); // what is in effect stays
	// Whether this endpoint gets connections of this group now.
	bool (*serves)(const struct lb_provider *provider, const char *group_id,
		       const struct lb_endpoint *endpoint);
	int (*apply)(struct lb_provider *provider, const struct lb_plan *plan, struct error *err);

	// Counting the connections of endpoints, in slices: as netif_connections_start() and step.
	int (*count_start)(struct lb_provider *provider, int *ret_fd, struct error *err);
	int (*count_step)(int fd, struct netif_connections *connections, size_t count,
			  bool *ret_done, struct error *err);
};

// nftables in the VPC's namespace (provider_nft.c).
extern const struct lb_provider_ops lb_provider_nft;
