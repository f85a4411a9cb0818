// SPDX-License-Identifier: Apache-2.0
// VPCs, subnets and security groups, as parsed by model_parse() (model.h).
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/arena.h"
#include "netif/netif.h"
#include "sg/sg.h"

enum {
	VPC_DNS_SERVERS_MAX = 3,
	VPC_ATTACHMENTS_MAX = 32,
	ATTACHMENT_ROUTES_MAX = 64,
	INTERFACE_NAME_MAX = 15, // characters
};

// {"destinationCidrBlock": "10.9.0.0/16", "gateway": "192.0.2.1"}
struct vpc_route {
	struct ipv4_cidr destination;
	uint32_t gateway; // a neighbour on the attachment; 0: the destination is on the link itself
};

// An existing interface of the host that is taken into the VPC.
struct vpc_attachment {
	const char *interface;
	uint32_t address; // the VPC's own address on it, with the prefix of its network
	uint32_t prefix;
	struct vpc_route *routes; // reached over it, beside its own network
	uint32_t route_count;
};

// EC2's ConnectionTrackingSpecification, and a share of each ENI.
struct connection_tracking {
	uint32_t tcp_established_timeout; // seconds
	uint32_t udp_stream_timeout;
	uint32_t udp_timeout;
	uint32_t connections_per_eni; // that it may have opened; 0: no limit
};

struct vpc_spec {
	struct ipv4_cidr cidr_block;
	uint32_t *dns_servers;
	uint32_t dns_server_count;
	uint32_t mtu; // of every ENI, 1280 to 9001, default 1500
	struct vpc_attachment *attachments;
	uint32_t attachment_count;
	struct connection_tracking connection_tracking;
};

struct subnet_spec {
	const char *vpc_id;
	struct ipv4_cidr cidr_block; // /16 to /28
};

enum { RULE_NO_PORTS = -2 };

struct ip_range {
	struct ipv4_cidr cidr;
	const char *description; // "" when absent
};

struct group_pair {
	const char *group_id;
	const char *description;
};

// One EC2 IpPermission: traffic of one kind, from (or to) any of its ranges and groups.
struct ip_permission {
	int32_t protocol; // SG_PROTOCOL_ALL, or an IP protocol number
	// tcp and udp: the ports, 0 to 65535. icmp: type and code, -1 all. Others: RULE_NO_PORTS.
	int32_t from_port, to_port;
	struct ip_range *ip_ranges;
	uint32_t ip_range_count;
	struct group_pair *group_pairs;
	uint32_t group_pair_count;
};

// The document's form; no two rules of a direction are the same, at most SG_RULES_MAX each.
struct security_group_spec {
	const char *vpc_id;
	const char *description;
	struct ip_permission *ingress; // ipPermissions; absent: none
	uint32_t ingress_count;
	struct ip_permission *egress; // ipPermissionsEgress; absent: all traffic to 0.0.0.0/0
	uint32_t egress_count;
};

// The same as the flat rules of sg.h, in the arena. A rule's id ("sgr-" and 17 hex digits) depends
// on its group, direction and meaning only: it stays when other rules come and go.
struct sg_group security_group_rules(const char *group_id, const struct security_group_spec *spec,
				     struct arena *arena);
