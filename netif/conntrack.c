// SPDX-License-Identifier: Apache-2.0
// What the kernel's conntrack tables hold: ctnetlink.
//
// Connections of addresses that nobody has any more: the kernel remembers an established one for
// days, and its peer keeps it alive by sending: who leased the address next would be sent those
// packets past its security groups, as of a connection already allowed.
//
// An address is given up when it is in a subnet (a blackhole route) and no route leads to it.
// Connections are deleted by number, so that one made meanwhile is not meant.
//
// Connections through a balancer: those whose original destination is not where their replies come
// from. Health checks and direct connections are none.
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/base/scope.h"
#include "netif/handle.h"
#include "netif/inet.h"
#include "netif/nft.h"
#include "netif/rtnl.h"

enum { ENDS = 4, TUPLE_SIZE = 128, REQUEST_SIZE = 512, REPLY_SIZE = 32 * 1024 };
enum { REPLIES_PER_STEP = 8 };

struct connection {
	uint32_t ends[ENDS]; // source and destination, of both directions
	uint32_t number;     // network order, as the kernel gave it
	uint16_t tuple_length;
	uint8_t tuple[TUPLE_SIZE]; // of the original direction, as an attribute's payload
};

struct search {
	const struct inet_route *subnets; // their blackhole routes
	size_t subnet_count;
	struct rtnl_array connections; // with an end in a subnet
};

struct wanted {
	uint16_t type;
	const struct nlattr *found;
};

static int compare_type(const struct nlattr *attribute, void *context)
{
	struct wanted *wanted = context;

	if (mnl_attr_get_type(attribute) != wanted->type)
		return MNL_CB_OK;
	wanted->found = attribute;
	return MNL_CB_STOP;
}

static const struct nlattr *child(const struct nlattr *nest, uint16_t type)
{
	struct wanted wanted = {.type = type};

	if (nest)
		mnl_attr_parse_nested(nest, compare_type, &wanted);
	return wanted.found;
}

static uint32_t address_of(const struct nlattr *tuple, uint16_t type)
{
	const struct nlattr *address = child(child(tuple, CTA_TUPLE_IP), type);

	if (!address || mnl_attr_get_payload_len(address) != sizeof(uint32_t))
		return 0;
	return ntohl(mnl_attr_get_u32(address));
}

static uint16_t port_of(const struct nlattr *tuple, uint16_t type)
{
	const struct nlattr *port = child(child(tuple, CTA_TUPLE_PROTO), type);

	if (!port || mnl_attr_get_payload_len(port) != sizeof(uint16_t))
		return 0;
	return ntohs(mnl_attr_get_u16(port));
}

static bool is_in_subnet(const struct search *search, uint32_t address)
{
	for (size_t i = 0; i < search->subnet_count; i++)
		if (ipv4_cidr_contains(&search->subnets[i].destination, address))
			return true;
	return false;
}

static void see_tuple(const struct nlattr *tuple, uint32_t ends[2])
{
	ends[0] = address_of(tuple, CTA_IP_V4_SRC);
	ends[1] = address_of(tuple, CTA_IP_V4_DST);
}

static int see_attribute(const struct nlattr *attribute, void *context)
{
	struct connection *connection = context;
	uint16_t length = mnl_attr_get_payload_len(attribute);

	switch (mnl_attr_get_type(attribute)) {
	case CTA_TUPLE_ORIG:
		see_tuple(attribute, connection->ends);
		if (length > TUPLE_SIZE)
			return MNL_CB_ERROR;
		memcpy(connection->tuple, mnl_attr_get_payload(attribute), length);
		connection->tuple_length = length;
		return MNL_CB_OK;
	case CTA_TUPLE_REPLY:
		see_tuple(attribute, connection->ends + 2);
		return MNL_CB_OK;
	case CTA_ID:
		if (length == sizeof(connection->number))
			connection->number = mnl_attr_get_u32(attribute);
		return MNL_CB_OK;
	default:
		return MNL_CB_OK;
	}
}

static int take_connection(const struct nlmsghdr *reply, void *context)
{
	struct connection connection = {0};
	struct search *search = context;
	bool inside = false;

	mnl_attr_parse(reply, sizeof(struct nfgenmsg), see_attribute, &connection);
	for (size_t i = 0; i < ENDS; i++)
		inside |= is_in_subnet(search, connection.ends[i]);
	if (inside && connection.tuple_length > 0)
		*(struct connection *)rtnl_array_next(&search->connections) = connection;
	return MNL_CB_OK;
}

static struct nlmsghdr *request_start(char bytes[REQUEST_SIZE], uint16_t type, uint16_t flags)
{
	struct nlmsghdr *request = mnl_nlmsg_put_header(bytes);
	struct nfgenmsg *family = mnl_nlmsg_put_extra_header(request, sizeof(*family));

	request->nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type);
	request->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	family->nfgen_family = AF_INET;
	return request;
}

// Sends, and hands all replies to `take` (may be NULL). The socket has no other replies.
static int converse(int fd, const struct nlmsghdr *request, mnl_cb_t take, void *context)
{
	static const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	char bytes[REPLY_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
	int status = MNL_CB_OK;

	if (sendto(fd, request, request->nlmsg_len, 0, (const struct sockaddr *)&kernel,
		   sizeof(kernel)) < 0)
		return -errno;
	while (status > MNL_CB_STOP) {
		ssize_t received = recv(fd, bytes, sizeof(bytes), 0);

		if (received < 0 && errno == EINTR)
			continue;
		if (received < 0)
			return -errno;
		status = mnl_cb_run(bytes, (size_t)received, 0, 0, take, context);
	}
	return status < 0 ? -errno : 0;
}

static int find_connections(int fd, struct search *search, struct error *err)
{
	char bytes[REQUEST_SIZE] = {0};
	int status = converse(fd, request_start(bytes, IPCTNL_MSG_CT_GET, NLM_F_DUMP),
			      take_connection, search);

	return status < 0 ? error_code(err, status, "list connections") : 0;
}

static int delete_connection(int fd, const struct connection *connection, struct error *err)
{
	char bytes[REQUEST_SIZE] = {0};
	struct nlmsghdr *request = request_start(bytes, IPCTNL_MSG_CT_DELETE, NLM_F_ACK);
	int status;

	mnl_attr_put(request, NLA_F_NESTED | CTA_TUPLE_ORIG, connection->tuple_length,
		     connection->tuple);
	mnl_attr_put_u32(request, CTA_ID, connection->number);
	status = converse(fd, request, NULL, NULL);
	// ENOENT: it ended meanwhile.
	return status < 0 && status != -ENOENT ? error_code(err, status, "delete a connection") : 0;
}

static int compare_addresses(const void *left, const void *right)
{
	uint32_t one = *(const uint32_t *)left, other = *(const uint32_t *)right;

	return (one > other) - (one < other);
}

// The addresses in subnets that no route leads to, sorted; an array of rtnl_array.
static int find_given_up(struct netif_namespace *space, const struct search *search,
			 struct rtnl_array *given_up, struct error *err)
{
	const struct connection *connections = search->connections.items;
	size_t count = search->connections.count * ENDS, kept = 0;
	scoped_free uint32_t *ends = calloc(count + 1, sizeof(*ends));

	if (!ends)
		abort();
	for (size_t i = 0; i < count; i++)
		if (is_in_subnet(search, connections[i / ENDS].ends[i % ENDS]))
			ends[kept++] = connections[i / ENDS].ends[i % ENDS];
	qsort(ends, kept, sizeof(*ends), compare_addresses);
	for (size_t i = 0; i < kept; i++) {
		struct inet_route route;
		int found;

		if (i > 0 && ends[i] == ends[i - 1])
			continue;
		found = route_find(space->rtnl, ends[i], &route, err);
		if (found < 0)
			return found;
		if (!found)
			*(uint32_t *)rtnl_array_next(given_up) = ends[i];
	}
	return 0;
}

static bool is_given_up(const struct rtnl_array *given_up, const struct connection *connection)
{
	for (size_t i = 0; i < ENDS; i++)
		if (given_up->count > 0 &&
		    bsearch(&connection->ends[i], given_up->items, given_up->count,
			    given_up->item_size, compare_addresses))
			return true;
	return false;
}

static void array_release(struct rtnl_array *array)
{
	free(array->items);
}

static int forget(struct netif_namespace *space, struct search *search, int fd, struct error *err)
{
	scoped(array_release) struct rtnl_array given_up = {.item_size = sizeof(uint32_t)};
	const struct connection *connections;

	if (find_connections(fd, search, err) < 0 ||
	    find_given_up(space, search, &given_up, err) < 0)
		return -err->code;
	connections = search->connections.items;
	for (size_t i = 0; i < search->connections.count; i++)
		if (is_given_up(&given_up, &connections[i]) &&
		    delete_connection(fd, &connections[i], err) < 0)
			return -err->code;
	return 0;
}

static size_t keep_subnets(struct inet_route *routes, size_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++)
		if (is_subnet_blackhole(&routes[i]))
			routes[kept++] = routes[i];
	return kept;
}

int conntrack_forget_given_up(struct netif_namespace *space, struct error *err)
{
	struct search search = {.connections.item_size = sizeof(struct connection)};
	scoped_free struct inet_route *routes = NULL;
	scoped_fd int fd = -1;
	size_t count;
	int result;

	if (route_list(space->rtnl, 0, &routes, &count, err) < 0 ||
	    nft_socket_open(space->fd, &fd, err) < 0)
		return -err->code;
	search.subnets = routes;
	search.subnet_count = keep_subnets(routes, count);
	result = forget(space, &search, fd, err);
	array_release(&search.connections);
	return result;
}

// --- Counting ---

int netif_connections_compare(const void *left, const void *right)
{
	const struct netif_connections *one = left, *other = right;

	if (one->address != other->address)
		return one->address < other->address ? -1 : 1;
	return (int)one->port - (int)other->port;
}

int netif_connections_start(struct netif *netif, const char *vpc, int *ret_fd, struct error *err)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK};
	char bytes[REQUEST_SIZE] = {0};
	struct nlmsghdr *request = request_start(bytes, IPCTNL_MSG_CT_GET, NLM_F_DUMP);
	scoped_fd int fd = -1;

	// Kernels that do not know the filter send everything: count_connection() looks again.
	mnl_attr_put_u32(request, CTA_STATUS, htonl(IPS_DST_NAT));
	mnl_attr_put_u32(request, CTA_STATUS_MASK, htonl(IPS_DST_NAT));
	if (netif_vpc_socket(netif, vpc, AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_NETFILTER,
			     &fd, err) < 0)
		return -err->code;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    send(fd, request, request->nlmsg_len, 0) < 0)
		return error_errno(err, "ask for connections");
	*ret_fd = take_fd(&fd);
	return 0;
}

static bool is_open(const struct nlattr *protocol_info)
{
	const struct nlattr *state =
		child(child(protocol_info, CTA_PROTOINFO_TCP), CTA_PROTOINFO_TCP_STATE);

	if (!state)
		return false;
	switch (mnl_attr_get_u8(state)) {
	case TCP_CONNTRACK_SYN_SENT:
	case TCP_CONNTRACK_SYN_RECV:
	case TCP_CONNTRACK_ESTABLISHED:
	case TCP_CONNTRACK_FIN_WAIT: // the other side may still send
	case TCP_CONNTRACK_CLOSE_WAIT:
		return true;
	default:
		return false;
	}
}

struct counting {
	struct netif_connections *connections;
	size_t count;
};

struct seen {
	struct netif_connections target; // where the replies come from
	uint32_t called;                 // the original destination
	bool open;
};

static int see_target(const struct nlattr *attribute, void *context)
{
	struct seen *seen = context;

	switch (mnl_attr_get_type(attribute)) {
	case CTA_TUPLE_ORIG:
		seen->called = address_of(attribute, CTA_IP_V4_DST);
		break;
	case CTA_TUPLE_REPLY:
		seen->target.address = address_of(attribute, CTA_IP_V4_SRC);
		seen->target.port = port_of(attribute, CTA_PROTO_SRC_PORT);
		break;
	case CTA_PROTOINFO:
		seen->open = is_open(attribute);
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

static int count_connection(const struct nlmsghdr *reply, void *context)
{
	struct counting *counting = context;
	struct netif_connections *found;
	struct seen seen = {0};

	mnl_attr_parse(reply, sizeof(struct nfgenmsg), see_target, &seen);
	if (!seen.open || seen.target.address == seen.called)
		return MNL_CB_OK;
	found = bsearch(&seen.target, counting->connections, counting->count,
			sizeof(*counting->connections), netif_connections_compare);
	if (found)
		found->count++;
	return MNL_CB_OK;
}

int netif_connections_step(int fd, struct netif_connections *connections, size_t count,
			   bool *ret_done, struct error *err)
{
	char bytes[REPLY_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct counting counting = {connections, count};

	*ret_done = false;
	for (int i = 0; i < REPLIES_PER_STEP && !*ret_done; i++) {
		ssize_t received = recv(fd, bytes, sizeof(bytes), 0);
		int status;

		if (received < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (received < 0)
			return error_errno(err, "count connections");
		status = mnl_cb_run(bytes, (size_t)received, 0, 0, count_connection, &counting);
		if (status < 0)
			return error_errno(err, "count connections");
		*ret_done = status == MNL_CB_STOP;
	}
	return 0;
}

static int see_count(const struct nlattr *attribute, void *context)
{
	uint32_t *count = context;

	if (mnl_attr_get_type(attribute) == CTA_STATS_GLOBAL_ENTRIES &&
	    mnl_attr_get_payload_len(attribute) == sizeof(*count))
		*count = ntohl(mnl_attr_get_u32(attribute));
	return MNL_CB_OK;
}

static int take_count(const struct nlmsghdr *reply, void *context)
{
	return mnl_attr_parse(reply, sizeof(struct nfgenmsg), see_count, context);
}

int netif_vpc_connections(struct netif *netif, const char *vpc, uint32_t *ret_count,
			  struct error *err)
{
	char bytes[REQUEST_SIZE] = {0};
	uint32_t count = 0;
	int fd, status;

	if (netif_netfilter_socket(netif, vpc, &fd, err) < 0)
		return -err->code;
	status = converse(fd, request_start(bytes, IPCTNL_MSG_CT_GET_STATS, NLM_F_ACK), take_count,
			  &count);
	if (status < 0)
		return error_code(err, status, "vpc %s: count connections", vpc);
	*ret_count = count;
	return 0;
}
