// SPDX-License-Identifier: Apache-2.0
// Internal to netif: one network interface as rtnetlink tells it, and its changes.
#pragma once

#include <linux/if_link.h>
#include <net/if.h>
#include <netlink/socket.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/base/error.h"
#include "netif/ipam.h"

enum { LINK_ALIAS_SIZE = 256, LINK_KIND_SIZE = 16 };

struct link_info {
	int index;
	bool up, carrier;
	unsigned mtu;
	uint32_t group;
	char name[IFNAMSIZ];
	char alias[LINK_ALIAS_SIZE]; // "" is none
	char kind[LINK_KIND_SIZE];   // "tun", "veth"; "" is none
	struct mac_address mac;
	struct rtnl_link_stats64 stats; // zero unless asked for
};

enum link_stats { LINK_WITHOUT_STATS, LINK_WITH_STATS };

// 1 and *ret_link, or 0 when there is none of that name.
int link_find(struct nl_sock *socket, const char *name, enum link_stats stats,
	      struct link_info *ret_link, struct error *err);

// The same by index, without statistics.
int link_find_index(struct nl_sock *socket, int index, struct link_info *ret_link,
		    struct error *err);

// All interfaces of the namespace, without statistics; the caller frees the array.
int link_list(struct nl_sock *socket, struct link_info **ret_links, size_t *ret_count,
	      struct error *err);

struct link_statistics {
	int index;
	struct rtnl_link_stats64 stats;
};

// The statistics of all interfaces and nothing else: a tenth of the price of listing them.
int link_list_statistics(struct nl_sock *socket, struct link_statistics **ret_statistics,
			 size_t *ret_count, struct error *err);

enum link_state { LINK_STATE_KEEP, LINK_STATE_UP, LINK_STATE_DOWN };

// A change in one message; the kernel applies the parts in its own order, not atomically.
struct link_change {
	int index;        // the interface, or 0: by `name`
	const char *name; // with index 0
	enum link_state state;
	unsigned mtu;                  // 0: keep
	const char *alias;             // NULL: keep, "": none
	const struct mac_address *mac; // NULL: keep
	bool set_group;
	uint32_t group;
};

#define LINK_CHANGE(...) (&(struct link_change){__VA_ARGS__})

int link_change(struct nl_sock *socket, const struct link_change *change, struct error *err);
// Into another namespace; it arrives down and without addresses.
int link_move(struct nl_sock *socket, int index, int namespace_fd, struct error *err);

// Deleting what is gone is success.
int link_delete(struct nl_sock *socket, int index, struct error *err);
int link_delete_group(struct nl_sock *socket, uint32_t group, struct error *err);
