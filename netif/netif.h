// SPDX-License-Identifier: Apache-2.0
// netif: the kernel's network plumbing of one install. Through rtnetlink, no
// child processes.
//
// A VPC is a network namespace, pinned at /run/netns/penstock-<install>-<vpc>.
// An ENI is a tap in it (or, for tasks without a VM, a veth whose other end is
// the task's eth0), made down, linked later: permanent neighbour, up, /32 route.
// A routed interface needs no ARP; base+1 of each subnet and 169.254.170.2 stand on
// the namespace's lo. IPv6 is off in every VPC. (Semantics: linux/if_link.h, rtnetlink(7),
// Documentation/networking/tuntap.rst and ip-sysctl.rst.)
//
//     struct netif *netif;
//     netif_open("blue", &netif, err);
//     netif_vpc_create(netif, "prod", err);
//     netif_subnet_ensure(netif, "prod", &block, err);
//     struct netif_eni eni = {.vpc = "prod", .eni_id = "eni-42", .kind = NETIF_ENI_TAP,
//                             .address = 0x0a000105, .gateway = 0x0a000101,
//                             .mac = mac_from_eni("eni-42"), .mtu = 1500, .owner_uid = 70001};
//     int tap_fd;
//     netif_eni_create(netif, &eni, &tap_fd, err);    // exists, down
//     ...                                             // its policy is programmed
//     netif_eni_link(netif, &eni, err);               // packets may flow
//     ...
//     netif_eni_retire(netif, "prod", "eni-42", err); // silent at once, deleted by netif_reap()
//
// Identity. Every object carries its owner, and is found again by that alone:
//   namespace    alias of its lo   `penstock <install> vpc <vpc>`
//   ENI          interface alias   `penstock <install> <eni-id>`
//   attachment   interface alias   `penstock <install> attachment <vpc> <name>`
//   addresses and routes           protocol number NETIF_PROTOCOL in our namespaces
// What has another mark, or none, is never changed: -EEXIST says whose it is.
//
// Crashes. All calls are idempotent: to create what exists and is right, or to
// delete what is gone, succeeds. The process may end between any two system calls:
// no persistent object ever exists without its mark, and calling again completes it.
//
// Blocking. No call waits for events. Unless said otherwise a call takes well under
// 1 ms, but rtnetlink takes the kernel's rtnl lock, which a reaper may hold for some
// 10 ms. Calls of one handle belong to one thread. A call may visit another network
// namespace meanwhile (setns of this thread only) and is back when it returns: should the
// way back fail, the process aborts rather than go on in a foreign network.
//
// Errors. 0 or a negative errno with a message. In general: -ENOENT no such VPC (or
// ENI where one must exist), -EEXIST the name belongs to someone else, else the kernel's.
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/base/error.h"
#include "netif/ipam.h"

enum {
	NETIF_ID_SIZE = 64,      // an id of the API and its NUL
	NETIF_PROTOCOL = 112,    // of our routes (rtm_protocol) and addresses (IFA_PROTO)
	NETIF_DYING_GROUP = 113, // link group of retired ENIs
	NETIF_METADATA_PORT = 80,
};

#define NETIF_METADATA_ADDRESS UINT32_C(0xa9feaa02) // 169.254.170.2

// MAC of the host's end of every ENI: the address of the guest's gateway. The same
// on all, as each is alone on its link. 02:70:73:00:00:01
extern const struct mac_address netif_gateway_mac;

// --- The handle ---

// Holds one rtnetlink and one netfilter socket per namespace, opened on first use.
// They keep a namespace alive: netif_vpc_delete() or netif_close() lets go. A handle that has used
// a namespace goes on with it when its pin is removed; another of ours in its place is taken
// instead.
struct netif;

// Remembers the calling thread's network namespace as the host's. `install` is copied.
int netif_open(const char *install, struct netif **ret_netif, struct error *err);
const char *netif_install(const struct netif *netif); // as it was opened
void netif_close(struct netif *netif);                // NULL is fine

// --- VPCs ---

// Makes the namespace: IPv4 forwarding, strict reverse-path filter, no IPv6, no redirects,
// conntrack accounting where the kernel has it, lo up with 169.254.170.2. It is pinned last:
// what is pinned is complete. About 1 ms.
// /run/netns becomes a shared bind mount of itself, as with iproute2, and stays one.
int netif_vpc_create(struct netif *netif, const char *vpc, struct error *err);

// Pins it again when its pin is gone, or covered by an empty namespace of ours. What is pinned is
// the namespace `namespace_fd`, which must carry the VPC's mark (-EEXIST), or, with -1, the one
// that the handle holds. 1: pinned again; 0: it is pinned. -ENOENT: the handle holds none. -EBUSY:
// another namespace of the VPC is pinned, and in use.
int netif_vpc_pin(struct netif *netif, const char *vpc, int namespace_fd, struct error *err);

// Adds the directory of the pins to an inotify descriptor: it becomes readable when one is removed.
int netif_pins_watch(int inotify_fd, struct error *err);

// How long the VPC's namespace remembers a connection that is idle.
struct netif_tracking {
	uint32_t tcp_established_seconds;
	uint32_t udp_seconds;        // without an answer
	uint32_t udp_stream_seconds; // with answers
};

// Sets these, 600 s for other protocols, and again what netif_vpc_create() sets.
int netif_vpc_tune(struct netif *netif, const char *vpc, const struct netif_tracking *tracking,
		   struct error *err);

// Unpins it; the kernel removes it with all that is in it once no process and no descriptor (a
// tap's!) holds it. -EBUSY while a live ENI or an attachment is inside (retired ENIs go with it).
int netif_vpc_delete(struct netif *netif, const char *vpc, struct error *err);

struct netif_id {
	char text[NETIF_ID_SIZE];
};

// The VPCs of this install that have a namespace (or a crash's rest of one). The caller frees the
// array.
int netif_vpc_list(struct netif *netif, struct netif_id **ret_vpcs, size_t *ret_count,
		   struct error *err);

// A descriptor of the namespace (for process_spawn's netns_fd); the caller closes it.
int netif_vpc_open(struct netif *netif, const char *vpc, int *ret_fd, struct error *err);

// socket(domain, type | SOCK_CLOEXEC, protocol) made inside the VPC; it stays there. The caller
// closes it.
int netif_vpc_socket(struct netif *netif, const char *vpc, int domain, int type, int protocol,
		     int *ret_fd, struct error *err);

// The handle's own AF_NETLINK/NETLINK_NETFILTER socket of the VPC, bound, blocking; `vpc` NULL:
// of the host namespace. Borrowed: valid until the VPC is deleted or the handle closed; ask again
// for each batch (a stat(2)), for a namespace that was replaced gets a new one.
int netif_netfilter_socket(struct netif *netif, const char *vpc, int *ret_fd, struct error *err);

// A descriptor that becomes readable when nf_tables of the VPC (NULL: of the host namespace) were
// changed, but not through the socket above; nft_socket_drain() it. The caller closes it.
int netif_netfilter_watch(struct netif *netif, const char *vpc, int *ret_fd, struct error *err);

// What every VPC's namespace has besides: lo is up with 169.254.170.2, and the VPC's whole block
// has a blackhole route under all others, so that what is sent to an address of the VPC that nobody
// has does not leave by the default route of an attachment. 1 when some of it was missing.
int netif_vpc_configure(struct netif *netif, const char *vpc, const struct ipv4_cidr *block,
			struct error *err);

// An address/32 on the VPC's lo (a load balancer's, say). To ensure what was missing is 1.
int netif_address_ensure(struct netif *netif, const char *vpc, uint32_t address, struct error *err);
int netif_address_remove(struct netif *netif, const char *vpc, uint32_t address, struct error *err);

// The router's address, base+1, on lo, and a blackhole route under the ENIs' /32 routes, by which
// the subnet is known. To ensure what was missing is 1.
int netif_subnet_ensure(struct netif *netif, const char *vpc, const struct ipv4_cidr *block,
			struct error *err);
int netif_subnet_remove(struct netif *netif, const char *vpc, const struct ipv4_cidr *block,
			struct error *err);

// --- ENIs ---

enum netif_eni_kind {
	NETIF_ENI_TAP,  // for a VMM
	NETIF_ENI_VETH, // for a task in namespaces; its end is `eth0` of a namespace of its own
};

struct netif_eni {
	const char *vpc, *eni_id;
	enum netif_eni_kind kind;
	uint32_t address;       // of the task
	uint32_t gateway;       // router of its subnet, on lo of the VPC: source of ICMP errors
	struct mac_address mac; // of the task's end; the host's end has netif_gateway_mac
	unsigned mtu;
	uid_t owner_uid; // TAP: who may attach to it besides root
};

// Step `eni`. The interface exists afterwards, complete but down, and *ret_fd (the caller's) is
//   TAP: the tap with its queue attached, IFF_VNET_HDR | IFF_NO_PI, for the VMM. The tap is
//     persistent: one left by an earlier life of the agent is attached again; -EBUSY while
//     somebody still holds its queue (then the shim has the descriptor: nothing to create).
//   VETH: the task's network namespace, with `eth0` down (MAC and MTU set; it gets no IPv6
//     address, and the VPC's end takes no IPv6 packet). It lives as long as a descriptor or
//     process in it, and the ENI with it. An earlier one of the same ENI is deleted (about
//     20 ms) and made new, as the old namespace cannot be found again.
int netif_eni_create(struct netif *netif, const struct netif_eni *eni, int *ret_fd,
		     struct error *err);

// Step `link`: permanent neighbour, up, /32 route. -EADDRINUSE when the address is
// routed to another interface.
int netif_eni_link(struct netif *netif, const struct netif_eni *eni, struct error *err);
// Undo of `link`: down; the kernel drops route and neighbour with it.
int netif_eni_unlink(struct netif *netif, const char *vpc, const char *eni_id, struct error *err);

// Undo of `eni`, at once and cheap: down, and into the dying group for netif_reap().
// A missing ENI, or a missing VPC, is success; so is one whose name belongs to someone else.
int netif_eni_retire(struct netif *netif, const char *vpc, const char *eni_id, struct error *err);
// The same, but the interface is gone on return. Blocks about 20 ms.
int netif_eni_delete(struct netif *netif, const char *vpc, const char *eni_id, struct error *err);

// What the kernel says of an ENI, as what is wrong with it; 0 is created and linked.
enum netif_eni_fault {
	NETIF_ENI_MISSING = 1 << 0, // no such interface (or VPC): no other bit is set
	NETIF_ENI_FOREIGN = 1 << 1, // the name is taken by something without our mark: likewise
	NETIF_ENI_DYING = 1 << 2,   // retired
	NETIF_ENI_WRONG = 1 << 3,   // another kind, MTU or MAC: create again
	NETIF_ENI_DETACHED =
		1 << 4, // no carrier: nobody holds the tap, or eth0 is down (meaningful when up)
	NETIF_ENI_DOWN = 1 << 5,
	NETIF_ENI_NO_NEIGHBOUR = 1 << 6,
	NETIF_ENI_NO_ROUTE = 1 << 7,
};
#define NETIF_ENI_UNCREATED                                                                        \
	(NETIF_ENI_MISSING | NETIF_ENI_FOREIGN | NETIF_ENI_DYING | NETIF_ENI_WRONG)
#define NETIF_ENI_UNLINKED (NETIF_ENI_DOWN | NETIF_ENI_NO_NEIGHBOUR | NETIF_ENI_NO_ROUTE)

// The step `eni` stands when no bit of UNCREATED is set, `link` when no bit of both sets is.
int netif_eni_check(struct netif *netif, const struct netif_eni *eni, unsigned *ret_faults,
		    struct error *err);

// A listening TCP socket on 169.254.170.2:80 of the VPC that only this ENI's packets reach
// (SO_BINDTODEVICE); non-blocking, the caller's. Make it anew when the ENI is made anew.
int netif_eni_listen(struct netif *netif, const char *vpc, const char *eni_id, int *ret_fd,
		     struct error *err);

// Deletes the retired ENIs of a VPC, and ends the tracked connections of addresses that no ENI has
// any more: they shall not pass the security groups of who leases the address next. Blocks: 20 ms
// for one, 200 ms for 1,000. For a child process, with a handle of its own: the agent only starts
// it.
int netif_reap(struct netif *netif, const char *vpc, struct error *err);

// --- Counters ---

struct netif_counters {
	char eni_id[NETIF_ID_SIZE];
	// From the task's view: its transmitted packets are what the host's end of the tap
	// receives.
	uint64_t tx_bytes, tx_packets, tx_dropped;
	uint64_t rx_bytes, rx_packets, rx_dropped; // dropped: the guest did not take them in time
};

// One ENI; -ENOENT when there is none.
int netif_eni_counters(struct netif *netif, const char *vpc, const char *eni_id,
		       struct netif_counters *ret_counters, struct error *err);
// All ENIs of a VPC in one dump, in no order. About 1 µs each, 10 µs when this handle sees an ENI
// for the first time. The caller frees the array.
int netif_vpc_counters(struct netif *netif, const char *vpc, struct netif_counters **ret_counters,
		       size_t *ret_count, struct error *err);

// The connections that the VPC's namespace tracks at present.
int netif_vpc_connections(struct netif *netif, const char *vpc, uint32_t *ret_count,
			  struct error *err);

// --- Attachments: interfaces of the host taken into a VPC ---

struct netif_route {
	struct ipv4_cidr destination;
	uint32_t via; // 0: on-link
};

struct netif_attachment {
	const char *vpc;
	const char *interface; // name, the same in the host and in the VPC
	uint32_t address;
	unsigned prefix;
	const struct netif_route *routes;
	size_t route_count;
};

// Takes the interface in, up, with exactly this address and these routes (an update removes
// what is no longer wanted). Its addresses in the host are lost by the move. -ENODEV when it
// does not exist, -EBUSY when it is ours (an ENI) or attached elsewhere or the VPC has another of
// that name, -EINVAL when the kernel does not let it move (bridges …). Blocks: a move waits for
// RCU, 20-100 ms; a second call for the same does not move.
int netif_attachment_ensure(struct netif *netif, const struct netif_attachment *attachment,
			    struct error *err);
// Gives it back to the host namespace, down, without addresses, its old alias restored. Blocks
// likewise. An interface that is gone is success.
int netif_attachment_remove(struct netif *netif, const char *vpc, const char *interface,
			    struct error *err);

// What is wrong with it; 0 is attached and configured.
enum netif_attachment_fault {
	NETIF_ATTACHMENT_MISSING = 1 << 0, // not in the VPC (or no VPC): no other bit is set
	NETIF_ATTACHMENT_DOWN = 1 << 1,
	NETIF_ATTACHMENT_NO_ADDRESS = 1 << 2,
	NETIF_ATTACHMENT_NO_ROUTE = 1 << 3,
};
int netif_attachment_check(struct netif *netif, const struct netif_attachment *attachment,
			   unsigned *ret_faults, struct error *err);

// Whether the host's namespace has an interface of this name: 1 or 0.
int netif_host_has(struct netif *netif, const char *interface, struct error *err);

// --- Looking again ---

// A descriptor that becomes readable when a link, address, route or permanent neighbour of the VPC
// changed (`vpc` NULL: a link of the host namespace), except by requests of this handle, as far as
// the kernel says who made them. Something was also changed when events were lost. The caller
// closes it.
int netif_watch_open(struct netif *netif, const char *vpc, int *ret_fd, struct error *err);
// Takes a bounded part of what is there to read; whether there was anything.
bool netif_watch_drain(int fd);

// What a VPC's namespace has of addresses, routes and permanent neighbours, in one dump for each.
// It is read in parts: netif_look_step() takes at most 32 KiB (some 400 routes, 0.3 ms) and does
// not wait; when the descriptor is readable there is more. The dumps are no snapshot, and what
// changed meanwhile may be missed: what seems to be missing is to be checked before anything is
// reported.
struct netif_look;

int netif_look_start(struct netif *netif, const char *vpc, struct netif_look **ret_look,
		     struct error *err);
int netif_look_fd(const struct netif_look *look); // borrowed
int netif_look_step(struct netif_look *look, bool *ret_done, struct error *err);
void netif_look_free(struct netif_look *look); // NULL is fine

// Once it is done. What netif_vpc_configure(), netif_address_ensure(), netif_subnet_ensure() and
// netif_eni_link() make.
bool netif_look_has_vpc(const struct netif_look *look, const struct ipv4_cidr *block);
bool netif_look_has_address(const struct netif_look *look, uint32_t address);
bool netif_look_has_subnet(const struct netif_look *look, const struct ipv4_cidr *block);
bool netif_look_has_eni(const struct netif_look *look, const struct netif_eni *eni);

// --- Counting connections ---

// Connections through a balancer to one endpoint that carry data in either direction: of TCP from
// SYN_SENT up to the acknowledgement of the first FIN.
struct netif_connections {
	uint32_t address;
	uint16_t port;
	unsigned count;
};

// Of qsort() and bsearch(): by address, then port.
int netif_connections_compare(const void *left, const void *right);

// Asks for the VPC's conntrack table. When *ret_fd (the caller's) is readable, step reads a bounded
// part of it, until *ret_done; the counts, sorted, start at 0 and stand then. Neither blocks.
int netif_connections_start(struct netif *netif, const char *vpc, int *ret_fd, struct error *err);
int netif_connections_step(int fd, struct netif_connections *connections, size_t count,
			   bool *ret_done, struct error *err);

// --- Inventory, for fsck ---

enum netif_object_kind {
	NETIF_OBJECT_VPC,        // name: of the namespace file; owner: the VPC
	NETIF_OBJECT_ENI,        // name: interface; owner: the ENI id
	NETIF_OBJECT_ATTACHMENT, // name: interface; owner: the VPC it is marked for
	NETIF_OBJECT_SUBNET,     // name: "10.0.1.0/24"; owner: the VPC
	NETIF_OBJECT_ADDRESS,    // on lo, not a subnet's router; name: "10.0.1.9"; owner: the VPC
};

struct netif_object {
	enum netif_object_kind kind;
	bool dying;              // ENI: retired, waiting for the reaper
	char vpc[NETIF_ID_SIZE]; // where it is; "" is the host namespace
	char name[NETIF_ID_SIZE * 3];
	char owner[NETIF_ID_SIZE];
};

// Everything that carries this install's mark, in the host namespace and in its VPCs. The caller
// frees the array. Blocks: lists all interfaces, 10 µs each.
int netif_inventory(struct netif *netif, struct netif_object **ret_objects, size_t *ret_count,
		    struct error *err);
// ENIs and attachments only, in the host namespace and in one VPC (may be missing).
int netif_vpc_links(struct netif *netif, const char *vpc, struct netif_object **ret_objects,
		    size_t *ret_count, struct error *err);
// "vpc", "eni" …
const char *netif_object_kind_name(enum netif_object_kind kind);
// Removes one of them (attachments go back to the host). Success when it is gone already. A VPC
// is refused (-EBUSY) while things are inside: delete VPCs last.
// Blocks.
int netif_object_delete(struct netif *netif, const struct netif_object *object, struct error *err);
