// SPDX-License-Identifier: Apache-2.0
// Who may send what as whom, and which packets connection tracking vouches for.
//
// Fragments. An ENI's fragments wait for the rest of their datagram in memory that the VPC has once
// (netif sets its size and time). The kernel cannot tell whose they are there, so the rate of each
// ENI is bounded before.
//
// ICMP errors carry the start of the packet they are about, and connection tracking finds that
// packet's connection ("related") whoever sends the error. An ENI may only speak of packets that
// were sent to it: their destination, in the error's payload, must be its own address. Otherwise a
// task without any rule could reset the UDP sockets of others, lower their path MTU and put data of
// its own into the payload. Routers between an attachment and its peers send errors about others'
// packets by trade, so those pass. This check is at prerouting, before NAT translates the payload,
// and after defragmentation, so it sees the whole error.
//
// "invalid" is two things. For the protocols whose state is tracked it is a packet that fits no
// connection and opens none (a bad checksum, a TCP segment out of its window): dropped, whatever
// rules say, because the receiver could only take it for part of a connection that was checked. For
// others it merely means that connection tracking has no notion of such a connection: ICMP types
// that are no request (kernel: icmp_pkt_to_tuple() knows 8, 13, 15, 17), UDP-Lite without a
// tracker. There the groups are asked, in both directions, for each packet.
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>

#include "agent/base/scope.h"
#include "sg/chains.h"

// Each ENI may send this many fragments in a second, and as many at once. With an ipfrag_time of
// 2 s and 2,304 bytes of memory for a fragment of 1,500 bytes one ENI keeps at most 7 MB.
enum { FRAGMENTS_PER_SECOND = 1024, FRAGMENT_BURST = 1024 };

// The packet is IPv4 of an ENI, and `address` of it is that ENI's own.
static void match_own(struct nft_rule *rule, enum nft_field address)
{
	// Without the first two nft(8) cannot name the MAC, or gives up altogether.
	nft_match_number(rule, NFT_FIELD_IIFTYPE, NFT_CMP_EQ, ARPHRD_ETHER);
	nft_match_number(rule, NFT_FIELD_ETHER_TYPE, NFT_CMP_EQ, ETHERTYPE_IP);
	nft_match_set(rule, NFT_FIELDS(NFT_FIELD_IIFNAME, NFT_FIELD_ETHER_SOURCE, address),
		      sg_eni_source.name);
}

void sg_fill_source(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule;

	sg_add_drop_ipv6(batch, chain);
	rule = sg_rule_new(chain);
	sg_match_eni(rule, NFT_FIELD_IIFNAME);
	nft_verdict(rule, NFT_GOTO, "source_eni");
	nft_rule_add(batch, rule);

	// The VPC's subnets are routed to ENIs or to nowhere: no source of theirs is behind an
	// attachment. The kernel's own reverse-path filter comes after defragmentation.
	rule = sg_rule_new(chain);
	nft_match_no_reverse_path(rule);
	nft_verdict(rule, NFT_GOTO, "drop_spoofed");
	nft_rule_add(batch, rule);
}

void sg_fill_source_eni(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule = sg_rule_new(chain);

	nft_match_bits(rule, NFT_FIELD_FRAGMENT, IP_MF | IP_OFFMASK);
	nft_verdict(rule, NFT_GOTO, "source_eni_fragment");
	nft_rule_add(batch, rule);

	rule = sg_rule_new(chain);
	match_own(rule, NFT_FIELD_IP_SOURCE);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);
	sg_add_verdict(batch, chain, NFT_GOTO, "drop_spoofed");
}

void sg_fill_source_eni_fragment(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule = sg_rule_new(chain);

	match_own(rule, NFT_FIELD_IP_SOURCE);
	nft_match_over_rate(rule, NFT_FIELDS(NFT_FIELD_IIFNAME), sg_eni_fragments.name,
			    FRAGMENTS_PER_SECOND, FRAGMENT_BURST);
	nft_verdict(rule, NFT_GOTO, "drop_fragments");
	nft_rule_add(batch, rule);

	rule = sg_rule_new(chain);
	match_own(rule, NFT_FIELD_IP_SOURCE);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);
	sg_add_verdict(batch, chain, NFT_GOTO, "drop_spoofed");
}

static void match_icmp_of_eni(struct nft_rule *rule)
{
	sg_match_eni(rule, NFT_FIELD_IIFNAME);
	nft_match_number(rule, NFT_FIELD_PROTOCOL, NFT_CMP_EQ, IPPROTO_ICMP);
}

// Returns if the error of an ENI may pass.
void sg_fill_source_icmp_error(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule = sg_rule_new(chain);

	match_own(rule, NFT_FIELD_ICMP_ERROR_DESTINATION);
	nft_verdict(rule, NFT_RETURN, NULL);
	nft_rule_add(batch, rule);
	sg_add_verdict(batch, chain, NFT_GOTO, "drop_spoofed");
}

void sg_fill_source_related(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule = sg_rule_new(chain);

	match_icmp_of_eni(rule);
	nft_verdict(rule, NFT_JUMP, "source_icmp_error");
	nft_rule_add(batch, rule);
	sg_add_verdict(batch, chain, NF_ACCEPT, NULL);
}

// Returns for what the groups are to be asked about; so does the chain "invalid".
void sg_fill_source_invalid(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule;

	sg_add_verdict(batch, chain, NFT_JUMP, "invalid");
	rule = sg_rule_new(chain);
	match_icmp_of_eni(rule);
	nft_match_set(rule, NFT_FIELDS(NFT_FIELD_ICMP_TYPE), sg_icmp_errors.name);
	nft_verdict(rule, NFT_JUMP, "source_icmp_error");
	nft_rule_add(batch, rule);
}

void sg_fill_invalid(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule = sg_rule_new(chain);

	nft_match_set(rule, NFT_FIELDS(NFT_FIELD_PROTOCOL), sg_stateful_protocols.name);
	nft_verdict(rule, NFT_GOTO, "drop_invalid");
	nft_rule_add(batch, rule);
}

// --- Constant elements ---

static void add_bytes(struct nft_batch *batch, const struct nft_set *set, const uint8_t *bytes,
		      size_t count)
{
	struct nft_element elements[8] = {0};

	for (size_t i = 0; i < count; i++)
		nft_value_add_u8(&elements[i].key, bytes[i]);
	nft_set_flush(batch, SG_TABLE, set->name);
	nft_elements_add(batch, set, elements, count);
}

static void add_verdicts(struct nft_batch *batch, const struct nft_set *map, const char *related,
			 const char *invalid)
{
	struct nft_element states[] = {
		{.verdict = NF_ACCEPT, .comment = "revoked rules let them live on"},
		{.verdict = related ? NFT_GOTO : NF_ACCEPT, .chain = related},
		{.verdict = NFT_JUMP, .chain = invalid},
	};

	nft_value_add_u32(&states[0].key, SG_STATE_ESTABLISHED);
	nft_value_add_u32(&states[1].key, SG_STATE_RELATED);
	nft_value_add_u32(&states[2].key, SG_STATE_INVALID);
	nft_set_flush(batch, SG_TABLE, map->name);
	nft_elements_add(batch, map, states, ARRAY_LENGTH(states));
}

void sg_add_states(struct nft_batch *batch)
{
	static const uint8_t errors[] = {ICMP_DEST_UNREACH, ICMP_SOURCE_QUENCH, ICMP_REDIRECT,
					 ICMP_TIME_EXCEEDED, ICMP_PARAMETERPROB};
	static const uint8_t stateful[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_DCCP, IPPROTO_SCTP};

	add_bytes(batch, &sg_icmp_errors, errors, ARRAY_LENGTH(errors));
	add_bytes(batch, &sg_stateful_protocols, stateful, ARRAY_LENGTH(stateful));
	add_verdicts(batch, &sg_ct_state_source, "source_related", "source_invalid");
	add_verdicts(batch, &sg_ct_state, NULL, "invalid");
}
