// SPDX-License-Identifier: Apache-2.0
// A look at what a VPC's namespace has, for many ENIs at once.
//
// Three dumps are enough: the addresses of lo, our routes, the permanent neighbours. Links are not
// listed: that costs ten times as much as a route, and whatever happens to an ENI's link shows in
// the other two, since the kernel removes the route and the neighbour of a link that goes down or
// is deleted.
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "netif/handle.h"
#include "netif/inet.h"
#include "netif/namespace.h"
#include "netif/rtnl.h"

enum look_part { LOOK_ADDRESSES, LOOK_ROUTES, LOOK_NEIGHBOURS, LOOK_PART_COUNT };

struct netif_look {
	struct nl_sock *socket;
	enum look_part part;
	struct rtnl_partial dump;
	struct rtnl_array arrays[LOOK_PART_COUNT];
};

static struct nl_msg *addresses_query(void)
{
	return address_query(LOOPBACK_INDEX);
}

static struct nl_msg *routes_query(void)
{
	return route_query(0);
}

// All three begin with the interface or the destination; each is sorted by its own comparison.
static int compare_u32(uint32_t one, uint32_t other)
{
	return (one > other) - (one < other);
}

static int compare_addresses(const void *left, const void *right)
{
	const struct inet_address *one = left, *other = right;

	return compare_u32(one->address, other->address);
}

static int compare_routes(const void *left, const void *right)
{
	const struct inet_route *one = left, *other = right;
	int order = compare_u32(one->destination.base, other->destination.base);

	if (order == 0)
		order = compare_u32(one->destination.prefix, other->destination.prefix);
	return order ? order : compare_u32(one->priority, other->priority);
}

static int compare_neighbours(const void *left, const void *right)
{
	const struct inet_neighbour *one = left, *other = right;
	int order = compare_u32(one->address, other->address);

	return order ? order : one->index - other->index;
}

static const struct {
	struct nl_msg *(*query)(void);
	rtnl_each_fn *take;
	int (*compare)(const void *left, const void *right);
	size_t item_size;
} parts[] = {
	[LOOK_ADDRESSES] = {addresses_query, address_take, compare_addresses,
			    sizeof(struct inet_address)},
	[LOOK_ROUTES] = {routes_query, route_take, compare_routes, sizeof(struct inet_route)},
	[LOOK_NEIGHBOURS] = {neighbour_query, neighbour_take, compare_neighbours,
			     sizeof(struct inet_neighbour)},
};

static int start_part(struct netif_look *look, struct error *err)
{
	scoped_message struct nl_msg *message = parts[look->part].query();

	look->arrays[look->part].item_size = parts[look->part].item_size;
	return rtnl_partial_start(look->socket, message, &look->dump, err);
}

void netif_look_free(struct netif_look *look)
{
	if (!look)
		return;
	for (size_t i = 0; i < LOOK_PART_COUNT; i++)
		free(look->arrays[i].items);
	rtnl_close(&look->socket);
	free(look);
}

static int open_socket(struct netif *netif, const char *vpc, struct nl_sock **ret_socket,
		       struct error *err)
{
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(netif->host.fd);
	struct netif_namespace *space;

	if (namespace_get(netif, vpc, &space, err) < 0 ||
	    namespace_enter(&visit, space->fd, err) < 0)
		return -err->code;
	return rtnl_open(ret_socket, err);
}

int netif_look_start(struct netif *netif, const char *vpc, struct netif_look **ret_look,
		     struct error *err)
{
	struct netif_look *look = calloc(1, sizeof(*look));

	if (!look)
		abort();
	if (open_socket(netif, vpc, &look->socket, err) < 0 || start_part(look, err) < 0) {
		netif_look_free(look);
		return error_wrap(err, "vpc %s: look at its addresses", vpc);
	}
	*ret_look = look;
	return 0;
}

int netif_look_fd(const struct netif_look *look)
{
	return nl_socket_get_fd(look->socket);
}

int netif_look_step(struct netif_look *look, bool *ret_done, struct error *err)
{
	struct rtnl_array *array = &look->arrays[look->part];
	int result =
		rtnl_partial_step(look->socket, &look->dump, parts[look->part].take, array, err);

	*ret_done = false;
	// A namespace that never had a route has no table to dump.
	if (result == -ENOENT) {
		error_clear(err);
		look->dump.done = true;
		result = 0;
	}
	if (result < 0)
		return result;
	if (!look->dump.done)
		return 0;
	if (array->count > 1)
		qsort(array->items, array->count, array->item_size, parts[look->part].compare);
	look->part++;
	*ret_done = look->part == LOOK_PART_COUNT;
	return *ret_done ? 0 : start_part(look, err);
}

// --- What was seen ---

static const void *find(const struct netif_look *look, enum look_part part, const void *key)
{
	const struct rtnl_array *array = &look->arrays[part];

	return array->count ? bsearch(key, array->items, array->count, array->item_size,
				      parts[part].compare)
			    : NULL;
}

bool netif_look_has_address(const struct netif_look *look, uint32_t address)
{
	return find(look, LOOK_ADDRESSES, &(struct inet_address){.address = address});
}

static bool has_blackhole(const struct netif_look *look, const struct ipv4_cidr *block,
			  uint32_t priority)
{
	const struct inet_route wanted = {.destination = *block, .priority = priority};
	const struct inet_route *found = find(look, LOOK_ROUTES, &wanted);

	return found && found->type == RTN_BLACKHOLE;
}

bool netif_look_has_subnet(const struct netif_look *look, const struct ipv4_cidr *block)
{
	return netif_look_has_address(look, ipv4_subnet_router(block)) &&
	       has_blackhole(look, block, SUBNET_BLACKHOLE_PRIORITY);
}

bool netif_look_has_vpc(const struct netif_look *look, const struct ipv4_cidr *block)
{
	return netif_look_has_address(look, NETIF_METADATA_ADDRESS) &&
	       has_blackhole(look, block, VPC_BLACKHOLE_PRIORITY);
}

// The MAC of an ENI is its own: a neighbour with it, on the interface of the route, shows that the
// route leads to the right one.
bool netif_look_has_eni(const struct netif_look *look, const struct netif_eni *eni)
{
	const struct inet_route wanted = {.destination = {.base = eni->address, .prefix = 32}};
	const struct inet_route *route = find(look, LOOK_ROUTES, &wanted);
	const struct inet_neighbour *neighbour;

	if (!route || route->type != RTN_UNICAST || route->source != eni->gateway ||
	    route->via != 0)
		return false;
	neighbour = find(look, LOOK_NEIGHBOURS,
			 &(struct inet_neighbour){.address = eni->address, .index = route->index});
	return neighbour && memcmp(&neighbour->mac, &eni->mac, sizeof(eni->mac)) == 0;
}
