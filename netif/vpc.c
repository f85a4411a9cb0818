// SPDX-License-Identifier: Apache-2.0
// VPCs: a namespace is made and configured by this thread from inside, unnamed; only
// then is it pinned. A crash before that leaves nothing.
#include <dirent.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "netif/handle.h"
#include "netif/inet.h"
#include "netif/namespace.h"
#include "netif/rtnl.h"

// conf/all counts for every interface, conf/default for those to come.
#define FOR_INTERFACES(name, value)                                                                \
	{"ipv4/conf/all/" name, value, false},                                                     \
	{                                                                                          \
		"ipv4/conf/default/" name, value, false                                            \
	}

static const struct namespace_setting vpc_settings[] = {
	{"ipv4/ip_forward", "1", false}, // first: it resets others to a router's defaults
	FOR_INTERFACES("rp_filter", "1"),
	FOR_INTERFACES("send_redirects", "0"),
	FOR_INTERFACES("accept_redirects", "0"),
	FOR_INTERFACES("accept_source_route", "0"),
	// A new namespace has the host's settings for IPv4.
	FOR_INTERFACES("proxy_arp", "0"),
	FOR_INTERFACES("accept_local", "0"),
	FOR_INTERFACES("route_localnet", "0"),
	FOR_INTERFACES("arp_ignore", "0"),
	// The router's addresses stand on lo: any interface answers for them (arp_ignore 0),
	// but only to those who are behind it; questions carry the address of their link.
	FOR_INTERFACES("arp_filter", "1"),
	FOR_INTERFACES("arp_announce", "2"),
	{"netfilter/nf_conntrack_acct", "1", .optional = true},
	// Fragments that wait for the rest of their datagram share this memory. At the speed of a
	// host the rest is there at once; 30 s, the default, would let a few senders fill it
	// (sg/source.c has the limit of each).
	{"ipv4/ipfrag_time", "2", .optional = true},
	{"ipv4/ipfrag_high_thresh", "16777216", .optional = true},
};

// Host scope: never the source of a packet that did not ask for it.
static const struct inet_address metadata_address = {
	.index = LOOPBACK_INDEX,
	.address = NETIF_METADATA_ADDRESS,
	.prefix = 32,
	.scope = RT_SCOPE_HOST,
};

static int configure_loopback(const struct netif *netif, const char *vpc, struct error *err)
{
	__attribute__((cleanup(rtnl_close))) struct nl_sock *socket = NULL;
	char alias[LINK_ALIAS_SIZE];

	if (rtnl_open(&socket, err) < 0)
		return -err->code;
	if (link_change(socket,
			LINK_CHANGE(.index = LOOPBACK_INDEX, .state = LINK_STATE_UP,
				    .alias = mark_format_vpc(netif->install, vpc, alias)),
			err) < 0)
		return error_wrap(err, "set up lo");
	return address_add(socket, &metadata_address, err);
}

static int make_namespace(struct netif *netif, const char *vpc, struct error *err)
{
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(netif->host.fd);
	char path[NAMESPACE_PATH_SIZE], mark[LINK_ALIAS_SIZE];

	if (namespace_enter_new(&visit, err) < 0 ||
	    namespace_configure(namespace_ipv6_off, ARRAY_LENGTH(namespace_ipv6_off), err) < 0 ||
	    namespace_configure(vpc_settings, ARRAY_LENGTH(vpc_settings), err) < 0 ||
	    configure_loopback(netif, vpc, err) < 0)
		return -err->code;
	return namespace_pin(namespace_path(netif, vpc, path),
			     mark_format_vpc(netif->install, vpc, mark), err);
}

int netif_vpc_create(struct netif *netif, const char *vpc, struct error *err)
{
	struct netif_namespace *space;
	int result = namespace_get(netif, vpc, &space, err);

	if (result != -ENOENT)
		return result;
	error_clear(err);
	if (make_namespace(netif, vpc, err) < 0)
		return error_wrap(err, "create vpc %s", vpc);
	return 0;
}

// Timeouts are of the namespace. Those of ICMP, GRE and SCTP are shorter by default.
#define OTHER_TIMEOUT_SECONDS "600"

int netif_vpc_tune(struct netif *netif, const char *vpc, const struct netif_tracking *tracking,
		   struct error *err)
{
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(netif->host.fd);
	char tcp_established[16], udp[16], udp_stream[16];
	const struct namespace_setting timeouts[] = {
		{"netfilter/nf_conntrack_tcp_timeout_established", tcp_established,
		 .optional = true},
		{"netfilter/nf_conntrack_udp_timeout", udp, .optional = true},
		{"netfilter/nf_conntrack_udp_timeout_stream", udp_stream, .optional = true},
		{"netfilter/nf_conntrack_icmp_timeout", OTHER_TIMEOUT_SECONDS, .optional = true},
		{"netfilter/nf_conntrack_gre_timeout", OTHER_TIMEOUT_SECONDS, .optional = true},
		{"netfilter/nf_conntrack_gre_timeout_stream", OTHER_TIMEOUT_SECONDS,
		 .optional = true},
		{"netfilter/nf_conntrack_sctp_timeout_established", OTHER_TIMEOUT_SECONDS,
		 .optional = true},
		{"netfilter/nf_conntrack_generic_timeout", OTHER_TIMEOUT_SECONDS, .optional = true},
	};
	struct netif_namespace *space;

	snprintf(tcp_established, sizeof(tcp_established), "%u", tracking->tcp_established_seconds);
	snprintf(udp, sizeof(udp), "%u", tracking->udp_seconds);
	snprintf(udp_stream, sizeof(udp_stream), "%u", tracking->udp_stream_seconds);
	if (namespace_get(netif, vpc, &space, err) < 0 ||
	    namespace_enter(&visit, space->fd, err) < 0 ||
	    namespace_configure(vpc_settings, ARRAY_LENGTH(vpc_settings), err) < 0 ||
	    namespace_configure(timeouts, ARRAY_LENGTH(timeouts), err) < 0)
		return error_wrap(err, "tune vpc %s", vpc);
	return 0;
}

// --- Delete ---

int namespace_check_unused(struct netif_namespace *space, struct error *err)
{
	scoped_free struct link_info *links = NULL;
	size_t count;

	if (link_list(space->rtnl, &links, &count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++) {
		struct mark mark = mark_parse(links[i].alias);
		char text[MARK_TEXT_SIZE];

		if (mark.kind == MARK_ATTACHMENT ||
		    (mark.kind == MARK_ENI && links[i].group != NETIF_DYING_GROUP))
			return error_set(err, EBUSY, "interface %s (%s) is inside", links[i].name,
					 mark_describe(&mark, text));
	}
	return 0;
}

// Nothing is pinned under the name. What a crash may have left is our file.
static int remove_file(const struct netif *netif, const char *vpc, struct error *err)
{
	char path[NAMESPACE_PATH_SIZE], mark[LINK_ALIAS_SIZE];
	enum namespace_file file;
	scoped_fd int fd = -1;

	if (namespace_open(namespace_path(netif, vpc, path),
			   mark_format_vpc(netif->install, vpc, mark), &fd, &file, err) < 0)
		return -err->code;
	return file == NAMESPACE_OURS ? namespace_unpin(path, err) : 0;
}

int netif_vpc_delete(struct netif *netif, const char *vpc, struct error *err)
{
	char path[NAMESPACE_PATH_SIZE];
	struct netif_namespace *space;
	int result = namespace_get(netif, vpc, &space, err);

	if (result == -ENOENT) {
		error_clear(err);
		return remove_file(netif, vpc, err);
	}
	if (result < 0 || namespace_check_unused(space, err) < 0 ||
	    namespace_unpin(namespace_path(netif, vpc, path), err) < 0)
		return error_wrap(err, "delete vpc %s", vpc);
	namespace_forget(netif, vpc);
	return 0;
}

// --- List ---

// 1: it is ours. The file's name alone does not tell ("a-b" is another install than "a").
static int is_our_vpc(struct netif *netif, const char *vpc, struct error *err)
{
	char path[NAMESPACE_PATH_SIZE], mark[LINK_ALIAS_SIZE];
	struct netif_namespace *space;
	enum namespace_file file;
	scoped_fd int fd = -1;
	int result = namespace_get(netif, vpc, &space, err);

	if (result == 0)
		return 1;
	if (result == -EEXIST) {
		error_clear(err);
		return 0;
	}
	if (result != -ENOENT)
		return result;
	error_clear(err);
	result = namespace_open(namespace_path(netif, vpc, path),
				mark_format_vpc(netif->install, vpc, mark), &fd, &file, err);
	return result < 0 ? result : file == NAMESPACE_OURS;
}

// The part of a file's name that is the VPC's, or NULL.
static const char *vpc_of_name(const struct netif *netif, const char *name)
{
	char prefix[NAMESPACE_NAME_SIZE];
	size_t length = strlen(namespace_name(netif, "", prefix));

	if (strncmp(name, prefix, length) != 0 || !id_is_valid(name + length))
		return NULL;
	return name + length;
}

static int list_directory(struct netif *netif, DIR *directory, struct netif_id **ids, size_t *count,
			  struct error *err)
{
	for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
		const char *vpc = vpc_of_name(netif, entry->d_name);
		int ours = vpc ? is_our_vpc(netif, vpc, err) : 0;

		if (ours < 0)
			return ours;
		if (ours == 0)
			continue;
		*ids = reallocarray(*ids, *count + 1, sizeof(**ids));
		if (!*ids)
			abort();
		memcpy((*ids)[(*count)++].text, vpc, strlen(vpc) + 1);
	}
	return 0;
}

int netif_vpc_list(struct netif *netif, struct netif_id **ret_vpcs, size_t *ret_count,
		   struct error *err)
{
	scoped_directory DIR *directory = opendir(NAMESPACE_DIRECTORY);
	scoped_free struct netif_id *ids = NULL;
	size_t count = 0;

	if (!directory && errno != ENOENT)
		return error_errno(err, "list %s", NAMESPACE_DIRECTORY);
	if (directory && list_directory(netif, directory, &ids, &count, err) < 0)
		return error_wrap(err, "list vpcs");
	*ret_vpcs = take_ptr(&ids);
	*ret_count = count;
	return 0;
}

// --- Addresses and subnets ---

static struct inet_address loopback_address(uint32_t address)
{
	return (struct inet_address){
		.index = LOOPBACK_INDEX,
		.address = address,
		.prefix = 32,
		.scope = RT_SCOPE_UNIVERSE,
	};
}

int netif_address_ensure(struct netif *netif, const char *vpc, uint32_t address, struct error *err)
{
	struct inet_address wanted = loopback_address(address);
	struct netif_namespace *space;
	int added;

	if (namespace_get(netif, vpc, &space, err) < 0)
		return -err->code;
	added = address_add(space->rtnl, &wanted, err);
	return added < 0 ? error_wrap(err, "vpc %s", vpc) : added;
}

int netif_address_remove(struct netif *netif, const char *vpc, uint32_t address, struct error *err)
{
	struct inet_address unwanted = loopback_address(address);
	struct netif_namespace *space;
	int result = namespace_get(netif, vpc, &space, err);

	if (result == -ENOENT) {
		error_clear(err);
		return 0;
	}
	if (result < 0 || address_delete(space->rtnl, &unwanted, err) < 0)
		return error_wrap(err, "vpc %s", vpc);
	return 0;
}

static struct inet_route blackhole(const struct ipv4_cidr *block, uint32_t priority)
{
	return (struct inet_route){
		.destination = *block,
		.type = RTN_BLACKHOLE,
		.priority = priority,
	};
}

// 1 when it was not there. Its priority is ours: only an earlier call made it.
static int ensure_blackhole(struct netif_namespace *space, const struct ipv4_cidr *block,
			    uint32_t priority, struct error *err)
{
	struct inet_route route = blackhole(block, priority);

	if (route_add(space->rtnl, &route, err) == 0)
		return 1;
	if (err->code != EEXIST)
		return -err->code;
	error_clear(err);
	return 0;
}

int netif_subnet_ensure(struct netif *netif, const char *vpc, const struct ipv4_cidr *block,
			struct error *err)
{
	struct netif_namespace *space;
	int address = netif_address_ensure(netif, vpc, ipv4_subnet_router(block), err);
	int route = address;

	if (address >= 0)
		route = namespace_get(netif, vpc, &space, err);
	if (address < 0 || route < 0)
		return -err->code;
	route = ensure_blackhole(space, block, SUBNET_BLACKHOLE_PRIORITY, err);
	return route < 0 ? error_wrap(err, "vpc %s", vpc) : address || route;
}

// A VPC that was deleted and made again under its name may have had another block.
static int remove_other_blocks(struct netif_namespace *space, const struct ipv4_cidr *block,
			       struct error *err)
{
	scoped_free struct inet_route *routes = NULL;
	size_t count;

	if (route_list(space->rtnl, 0, &routes, &count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++)
		if (routes[i].type == RTN_BLACKHOLE &&
		    routes[i].priority == VPC_BLACKHOLE_PRIORITY &&
		    (routes[i].destination.base != block->base ||
		     routes[i].destination.prefix != block->prefix) &&
		    route_delete(space->rtnl, &routes[i], err) < 0)
			return -err->code;
	return 0;
}

static int ensure_lo_up(struct netif_namespace *space, struct error *err)
{
	struct link_info lo = {0};

	if (link_find_index(space->rtnl, LOOPBACK_INDEX, &lo, err) < 0)
		return -err->code;
	if (lo.up)
		return 0;
	if (link_change(space->rtnl, LINK_CHANGE(.index = LOOPBACK_INDEX, .state = LINK_STATE_UP),
			err) < 0)
		return error_wrap(err, "lo up");
	return 1;
}

int netif_vpc_configure(struct netif *netif, const char *vpc, const struct ipv4_cidr *block,
			struct error *err)
{
	struct netif_namespace *space;
	int up = -1, address = -1, route = -1;

	if (namespace_get(netif, vpc, &space, err) < 0)
		return -err->code;
	up = ensure_lo_up(space, err);
	if (up >= 0)
		address = address_add(space->rtnl, &metadata_address, err);
	if (address >= 0)
		route = ensure_blackhole(space, block, VPC_BLACKHOLE_PRIORITY, err);
	if (route > 0 && remove_other_blocks(space, block, err) < 0)
		route = -1;
	return route < 0 ? error_wrap(err, "vpc %s", vpc) : up || address || route;
}

int netif_subnet_remove(struct netif *netif, const char *vpc, const struct ipv4_cidr *block,
			struct error *err)
{
	struct inet_route route = blackhole(block, SUBNET_BLACKHOLE_PRIORITY);
	struct netif_namespace *space;
	int result = namespace_get(netif, vpc, &space, err);

	if (result == -ENOENT) {
		error_clear(err);
		return 0;
	}
	if (result < 0 || route_delete(space->rtnl, &route, err) < 0)
		return error_wrap(err, "vpc %s", vpc);
	return netif_address_remove(netif, vpc, ipv4_subnet_router(block), err);
}
