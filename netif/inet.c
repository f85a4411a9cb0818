// SPDX-License-Identifier: Apache-2.0
#include "netif/inet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <stdlib.h>
#include <string.h>

#include "netif/netif.h"
#include "netif/rtnl.h"

static uint32_t get_ipv4(struct nlattr *attribute)
{
	return attribute ? ntohl(nla_get_u32(attribute)) : 0;
}

// A missing or a present thing that the caller is content with.
static int content_with(int result, int code, struct error *err)
{
	if (result != -code)
		return result;
	error_clear(err);
	return 0;
}

// --- Addresses ---

static struct nl_msg *address_message(int type, int flags, const struct inet_address *address)
{
	struct ifaddrmsg header = {
		.ifa_family = AF_INET,
		.ifa_prefixlen = (uint8_t)address->prefix,
		.ifa_scope = address->scope,
		.ifa_index = (unsigned)address->index,
	};
	struct nl_msg *message = rtnl_message(type, flags, &header, sizeof(header));

	rtnl_put_ipv4(message, IFA_LOCAL, address->address);
	return message;
}

int address_add(struct nl_sock *socket, const struct inet_address *address, struct error *err)
{
	scoped_message struct nl_msg *message =
		address_message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, address);
	char text[IPV4_TEXT_SIZE];

	rtnl_put_u8(message, IFA_PROTO, NETIF_PROTOCOL);
	if (rtnl_request(socket, message, err) == 0)
		return 1;
	if (content_with(-err->code, EEXIST, err) < 0)
		return error_wrap(err, "add address %s", ipv4_format(address->address, text));
	return 0;
}

int address_delete(struct nl_sock *socket, const struct inet_address *address, struct error *err)
{
	scoped_message struct nl_msg *message = address_message(RTM_DELADDR, 0, address);
	char text[IPV4_TEXT_SIZE];

	if (content_with(rtnl_request(socket, message, err), EADDRNOTAVAIL, err) < 0)
		return error_wrap(err, "delete address %s", ipv4_format(address->address, text));
	return 0;
}

int address_take(const struct nlmsghdr *reply, void *context, struct error *err)
{
	const struct ifaddrmsg *header = nlmsg_data(reply);
	struct nlattr *found[IFA_MAX + 1];

	if (nlmsg_parse((struct nlmsghdr *)reply, sizeof(*header), found, IFA_MAX, NULL) < 0 ||
	    !found[IFA_LOCAL] || nla_len(found[IFA_LOCAL]) != sizeof(uint32_t))
		return error_set(err, EBADMSG, "address: a malformed reply");
	*(struct inet_address *)rtnl_array_next(context) = (struct inet_address){
		.index = (int)header->ifa_index,
		.address = get_ipv4(found[IFA_LOCAL]),
		.prefix = header->ifa_prefixlen,
		.scope = header->ifa_scope,
		.protocol = found[IFA_PROTO] ? nla_get_u8(found[IFA_PROTO]) : 0,
	};
	return 0;
}

struct nl_msg *address_query(int index)
{
	struct ifaddrmsg header = {.ifa_family = AF_INET, .ifa_index = (unsigned)index};

	return rtnl_message(RTM_GETADDR, 0, &header, sizeof(header));
}

int address_list(struct nl_sock *socket, int index, struct inet_address **ret_addresses,
		 size_t *ret_count, struct error *err)
{
	scoped_message struct nl_msg *message = address_query(index);
	struct rtnl_array array = {.item_size = sizeof(struct inet_address)};

	if (rtnl_dump(socket, message, address_take, &array, err) < 0)
		return error_wrap(err, "list addresses");
	*ret_addresses = array.items;
	*ret_count = array.count;
	return 0;
}

// --- Routes ---

bool route_equal(const struct inet_route *one, const struct inet_route *other)
{
	return one->destination.base == other->destination.base &&
	       one->destination.prefix == other->destination.prefix && one->type == other->type &&
	       one->index == other->index && one->via == other->via &&
	       one->source == other->source && one->priority == other->priority;
}

static struct nl_msg *route_message(int type, int flags, const struct inet_route *route)
{
	bool on_link = route->type == RTN_UNICAST && route->via == 0;
	struct rtmsg header = {
		.rtm_family = AF_INET,
		.rtm_dst_len = (uint8_t)route->destination.prefix,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = NETIF_PROTOCOL,
		.rtm_scope = on_link ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
		.rtm_type = route->type,
	};
	struct nl_msg *message = rtnl_message(type, flags, &header, sizeof(header));

	rtnl_put_ipv4(message, RTA_DST, route->destination.base);
	if (route->index)
		rtnl_put_u32(message, RTA_OIF, (uint32_t)route->index);
	if (route->via)
		rtnl_put_ipv4(message, RTA_GATEWAY, route->via);
	if (route->source)
		rtnl_put_ipv4(message, RTA_PREFSRC, route->source);
	if (route->priority)
		rtnl_put_u32(message, RTA_PRIORITY, route->priority);
	return message;
}

int route_add(struct nl_sock *socket, const struct inet_route *route, struct error *err)
{
	scoped_message struct nl_msg *message =
		route_message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route);
	char text[IPV4_CIDR_TEXT_SIZE];

	if (rtnl_request(socket, message, err) < 0)
		return error_wrap(err, "add route %s", ipv4_cidr_format(&route->destination, text));
	return 0;
}

int route_delete(struct nl_sock *socket, const struct inet_route *route, struct error *err)
{
	scoped_message struct nl_msg *message = route_message(RTM_DELROUTE, 0, route);
	char text[IPV4_CIDR_TEXT_SIZE];

	if (content_with(rtnl_request(socket, message, err), ESRCH, err) < 0)
		return error_wrap(err, "delete route %s",
				  ipv4_cidr_format(&route->destination, text));
	return 0;
}

static int parse_route(const struct nlmsghdr *reply, struct inet_route *ret_route,
		       struct error *err)
{
	const struct rtmsg *header = nlmsg_data(reply);
	struct nlattr *found[RTA_MAX + 1];

	if (nlmsg_parse((struct nlmsghdr *)reply, sizeof(*header), found, RTA_MAX, NULL) < 0)
		return error_set(err, EBADMSG, "route: a malformed reply");
	*ret_route = (struct inet_route){
		.destination = {.base = get_ipv4(found[RTA_DST]), .prefix = header->rtm_dst_len},
		.type = header->rtm_type,
		.index = found[RTA_OIF] ? (int)nla_get_u32(found[RTA_OIF]) : 0,
		.via = get_ipv4(found[RTA_GATEWAY]),
		.source = get_ipv4(found[RTA_PREFSRC]),
		.priority = found[RTA_PRIORITY] ? nla_get_u32(found[RTA_PRIORITY]) : 0,
	};
	return 0;
}

int route_take(const struct nlmsghdr *reply, void *context, struct error *err)
{
	return parse_route(reply, rtnl_array_next(context), err);
}

struct nl_msg *route_query(int index)
{
	struct rtmsg header = {
		.rtm_family = AF_INET,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = NETIF_PROTOCOL,
	};
	struct nl_msg *message = rtnl_message(RTM_GETROUTE, 0, &header, sizeof(header));

	if (index)
		rtnl_put_u32(message, RTA_OIF, (uint32_t)index);
	return message;
}

int route_list(struct nl_sock *socket, int index, struct inet_route **ret_routes, size_t *ret_count,
	       struct error *err)
{
	scoped_message struct nl_msg *message = route_query(index);
	struct rtnl_array array = {.item_size = sizeof(struct inet_route)};

	// A namespace that never had a route has no table either.
	if (content_with(rtnl_dump(socket, message, route_take, &array, err), ENOENT, err) < 0)
		return error_wrap(err, "list routes");
	*ret_routes = array.items;
	*ret_count = array.count;
	return 0;
}

static int take_one_route(const struct nlmsghdr *reply, void *context, struct error *err)
{
	return parse_route(reply, context, err);
}

// What a look-up says of a destination that no route, or a blackhole, leads to.
static bool is_no_route(int code)
{
	return code == ENETUNREACH || code == EHOSTUNREACH || code == EINVAL || code == EACCES;
}

int route_find(struct nl_sock *socket, uint32_t address, struct inet_route *ret_route,
	       struct error *err)
{
	struct rtmsg header = {
		.rtm_family = AF_INET, .rtm_dst_len = 32, .rtm_flags = RTM_F_FIB_MATCH};
	scoped_message struct nl_msg *message =
		rtnl_message(RTM_GETROUTE, 0, &header, sizeof(header));
	char text[IPV4_TEXT_SIZE];

	rtnl_put_ipv4(message, RTA_DST, address);
	if (rtnl_query(socket, message, take_one_route, ret_route, err) == 0)
		return 1;
	if (!is_no_route(err->code))
		return error_wrap(err, "find route to %s", ipv4_format(address, text));
	error_clear(err);
	return 0;
}

// --- Neighbours ---

int neighbour_set(struct nl_sock *socket, int index, uint32_t address,
		  const struct mac_address *mac, struct error *err)
{
	struct ndmsg header = {
		.ndm_family = AF_INET, .ndm_ifindex = index, .ndm_state = NUD_PERMANENT};
	scoped_message struct nl_msg *message =
		rtnl_message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &header, sizeof(header));
	char text[IPV4_TEXT_SIZE];

	rtnl_put_ipv4(message, NDA_DST, address);
	rtnl_put(message, NDA_LLADDR, mac->bytes, sizeof(mac->bytes));
	if (rtnl_request(socket, message, err) < 0)
		return error_wrap(err, "set neighbour %s", ipv4_format(address, text));
	return 0;
}

struct neighbour {
	unsigned state;
	struct mac_address mac;
};

static int take_neighbour(const struct nlmsghdr *reply, void *context, struct error *err)
{
	const struct ndmsg *header = nlmsg_data(reply);
	struct nlattr *found[NDA_MAX + 1];
	struct neighbour *neighbour = context;

	if (nlmsg_parse((struct nlmsghdr *)reply, sizeof(*header), found, NDA_MAX, NULL) < 0)
		return error_set(err, EBADMSG, "neighbour: a malformed reply");
	neighbour->state = header->ndm_state;
	if (found[NDA_LLADDR] && nla_len(found[NDA_LLADDR]) == sizeof(neighbour->mac.bytes))
		memcpy(neighbour->mac.bytes, nla_data(found[NDA_LLADDR]),
		       sizeof(neighbour->mac.bytes));
	return 0;
}

int neighbour_stands(struct nl_sock *socket, int index, uint32_t address,
		     const struct mac_address *mac, struct error *err)
{
	struct ndmsg header = {.ndm_family = AF_INET, .ndm_ifindex = index};
	scoped_message struct nl_msg *message =
		rtnl_message(RTM_GETNEIGH, 0, &header, sizeof(header));
	struct neighbour neighbour = {0};
	char text[IPV4_TEXT_SIZE];

	rtnl_put_ipv4(message, NDA_DST, address);
	if (content_with(rtnl_query(socket, message, take_neighbour, &neighbour, err), ENOENT,
			 err) < 0)
		return error_wrap(err, "find neighbour %s", ipv4_format(address, text));
	return (neighbour.state & NUD_PERMANENT) &&
	       memcmp(neighbour.mac.bytes, mac->bytes, sizeof(mac->bytes)) == 0;
}

struct nl_msg *neighbour_query(void)
{
	struct ndmsg header = {.ndm_family = AF_INET};

	return rtnl_message(RTM_GETNEIGH, 0, &header, sizeof(header));
}

// Permanent ones only: what the kernel resolved on an attachment comes and goes.
int neighbour_take(const struct nlmsghdr *reply, void *context, struct error *err)
{
	const struct ndmsg *header = nlmsg_data(reply);
	struct neighbour neighbour = {0};
	struct nlattr *address;

	if (take_neighbour(reply, &neighbour, err) < 0)
		return -err->code;
	address = nlmsg_find_attr((struct nlmsghdr *)reply, sizeof(*header), NDA_DST);
	if ((neighbour.state & NUD_PERMANENT) && address && nla_len(address) == sizeof(uint32_t))
		*(struct inet_neighbour *)rtnl_array_next(context) =
			(struct inet_neighbour){.index = header->ndm_ifindex,
						.address = get_ipv4(address),
						.mac = neighbour.mac};
	return 0;
}
