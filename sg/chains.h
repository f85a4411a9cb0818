// SPDX-License-Identifier: Apache-2.0
// What fills the constant chains of a VPC's table. Each function appends its rules to the chain.
#pragma once

#include "sg/internal.h"

// Bits of `ct state`.
enum {
	SG_STATE_INVALID = 1,
	SG_STATE_ESTABLISHED = 2,
	SG_STATE_RELATED = 4,
	SG_STATE_NEW = 8,
};

enum { SG_ENIS_MAX = 65535 }; // of a VPC: its largest block is a /16

// Verdicts by `ct state`: in prerouting_egress, and in every other chain.
extern const struct nft_set sg_ct_state_source, sg_ct_state;
extern const struct nft_set sg_icmp_errors;        // types
extern const struct nft_set sg_stateful_protocols; // TCP, UDP …
extern const struct nft_set sg_eni_fragments;      // dynamic: interface, a rate
// Dynamic: interface, connections through the VPC and to the host's side.
extern const struct nft_set sg_eni_connections, sg_eni_host_connections;

// --- Rules and matches that several chains need (chains.c) ---

struct nft_rule *sg_rule_new(const char *chain);
void sg_match_eni(struct nft_rule *rule, enum nft_field interface);
void sg_match_not_eni(struct nft_rule *rule, enum nft_field interface);
void sg_match_ipv4(struct nft_rule *rule);
void sg_add_verdict(struct nft_batch *batch, const char *chain, int verdict, const char *target);
void sg_add_drop_ipv6(struct nft_batch *batch, const char *chain);

// --- Sources, and what connection tracking says of a packet (source.c) ---

void sg_fill_source(struct nft_batch *batch, const char *chain);
void sg_fill_source_eni(struct nft_batch *batch, const char *chain);
void sg_fill_source_eni_fragment(struct nft_batch *batch, const char *chain);
void sg_fill_source_related(struct nft_batch *batch, const char *chain);
void sg_fill_source_invalid(struct nft_batch *batch, const char *chain);
void sg_fill_source_icmp_error(struct nft_batch *batch, const char *chain);
void sg_fill_invalid(struct nft_batch *batch, const char *chain);
// The elements of the constant sets above, written again.
void sg_add_states(struct nft_batch *batch);

// --- What groups allow (chains.c) ---

void sg_fill_egress(struct nft_batch *batch, const char *chain);
void sg_fill_check_balancer_ingress(struct nft_batch *batch, const char *chain);
void sg_fill_check_balancer_egress(struct nft_batch *batch, const char *chain);
void sg_fill_forward_ingress(struct nft_batch *batch, const char *chain);
void sg_fill_input(struct nft_batch *batch, const char *chain);
void sg_fill_output_ingress(struct nft_batch *batch, const char *chain);
void sg_fill_eni_ingress(struct nft_batch *batch, const char *chain);
void sg_fill_eni_ingress_balanced(struct nft_batch *batch, const char *chain);
void sg_fill_balancer_ingress(struct nft_batch *batch, const char *chain);
void sg_fill_balancer_egress(struct nft_batch *batch, const char *chain);
// `limit` of each ENI; 0: none.
void sg_fill_forward_connections(struct nft_batch *batch, const char *chain, uint32_t limit);
void sg_fill_input_connections(struct nft_batch *batch, const char *chain);
