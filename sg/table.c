// SPDX-License-Identifier: Apache-2.0
// What the table `inet penstock` of every VPC has: constant chains, and maps that members are
// added to.
//
//     hook         priority  chain                    passes
//     prerouting   -450      prerouting_source        IPv4 of ENIs with their own MAC and address,
//                                                     of others with a source that is behind them
//     prerouting   -120      prerouting_egress        what the sending ENI's groups let out
//     prerouting   -110      prerouting_balancer      to a balancer: what its groups let in
//     forward         0      forward_balancer         behind a balancer: what its groups let out
//     forward        10      forward_ingress          what the receiving ENI's groups let in
//     forward        20      forward_connections      what is not one connection too many
//     input           0      input_host               metadata, and pings of the router
//     input          10      input_connections        as forward_connections
//     output       -300      output_ipv6              no IPv6
//     output       -110      output_balancer_ingress  as prerouting_balancer
//     output          0      output_balancer_egress   as forward_balancer, and health checks
//     output         10      output_ingress           as forward_ingress
//
// Sources are checked before defragmentation (priority -400): the kernel puts fragments together by
// their addresses alone, so a forged fragment would become part of another sender's datagram.
//
// Replies and related packets pass by `ct state`, so the checks see connections' first packets,
// retransmissions included. An accept ends one chain of a hook only; the next ones still see the
// packet. What connection tracking cannot track ("invalid", see source.c) is asked of the groups
// like the first packet of a connection.
//
// Egress and the balancer's ingress are checked at prerouting because DNAT (priority -100) has not
// yet replaced the balancer's address there. At forward it has; ingress of a target then takes the
// balancer's address, `ct original ip daddr`, for the peer ("balanced" chains).
//
// What a member may do is one lookup from its interface (or address) to its combination of groups,
// kept in the mark, and one from the mark to that combination's chain. It returns if no group
// accepts; then the packet is dropped. The mark is cleared first: a member without an entry must
// not go with the mark of an earlier chain.
//
// Interfaces of ENIs are recognised by their prefix, so one without entries (not yet, not any
// more) can do nothing; all others are attachments.
#include <netinet/in.h>
#include <stdio.h>

#include "agent/base/scope.h"
#include "sg/chains.h"

// Bits of `ct state`.
enum { STATE_INVALID = 1, STATE_ESTABLISHED = 2, STATE_RELATED = 4 };

const struct nft_set sg_eni_source = {
	.table = SG_TABLE,
	.name = "eni_source",
	.key = {{NFT_TYPE_IFNAME, NFT_TYPE_ETHER, NFT_TYPE_IPV4}},
	.comment = "what each ENI may send as",
};

const struct nft_set sg_eni_router = {
	.table = SG_TABLE,
	.name = "eni_router",
	.key = {{NFT_TYPE_IFNAME, NFT_TYPE_IPV4}},
	.comment = "the router each ENI may ping",
};

const struct nft_set sg_eni_combination = {
	.table = SG_TABLE,
	.name = "eni_combination",
	.key = {{NFT_TYPE_IFNAME}},
	.data = {{NFT_TYPE_MARK}},
	.comment = "the combination of groups of each ENI",
};

const struct nft_set sg_eni_drops = {
	.table = SG_TABLE,
	.name = "eni_drops",
	.key = {{NFT_TYPE_IFNAME, NFT_TYPE_MARK}},
	.counter = true,
	.comment = "dropped packets of each ENI and reason",
};

const struct nft_set sg_balancer_combination = {
	.table = SG_TABLE,
	.name = "balancer_combination",
	.key = {{NFT_TYPE_IPV4}},
	.data = {{NFT_TYPE_MARK}},
	.comment = "the combination of groups of each load balancer",
};

const struct nft_set sg_combination_chains[SG_VARIANT_COUNT] = {
	[SG_VARIANT_INGRESS] = {.table = SG_TABLE,
				.name = "combination_ingress",
				.key = {{NFT_TYPE_MARK}},
				.data = {{NFT_TYPE_VERDICT}}},
	[SG_VARIANT_BALANCED] = {.table = SG_TABLE,
				 .name = "combination_balanced",
				 .key = {{NFT_TYPE_MARK}},
				 .data = {{NFT_TYPE_VERDICT}}},
	[SG_VARIANT_EGRESS] = {.table = SG_TABLE,
			       .name = "combination_egress",
			       .key = {{NFT_TYPE_MARK}},
			       .data = {{NFT_TYPE_VERDICT}}},
};

const struct nft_set sg_ct_state = {
	.table = SG_TABLE,
	.name = "ct_state",
	.key = {{NFT_TYPE_CT_STATE}},
	.data = {{NFT_TYPE_VERDICT}},
	.comment = "connections already allowed",
};

const struct nft_set sg_ct_state_source = {
	.table = SG_TABLE,
	.name = "ct_state_source",
	.key = {{NFT_TYPE_CT_STATE}},
	.data = {{NFT_TYPE_VERDICT}},
	.comment = "the same where packets come in",
};

const struct nft_set sg_icmp_errors = {
	.table = SG_TABLE,
	.name = "icmp_errors",
	.key = {{NFT_TYPE_ICMP_TYPE}},
	.comment = "types that are about another packet",
};

const struct nft_set sg_stateful_protocols = {
	.table = SG_TABLE,
	.name = "stateful_protocols",
	.key = {{NFT_TYPE_PROTOCOL}},
	.comment = "whose invalid packets no group is asked about",
};

const struct nft_set sg_eni_fragments = {
	.table = SG_TABLE,
	.name = "eni_fragments",
	.key = {{NFT_TYPE_IFNAME}},
	.dynamic_size = SG_ENIS_MAX,
	.timeout_ms = 10000,
	.comment = "rates of fragments",
};

const struct nft_set sg_eni_connections = {
	.table = SG_TABLE,
	.name = "eni_connections",
	.key = {{NFT_TYPE_IFNAME}},
	.dynamic_size = SG_ENIS_MAX,
	.comment = "connections that ENIs opened",
};

const struct nft_set sg_eni_host_connections = {
	.table = SG_TABLE,
	.name = "eni_host_connections",
	.key = {{NFT_TYPE_IFNAME}},
	.dynamic_size = SG_ENIS_MAX,
	.comment = "those to the router and the metadata address",
};

static const struct nft_set *const sets[] = {
	&sg_eni_source,
	&sg_eni_router,
	&sg_eni_combination,
	&sg_eni_drops,
	&sg_balancer_combination,
	&sg_combination_chains[SG_VARIANT_INGRESS],
	&sg_ct_state,
	&sg_ct_state_source,
	&sg_icmp_errors,
	&sg_stateful_protocols,
	&sg_eni_fragments,
	&sg_eni_connections,
	&sg_eni_host_connections,
	&sg_combination_chains[SG_VARIANT_BALANCED],
	&sg_combination_chains[SG_VARIANT_EGRESS],
};

const char *sg_variant_name(enum sg_variant variant)
{
	static const char *const names[SG_VARIANT_COUNT] = {"ingress", "balanced", "egress"};

	return names[variant];
}

enum sg_direction sg_variant_direction(enum sg_variant variant)
{
	return variant == SG_VARIANT_EGRESS ? SG_EGRESS : SG_INGRESS;
}

static const struct {
	const char *name;
	enum nf_inet_hooks hook; // of base chains
	int32_t priority;
	void (*fill)(struct nft_batch *batch, const char *chain); // or sg_table_limit_connections()
	bool base;
} chains[] = {
	{"eni_ingress", 0, 0, sg_fill_eni_ingress, false},
	{"eni_ingress_balanced", 0, 0, sg_fill_eni_ingress_balanced, false},
	{"balancer_ingress", 0, 0, sg_fill_balancer_ingress, false},
	{"balancer_egress", 0, 0, sg_fill_balancer_egress, false},
	{"source_eni", 0, 0, sg_fill_source_eni, false},
	{"source_eni_fragment", 0, 0, sg_fill_source_eni_fragment, false},
	{"source_icmp_error", 0, 0, sg_fill_source_icmp_error, false},
	{"source_related", 0, 0, sg_fill_source_related, false},
	{"source_invalid", 0, 0, sg_fill_source_invalid, false},
	{"invalid", 0, 0, sg_fill_invalid, false},
	{"prerouting_source", NF_INET_PRE_ROUTING, -450, sg_fill_source, true},
	{"prerouting_egress", NF_INET_PRE_ROUTING, -120, sg_fill_egress, true},
	{"prerouting_balancer", NF_INET_PRE_ROUTING, -110, sg_fill_check_balancer_ingress, true},
	{"forward_balancer", NF_INET_FORWARD, 0, sg_fill_check_balancer_egress, true},
	{"forward_ingress", NF_INET_FORWARD, 10, sg_fill_forward_ingress, true},
	{"forward_connections", NF_INET_FORWARD, 20, NULL, true},
	{"input_host", NF_INET_LOCAL_IN, 0, sg_fill_input, true},
	{"input_connections", NF_INET_LOCAL_IN, 10, sg_fill_input_connections, true},
	{"output_ipv6", NF_INET_LOCAL_OUT, -300, sg_add_drop_ipv6, true},
	{"output_balancer_ingress", NF_INET_LOCAL_OUT, -110, sg_fill_check_balancer_ingress, true},
	{"output_balancer_egress", NF_INET_LOCAL_OUT, 0, sg_fill_check_balancer_egress, true},
	{"output_ingress", NF_INET_LOCAL_OUT, 10, sg_fill_output_ingress, true},
};

// --- All of it ---

static void add_chains(struct nft_batch *batch)
{
	sg_drop_chains_add(batch);
	for (size_t i = 0; i < ARRAY_LENGTH(chains); i++)
		nft_chain_add(batch, &(struct nft_chain){.table = SG_TABLE,
							 .name = chains[i].name,
							 .base = chains[i].base,
							 .hook = chains[i].hook,
							 .priority = chains[i].priority,
							 .policy = NF_ACCEPT});
}

// Chains of earlier versions. A chain that may not be there can only be deleted once it was added.
static void remove_obsolete(struct nft_batch *batch)
{
	static const char *const obsolete[] = {
		"prerouting_antispoof", // at another priority, which cannot be changed
	};

	for (size_t i = 0; i < ARRAY_LENGTH(obsolete); i++) {
		nft_chain_add(batch, &(struct nft_chain){.table = SG_TABLE, .name = obsolete[i]});
		nft_chain_flush(batch, SG_TABLE, obsolete[i]);
		nft_chain_delete(batch, SG_TABLE, obsolete[i]);
	}
}

void sg_table_limit_connections(struct nft_batch *batch, uint32_t limit)
{
	static const char chain[] = "forward_connections";

	nft_chain_flush(batch, SG_TABLE, chain);
	sg_fill_forward_connections(batch, chain, limit);
	// Elements keep the limit that they were added with.
	nft_set_flush(batch, SG_TABLE, sg_eni_connections.name);
}

void sg_table_build(struct nft_batch *batch, const struct sg_vpc *vpc)
{
	char comment[NFT_COMMENT_SIZE];

	snprintf(comment, sizeof(comment), "penstock %s vpc %s", vpc->install, vpc->id);
	nft_table_add(batch, SG_TABLE, comment);
	for (size_t i = 0; i < ARRAY_LENGTH(sets); i++)
		nft_set_add(batch, sets[i]);
	add_chains(batch);
	sg_add_states(batch);
	sg_drop_chains_fill(batch);
	for (size_t i = 0; i < ARRAY_LENGTH(chains); i++) {
		if (!chains[i].fill)
			continue;
		nft_chain_flush(batch, SG_TABLE, chains[i].name);
		chains[i].fill(batch, chains[i].name);
	}
	sg_table_limit_connections(batch, vpc->connection_limit);
	remove_obsolete(batch);
}
