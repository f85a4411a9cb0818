// SPDX-License-Identifier: Apache-2.0
// The documents of VPCs and subnets.
#include <string.h>

#include "agent/base/scope.h"
#include "agent/model/fields.h"

enum { ATTACHMENT_PREFIX_MIN = 8 };

// ---------------------------------------------------------------- attachments

static const char *complain_interface(const char *text)
{
	if (text[strcspn(text, "/ \t\n\v\f\r:")] || strcmp(text, ".") == 0 ||
	    strcmp(text, "..") == 0)
		return "must be the name of a network interface";
	if (strncmp(text, "ps", 2) == 0)
		return "must not begin with ps, as the interfaces of tasks do";
	return complain_printable(text);
}

// "10.0.9.1/24" into address and prefix: two members, so the place is the struct itself.
static void parse_interface_address(struct parse *parse, const struct place *place,
				    const struct field *field, const cJSON *value, void *target)
{
	struct vpc_attachment *attachment = target;
	const char *text = value ? parse_text(parse, place, value) : NULL;
	struct error err = {0};
	uint32_t address;
	unsigned prefix;

	(void)field;
	attachment->address = attachment->prefix = 0;
	if (!text)
		return;
	if (ipv4_interface_parse(text, &address, &prefix, &err) < 0)
		return parse_fault(parse, place, "%s", err.message);
	if (complain_address(address))
		return parse_fault(parse, place, "%s", complain_address(address));
	if (prefix < ATTACHMENT_PREFIX_MIN)
		return parse_fault(parse, place, "must have a prefix of /%d to /32",
				   ATTACHMENT_PREFIX_MIN);
	attachment->address = address;
	attachment->prefix = prefix;
}

static void render_interface_address(struct json_writer *writer, const struct field *field,
				     const void *source)
{
	const struct vpc_attachment *attachment = source;
	char address[IPV4_TEXT_SIZE], text[IPV4_CIDR_TEXT_SIZE];

	ipv4_format(attachment->address, address);
	snprintf(text, sizeof(text), "%s/%u", address, attachment->prefix & 63);
	json_string(writer, field->name, text);
}

static const struct field route_fields[] = {
	{.name = "destinationCidrBlock",
	 .type = FIELD_CIDR,
	 .flags = FIELD_REQUIRED,
	 FIELD_AT(vpc_route, destination)},
	{.name = "gateway", .type = FIELD_ADDRESS, FIELD_AT(vpc_route, gateway)},
};
static const struct field_table route_table = {FIELD_TABLE(vpc_route, route_fields)};

static const struct field attachment_fields[] = {
	{.name = "interface",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED,
	 .min = 1,
	 .max = INTERFACE_NAME_MAX,
	 .complaint = complain_interface,
	 FIELD_AT(vpc_attachment, interface)},
	{.name = "address",
	 .type = FIELD_CUSTOM,
	 .flags = FIELD_REQUIRED,
	 .parse = parse_interface_address,
	 .render = render_interface_address},
	{.name = "routes",
	 .type = FIELD_LIST,
	 .flags = FIELD_SET,
	 .max = ATTACHMENT_ROUTES_MAX,
	 .element = &(const struct field){.type = FIELD_OBJECT, .table = &route_table},
	 FIELD_LIST_AT(vpc_attachment, routes, route_count)},
};

static bool same_network(const struct vpc_attachment *attachment, uint32_t address)
{
	return ((attachment->address ^ address) & ipv4_mask(attachment->prefix)) == 0;
}

// A gateway must be a neighbour on the link.
static void finish_attachment(struct parse *parse, const struct place *place, void *target)
{
	const struct vpc_attachment *attachment = target;
	const struct place *routes = PLACE_MEMBER(place, "routes");

	for (uint32_t i = 0; i < attachment->route_count; i++) {
		uint32_t gateway = attachment->routes[i].gateway;

		if (gateway == 0 || attachment->address == 0 || same_network(attachment, gateway))
			continue;
		parse_fault(parse, PLACE_MEMBER(PLACE_INDEX(routes, i), "gateway"),
			    "must be in the network of the attachment's address");
	}
}

static const struct field_table attachment_table = {FIELD_TABLE(vpc_attachment, attachment_fields),
						    .finish = finish_attachment};

// ---------------------------------------------------------------- VPC

// The ranges and defaults are EC2's. The kernel goes through an ENI's connections, at most every 4
// ms, when it opens another: 16,384 take it about 2 ms.
static const struct field connection_tracking_fields[] = {
	{.name = "tcpEstablishedTimeout",
	 .type = FIELD_U32,
	 .min = 60,
	 .max = 432000,
	 .number = 432000,
	 FIELD_AT(connection_tracking, tcp_established_timeout)},
	{.name = "udpStreamTimeout",
	 .type = FIELD_U32,
	 .min = 60,
	 .max = 180,
	 .number = 180,
	 FIELD_AT(connection_tracking, udp_stream_timeout)},
	{.name = "udpTimeout",
	 .type = FIELD_U32,
	 .min = 30,
	 .max = 60,
	 .number = 30,
	 FIELD_AT(connection_tracking, udp_timeout)},
	{.name = "connectionsPerEni",
	 .type = FIELD_U32,
	 .max = 1000000,
	 .number = 16384,
	 FIELD_AT(connection_tracking, connections_per_eni)},
};
static const struct field_table connection_tracking_table = {
	FIELD_TABLE(connection_tracking, connection_tracking_fields)};

static const struct field vpc_fields[] = {
	{.name = "cidrBlock",
	 .type = FIELD_CIDR,
	 .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
	 .min = 16,
	 .max = 28,
	 FIELD_AT(vpc_spec, cidr_block)},
	{.name = "dnsServers",
	 .type = FIELD_LIST,
	 .max = VPC_DNS_SERVERS_MAX,
	 .element = &(const struct field){.type = FIELD_ADDRESS},
	 FIELD_LIST_AT(vpc_spec, dns_servers, dns_server_count)},
	{.name = "mtu",
	 .type = FIELD_U32,
	 .flags = FIELD_IMMUTABLE,
	 .min = 1280,
	 .max = 9001,
	 .number = 1500,
	 FIELD_AT(vpc_spec, mtu)},
	{.name = "attachments",
	 .type = FIELD_LIST,
	 .flags = FIELD_SET,
	 .max = VPC_ATTACHMENTS_MAX,
	 .element = &(const struct field){.type = FIELD_OBJECT, .table = &attachment_table},
	 FIELD_LIST_AT(vpc_spec, attachments, attachment_count)},
	{.name = "connectionTrackingSpecification",
	 .type = FIELD_OBJECT,
	 .table = &connection_tracking_table,
	 FIELD_AT(vpc_spec, connection_tracking)},
};

static bool networks_overlap(const struct vpc_attachment *one, const struct vpc_attachment *other)
{
	return same_network(one->prefix < other->prefix ? one : other,
			    one->prefix < other->prefix ? other->address : one->address);
}

// Which of two links leads to a neighbour would be left to chance.
static void check_networks(struct parse *parse, const struct place *attachments,
			   const struct vpc_spec *vpc)
{
	for (uint32_t i = 1; i < vpc->attachment_count; i++) {
		const struct place *here = PLACE_INDEX(attachments, i);

		for (uint32_t k = 0; k < i; k++)
			if (vpc->attachments[i].address != 0 && vpc->attachments[k].address != 0 &&
			    networks_overlap(&vpc->attachments[i], &vpc->attachments[k]))
				parse_fault(parse, PLACE_MEMBER(here, "address"),
					    "its network overlaps that of attachment %u", k);
	}
}

static void finish_vpc(struct parse *parse, const struct place *place, void *target)
{
	const struct vpc_spec *vpc = target;

	parse_unique(parse, PLACE_MEMBER(place, "attachments"), "interface", vpc->attachments,
		     vpc->attachment_count, sizeof(*vpc->attachments),
		     offsetof(struct vpc_attachment, interface));
	check_networks(parse, PLACE_MEMBER(place, "attachments"), vpc);
}

const struct field_table vpc_table = {FIELD_TABLE(vpc_spec, vpc_fields), .finish = finish_vpc};

// ---------------------------------------------------------------- subnet

static const struct field subnet_fields[] = {
	{.name = "vpcId",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
	 FIELD_REFERS_TO(MODEL_VPC),
	 FIELD_AT(subnet_spec, vpc_id)},
	{.name = "cidrBlock",
	 .type = FIELD_CIDR,
	 .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
	 .min = 16,
	 .max = 28,
	 FIELD_AT(subnet_spec, cidr_block)},
	{.name = "internet",
	 .type = FIELD_CONSTANT,
	 .flags = FIELD_IMMUTABLE,
	 .expected = "none",
	 .text = "nat and public are not built yet"},
};

const struct field_table subnet_table = {FIELD_TABLE(subnet_spec, subnet_fields)};
