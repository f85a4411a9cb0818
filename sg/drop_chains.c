// SPDX-License-Identifier: Apache-2.0
// The chains that drop: counted for the reason, and for the ENI's interface on the way in or out.
#include <stdio.h>

#include "sg/chains.h"

static const struct {
	const char *name;
	bool of_input, of_output; // interfaces that may be the ENI's
	bool denied;              // no rule let it pass: counted as invalid if it is
} reasons[SG_DROP_REASON_COUNT] = {
	[SG_DROP_SPOOFED] = {"spoofed", true, false, false},
	[SG_DROP_EGRESS_DENIED] = {"egress_denied", true, false, true},
	[SG_DROP_INGRESS_DENIED] = {"ingress_denied", false, true, true},
	[SG_DROP_BALANCER_DENIED] = {"balancer_denied", false, false, true},
	[SG_DROP_IPV6] = {"ipv6", true, true, false},
	[SG_DROP_INVALID] = {"invalid", true, true, false},
	[SG_DROP_HOST] = {"host", true, false, true},
	[SG_DROP_TRANSIT] = {"transit", false, false, true},
	[SG_DROP_FRAGMENTS] = {"fragments", true, false, false},
	[SG_DROP_CONNECTIONS] = {"connections", true, false, false},
};

const char *sg_drop_reason_name(enum sg_drop_reason reason)
{
	return reasons[reason].name;
}

bool sg_drop_reason_is_of_eni(enum sg_drop_reason reason)
{
	return reasons[reason].of_input || reasons[reason].of_output;
}

static void drop_chain_name(enum sg_drop_reason reason, char name[NFT_NAME_SIZE])
{
	snprintf(name, NFT_NAME_SIZE, "drop_%s", reasons[reason].name);
}

// The lookup itself counts, in the element it finds.
static void add_count_of_eni(struct nft_batch *batch, const char *chain, enum nft_field interface)
{
	struct nft_rule *rule = nft_rule_new(SG_TABLE, chain, NULL);

	nft_match_set(rule, NFT_FIELDS(interface, NFT_FIELD_MARK), sg_eni_drops.name);
	nft_rule_add(batch, rule);
}

static void fill_drop(struct nft_batch *batch, enum sg_drop_reason reason)
{
	struct nft_rule *rule;
	char chain[NFT_NAME_SIZE];

	drop_chain_name(reason, chain);
	nft_chain_flush(batch, SG_TABLE, chain);
	if (reasons[reason].denied) {
		rule = nft_rule_new(SG_TABLE, chain, NULL);
		nft_match_bits(rule, NFT_FIELD_CT_STATE, SG_STATE_INVALID);
		nft_verdict(rule, NFT_GOTO, "drop_invalid");
		nft_rule_add(batch, rule);
	}
	if (sg_drop_reason_is_of_eni(reason)) {
		rule = nft_rule_new(SG_TABLE, chain, NULL);
		nft_mark_set(rule, (uint32_t)reason + 1);
		nft_rule_add(batch, rule);
	}
	if (reasons[reason].of_input)
		add_count_of_eni(batch, chain, NFT_FIELD_IIFNAME);
	if (reasons[reason].of_output)
		add_count_of_eni(batch, chain, NFT_FIELD_OIFNAME);
	rule = nft_rule_new(SG_TABLE, chain, NULL);
	nft_count_named(rule, reasons[reason].name);
	nft_verdict(rule, NF_DROP, NULL);
	nft_rule_add(batch, rule);
}

void sg_drop_chains_add(struct nft_batch *batch)
{
	char name[NFT_NAME_SIZE];

	for (int reason = 0; reason < SG_DROP_REASON_COUNT; reason++) {
		drop_chain_name((enum sg_drop_reason)reason, name);
		nft_counter_add(batch, SG_TABLE, reasons[reason].name);
		nft_chain_add(batch, &(struct nft_chain){.table = SG_TABLE, .name = name});
	}
}

void sg_drop_chains_fill(struct nft_batch *batch)
{
	for (int reason = 0; reason < SG_DROP_REASON_COUNT; reason++)
		fill_drop(batch, (enum sg_drop_reason)reason);
}
