// SPDX-License-Identifier: Apache-2.0
// What the table `inet penstock` of every VPC has: constant chains, and maps that members are
// added to.
//
//     hook         priority  chain                    passes
//     prerouting   -300      prerouting_antispoof     IPv4 of ENIs with their own MAC and address
//     prerouting   -120      prerouting_egress        what the sending ENI's groups let out
//     prerouting   -110      prerouting_balancer      to a balancer: what its groups let in
//     forward         0      forward_balancer         behind a balancer: what its groups let out
//     forward        10      forward_ingress          what the receiving ENI's groups let in
//     input           0      input_host               metadata, and pings of the router
//     output       -300      output_ipv6              no IPv6
//     output       -110      output_balancer_ingress  as prerouting_balancer
//     output          0      output_balancer_egress   as forward_balancer, and health checks
//     output         10      output_ingress           as forward_ingress
//
// Replies and related packets pass by `ct state`, so the checks see connections' first packets,
// retransmissions included. An accept ends one chain of a hook only; the next ones still see the
// packet.
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
#include <linux/netfilter/nf_conntrack_common.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <stdio.h>

#include "agent/base/scope.h"
#include "sg/internal.h"

#define METADATA_ADDRESS UINT32_C(0xa9feaa02) // 169.254.170.2

enum { METADATA_PORT = 80 };

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

static const struct nft_set ct_state = {
	.table = SG_TABLE,
	.name = "ct_state",
	.key = {{NFT_TYPE_CT_STATE}},
	.data = {{NFT_TYPE_VERDICT}},
	.comment = "connections already allowed",
};

static const struct nft_set *const sets[] = {
	&sg_eni_source,
	&sg_eni_router,
	&sg_eni_combination,
	&sg_eni_drops,
	&sg_balancer_combination,
	&sg_combination_chains[SG_VARIANT_INGRESS],
	&ct_state,
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

static struct nft_rule *rule_new(const char *chain)
{
	return nft_rule_new(SG_TABLE, chain, NULL);
}

// --- Matches that several chains need ---

static void match_eni(struct nft_rule *rule, enum nft_field interface)
{
	nft_match_interface_prefix(rule, interface, NFT_CMP_EQ, SG_INTERFACE_PREFIX);
}

static void match_not_eni(struct nft_rule *rule, enum nft_field interface)
{
	nft_match_interface_prefix(rule, interface, NFT_CMP_NEQ, SG_INTERFACE_PREFIX);
}

static void match_ipv4(struct nft_rule *rule)
{
	nft_match_number(rule, NFT_FIELD_FAMILY, NFT_CMP_EQ, NFPROTO_IPV4);
}

static void match_ping(struct nft_rule *rule)
{
	match_ipv4(rule);
	nft_match_number(rule, NFT_FIELD_PROTOCOL, NFT_CMP_EQ, IPPROTO_ICMP);
	nft_match_number(rule, NFT_FIELD_ICMP_TYPE, NFT_CMP_EQ, ICMP_ECHO);
}

// --- Rules that several chains need ---

static void add_verdict(struct nft_batch *batch, const char *chain, int verdict, const char *target)
{
	struct nft_rule *rule = rule_new(chain);

	nft_verdict(rule, verdict, target);
	nft_rule_add(batch, rule);
}

static void add_pass_known(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule = rule_new(chain);

	nft_verdict_from_map(rule, NFT_FIELDS(NFT_FIELD_CT_STATE), ct_state.name);
	nft_rule_add(batch, rule);
}

static void add_drop_ipv6(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule = rule_new(chain);

	nft_match_number(rule, NFT_FIELD_FAMILY, NFT_CMP_EQ, NFPROTO_IPV6);
	nft_verdict(rule, NFT_GOTO, "drop_ipv6");
	nft_rule_add(batch, rule);
}

static void add_clear_mark(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule = rule_new(chain);

	nft_mark_set(rule, 0);
	nft_rule_add(batch, rule);
}

static void add_combination_of_interface(struct nft_batch *batch, const char *chain,
					 enum nft_field interface)
{
	struct nft_rule *rule = rule_new(chain);

	nft_mark_from_map(rule, NFT_FIELDS(interface), sg_eni_combination.name);
	nft_rule_add(batch, rule);
}

static void add_combination_verdict(struct nft_batch *batch, const char *chain,
				    enum sg_variant variant, const char *otherwise)
{
	struct nft_rule *rule = rule_new(chain);

	nft_verdict_from_map(rule, NFT_FIELDS(NFT_FIELD_MARK), sg_combination_chains[variant].name);
	nft_rule_add(batch, rule);
	add_verdict(batch, chain, NFT_GOTO, otherwise);
}

static void add_return_unmarked(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule = rule_new(chain);

	nft_match_number(rule, NFT_FIELD_MARK, NFT_CMP_EQ, 0);
	nft_verdict(rule, NFT_RETURN, NULL);
	nft_rule_add(batch, rule);
}

// --- The chains ---

static void fill_antispoof(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule;

	add_drop_ipv6(batch, chain);
	rule = rule_new(chain);
	match_not_eni(rule, NFT_FIELD_IIFNAME);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);

	rule = rule_new(chain);
	// Without these two nft(8) cannot name the MAC, or gives up altogether.
	nft_match_number(rule, NFT_FIELD_IIFTYPE, NFT_CMP_EQ, ARPHRD_ETHER);
	nft_match_number(rule, NFT_FIELD_ETHER_TYPE, NFT_CMP_EQ, ETHERTYPE_IP);
	nft_match_set(rule,
		      NFT_FIELDS(NFT_FIELD_IIFNAME, NFT_FIELD_ETHER_SOURCE, NFT_FIELD_IP_SOURCE),
		      sg_eni_source.name);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);
	add_verdict(batch, chain, NFT_GOTO, "drop_spoofed");
}

// Groups never filter the metadata address and the router; input_host says what is offered there.
static void fill_egress(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule;

	add_pass_known(batch, chain);
	rule = rule_new(chain);
	match_not_eni(rule, NFT_FIELD_IIFNAME);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);

	rule = rule_new(chain);
	match_ipv4(rule);
	nft_match_ipv4(rule, NFT_FIELD_IP_DESTINATION, NFT_CMP_EQ, METADATA_ADDRESS);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);

	rule = rule_new(chain);
	match_ipv4(rule);
	nft_match_set(rule, NFT_FIELDS(NFT_FIELD_IIFNAME, NFT_FIELD_IP_DESTINATION),
		      sg_eni_router.name);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);

	add_clear_mark(batch, chain);
	add_combination_of_interface(batch, chain, NFT_FIELD_IIFNAME);
	add_combination_verdict(batch, chain, SG_VARIANT_EGRESS, "drop_egress_denied");
}

static void fill_check_balancer_ingress(struct nft_batch *batch, const char *chain)
{
	add_pass_known(batch, chain);
	add_verdict(batch, chain, NFT_GOTO, "balancer_ingress");
}

static void fill_check_balancer_egress(struct nft_batch *batch, const char *chain)
{
	add_pass_known(batch, chain);
	add_verdict(batch, chain, NFT_GOTO, "balancer_egress");
}

static void fill_forward_ingress(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule;

	add_pass_known(batch, chain);
	rule = rule_new(chain);
	match_eni(rule, NFT_FIELD_OIFNAME);
	nft_verdict(rule, NFT_GOTO, "eni_ingress");
	nft_rule_add(batch, rule);

	rule = rule_new(chain);
	match_eni(rule, NFT_FIELD_IIFNAME);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);
	add_verdict(batch, chain, NFT_GOTO, "drop_transit");
}

static void fill_input(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule;

	add_pass_known(batch, chain);
	rule = rule_new(chain);
	nft_match_interface(rule, NFT_FIELD_IIFNAME, NFT_CMP_EQ, "lo");
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);

	rule = rule_new(chain);
	match_eni(rule, NFT_FIELD_IIFNAME);
	match_ipv4(rule);
	nft_match_ipv4(rule, NFT_FIELD_IP_DESTINATION, NFT_CMP_EQ, METADATA_ADDRESS);
	nft_match_number(rule, NFT_FIELD_PROTOCOL, NFT_CMP_EQ, IPPROTO_TCP);
	nft_match_number(rule, NFT_FIELD_PORT_DESTINATION, NFT_CMP_EQ, METADATA_PORT);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);

	rule = rule_new(chain);
	match_ping(rule);
	nft_match_set(rule, NFT_FIELDS(NFT_FIELD_IIFNAME, NFT_FIELD_IP_DESTINATION),
		      sg_eni_router.name);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);

	rule = rule_new(chain);
	match_not_eni(rule, NFT_FIELD_IIFNAME);
	match_ping(rule);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);
	add_verdict(batch, chain, NFT_GOTO, "drop_host");
}

static void fill_output_ingress(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule;

	add_pass_known(batch, chain);
	rule = rule_new(chain);
	match_eni(rule, NFT_FIELD_OIFNAME);
	nft_verdict(rule, NFT_GOTO, "eni_ingress");
	nft_rule_add(batch, rule);
}

static void fill_eni_ingress(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule;

	add_clear_mark(batch, chain);
	add_combination_of_interface(batch, chain, NFT_FIELD_OIFNAME);
	rule = rule_new(chain);
	nft_match_bits(rule, NFT_FIELD_CT_STATUS, IPS_DST_NAT);
	nft_verdict(rule, NFT_GOTO, "eni_ingress_balanced");
	nft_rule_add(batch, rule);
	add_combination_verdict(batch, chain, SG_VARIANT_INGRESS, "drop_ingress_denied");
}

static void fill_eni_ingress_balanced(struct nft_batch *batch, const char *chain)
{
	add_combination_verdict(batch, chain, SG_VARIANT_BALANCED, "drop_ingress_denied");
}

static void fill_balancer_ingress(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule;

	add_clear_mark(batch, chain);
	rule = rule_new(chain);
	match_ipv4(rule);
	nft_mark_from_map(rule, NFT_FIELDS(NFT_FIELD_IP_DESTINATION), sg_balancer_combination.name);
	nft_rule_add(batch, rule);
	add_return_unmarked(batch, chain);
	add_combination_verdict(batch, chain, SG_VARIANT_INGRESS, "drop_balancer_denied");
}

// From a balancer is what was sent to its address (and is now on its way to a target: only
// balancers translate destinations), and what comes from its address: health checks.
static void fill_balancer_egress(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule;

	add_clear_mark(batch, chain);
	rule = rule_new(chain);
	match_ipv4(rule);
	nft_mark_from_map(rule, NFT_FIELDS(NFT_FIELD_IP_SOURCE), sg_balancer_combination.name);
	nft_rule_add(batch, rule);

	rule = rule_new(chain);
	nft_match_bits(rule, NFT_FIELD_CT_STATUS, IPS_DST_NAT);
	match_ipv4(rule);
	nft_mark_from_map(rule, NFT_FIELDS(NFT_FIELD_CT_ORIGINAL_DESTINATION),
			  sg_balancer_combination.name);
	nft_rule_add(batch, rule);

	rule = rule_new(chain); // a balancer without an entry lets nothing through
	nft_match_bits(rule, NFT_FIELD_CT_STATUS, IPS_DST_NAT);
	nft_match_number(rule, NFT_FIELD_MARK, NFT_CMP_EQ, 0);
	nft_verdict(rule, NFT_GOTO, "drop_balancer_denied");
	nft_rule_add(batch, rule);
	add_return_unmarked(batch, chain);
	add_combination_verdict(batch, chain, SG_VARIANT_EGRESS, "drop_balancer_denied");
}

static const struct {
	const char *name;
	enum nf_inet_hooks hook; // of base chains
	int32_t priority;
	void (*fill)(struct nft_batch *batch, const char *chain);
	bool base;
} chains[] = {
	{"eni_ingress", 0, 0, fill_eni_ingress, false},
	{"eni_ingress_balanced", 0, 0, fill_eni_ingress_balanced, false},
	{"balancer_ingress", 0, 0, fill_balancer_ingress, false},
	{"balancer_egress", 0, 0, fill_balancer_egress, false},
	{"prerouting_antispoof", NF_INET_PRE_ROUTING, -300, fill_antispoof, true},
	{"prerouting_egress", NF_INET_PRE_ROUTING, -120, fill_egress, true},
	{"prerouting_balancer", NF_INET_PRE_ROUTING, -110, fill_check_balancer_ingress, true},
	{"forward_balancer", NF_INET_FORWARD, 0, fill_check_balancer_egress, true},
	{"forward_ingress", NF_INET_FORWARD, 10, fill_forward_ingress, true},
	{"input_host", NF_INET_LOCAL_IN, 0, fill_input, true},
	{"output_ipv6", NF_INET_LOCAL_OUT, -300, add_drop_ipv6, true},
	{"output_balancer_ingress", NF_INET_LOCAL_OUT, -110, fill_check_balancer_ingress, true},
	{"output_balancer_egress", NF_INET_LOCAL_OUT, 0, fill_check_balancer_egress, true},
	{"output_ingress", NF_INET_LOCAL_OUT, 10, fill_output_ingress, true},
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

static void add_states(struct nft_batch *batch)
{
	struct nft_element states[] = {
		{.verdict = NF_ACCEPT, .comment = "revoked rules let them live on"},
		{.verdict = NF_ACCEPT},
		{.verdict = NFT_GOTO, .chain = "drop_invalid"},
	};

	nft_value_add_u32(&states[0].key, STATE_ESTABLISHED);
	nft_value_add_u32(&states[1].key, STATE_RELATED);
	nft_value_add_u32(&states[2].key, STATE_INVALID);
	nft_set_flush(batch, SG_TABLE, ct_state.name);
	nft_elements_add(batch, &ct_state, states, ARRAY_LENGTH(states));
}

void sg_table_build(struct nft_batch *batch, const char *install, const char *vpc)
{
	char comment[NFT_COMMENT_SIZE];

	snprintf(comment, sizeof(comment), "penstock %s vpc %s", install, vpc);
	nft_table_add(batch, SG_TABLE, comment);
	for (size_t i = 0; i < ARRAY_LENGTH(sets); i++)
		nft_set_add(batch, sets[i]);
	add_chains(batch);
	add_states(batch);
	sg_drop_chains_fill(batch);
	for (size_t i = 0; i < ARRAY_LENGTH(chains); i++) {
		nft_chain_flush(batch, SG_TABLE, chains[i].name);
		chains[i].fill(batch, chains[i].name);
	}
}
