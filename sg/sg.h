// SPDX-License-Identifier: Apache-2.0
// sg: security groups, with EC2's semantics, as nf_tables objects of a VPC.
//
// Allow-only, stateful, default deny. Rules name peers by CIDR or by group (its members'
// private addresses). The rules of all groups of a member are united. A member is an ENI, or a
// load balancer: an address without an interface.
//
// Three parts:
//   plain values   struct sg_rule, struct sg_group and their checks
//   pure           sg_compile() makes disjoint set elements of rules, sg_evaluate() decides on
//                  one packet; both agree on every packet (a property test holds them to it)
//   the kernel     struct sg_vpc mirrors the table `inet penstock` of one VPC namespace.
//
//     struct sg_vpc *vpc;
//     sg_vpc_open("blue", "prod", netfilter_socket, &vpc, err);   // makes the table, or adopts it
//     scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
//     sg_group_set(vpc, batch, &(struct sg_group){.id = "sg-web", .rules = {...}}, err);
//     sg_member_set(vpc, batch, &(struct sg_member){.eni_id = "eni-42", ...}, err);
//     if (sg_vpc_commit(vpc, batch, netfilter_socket, err) < 0) ... // nothing was changed
//     const struct error *refused = nft_batch_failure(batch, "eni eni-42");
//
// Batches. The set and remove functions add operations to a batch and note in the mirror what will
// be; they touch the kernel only by sg_vpc_commit(). A batch with operations must be committed, or
// sg_vpc_restore() called. One batch per VPC and turn; other modules may add operations of their
// own. Owners of operations are "eni <id>", "balancer <id>", "group <id>" and, for what groups in
// combination need, "combination <number>" and "end of combination <number>".
//
// Everything is found again in the kernel: who killed the process, the next sg_vpc_open() knows
// groups, members and combinations from the table itself. What is incomplete is removed then.
//
// A changed group takes effect at once for new connections; tracked ones live on (revokeMode aws).
// What the old and the new rules, or groups of a member, both allow is allowed throughout: changes
// are sent as up to three transactions, additions first (group.c says why).
// Setting what stands already adds no operation; removing what is gone neither.
//
// Balancers (network load balancers that keep the client's address). What a client sends to a
// balancer's address must pass the balancer's ingress groups, before any DNAT (priority -110). The
// task's own egress groups see the balancer's address too (priority -120). After DNAT the packet
// must pass the balancer's egress groups, and the target's ingress groups see it as coming from the
// balancer's address: a target names the balancer's group, not the clients.
//
// Errors: 0 or a negative errno with a message: -EINVAL a value is no such thing, -ENOENT an
// unknown group, -EBUSY a group in use, else the kernel's. No call waits for events; open, reload
// and dumps take about 10 µs per group, member and rule. Addresses and ports are in host byte
// order.
//
// Semantics: EC2 user guide, "Security group rules" and "Security group connection tracking";
// Network Load Balancer guide, "Update the security groups".
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/arena.h"
#include "agent/base/error.h"
#include "netif/ipam.h"
#include "netif/nft.h"

enum {
	SG_RULES_MAX = 60,         // per group and direction
	SG_GROUPS_PER_ENI_MAX = 5, // and per balancer
	SG_DESCRIPTION_MAX = 255,
	SG_ID_SIZE = 64,
	SG_RULE_ID_MAX = 40, // characters
	SG_PROTOCOL_ALL = -1,
};

// --- Plain values ---

enum sg_direction { SG_INGRESS, SG_EGRESS, SG_DIRECTION_COUNT };

struct sg_rule {
	const char *id; // unique within its group and direction
	int protocol;   // 0 to 255, or SG_PROTOCOL_ALL
	// tcp and udp: the ports. icmp: type and code, -1 for all. Of other protocols all is meant,
	// and these are not looked at.
	int from_port, to_port;
	const char *group_id; // the peers are the members of this group; NULL: those in cidr
	struct ipv4_cidr cidr;
	const char *description; // or NULL
};

struct sg_rule_list {
	const struct sg_rule *rules;
	size_t count;
};

struct sg_group {
	const char *id;
	struct sg_rule_list rules[SG_DIRECTION_COUNT];
};

const char *sg_direction_name(enum sg_direction direction); // "ingress", "egress"

// "tcp", "udp", "icmp", "-1" or a number 0 to 255 to its number; -EINVAL with what would be right.
int sg_protocol_parse(const char *text, int *ret_protocol, struct error *err);

// Ranges, types and codes, canonical CIDR, description: -EINVAL says which and what would be right.
int sg_rule_check(const struct sg_rule *rule, struct error *err);
// Each rule ("ingress rule 2: ..."), their number, and that their ids differ.
int sg_group_check(const struct sg_group *group, struct error *err);

// "tcp 80-90 10.0.0.0/8", "icmp 8/-1 sg-web", "all 0.0.0.0/0"; returns text.
enum { SG_RULE_TEXT_SIZE = 112 };
char *sg_rule_format(const struct sg_rule *rule, char text[SG_RULE_TEXT_SIZE]);

// --- Pure: compilation ---

// The three kinds of sets that a group may have for each direction.
enum sg_kind {
	SG_KIND_PORTS,     // peer . protocol . port: tcp and udp
	SG_KIND_ICMP,      // peer . type . code
	SG_KIND_PROTOCOLS, // peer . protocol: "-1" and every other protocol
	SG_KIND_COUNT
};

// The packets of peers in `peer` whose two numbers lie each between first and last. The numbers are
// protocol and port, type and code, protocol and 0. No two elements of a list overlap: each packet
// is of one element, and each element of one rule.
struct sg_element {
	enum sg_kind kind;
	struct ipv4_cidr peer;
	uint16_t first[2], last[2];
	const char *rule_id;
};

struct sg_element_list {
	struct sg_element *elements; // sorted
	size_t count;
};

struct sg_compiled {
	struct sg_element_list elements;
	const struct sg_rule *const *references; // the rules that name a group, in order
	size_t reference_count;
};

// Of checked rules. The result lives in the arena and points to the rules' ids and to the rules.
void sg_compile(const struct sg_rule_list *rules, struct arena *arena,
		struct sg_compiled *ret_compiled);

// What to remove from and to add to `from` to get `to` (an element whose rule changed is both).
void sg_element_difference(const struct sg_element_list *from, const struct sg_element_list *to,
			   struct arena *arena, struct sg_element_list *ret_removed,
			   struct sg_element_list *ret_added);

// --- Pure: evaluation ---

struct sg_packet {     // the first of its connection
	uint32_t peer; // source of ingress, destination of egress
	uint8_t protocol;
	uint16_t port;                // destination's, of tcp and udp
	uint8_t icmp_type, icmp_code; // of icmp
};

struct sg_membership {
	const char *group_id;
	uint32_t address;
};

struct sg_decision {
	bool allowed;
	const char *group_id, *rule_id; // that allowed it, else NULL
};

// What the compiled groups do with the packet, rule id included. Within a group the order is that
// of the chain: rules with a CIDR of the kinds ports or icmp, then of the kind protocols (each time
// the widest CIDR, then the first rule), then references in order; groups in the order given.
struct sg_decision sg_evaluate(const struct sg_group *const *groups, size_t group_count,
			       const struct sg_membership *members, size_t member_count,
			       enum sg_direction direction, const struct sg_packet *packet);

// --- The table of a VPC ---

struct sg_vpc;

// Makes what every VPC has where it is missing (a base chain or map of that name which is another
// is refused: -EEXIST), writes the rules of constant chains anew, adopts groups, members and
// combinations it finds, and removes incomplete ones. `netfilter_socket` (here and below):
// netif_netfilter_socket() of the VPC, borrowed for the call.
int sg_vpc_open(const char *install, const char *vpc, int netfilter_socket, struct sg_vpc **ret_vpc,
		struct error *err);
// The same without changing anything, to list what is there. -ENOENT when the VPC has no table.
int sg_vpc_find(const char *install, const char *vpc, int netfilter_socket, struct sg_vpc **ret_vpc,
		struct error *err);
void sg_vpc_close(struct sg_vpc *vpc); // the table stays; NULL is fine

// Whether others changed the table so that it cannot be read, or members are incomplete: as of the
// last commit (which reads it again after a failure) or restore. While it cannot be read, the calls
// below that set or remove answer -ESTALE; for an incomplete member -EUCLEAN.
bool sg_vpc_is_damaged(const struct sg_vpc *vpc);
// False: no group, member or balancer has this id. Not while the table cannot be read.
bool sg_vpc_may_have(const struct sg_vpc *vpc, const char *id);
// What sg_vpc_open() does, on a table that is damaged or that somebody else changed. What others
// took away is not there afterwards: who wants it sets it again. A group that is set again writes
// all of its rules.
int sg_vpc_restore(struct sg_vpc *vpc, int netfilter_socket, struct error *err);
// The first part of sg_vpc_restore() alone, which costs the same for a VPC of any size: the chains
// of the table are there again, and drop what no group allows. The mirror stays as it was, right or
// wrong, until sg_vpc_restore(). For a table that is damaged more often than it may be restored.
int sg_vpc_shut(const struct sg_vpc *vpc, int netfilter_socket, struct error *err);

// Sends the batch. Negative: nothing was changed (or only rules were added, see above). On 0 owners
// may have failed alone: nft_batch_failure(). In both cases the mirror says afterwards what the
// kernel has, or is unread.
int sg_vpc_commit(struct sg_vpc *vpc, struct nft_batch *batch, int netfilter_socket,
		  struct error *err);

// How many tracked connections each ENI may have opened; a new one beyond is dropped. 0: no limit.
// Those to the router and to the metadata address do not count: 1,024 of them are allowed. Sent at
// once, if it is not so yet.
int sg_vpc_limit_connections(struct sg_vpc *vpc, int netfilter_socket, uint32_t limit,
			     struct error *err);

// Creates or changes a (checked) group: the difference only. A group that is referenced need not be
// set before: it has no members until then.
int sg_group_set(struct sg_vpc *vpc, struct nft_batch *batch, const struct sg_group *group,
		 struct error *err);
// -EBUSY while it has members or another group refers to it.
int sg_group_remove(struct sg_vpc *vpc, struct nft_batch *batch, const char *group_id,
		    struct error *err);

struct sg_member {
	const char *eni_id;
	const char *interface; // of its host end, in the VPC
	struct mac_address mac;
	uint32_t address;
	uint32_t router; // of its subnet: may be pinged
	const char *const *groups;
	size_t group_count; // 0: nothing is allowed
};

// Creates or changes an ENI's membership; data elements only, unless it is the first with this
// combination of groups. -ENOENT when a group was never set.
int sg_member_set(struct sg_vpc *vpc, struct nft_batch *batch, const struct sg_member *member,
		  struct error *err);
int sg_member_remove(struct sg_vpc *vpc, struct nft_batch *batch, const char *eni_id,
		     struct error *err);
// Whether it stands exactly so, as of the last commit or reload.
bool sg_member_stands(const struct sg_vpc *vpc, const struct sg_member *member);

struct sg_balancer {
	const char *id;
	uint32_t address;
	const char *const *groups;
	size_t group_count; // 0: nothing is allowed
};

int sg_balancer_set(struct sg_vpc *vpc, struct nft_batch *batch, const struct sg_balancer *balancer,
		    struct error *err);
int sg_balancer_remove(struct sg_vpc *vpc, struct nft_batch *batch, const char *balancer_id,
		       struct error *err);

// --- Dropped packets ---

enum sg_drop_reason {
	// Not the ENI's own MAC and address; an ICMP error about a packet to another; from an
	// attachment: a source that is not behind it.
	SG_DROP_SPOOFED,
	SG_DROP_EGRESS_DENIED,   // no egress rule of the sending ENI
	SG_DROP_INGRESS_DENIED,  // no ingress rule of the receiving ENI
	SG_DROP_BALANCER_DENIED, // no rule of the balancer; of the VPC only
	SG_DROP_IPV6,
	SG_DROP_INVALID,     // of no connection that can be tracked, and no rule lets it pass
	SG_DROP_HOST,        // to the host's side, which offers nothing but metadata
	SG_DROP_TRANSIT,     // from one attachment to another; of the VPC only
	SG_DROP_FRAGMENTS,   // more fragments than an ENI may send
	SG_DROP_CONNECTIONS, // a new connection of an ENI that has too many
	SG_DROP_REASON_COUNT
};
const char *sg_drop_reason_name(enum sg_drop_reason reason); // "spoofed", "egress_denied" …

struct sg_drops {
	char eni_id[SG_ID_SIZE];
	uint64_t packets[SG_DROP_REASON_COUNT], bytes[SG_DROP_REASON_COUNT];
};

// Of every ENI since its policy was set, in one dump (about 6 µs each). The caller frees the array.
int sg_eni_drops_read(int netfilter_socket, struct sg_drops **ret_drops, size_t *ret_count,
		      struct error *err);
// Of the whole VPC, attachments included; eni_id is "".
int sg_vpc_drops_read(int netfilter_socket, struct sg_drops *ret_drops, struct error *err);

// --- The host's table: nothing from an ENI's interface reaches the host ---

// `inet penstock-<install>` in the host's namespace. Idempotent.
int sg_host_ensure(const char *install, int netfilter_socket, struct error *err);
// Whether the table has all of its chains and their rules.
int sg_host_check(const char *install, int netfilter_socket, bool *ret_complete, struct error *err);
int sg_host_delete(const char *install, int netfilter_socket, struct error *err);

// --- Inventory, for fsck ---

enum sg_object_kind {
	SG_OBJECT_HOST_TABLE, // owner: the install
	SG_OBJECT_GROUP,      // owner: the group id
	SG_OBJECT_MEMBER,     // owner: the ENI id; name: its interface
	SG_OBJECT_BALANCER,   // owner: its id; name: its address
};

struct sg_object {
	enum sg_object_kind kind;
	char name[NFT_NAME_SIZE];
	char owner[SG_ID_SIZE];
	bool incomplete; // somebody else removed a part of it
};

const char *sg_object_kind_name(enum sg_object_kind kind);

// What the table of a VPC holds. The caller frees the array. Remove it with the functions above.
void sg_vpc_inventory(const struct sg_vpc *vpc, struct sg_object **ret_objects, size_t *ret_count);
// The host table of this install, 0 or 1.
int sg_host_inventory(const char *install, int netfilter_socket, struct sg_object **ret_objects,
		      size_t *ret_count, struct error *err);
