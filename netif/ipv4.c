// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/number.h"
#include "netif/ipam.h"

enum { SUBNET_PREFIX_MIN = 16, SUBNET_PREFIX_MAX = 28 };

char *ipv4_format(uint32_t address, char text[IPV4_TEXT_SIZE])
{
	snprintf(text, IPV4_TEXT_SIZE, "%u.%u.%u.%u", address >> 24, address >> 16 & 0xff,
		 address >> 8 & 0xff, address & 0xff);
	return text;
}

static bool parse_quad(const char *text, uint32_t *ret_address)
{
	struct in_addr address;
	char canonical[IPV4_TEXT_SIZE];

	// glibc's inet_pton takes no leading zeros today; the comparison does not depend on it.
	if (inet_pton(AF_INET, text, &address) != 1 ||
	    strcmp(ipv4_format(ntohl(address.s_addr), canonical), text) != 0)
		return false;
	*ret_address = ntohl(address.s_addr);
	return true;
}

int ipv4_parse(const char *text, uint32_t *ret_address, struct error *err)
{
	if (!parse_quad(text, ret_address))
		return error_set(err, EINVAL,
				 "\"%.64s\" is no IPv4 address: write it like 10.0.1.5", text);
	return 0;
}

uint32_t ipv4_mask(unsigned prefix)
{
	return prefix == 0 ? 0 : UINT32_MAX << (32 - prefix);
}

int ipv4_interface_parse(const char *text, uint32_t *ret_address, unsigned *ret_prefix,
			 struct error *err)
{
	const char *slash = strchr(text, '/');
	char quad[IPV4_TEXT_SIZE] = "";
	uint32_t address, prefix;

	if (slash && (size_t)(slash - text) < sizeof(quad))
		memcpy(quad, text, (size_t)(slash - text));
	if (!slash || !parse_quad(quad, &address) || parse_u32(slash + 1, 32, &prefix) < 0)
		return error_set(
			err, EINVAL,
			"\"%.64s\" is no IPv4 address and prefix: write it like 10.0.1.0/24", text);
	*ret_address = address;
	*ret_prefix = prefix;
	return 0;
}

char *ipv4_cidr_format(const struct ipv4_cidr *cidr, char text[IPV4_CIDR_TEXT_SIZE])
{
	char quad[IPV4_TEXT_SIZE];

	snprintf(text, IPV4_CIDR_TEXT_SIZE, "%s/%u", ipv4_format(cidr->base, quad),
		 cidr->prefix % 100);
	return text;
}

int ipv4_cidr_parse(const char *text, struct ipv4_cidr *ret_cidr, struct error *err)
{
	char canonical[IPV4_CIDR_TEXT_SIZE];
	struct ipv4_cidr cidr;
	uint32_t address;

	if (ipv4_interface_parse(text, &address, &cidr.prefix, err) < 0)
		return -err->code;
	cidr.base = address & ipv4_mask(cidr.prefix);
	if (cidr.base != address)
		return error_set(err, EINVAL, "%s has host bits set: %s would be right", text,
				 ipv4_cidr_format(&cidr, canonical));
	*ret_cidr = cidr;
	return 0;
}

bool ipv4_cidr_contains(const struct ipv4_cidr *outer, uint32_t address)
{
	return (address & ipv4_mask(outer->prefix)) == outer->base;
}

bool ipv4_cidr_covers(const struct ipv4_cidr *outer, const struct ipv4_cidr *inner)
{
	return outer->prefix <= inner->prefix && ipv4_cidr_contains(outer, inner->base);
}

bool ipv4_cidr_overlaps(const struct ipv4_cidr *one, const struct ipv4_cidr *other)
{
	return ipv4_cidr_covers(one, other) || ipv4_cidr_covers(other, one);
}

int ipv4_subnet_parse(const char *text, struct ipv4_cidr *ret_cidr, struct error *err)
{
	struct ipv4_cidr cidr = {0};

	if (ipv4_cidr_parse(text, &cidr, err) < 0)
		return -err->code;
	if (cidr.prefix < SUBNET_PREFIX_MIN || cidr.prefix > SUBNET_PREFIX_MAX)
		return error_set(err, EINVAL, "%s: the prefix must be from /%d to /%d", text,
				 SUBNET_PREFIX_MIN, SUBNET_PREFIX_MAX);
	*ret_cidr = cidr;
	return 0;
}

uint32_t ipv4_subnet_router(const struct ipv4_cidr *subnet)
{
	return subnet->base + 1;
}
