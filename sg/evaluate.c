// SPDX-License-Identifier: Apache-2.0
// Evaluation of one packet against rules, as a person would read them. Pure; it shares nothing with
// the compiler, so that each can be tested against the other.
#include "sg/sg.h"

#include <netinet/in.h>
#include <string.h>

static bool protocol_matches(const struct sg_rule *rule, const struct sg_packet *packet)
{
	if (rule->protocol == SG_PROTOCOL_ALL)
		return true;
	if (rule->protocol != packet->protocol)
		return false;
	switch (packet->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		return rule->from_port <= packet->port && packet->port <= rule->to_port;
	case IPPROTO_ICMP:
		return (rule->from_port == -1 || rule->from_port == packet->icmp_type) &&
		       (rule->to_port == -1 || rule->to_port == packet->icmp_code);
	default:
		return true;
	}
}

static bool is_member(const struct sg_membership *members, size_t count, const char *group_id,
		      uint32_t address)
{
	for (size_t i = 0; i < count; i++)
		if (members[i].address == address && strcmp(members[i].group_id, group_id) == 0)
			return true;
	return false;
}

// Rules of one protocol with ports or types first, then those of all; references last.
static int rule_rank(const struct sg_rule *rule)
{
	if (rule->group_id)
		return 2;
	return rule->protocol != IPPROTO_TCP && rule->protocol != IPPROTO_UDP &&
	       rule->protocol != IPPROTO_ICMP;
}

// Whether `rule`, which stands later, takes a packet that both match.
static bool goes_first(const struct sg_rule *rule, const struct sg_rule *best)
{
	int rank = rule_rank(rule), best_rank = rule_rank(best);

	if (rank != best_rank)
		return rank < best_rank;
	return !rule->group_id && rule->cidr.prefix < best->cidr.prefix;
}

struct sg_decision sg_evaluate(const struct sg_group *const *groups, size_t group_count,
			       const struct sg_membership *members, size_t member_count,
			       enum sg_direction direction, const struct sg_packet *packet)
{
	for (size_t g = 0; g < group_count; g++) {
		const struct sg_rule_list *list = &groups[g]->rules[direction];
		const struct sg_rule *best = NULL;

		for (size_t i = 0; i < list->count; i++) {
			const struct sg_rule *rule = &list->rules[i];

			if (!protocol_matches(rule, packet))
				continue;
			if (rule->group_id ? !is_member(members, member_count, rule->group_id,
							packet->peer)
					   : !ipv4_cidr_contains(&rule->cidr, packet->peer))
				continue;
			if (!best || goes_first(rule, best))
				best = rule;
		}
		if (best)
			return (struct sg_decision){true, groups[g]->id, best->id};
	}
	return (struct sg_decision){.allowed = false};
}
