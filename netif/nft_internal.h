// SPDX-License-Identifier: Apache-2.0
// What the files nft_*.c share.
#pragma once

#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <libnftnl/udata.h>
#include <linux/netfilter/nfnetlink.h>

#include "netif/nft.h"

// Largest single message that is ever built; elements are sent in chunks that fit.
enum { NFT_MESSAGE_SIZE = 64 * 1024, NFT_ELEMENTS_PER_MESSAGE = 64 };

struct nft_operation {
	size_t offset;  // of its netlink message in `messages`
	size_t owner;   // index
	unsigned stage; // barriers before it
};

struct nft_owner {
	char *name;
	uint64_t hash;
	struct error *failure; // NULL: its operations stand
};

struct nft_dependency {
	size_t owner, on; // indices
};

struct nft_batch {
	struct buffer messages; // netlink messages, one after the other, without sequence numbers
	struct nft_operation *operations;
	size_t count, capacity;
	struct nft_owner *owners;
	size_t owner_count, owner_capacity, current_owner, failure_count;
	struct nft_dependency *dependencies;
	size_t dependency_count, dependency_capacity;
	unsigned stage;
	uint32_t set_id; // the kernel wants one for each new set of a batch
	char *scratch;   // NFT_MESSAGE_SIZE bytes, the message under construction
};

// Starts a message in the scratch space: NFT_MSG_<type>, family inet.
struct nlmsghdr *nft_message_start(struct nft_batch *batch, uint16_t type, uint16_t flags);
// Appends the message in the scratch space to the batch as an operation.
void nft_message_end(struct nft_batch *batch, const struct nlmsghdr *message);

static inline const struct nlmsghdr *nft_operation_message(const struct nft_batch *batch, size_t i)
{
	return (const void *)(batch->messages.data + batch->operations[i].offset);
}

// Ends the process: libnftnl's constructors fail only for lack of memory.
void *nft_require(void *pointer);

// User data with one comment (cut to fit), or NULL for no comment.
struct nftnl_udata_buf *nft_comment_new(uint8_t type, const char *comment);
// The comment in user data, "" without one.
void nft_comment_read(const void *data, uint32_t length, uint8_t type,
		      char ret_comment[NFT_COMMENT_SIZE]);

// Bytes of a value of these types.
size_t nft_types_length(const struct nft_types *types);
