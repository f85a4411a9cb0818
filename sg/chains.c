// SPDX-License-Identifier: Apache-2.0
// The rules of the constant chains, apart from those about sources (source.c). table.c says which
// chains there are and in what order packets meet them.
#include <linux/netfilter/nf_conntrack_common.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>

#include "sg/chains.h"

#define METADATA_ADDRESS UINT32_C(0xa9feaa02) // 169.254.170.2

enum { METADATA_PORT = 80 };

struct nft_rule *sg_rule_new(const char *chain)
{
	return nft_rule_new(SG_TABLE, chain, NULL);
}

// --- Matches that several chains need ---

void sg_match_eni(struct nft_rule *rule, enum nft_field interface)
{
	nft_match_interface_prefix(rule, interface, NFT_CMP_EQ, SG_INTERFACE_PREFIX);
}

void sg_match_not_eni(struct nft_rule *rule, enum nft_field interface)
{
	nft_match_interface_prefix(rule, interface, NFT_CMP_NEQ, SG_INTERFACE_PREFIX);
}

void sg_match_ipv4(struct nft_rule *rule)
{
	nft_match_number(rule, NFT_FIELD_FAMILY, NFT_CMP_EQ, NFPROTO_IPV4);
}

static void match_ping(struct nft_rule *rule)
{
	sg_match_ipv4(rule);
	nft_match_number(rule, NFT_FIELD_PROTOCOL, NFT_CMP_EQ, IPPROTO_ICMP);
	nft_match_number(rule, NFT_FIELD_ICMP_TYPE, NFT_CMP_EQ, ICMP_ECHO);
}

// --- Rules that several chains need ---

void sg_add_verdict(struct nft_batch *batch, const char *chain, int verdict, const char *target)
{
	struct nft_rule *rule = sg_rule_new(chain);

	nft_verdict(rule, verdict, target);
	nft_rule_add(batch, rule);
}

static void add_pass_known(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule = sg_rule_new(chain);

	nft_verdict_from_map(rule, NFT_FIELDS(NFT_FIELD_CT_STATE), sg_ct_state.name);
	nft_rule_add(batch, rule);
}

void sg_add_drop_ipv6(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule = sg_rule_new(chain);

	nft_match_number(rule, NFT_FIELD_FAMILY, NFT_CMP_EQ, NFPROTO_IPV6);
	nft_verdict(rule, NFT_GOTO, "drop_ipv6");
	nft_rule_add(batch, rule);
}

static void add_clear_mark(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule = sg_rule_new(chain);

	nft_mark_set(rule, 0);
	nft_rule_add(batch, rule);
}

static void add_combination_of_interface(struct nft_batch *batch, const char *chain,
					 enum nft_field interface)
{
	struct nft_rule *rule = sg_rule_new(chain);

	nft_mark_from_map(rule, NFT_FIELDS(interface), sg_eni_combination.name);
	nft_rule_add(batch, rule);
}

static void add_combination_verdict(struct nft_batch *batch, const char *chain,
				    enum sg_variant variant, const char *otherwise)
{
	struct nft_rule *rule = sg_rule_new(chain);

	nft_verdict_from_map(rule, NFT_FIELDS(NFT_FIELD_MARK), sg_combination_chains[variant].name);
	nft_rule_add(batch, rule);
	sg_add_verdict(batch, chain, NFT_GOTO, otherwise);
}

static void add_return_unmarked(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule = sg_rule_new(chain);

	nft_match_number(rule, NFT_FIELD_MARK, NFT_CMP_EQ, 0);
	nft_verdict(rule, NFT_RETURN, NULL);
	nft_rule_add(batch, rule);
}

// --- The chains ---

// Groups never filter the metadata address and the router; input_host says what is offered there.
void sg_fill_egress(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule = sg_rule_new(chain);

	nft_verdict_from_map(rule, NFT_FIELDS(NFT_FIELD_CT_STATE), sg_ct_state_source.name);
	nft_rule_add(batch, rule);
	rule = sg_rule_new(chain);
	sg_match_not_eni(rule, NFT_FIELD_IIFNAME);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);

	rule = sg_rule_new(chain);
	sg_match_ipv4(rule);
	nft_match_ipv4(rule, NFT_FIELD_IP_DESTINATION, NFT_CMP_EQ, METADATA_ADDRESS);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);

	rule = sg_rule_new(chain);
	sg_match_ipv4(rule);
	nft_match_set(rule, NFT_FIELDS(NFT_FIELD_IIFNAME, NFT_FIELD_IP_DESTINATION),
		      sg_eni_router.name);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);

	add_clear_mark(batch, chain);
	add_combination_of_interface(batch, chain, NFT_FIELD_IIFNAME);
	add_combination_verdict(batch, chain, SG_VARIANT_EGRESS, "drop_egress_denied");
}

void sg_fill_check_balancer_ingress(struct nft_batch *batch, const char *chain)
{
	add_pass_known(batch, chain);
	sg_add_verdict(batch, chain, NFT_GOTO, "balancer_ingress");
}

void sg_fill_check_balancer_egress(struct nft_batch *batch, const char *chain)
{
	add_pass_known(batch, chain);
	sg_add_verdict(batch, chain, NFT_GOTO, "balancer_egress");
}

void sg_fill_forward_ingress(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule;

	add_pass_known(batch, chain);
	rule = sg_rule_new(chain);
	sg_match_eni(rule, NFT_FIELD_OIFNAME);
	nft_verdict(rule, NFT_GOTO, "eni_ingress");
	nft_rule_add(batch, rule);

	rule = sg_rule_new(chain);
	sg_match_eni(rule, NFT_FIELD_IIFNAME);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);
	sg_add_verdict(batch, chain, NFT_GOTO, "drop_transit");
}

void sg_fill_input(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule;

	add_pass_known(batch, chain);
	rule = sg_rule_new(chain);
	nft_match_interface(rule, NFT_FIELD_IIFNAME, NFT_CMP_EQ, "lo");
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);

	rule = sg_rule_new(chain);
	sg_match_eni(rule, NFT_FIELD_IIFNAME);
	sg_match_ipv4(rule);
	nft_match_ipv4(rule, NFT_FIELD_IP_DESTINATION, NFT_CMP_EQ, METADATA_ADDRESS);
	nft_match_number(rule, NFT_FIELD_PROTOCOL, NFT_CMP_EQ, IPPROTO_TCP);
	nft_match_number(rule, NFT_FIELD_PORT_DESTINATION, NFT_CMP_EQ, METADATA_PORT);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);

	rule = sg_rule_new(chain);
	match_ping(rule);
	nft_match_set(rule, NFT_FIELDS(NFT_FIELD_IIFNAME, NFT_FIELD_IP_DESTINATION),
		      sg_eni_router.name);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);

	rule = sg_rule_new(chain);
	sg_match_not_eni(rule, NFT_FIELD_IIFNAME);
	match_ping(rule);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);
	sg_add_verdict(batch, chain, NFT_GOTO, "drop_host");
}

void sg_fill_output_ingress(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule;

	add_pass_known(batch, chain);
	rule = sg_rule_new(chain);
	sg_match_eni(rule, NFT_FIELD_OIFNAME);
	nft_verdict(rule, NFT_GOTO, "eni_ingress");
	nft_rule_add(batch, rule);
}

void sg_fill_eni_ingress(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule;

	add_clear_mark(batch, chain);
	add_combination_of_interface(batch, chain, NFT_FIELD_OIFNAME);
	rule = sg_rule_new(chain);
	nft_match_bits(rule, NFT_FIELD_CT_STATUS, IPS_DST_NAT);
	nft_verdict(rule, NFT_GOTO, "eni_ingress_balanced");
	nft_rule_add(batch, rule);
	add_combination_verdict(batch, chain, SG_VARIANT_INGRESS, "drop_ingress_denied");
}

void sg_fill_eni_ingress_balanced(struct nft_batch *batch, const char *chain)
{
	add_combination_verdict(batch, chain, SG_VARIANT_BALANCED, "drop_ingress_denied");
}

void sg_fill_balancer_ingress(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule;

	add_clear_mark(batch, chain);
	rule = sg_rule_new(chain);
	sg_match_ipv4(rule);
	nft_mark_from_map(rule, NFT_FIELDS(NFT_FIELD_IP_DESTINATION), sg_balancer_combination.name);
	nft_rule_add(batch, rule);
	add_return_unmarked(batch, chain);
	add_combination_verdict(batch, chain, SG_VARIANT_INGRESS, "drop_balancer_denied");
}

// From a balancer is what was sent to its address (and is now on its way to a target: only
// balancers translate destinations), and what comes from its address: health checks.
void sg_fill_balancer_egress(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule;

	add_clear_mark(batch, chain);
	rule = sg_rule_new(chain);
	sg_match_ipv4(rule);
	nft_mark_from_map(rule, NFT_FIELDS(NFT_FIELD_IP_SOURCE), sg_balancer_combination.name);
	nft_rule_add(batch, rule);

	rule = sg_rule_new(chain);
	nft_match_bits(rule, NFT_FIELD_CT_STATUS, IPS_DST_NAT);
	sg_match_ipv4(rule);
	nft_mark_from_map(rule, NFT_FIELDS(NFT_FIELD_CT_ORIGINAL_DESTINATION),
			  sg_balancer_combination.name);
	nft_rule_add(batch, rule);

	rule = sg_rule_new(chain); // a balancer without an entry lets nothing through
	nft_match_bits(rule, NFT_FIELD_CT_STATUS, IPS_DST_NAT);
	nft_match_number(rule, NFT_FIELD_MARK, NFT_CMP_EQ, 0);
	nft_verdict(rule, NFT_GOTO, "drop_balancer_denied");
	nft_rule_add(batch, rule);
	add_return_unmarked(batch, chain);
	add_combination_verdict(batch, chain, SG_VARIANT_EGRESS, "drop_balancer_denied");
}

// --- Connections of each ENI ---

// Connections to the router and to the metadata address are a share of their own: a task that
// filled the other one must still reach its shim, which ends it.
enum { HOST_CONNECTIONS_MAX = 1024 };

// At the end of a hook: only what passed all other checks is tracked, and counts.
static void add_limit(struct nft_batch *batch, const char *chain, const struct nft_set *set,
		      uint32_t limit)
{
	struct nft_rule *rule = sg_rule_new(chain);

	nft_match_bits(rule, NFT_FIELD_CT_STATE, SG_STATE_NEW);
	sg_match_eni(rule, NFT_FIELD_IIFNAME);
	nft_match_over_connections(rule, NFT_FIELDS(NFT_FIELD_IIFNAME), set->name, limit);
	nft_verdict(rule, NFT_GOTO, "drop_connections");
	nft_rule_add(batch, rule);
}

void sg_fill_forward_connections(struct nft_batch *batch, const char *chain, uint32_t limit)
{
	if (limit > 0)
		add_limit(batch, chain, &sg_eni_connections, limit);
}

void sg_fill_input_connections(struct nft_batch *batch, const char *chain)
{
	add_limit(batch, chain, &sg_eni_host_connections, HOST_CONNECTIONS_MAX);
}
