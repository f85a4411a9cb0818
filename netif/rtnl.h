// SPDX-License-Identifier: Apache-2.0
// Internal to netif: rtnetlink requests of one socket. The one place that sends
// and receives; every write is acknowledged, the kernel's own explanation
// (extended ACK) goes into the error message.
//
// Messages are small and bounded; running out of memory ends the process, as in
// agent/base/arena.h, so that builders have no error paths.
#pragma once

#include <linux/netlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/socket.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/base/error.h"

// A socket of the calling thread's network namespace.
int rtnl_open(struct nl_sock **ret_socket, struct error *err);
void rtnl_close(struct nl_sock **socket);

static inline void rtnl_message_free(struct nl_msg **message)
{
	nlmsg_free(*message);
}
#define scoped_message __attribute__((cleanup(rtnl_message_free)))

// A request with its fixed header (struct ifinfomsg …); never NULL.
struct nl_msg *rtnl_message(int type, int flags, const void *header, size_t size);
void rtnl_put(struct nl_msg *message, int type, const void *data, size_t size);
void rtnl_put_text(struct nl_msg *message, int type, const char *text); // with its NUL
void rtnl_put_u32(struct nl_msg *message, int type, uint32_t value);
void rtnl_put_u8(struct nl_msg *message, int type, uint8_t value);
void rtnl_put_ipv4(struct nl_msg *message, int type, uint32_t address); // from host byte order
struct nlattr *rtnl_nest(struct nl_msg *message, int type);
void rtnl_put_header(struct nl_msg *message, const void *header, size_t size);

// Sends a write and waits for its ACK.
int rtnl_request(struct nl_sock *socket, struct nl_msg *message, struct error *err);

// A negative return stops the calls and is returned, with `err` set by it.
typedef int rtnl_each_fn(const struct nlmsghdr *reply, void *context, struct error *err);

// Sends a query that has exactly one reply, or an error.
int rtnl_query(struct nl_sock *socket, struct nl_msg *message, rtnl_each_fn *each, void *context,
	       struct error *err);

// A growing array of one kind of item.
struct rtnl_array {
	void *items;
	size_t count, capacity, item_size;
};

void *rtnl_array_next(struct rtnl_array *array); // a new item, uninitialised

// Sends a dump; `each` appends to the array, whose items (free()) are the caller's on
// success. When the kernel's tables changed meanwhile the dump is inconsistent
// (NLM_F_DUMP_INTR) and repeated; after a few such it is -EAGAIN.
int rtnl_dump(struct nl_sock *socket, struct nl_msg *message, rtnl_each_fn *each,
	      struct rtnl_array *array, struct error *err);

// A dump that is read in parts, of a loop that has other work: a socket of its own, since replies
// come in the order of the requests.
struct rtnl_partial {
	uint32_t sequence;
	bool done;
	bool interrupted; // NLM_F_DUMP_INTR was seen, or replies were lost: something may be
			  // missing
};

int rtnl_partial_start(struct nl_sock *socket, struct nl_msg *message, struct rtnl_partial *partial,
		       struct error *err);
// Takes one datagram of at most 32 KiB, if there is one; does not wait. `each` as for rtnl_dump().
int rtnl_partial_step(struct nl_sock *socket, struct rtnl_partial *partial, rtnl_each_fn *each,
		      struct rtnl_array *array, struct error *err);
