// SPDX-License-Identifier: Apache-2.0
// Internal to netif: IPv4 addresses, routes and neighbours of one namespace, by
// rtnetlink. What we add has protocol number NETIF_PROTOCOL.
#pragma once

#include <linux/rtnetlink.h>
#include <netlink/socket.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/error.h"
#include "netif/ipam.h"
#include "netif/rtnl.h"

enum { LOOPBACK_INDEX = 1 }; // in every network namespace

struct inet_address {
	int index; // interface
	uint32_t address;
	unsigned prefix;
	uint8_t scope;    // RT_SCOPE_*
	uint8_t protocol; // when listed; 0 on kernels before 5.18
};

// Adding what exists, deleting what is gone: success. To add is 1 when it was not there.
int address_add(struct nl_sock *socket, const struct inet_address *address, struct error *err);
int address_delete(struct nl_sock *socket, const struct inet_address *address, struct error *err);
// Dump requests, and what takes one reply into an array of struct inet_address, inet_route or
// inet_neighbour: for a dump that is read in parts.
struct nl_msg *address_query(int index);
struct nl_msg *route_query(int index);
struct nl_msg *neighbour_query(void);
rtnl_each_fn address_take, route_take, neighbour_take;

// Of one interface; the caller frees the array.
int address_list(struct nl_sock *socket, int index, struct inet_address **ret_addresses,
		 size_t *ret_count, struct error *err);

struct inet_route {
	struct ipv4_cidr destination;
	uint8_t type;      // RTN_UNICAST, RTN_BLACKHOLE
	int index;         // interface; 0 for a blackhole
	uint32_t via;      // gateway; 0: on-link
	uint32_t source;   // preferred source address; 0: the kernel's choice
	uint32_t priority; // metric
};

bool route_equal(const struct inet_route *one, const struct inet_route *other);
// -EEXIST when there is a route to this destination with this priority already, any route.
int route_add(struct nl_sock *socket, const struct inet_route *route, struct error *err);
int route_delete(struct nl_sock *socket, const struct inet_route *route, struct error *err);
// Ours in the main table by one interface (0: any); the caller frees the array.
int route_list(struct nl_sock *socket, int index, struct inet_route **ret_routes, size_t *ret_count,
	       struct error *err);
// The route that a packet to `address` takes: 1, or 0 when there is none (or a blackhole).
int route_find(struct nl_sock *socket, uint32_t address, struct inet_route *ret_route,
	       struct error *err);

struct inet_neighbour {
	int index;
	uint32_t address;
	struct mac_address mac;
};

// A permanent neighbour.
int neighbour_set(struct nl_sock *socket, int index, uint32_t address,
		  const struct mac_address *mac, struct error *err);
// Is it permanent with this MAC? 1 or 0.
int neighbour_stands(struct nl_sock *socket, int index, uint32_t address,
		     const struct mac_address *mac, struct error *err);
