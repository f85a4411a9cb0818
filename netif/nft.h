// SPDX-License-Identifier: Apache-2.0
// nft: nf_tables objects of family inet, in transactions, over libmnl and libnftnl.
//
// A batch collects operations. Each belongs to an owner (a label: "eni eni-42"), the one
// that was set when it was added. The batch is one transaction, all of it or nothing (unless there
// are barriers in it). If the kernel refuses an operation, all operations of its owner are taken
// out, that owner is reported as failed, and the rest is sent again: one bad object fails alone.
//
//     struct nft_batch *batch = nft_batch_new();
//     nft_batch_set_owner(batch, "vpc prod");
//     nft_table_add(batch, "penstock", "penstock blue");
//     nft_set_add(batch, &(struct nft_set){.table = "penstock", .name = "members",
//                                          .key = NFT_TYPES(NFT_TYPE_IPV4)});
//     nft_chain_add(batch, &(struct nft_chain){.table = "penstock", .name = "in", .base = true,
//                                              .hook = NF_INET_LOCAL_IN, .policy = NF_DROP});
//     struct nft_rule *rule = nft_rule_new("penstock", "in", "members may come in");
//     nft_match_set(rule, NFT_FIELDS(NFT_FIELD_IP_SOURCE), "members");
//     nft_verdict(rule, NF_ACCEPT, NULL);
//     nft_rule_add(batch, rule);
//     if (nft_batch_send(batch, netfilter_socket, err) < 0)
//         return error_wrap(err, "vpc prod");                     // nothing was done
//     const struct error *refused = nft_batch_failure(batch, "vpc prod");    // NULL: it stands
//     nft_batch_free(batch);
//
// Memory: batches, rules under construction and lists belong to the caller, names given are
// copied. Out of memory ends the process, as everywhere in base/.
// Sockets: AF_NETLINK/NETLINK_NETFILTER, of the namespace to be changed, borrowed; no
// descriptor is kept. Nothing blocks on the network; a batch takes the kernel's nf_tables mutex.
// Adding a table, chain, set or counter that exists keeps it. An element that exists is refused
// (EEXIST), to delete what is gone too (ENOENT): ask before, by a dump, or know.
// Semantics: nft(8), linux/netfilter/nf_tables.h.
#pragma once

#include <netinet/in.h> // before the kernel's headers, which then leave its types out

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/arena.h"
#include "agent/base/buffer.h"
#include "agent/base/error.h"
#include "netif/ipam.h"

enum {
	NFT_NAME_SIZE = 192,    // of tables, chains, sets, counters
	NFT_COMMENT_SIZE = 128, // with its NUL; longer comments are cut
	NFT_KEY_FIELDS = 4,     // of a concatenation, at most
	NFT_VALUE_SIZE = 32,
};

// --- Sockets ---

// A netlink socket as the functions below need it, bound, in the namespace of netns_fd
// (-1: the caller's). The caller closes it.
int nft_socket_open(int netns_fd, int *ret_fd, struct error *err);
// A socket that becomes readable whenever somebody changed tables of that namespace through
// another socket than own_socket.
int nft_watch_open(int netns_fd, int own_socket, int *ret_fd, struct error *err);
// Takes what is there to read; whether there was anything.
bool nft_socket_drain(int socket_fd);

// --- Batches ---

struct nft_batch;

struct nft_batch *nft_batch_new(void);
void nft_batch_free(struct nft_batch *batch); // NULL is fine
static inline void nft_batch_release(struct nft_batch **batch)
{
	nft_batch_free(*batch);
}

// Operations added from now on belong to `owner`. Initially "".
void nft_batch_set_owner(struct nft_batch *batch, const char *owner);
// What the current owner adds makes no sense without the operations of `other` in the same
// batch: if those fail, it fails with them. (What names an object that was refused is refused by
// the kernel anyway.)
void nft_batch_depend(struct nft_batch *batch, const char *other);
// What is added from now on, by whomever, is sent as a next transaction. Within one transaction a
// packet may meet a rule as it was and a set as it is; who must not let it fall between adds here,
// and removes behind the barrier. Packets that were on their way before the barrier have left when
// the next transaction begins: nft_batch_send() waits for them, for up to about 10 ms.
void nft_batch_barrier(struct nft_batch *batch);
size_t nft_batch_count(const struct nft_batch *batch); // operations

// Sends it. 0: committed, apart from the owners that failed. Negative: nothing was changed at all
// (no permission, no memory …), or nothing behind some barrier. An empty batch is success.
int nft_batch_send(struct nft_batch *batch, int socket_fd, struct error *err);

bool nft_batch_has_owner(const struct nft_batch *batch, const char *owner);
// After a send: why this owner's operations were taken out, or NULL: they stand.
const struct error *nft_batch_failure(const struct nft_batch *batch, const char *owner);
size_t nft_batch_failure_count(const struct nft_batch *batch);

// The operations as text, one a line, in order: for plans, golden files and debugging.
void nft_batch_print(const struct nft_batch *batch, struct buffer *text);

// --- Types and values of set keys and map data ---

enum nft_type {
	NFT_TYPE_NONE,
	NFT_TYPE_VERDICT, // data of a verdict map
	NFT_TYPE_IFNAME,
	NFT_TYPE_ETHER,
	NFT_TYPE_IPV4,
	NFT_TYPE_PROTOCOL, // inet_proto
	NFT_TYPE_PORT,     // inet_service
	NFT_TYPE_ICMP_TYPE,
	NFT_TYPE_ICMP_CODE,
	NFT_TYPE_MARK,
	NFT_TYPE_CT_STATE,
	NFT_TYPE_NUMBER, // 32 bit, host order, as numgen gives
	NFT_TYPE_COUNT
};

struct nft_types {
	enum nft_type types[NFT_KEY_FIELDS]; // as many as are not NFT_TYPE_NONE
};
#define NFT_TYPES(...)                                                                             \
	(struct nft_types)                                                                         \
	{                                                                                          \
		.types = { __VA_ARGS__ }                                                           \
	}

// Bytes of a key or of data: fields one after the other, each padded to 32 bit.
struct nft_value {
	uint8_t bytes[NFT_VALUE_SIZE];
	uint8_t length; // 0: not given
};

void nft_value_add_ifname(struct nft_value *value, const char *name);
void nft_value_add_ether(struct nft_value *value, const struct mac_address *mac);
void nft_value_add_ipv4(struct nft_value *value, uint32_t address); // host order
void nft_value_add_u8(struct nft_value *value, uint8_t number);     // protocol, icmp type or code
void nft_value_add_port(struct nft_value *value, uint16_t port);    // host order
void nft_value_add_u32(struct nft_value *value, uint32_t number);   // mark, ct state, number
// Of the field that begins at `offset`, in host order.
uint32_t nft_value_ipv4_at(const struct nft_value *value, size_t offset);
uint16_t nft_value_port_at(const struct nft_value *value, size_t offset);

// --- Tables, chains, counters ---

void nft_table_add(struct nft_batch *batch, const char *table, const char *comment);
void nft_table_delete(struct nft_batch *batch, const char *table); // with all that is in it

struct nft_chain {
	const char *table, *name;
	const char *comment; // or NULL
	bool base;           // the rest is of base chains
	const char *type;    // "filter" when NULL, "nat"
	enum nf_inet_hooks hook;
	int32_t priority;
	unsigned policy; // NF_ACCEPT, NF_DROP
};

void nft_chain_add(struct nft_batch *batch, const struct nft_chain *chain);
void nft_chain_flush(struct nft_batch *batch, const char *table, const char *chain);
void nft_chain_delete(struct nft_batch *batch, const char *table, const char *chain);

// A named counter: rules of the table may share it.
void nft_counter_add(struct nft_batch *batch, const char *table, const char *name);

// --- Sets, maps and their elements ---

struct nft_set {
	const char *table, *name;
	struct nft_types key, data; // data: of a map
	bool interval;              // elements are ranges (in each field of a concatenation)
	bool counter;               // each element counts what it matches
	// Packets add the elements, by nft_match_over_rate() and nft_match_over_connections(). The
	// kernel wants a bound for such a set; a packet whose element finds no room does not match.
	uint32_t dynamic_size;
	uint32_t timeout_ms; // of elements that no packet uses; 0: they stay. Not for connections.
	const char *comment; // or NULL
};

void nft_set_add(struct nft_batch *batch, const struct nft_set *set);
void nft_set_flush(struct nft_batch *batch, const char *table, const char *set);
void nft_set_delete(struct nft_batch *batch, const char *table, const char *set);

struct nft_element {
	struct nft_value key;
	struct nft_value key_end; // last of the range in each field; of interval sets only
	struct nft_value data;    // of maps
	int verdict;              // of verdict maps: NF_DROP, NF_ACCEPT, NFT_JUMP, NFT_GOTO
	const char *chain;        // of NFT_JUMP and NFT_GOTO, else NULL
	const char *comment;      // who it belongs to; NULL or "" for none
	uint64_t packets, bytes;  // in dumps, of sets with counters
};

// `set` names the set; only its table, name and types are looked at. Deletion looks at keys only.
void nft_elements_add(struct nft_batch *batch, const struct nft_set *set,
		      const struct nft_element *elements, size_t count);
void nft_elements_delete(struct nft_batch *batch, const struct nft_set *set,
			 const struct nft_element *elements, size_t count);

// --- Rules: expressions in order, then nft_rule_add() ---

// What of a packet can be loaded, compared and looked up.
enum nft_field {
	NFT_FIELD_NONE,
	NFT_FIELD_IIFNAME,
	NFT_FIELD_OIFNAME,
	NFT_FIELD_IIFTYPE, // ARPHRD_ETHER …
	NFT_FIELD_MARK,
	NFT_FIELD_FAMILY,   // NFPROTO_IPV4, NFPROTO_IPV6
	NFT_FIELD_PROTOCOL, // layer 4
	NFT_FIELD_ETHER_SOURCE,
	NFT_FIELD_ETHER_TYPE, // ETHERTYPE_IP …
	NFT_FIELD_IP_SOURCE,
	NFT_FIELD_IP_DESTINATION,
	NFT_FIELD_FRAGMENT, // flags and offset of the IPv4 header
	NFT_FIELD_PORT_DESTINATION,
	NFT_FIELD_ICMP_TYPE,
	NFT_FIELD_ICMP_CODE,
	NFT_FIELD_ICMP_ERROR_DESTINATION, // of the IPv4 packet that an ICMP error is about
	NFT_FIELD_CT_STATE,
	NFT_FIELD_CT_STATUS,
	NFT_FIELD_CT_ORIGINAL_DESTINATION, // before DNAT
	NFT_FIELD_COUNT
};

struct nft_fields {
	enum nft_field fields[NFT_KEY_FIELDS]; // as many as are not NFT_FIELD_NONE
};
#define NFT_FIELDS(...)                                                                            \
	(struct nft_fields)                                                                        \
	{                                                                                          \
		.fields = { __VA_ARGS__ }                                                          \
	}

struct nft_rule;

// A rule under construction; comment: who it belongs to or what it is for, may be NULL.
struct nft_rule *nft_rule_new(const char *table, const char *chain, const char *comment);
// Appends it to its chain. The rule is freed.
void nft_rule_add(struct nft_batch *batch, struct nft_rule *rule);

// Matches: the rule ends here for packets that differ. Numbers are in host order.
void nft_match_number(struct nft_rule *rule, enum nft_field field, enum nft_cmp_ops operation,
		      uint32_t number);
void nft_match_range(struct nft_rule *rule, enum nft_field field, uint32_t first, uint32_t last);
void nft_match_ipv4(struct nft_rule *rule, enum nft_field field, enum nft_cmp_ops operation,
		    uint32_t address);
// Any of the bits: ct state, ct status, marks, fragment.
void nft_match_bits(struct nft_rule *rule, enum nft_field field, uint32_t mask);
void nft_match_interface(struct nft_rule *rule, enum nft_field field, enum nft_cmp_ops operation,
			 const char *name);
void nft_match_interface_prefix(struct nft_rule *rule, enum nft_field field,
				enum nft_cmp_ops operation, const char *prefix);
void nft_match_set(struct nft_rule *rule, struct nft_fields key, const char *set);
// Packets whose source the routing table does not lead back to over the interface they came in by:
// what a strict reverse-path filter drops, but in any hook before routing.
void nft_match_no_reverse_path(struct nft_rule *rule);
// Packets beyond a rate for each key. `set` is dynamic.
void nft_match_over_rate(struct nft_rule *rule, struct nft_fields key, const char *set,
			 uint32_t packets_per_second, uint32_t burst);
// Packets of a connection that is one too many for its key. Connections that ended do not count.
// `set` is dynamic, without a timeout. The limit of a key is the one in force when its element was
// added; the kernel removes an element once it has no connections.
void nft_match_over_connections(struct nft_rule *rule, struct nft_fields key, const char *set,
				uint32_t limit);

// meta mark := what `map` has for the key; without an element the rule ends here.
void nft_mark_from_map(struct nft_rule *rule, struct nft_fields key, const char *map);
void nft_mark_set(struct nft_rule *rule, uint32_t mark);
// The verdict that `map` has for the key; without an element the next rule follows.
void nft_verdict_from_map(struct nft_rule *rule, struct nft_fields key, const char *map);

void nft_count(struct nft_rule *rule);                         // in the rule itself
void nft_count_named(struct nft_rule *rule, const char *name); // in a named counter
// NF_ACCEPT, NF_DROP, NFT_RETURN, or NFT_JUMP and NFT_GOTO with a chain.
void nft_verdict(struct nft_rule *rule, int verdict, const char *chain);

// Of chains of type nat. The rule must match NFT_FIELD_FAMILY and NFT_FIELD_PROTOCOL before.
void nft_dnat(struct nft_rule *rule, uint32_t address, uint16_t port);
// DNAT to what `map` (number -> ipv4 . port) has for numgen inc modulo `modulus`.
void nft_dnat_round_robin(struct nft_rule *rule, uint32_t modulus, const char *map);
void nft_snat(struct nft_rule *rule, uint32_t address);

// --- What is there: dumps, each one request; retried when disturbed (NLM_F_DUMP_INTR) ---
// A missing set is -ENOENT; of a missing table or chain there is nothing. Arrays: free() them.

struct nft_element_list {
	struct nft_element *elements;
	size_t count;
	struct arena strings; // comments and chains of the elements
};
// Of a set with these key and data types (`set` as in nft_elements_add).
int nft_elements_dump(int socket_fd, const struct nft_set *set, struct nft_element_list *ret_list,
		      struct error *err);
void nft_element_list_release(struct nft_element_list *list);

// A table, chain, set or counter.
struct nft_object {
	char table[NFT_NAME_SIZE], name[NFT_NAME_SIZE];
	char comment[NFT_COMMENT_SIZE];
	uint64_t packets, bytes; // of counters
};
int nft_tables_dump(int socket_fd, struct nft_object **ret_objects, size_t *ret_count,
		    struct error *err);
int nft_chains_dump(int socket_fd, const char *table, struct nft_object **ret_objects,
		    size_t *ret_count, struct error *err);
int nft_sets_dump(int socket_fd, const char *table, struct nft_object **ret_objects,
		  size_t *ret_count, struct error *err);
int nft_counters_dump(int socket_fd, const char *table, struct nft_object **ret_objects,
		      size_t *ret_count, struct error *err);

struct nft_rule_info {
	char chain[NFT_NAME_SIZE];
	char comment[NFT_COMMENT_SIZE];
	int verdict;                // of its verdict expression, if any
	char target[NFT_NAME_SIZE]; // of NFT_JUMP and NFT_GOTO
	uint64_t packets, bytes;    // of its counter
};
// Of one chain, or of all with chain NULL.
int nft_rules_dump(int socket_fd, const char *table, const char *chain,
		   struct nft_rule_info **ret_rules, size_t *ret_count, struct error *err);
