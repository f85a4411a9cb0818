// SPDX-License-Identifier: Apache-2.0
// Internal to netif: the handle and the namespaces it knows.
#pragma once

#include <netlink/socket.h>
#include <sys/types.h>

#include "netif/inet.h"
#include "netif/link.h"
#include "netif/mark.h"
#include "netif/netif.h"

struct known_eni {
	int index;
	char eni_id[NETIF_ID_SIZE];
};

// One VPC's namespace, or the host's, and the sockets that were made inside.
struct netif_namespace {
	char vpc[NETIF_ID_SIZE]; // "" is the host's
	dev_t device;            // with inode: which namespace the pinned file is
	ino_t inode;
	int fd;
	struct nl_sock *rtnl;
	int netfilter_fd;        // -1: not asked for yet
	struct known_eni *known; // see counters.c
	size_t known_count;
	struct netif_namespace *next;
};

struct netif {
	char install[NETIF_ID_SIZE];
	struct netif_namespace host;
	struct netif_namespace *vpcs;
};

enum { NAMESPACE_NAME_SIZE = 2 * NETIF_ID_SIZE + 16, NAMESPACE_PATH_SIZE = 192 };

// "penstock-<install>-<vpc>", and the file of that name; return their text.
char *namespace_name(const struct netif *netif, const char *vpc, char name[NAMESPACE_NAME_SIZE]);
char *namespace_path(const struct netif *netif, const char *vpc, char path[NAMESPACE_PATH_SIZE]);

// The VPC's namespace, from the handle or opened: it must be pinned and carry our mark.
// -ENOENT: no such VPC. -EEXIST: it is somebody else's. The result belongs to the handle.
int namespace_get(struct netif *netif, const char *vpc, struct netif_namespace **ret_namespace,
		  struct error *err);

// A handle that has the namespace goes on with it when its pin is removed or covered.
bool namespace_is_pinned(const struct netif *netif, const struct netif_namespace *space);
// 1: `namespace_fd` is what namespace_get() gives; 0: that is another one, or there is none.
int namespace_holds(struct netif *netif, const char *vpc, int namespace_fd, struct error *err);
// Holds this namespace as the VPC's from now on: it must carry its mark (-EEXIST).
int namespace_adopt(struct netif *netif, const char *vpc, int namespace_fd, struct error *err);
// -EBUSY while a live ENI or an attachment is inside.
int namespace_check_unused(struct netif_namespace *space, struct error *err);

// Lets go of a VPC's sockets and descriptor, if held.
void namespace_forget(struct netif *netif, const char *vpc);

// The ENI's interface: 1 and *ret_link, 0 when there is none, -EEXIST when the name is
// somebody else's. An unfinished one (see veth.c) is ours too, with an empty alias.
int eni_find(const struct netif *netif, struct netif_namespace *space, const char *eni_id,
	     struct link_info *ret_link, struct error *err);

// Deletes what the VPC remembers of connections of addresses that no interface has any more.
int conntrack_forget_given_up(struct netif_namespace *space, struct error *err);

// Metrics of blackhole routes: below the /32 routes of ENIs and the routes of attachments. A subnet
// may have the same block as its VPC, and each of the two has its own route.
enum { SUBNET_BLACKHOLE_PRIORITY = 0x70000000, VPC_BLACKHOLE_PRIORITY = 0x70000001 };

// Whether the route is the blackhole of a subnet.
static inline bool is_subnet_blackhole(const struct inet_route *route)
{
	return route->type == RTN_BLACKHOLE && route->priority == SUBNET_BLACKHOLE_PRIORITY;
}

// Link group of a veth that has no mark yet.
enum { UNFINISHED_GROUP = NETIF_DYING_GROUP + 1 };

// The ways to make an ENI's interface; *ret_fd as netif_eni_create(). `name` is not taken.
int tap_create(struct netif *netif, struct netif_namespace *space, const struct netif_eni *eni,
	       const char *name, int *ret_fd, struct error *err);
// Takes the queue of an existing tap.
int tap_attach(struct netif *netif, struct netif_namespace *space, const struct netif_eni *eni,
	       const char *name, int *ret_fd, struct error *err);
int veth_create(struct netif *netif, struct netif_namespace *space, const struct netif_eni *eni,
		const char *name, int *ret_fd, struct error *err);
