// SPDX-License-Identifier: Apache-2.0
// Addresses, pure: IPv4 blocks, the leases of one subnet, and the identities
// derived from an ENI's id (MAC address, interface name).
//
// Nothing here opens, blocks or reads a clock. IPv4 addresses are uint32_t in
// host byte order (0x0a000105 is 10.0.1.5) here and in all of netif.
//
// A subnet of AWS, /16 to /28: the first four addresses and the last one are
// reserved, base+1 is the router. A released address cools down before it is
// leased again, so that no late packet of the old connection meets a new owner.
//
//     struct ipv4_cidr block;
//     struct ipam *ipam;
//     if (ipv4_subnet_parse("10.0.1.0/24", &block, err) < 0 ||
//         ipam_new("web-a", block, &ipam, err) < 0) ...
//     uint32_t address;
//     if (ipam_lease(ipam, now_ms, &address, err) < 0) ... // 10.0.1.4 first
//     ipam_release(ipam, address, now_ms + 60000);
//     ipam_free(ipam);
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/error.h"

// --- IPv4 text ---

enum { IPV4_TEXT_SIZE = 16, IPV4_CIDR_TEXT_SIZE = 19 };

struct ipv4_cidr {
	uint32_t base; // no bit set beyond the prefix
	unsigned prefix;
};

// Dotted quad without leading zeros. -EINVAL: what was wrong, and an example.
int ipv4_parse(const char *text, uint32_t *ret_address, struct error *err);
char *ipv4_format(uint32_t address, char text[IPV4_TEXT_SIZE]); // returns text

// "10.0.1.0/24", prefix 0 to 32. -EINVAL; with host bits set the message gives
// the canonical form: `10.0.1.7/24 has host bits set: 10.0.1.0/24 would be right`.
int ipv4_cidr_parse(const char *text, struct ipv4_cidr *ret_cidr, struct error *err);
char *ipv4_cidr_format(const struct ipv4_cidr *cidr, char text[IPV4_CIDR_TEXT_SIZE]);

// "10.0.1.7/24": an interface's address and its prefix; host bits are welcome.
int ipv4_interface_parse(const char *text, uint32_t *ret_address, unsigned *ret_prefix,
			 struct error *err);

uint32_t ipv4_mask(unsigned prefix); // 24 -> 0xffffff00
bool ipv4_cidr_contains(const struct ipv4_cidr *outer, uint32_t address);
bool ipv4_cidr_covers(const struct ipv4_cidr *outer, const struct ipv4_cidr *inner);
bool ipv4_cidr_overlaps(const struct ipv4_cidr *one, const struct ipv4_cidr *other);

// ipv4_cidr_parse, and the size of a subnet (or VPC): /16 to /28.
int ipv4_subnet_parse(const char *text, struct ipv4_cidr *ret_cidr, struct error *err);
// The router of a subnet, base+1.
uint32_t ipv4_subnet_router(const struct ipv4_cidr *subnet);

// --- Identities of an ENI ---

struct mac_address {
	uint8_t bytes[6];
};

enum { MAC_TEXT_SIZE = 18 };

// The guest's MAC: a stable hash of the ENI id, locally administered, unicast.
struct mac_address mac_from_eni(const char *eni_id);
char *mac_format(const struct mac_address *mac, char text[MAC_TEXT_SIZE]); // "0a:1b:..."
int mac_parse(const char *text, struct mac_address *ret_mac, struct error *err);

// "ps" and 13 hex digits of a hash of install and ENI id. The name is a handle
// only: who the interface belongs to says its alias.
char *eni_interface_name(const char *install, const char *eni_id, char name[IFNAMSIZ]);

// --- Leases of one subnet ---

struct ipam;

struct ipam_counts {
	uint32_t total; // all addresses of the block; the sum of the others
	uint32_t reserved, used, cooling, free;
};

// `subnet_id` is for messages (copied). -EINVAL unless /16 to /28. ipam_free(NULL) is fine.
int ipam_new(const char *subnet_id, struct ipv4_cidr block, struct ipam **ret_ipam,
	     struct error *err);
void ipam_free(struct ipam *ipam);

// Leases any free address: the next one after the last leased, so that the
// recently released come last. Cooling addresses whose time is up by `now_ms`
// are free again. The clock is the caller's, one that nobody sets; all times of one
// ipam use the same.
// -ENOSPC: `subnet web-a: no free address: 11 used, 5 reserved, 0 cooling`.
// Amortised O(1); O(log n) in the number of cooling addresses.
int ipam_lease(struct ipam *ipam, int64_t now_ms, uint32_t *ret_address, struct error *err);

// For when no subnet has a free one: the address that has rested longest of those whose time is up
// by `latest_ms`. A shorter rest is better than a task that cannot start. -ENOSPC as above.
int ipam_lease_resting(struct ipam *ipam, int64_t latest_ms, uint32_t *ret_address,
		       struct error *err);

// Leases this address: how leases in the records are taken up again after a
// restart, and how a fixed address is asked for. A cooling address is given too:
// its last owner may have it back. -ERANGE outside the block, -EPERM reserved,
// -EADDRINUSE leased already.
int ipam_adopt(struct ipam *ipam, uint32_t address, struct error *err);

// Ends a lease; the address cools down until `until_ms` (a time already past: it
// is free at the next look). False, and nothing happens, when it is not leased.
bool ipam_release(struct ipam *ipam, uint32_t address, int64_t until_ms);
// Undoes a lease that nobody got to use (a dry run's): the address may be the next one leased.
void ipam_return(struct ipam *ipam, uint32_t address);

// A free address starts to cool: how cool-downs in the records are taken up
// again after a restart. False when the address is reserved, leased or foreign.
bool ipam_cool(struct ipam *ipam, uint32_t address, int64_t until_ms);

bool ipam_is_leased(const struct ipam *ipam, uint32_t address);
// As ipam_lease() would find it by `now_ms`; frees nothing. Linear in the cooling addresses.
struct ipam_counts ipam_count(const struct ipam *ipam, int64_t now_ms);
