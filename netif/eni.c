// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/base/scope.h"
#include "netif/handle.h"
#include "netif/inet.h"

enum { LISTEN_BACKLOG = 32 };

const struct mac_address netif_gateway_mac = {.bytes = {0x02, 0x70, 0x73, 0x00, 0x00, 0x01}};

static const char *const kind_names[] = {
	[NETIF_ENI_TAP] = "tun",
	[NETIF_ENI_VETH] = "veth",
};

static bool is_unfinished(const struct link_info *link)
{
	return link->alias[0] == '\0' && link->group == UNFINISHED_GROUP;
}

int eni_find(const struct netif *netif, struct netif_namespace *space, const char *eni_id,
	     struct link_info *ret_link, struct error *err)
{
	char name[IFNAMSIZ], owner[MARK_TEXT_SIZE];
	int found = link_find(space->rtnl, eni_interface_name(netif->install, eni_id, name),
			      LINK_WITHOUT_STATS, ret_link, err);
	struct mark mark;

	if (found <= 0)
		return found;
	mark = mark_parse(ret_link->alias);
	if (mark_matches(&mark, MARK_ENI, netif->install, eni_id) || is_unfinished(ret_link))
		return 1;
	return error_set(err, EEXIST, "interface %s in vpc %s belongs to %s", name, space->vpc,
			 mark_describe(&mark, owner));
}

static int create(struct netif *netif, const struct netif_eni *eni, int *ret_fd, struct error *err)
{
	struct netif_namespace *space;
	struct link_info link;
	char name[IFNAMSIZ];
	int found;

	eni_interface_name(netif->install, eni->eni_id, name);
	if (namespace_get(netif, eni->vpc, &space, err) < 0)
		return -err->code;
	found = eni_find(netif, space, eni->eni_id, &link, err);
	if (found < 0)
		return found;
	if (found && eni->kind == NETIF_ENI_TAP && link.group != NETIF_DYING_GROUP &&
	    strcmp(link.kind, kind_names[NETIF_ENI_TAP]) == 0)
		return tap_attach(netif, space, eni, name, ret_fd, err);
	if (found && link_delete(space->rtnl, link.index, err) < 0)
		return -err->code;
	if (eni->kind == NETIF_ENI_TAP)
		return tap_create(netif, space, eni, name, ret_fd, err);
	return veth_create(netif, space, eni, name, ret_fd, err);
}

int netif_eni_create(struct netif *netif, const struct netif_eni *eni, int *ret_fd,
		     struct error *err)
{
	if (create(netif, eni, ret_fd, err) < 0)
		return error_wrap(err, "eni %s", eni->eni_id);
	return 0;
}

// --- Link ---

static struct inet_route eni_route(const struct netif_eni *eni, int index)
{
	return (struct inet_route){
		.destination = {.base = eni->address, .prefix = 32},
		.type = RTN_UNICAST,
		.index = index,
		.source = eni->gateway,
	};
}

static int ensure_route(struct netif_namespace *space, const struct netif_eni *eni, int index,
			struct error *err)
{
	struct inet_route wanted = eni_route(eni, index), standing;
	char address[IPV4_TEXT_SIZE];
	int found;

	if (route_add(space->rtnl, &wanted, err) == 0)
		return 0;
	if (err->code != EEXIST)
		return -err->code;
	error_clear(err);
	found = route_find(space->rtnl, eni->address, &standing, err);
	if (found < 0)
		return found;
	if (found && route_equal(&standing, &wanted))
		return 0;
	return error_set(err, EADDRINUSE, "%s is routed to another interface (index %d)",
			 ipv4_format(eni->address, address), found ? standing.index : 0);
}

static int link_up(struct netif *netif, const struct netif_eni *eni, struct error *err)
{
	struct netif_namespace *space;
	struct link_info link;
	int found;

	if (namespace_get(netif, eni->vpc, &space, err) < 0)
		return -err->code;
	found = eni_find(netif, space, eni->eni_id, &link, err);
	if (found < 0)
		return found;
	if (!found || link.group != 0)
		return error_set(err, ENOENT, "there is no interface to link");
	// In this order: the first packet finds its neighbour; a route needs its link up.
	if (neighbour_set(space->rtnl, link.index, eni->address, &eni->mac, err) < 0)
		return -err->code;
	if (link_change(space->rtnl, LINK_CHANGE(.index = link.index, .state = LINK_STATE_UP),
			err) < 0)
		return error_wrap(err, "link up");
	return ensure_route(space, eni, link.index, err);
}

int netif_eni_link(struct netif *netif, const struct netif_eni *eni, struct error *err)
{
	if (link_up(netif, eni, err) < 0)
		return error_wrap(err, "eni %s", eni->eni_id);
	return 0;
}

// --- Undo ---

typedef int eni_undo_fn(struct netif_namespace *space, int index, struct error *err);

static int set_down(struct netif_namespace *space, int index, struct error *err)
{
	return link_change(space->rtnl, LINK_CHANGE(.index = index, .state = LINK_STATE_DOWN), err);
}

static int set_dying(struct netif_namespace *space, int index, struct error *err)
{
	return link_change(space->rtnl,
			   LINK_CHANGE(.index = index, .state = LINK_STATE_DOWN, .set_group = true,
				       .group = NETIF_DYING_GROUP),
			   err);
}

static int delete_now(struct netif_namespace *space, int index, struct error *err)
{
	return link_delete(space->rtnl, index, err);
}

// What is gone already is undone already; also when it goes meanwhile (a veth may,
// with its task). And what is not ours needs no undo.
static int undo(struct netif *netif, const char *vpc, const char *eni_id, eni_undo_fn *effect,
		struct error *err)
{
	struct netif_namespace *space;
	struct link_info link = {0};
	int result = namespace_get(netif, vpc, &space, err);

	if (result == 0)
		result = eni_find(netif, space, eni_id, &link, err);
	if (result == 1)
		result = effect(space, link.index, err);
	if (result == -ENOENT || result == -ENODEV || result == -EEXIST) {
		error_clear(err);
		result = 0;
	}
	return result < 0 ? error_wrap(err, "eni %s", eni_id) : 0;
}

int netif_eni_unlink(struct netif *netif, const char *vpc, const char *eni_id, struct error *err)
{
	return undo(netif, vpc, eni_id, set_down, err);
}

int netif_eni_retire(struct netif *netif, const char *vpc, const char *eni_id, struct error *err)
{
	return undo(netif, vpc, eni_id, set_dying, err);
}

int netif_eni_delete(struct netif *netif, const char *vpc, const char *eni_id, struct error *err)
{
	return undo(netif, vpc, eni_id, delete_now, err);
}

int netif_reap(struct netif *netif, const char *vpc, struct error *err)
{
	struct netif_namespace *space;
	int result = namespace_get(netif, vpc, &space, err);

	if (result == -ENOENT) {
		error_clear(err);
		return 0;
	}
	if (result < 0 || link_delete_group(space->rtnl, NETIF_DYING_GROUP, err) < 0 ||
	    conntrack_forget_given_up(space, err) < 0)
		return error_wrap(err, "vpc %s: reap", vpc);
	return 0;
}

// --- Check ---

static unsigned interface_faults(const struct netif_eni *eni, const struct link_info *link)
{
	unsigned faults = 0;

	if (link->group == NETIF_DYING_GROUP)
		faults |= NETIF_ENI_DYING;
	if (is_unfinished(link) || link->mtu != eni->mtu ||
	    strcmp(link->kind, kind_names[eni->kind]) != 0 ||
	    memcmp(&link->mac, &netif_gateway_mac, sizeof(link->mac)) != 0)
		faults |= NETIF_ENI_WRONG;
	if (!link->up)
		faults |= NETIF_ENI_DOWN;
	else if (!link->carrier)
		faults |= NETIF_ENI_DETACHED;
	return faults;
}

static int path_faults(struct netif_namespace *space, const struct netif_eni *eni, int index,
		       unsigned *faults, struct error *err)
{
	struct inet_route wanted = eni_route(eni, index), standing;
	int neighbour = neighbour_stands(space->rtnl, index, eni->address, &eni->mac, err);
	int route =
		neighbour < 0 ? neighbour : route_find(space->rtnl, eni->address, &standing, err);

	if (route < 0)
		return route;
	if (!neighbour)
		*faults |= NETIF_ENI_NO_NEIGHBOUR;
	if (!route || !route_equal(&standing, &wanted))
		*faults |= NETIF_ENI_NO_ROUTE;
	return 0;
}

// 0, or the fault that the answer consists of.
static int check_found(int result, struct error *err)
{
	if (result == 0 || result == -ENOENT) {
		error_clear(err);
		return NETIF_ENI_MISSING;
	}
	if (result == -EEXIST) {
		error_clear(err);
		return NETIF_ENI_FOREIGN;
	}
	return result < 0 ? result : 0;
}

int netif_eni_check(struct netif *netif, const struct netif_eni *eni, unsigned *ret_faults,
		    struct error *err)
{
	struct netif_namespace *space;
	struct link_info link = {0};
	int result = namespace_get(netif, eni->vpc, &space, err);
	unsigned faults;

	if (result == 0)
		result = eni_find(netif, space, eni->eni_id, &link, err);
	result = check_found(result, err);
	if (result > 0) {
		*ret_faults = (unsigned)result;
		return 0;
	}
	if (result == 0) {
		faults = interface_faults(eni, &link);
		result = path_faults(space, eni, link.index, &faults, err);
	}
	if (result < 0)
		return error_wrap(err, "eni %s", eni->eni_id);
	*ret_faults = faults;
	return 0;
}

// --- Listener ---

static int bind_to_interface(int fd, const char *interface, struct error *err)
{
	const struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(NETIF_METADATA_PORT),
		.sin_addr.s_addr = htonl(NETIF_METADATA_ADDRESS),
	};
	int on = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, interface, (socklen_t)strlen(interface)) <
	    0)
		return error_errno(err, "bind to interface %s", interface);
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, LISTEN_BACKLOG) < 0)
		return error_errno(err, "listen on 169.254.170.2 on %s", interface);
	return 0;
}

static int eni_listen(struct netif *netif, const char *vpc, const char *eni_id, int *ret_fd,
		      struct error *err)
{
	struct netif_namespace *space;
	struct link_info link;
	scoped_fd int fd = -1;
	int found;

	if (namespace_get(netif, vpc, &space, err) < 0)
		return -err->code;
	found = eni_find(netif, space, eni_id, &link, err);
	if (found < 0)
		return found;
	if (!found)
		return error_set(err, ENOENT, "there is no interface to listen on");
	if (netif_vpc_socket(netif, vpc, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0, &fd, err) < 0 ||
	    bind_to_interface(fd, link.name, err) < 0)
		return -err->code;
	*ret_fd = take_fd(&fd);
	return 0;
}

int netif_eni_listen(struct netif *netif, const char *vpc, const char *eni_id, int *ret_fd,
		     struct error *err)
{
	if (eni_listen(netif, vpc, eni_id, ret_fd, err) < 0)
		return error_wrap(err, "eni %s", eni_id);
	return 0;
}
