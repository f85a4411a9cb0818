// SPDX-License-Identifier: Apache-2.0
// Batches: operations are complete netlink messages in one buffer, to which only the sequence
// number is added when they are sent: the index of the operation, counted from a base.
//
// The kernel works through the whole batch even after an error, so one refused operation may
// cause others (no such chain, because the chain was refused). Only the first error is taken as a
// cause: its owner's operations are left out of the next attempt. Each attempt has fewer owners, so
// it ends. The acknowledgement is asked for on the last operation: kernels before 6.10 never
// acknowledge the end of a batch.
#include <linux/membarrier.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "netif/nft_internal.h"

// What a netlink socket takes in one message by default, on the safe side.
enum { SOCKET_BUFFER_DEFAULT = 128 * 1024, RECEIVE_SIZE = 32 * 1024 };

struct attempt {
	const struct nft_batch *batch;
	unsigned stage;
	struct buffer text; // begin, the operations that stand, end
	uint32_t base;      // sequence number of `begin`; operation i has base + 1 + i
	size_t last;        // the operation whose acknowledgement is asked for
	size_t live;        // operations
	bool acknowledged;
	bool failed;
	uint32_t failed_sequence;
	int code; // positive errno
};

void *nft_require(void *pointer)
{
	if (!pointer)
		abort();
	return pointer;
}

struct nft_batch *nft_batch_new(void)
{
	struct nft_batch *batch = nft_require(calloc(1, sizeof(*batch)));

	batch->scratch = nft_require(calloc(1, NFT_MESSAGE_SIZE));
	nft_batch_set_owner(batch, "");
	return batch;
}

void nft_batch_free(struct nft_batch *batch)
{
	if (!batch)
		return;
	for (size_t i = 0; i < batch->owner_count; i++) {
		free(batch->owners[i].name);
		free(batch->owners[i].failure);
	}
	free(batch->owners);
	free(batch->operations);
	free(batch->dependencies);
	buffer_release(&batch->messages);
	free(batch->scratch);
	free(batch);
}

// Index of the owner, or owner_count. Objects come one after the other: newest first.
static size_t owner_find(const struct nft_batch *batch, const char *name)
{
	uint64_t hash = hash_pair(name, "");

	for (size_t i = batch->owner_count; i-- > 0;)
		if (batch->owners[i].hash == hash && strcmp(batch->owners[i].name, name) == 0)
			return i;
	return batch->owner_count;
}

static void *grown(void *array, size_t count, size_t *capacity, size_t size)
{
	if (count < *capacity)
		return array;
	*capacity = *capacity ? *capacity * 2 : 16;
	return nft_require(reallocarray(array, *capacity, size));
}

// Index of the owner, added if it is new.
static size_t owner_ensure(struct nft_batch *batch, const char *name)
{
	size_t i = owner_find(batch, name);

	if (i < batch->owner_count)
		return i;
	batch->owners = grown(batch->owners, batch->owner_count, &batch->owner_capacity,
			      sizeof(*batch->owners));
	batch->owners[i] =
		(struct nft_owner){.name = nft_require(strdup(name)), .hash = hash_pair(name, "")};
	batch->owner_count++;
	return i;
}

void nft_batch_set_owner(struct nft_batch *batch, const char *owner)
{
	batch->current_owner = owner_ensure(batch, owner);
}

void nft_batch_depend(struct nft_batch *batch, const char *other)
{
	batch->dependencies = grown(batch->dependencies, batch->dependency_count,
				    &batch->dependency_capacity, sizeof(*batch->dependencies));
	batch->dependencies[batch->dependency_count++] = (struct nft_dependency){
		.owner = batch->current_owner, .on = owner_ensure(batch, other)};
}

void nft_batch_barrier(struct nft_batch *batch)
{
	batch->stage++;
}

size_t nft_batch_count(const struct nft_batch *batch)
{
	return batch->count;
}

struct nlmsghdr *nft_message_start(struct nft_batch *batch, uint16_t type, uint16_t flags)
{
	return nftnl_nlmsg_build_hdr(batch->scratch, type, NFPROTO_INET, flags, 0);
}

void nft_message_end(struct nft_batch *batch, const struct nlmsghdr *message)
{
	batch->operations = grown(batch->operations, batch->count, &batch->capacity,
				  sizeof(*batch->operations));
	batch->operations[batch->count++] = (struct nft_operation){.offset = batch->messages.length,
								   .owner = batch->current_owner,
								   .stage = batch->stage};
	buffer_add(&batch->messages, message, message->nlmsg_len);
}

static bool is_due(const struct attempt *attempt, size_t i)
{
	const struct nft_operation *operation = &attempt->batch->operations[i];

	return operation->stage == attempt->stage &&
	       !attempt->batch->owners[operation->owner].failure;
}

static void attempt_add(struct attempt *attempt, size_t i)
{
	const struct nlmsghdr *message = nft_operation_message(attempt->batch, i);
	size_t offset = attempt->text.length;
	struct nlmsghdr *copy;

	buffer_add(&attempt->text, message, message->nlmsg_len);
	copy = (struct nlmsghdr *)(void *)(attempt->text.data + offset);
	copy->nlmsg_seq = attempt->base + 1 + (uint32_t)i;
	if (i == attempt->last)
		copy->nlmsg_flags |= NLM_F_ACK;
}

static void attempt_build(struct attempt *attempt)
{
	const struct nft_batch *batch = attempt->batch;
	char edge[64] = {0}; // a header and an nfgenmsg

	for (size_t i = 0; i < batch->count; i++) {
		if (!is_due(attempt, i))
			continue;
		attempt->last = i;
		attempt->live++;
	}
	buffer_add(&attempt->text, edge, nftnl_batch_begin(edge, attempt->base)->nlmsg_len);
	for (size_t i = 0; i < batch->count; i++)
		if (is_due(attempt, i))
			attempt_add(attempt, i);
	buffer_add(&attempt->text, edge,
		   nftnl_batch_end(edge, attempt->base + 1 + (uint32_t)batch->count)->nlmsg_len);
}

// There is room for a large batch. Without CAP_NET_ADMIN in the first user namespace the forced
// form is refused; then the system's limit holds.
static void socket_prepare(int socket_fd, size_t size)
{
	int bytes = (int)(size + SOCKET_BUFFER_DEFAULT);

	if (size < SOCKET_BUFFER_DEFAULT)
		return;
	if (setsockopt(socket_fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) < 0)
		setsockopt(socket_fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static void attempt_take_reply(struct attempt *attempt, const struct nlmsghdr *reply)
{
	const struct nlmsgerr *result = mnl_nlmsg_get_payload(reply);
	uint32_t index = reply->nlmsg_seq - attempt->base;

	if (reply->nlmsg_type != NLMSG_ERROR || index > attempt->batch->count)
		return;
	if (result->error == 0) {
		attempt->acknowledged = index == attempt->last + 1;
	} else if (!attempt->failed || index < attempt->failed_sequence - attempt->base) {
		attempt->failed = true;
		attempt->failed_sequence = reply->nlmsg_seq;
		attempt->code = -result->error;
	}
}

// The kernel has queued all replies when send() returns: nothing to wait for.
static int attempt_receive(struct attempt *attempt, int socket_fd, struct error *err)
{
	char bytes[RECEIVE_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
	ssize_t received;

	while ((received = recv(socket_fd, bytes, sizeof(bytes), MSG_DONTWAIT)) != 0) {
		int left = (int)received;

		if (received < 0 && errno == EINTR)
			continue;
		if (received < 0 && errno == ENOBUFS)
			continue; // later errors were lost, the first is in the queue
		if (received < 0)
			break;
		for (const struct nlmsghdr *reply = (void *)bytes; mnl_nlmsg_ok(reply, left);
		     reply = mnl_nlmsg_next(reply, &left))
			attempt_take_reply(attempt, reply);
	}
	if (attempt->failed || attempt->acknowledged)
		return 0;
	if (received < 0 && errno != EAGAIN)
		return error_errno(err, "nf_tables reply");
	return error_set(err, EPROTO, "nf_tables did not acknowledge a batch");
}

static const struct {
	uint16_t type;
	uint16_t name; // attribute
	const char *what;
} message_kinds[] = {
	{NFT_MSG_NEWTABLE, NFTA_TABLE_NAME, "add table"},
	{NFT_MSG_DELTABLE, NFTA_TABLE_NAME, "delete table"},
	{NFT_MSG_NEWCHAIN, NFTA_CHAIN_NAME, "add chain"},
	{NFT_MSG_DELCHAIN, NFTA_CHAIN_NAME, "delete chain"},
	{NFT_MSG_NEWSET, NFTA_SET_NAME, "add set"},
	{NFT_MSG_DELSET, NFTA_SET_NAME, "delete set"},
	{NFT_MSG_NEWOBJ, NFTA_OBJ_NAME, "add counter"},
	{NFT_MSG_NEWSETELEM, NFTA_SET_ELEM_LIST_SET, "add element to set"},
	{NFT_MSG_DELSETELEM, NFTA_SET_ELEM_LIST_SET, "delete element of set"},
	{NFT_MSG_NEWRULE, NFTA_RULE_CHAIN, "add rule to chain"},
	{NFT_MSG_DELRULE, NFTA_RULE_CHAIN, "delete rules of chain"},
};

struct wanted_attribute {
	uint16_t type;
	const char *text;
};

static int attribute_compare(const struct nlattr *attribute, void *context)
{
	struct wanted_attribute *wanted = context;

	if (mnl_attr_get_type(attribute) != wanted->type)
		return MNL_CB_OK;
	wanted->text = mnl_attr_get_str(attribute);
	return MNL_CB_STOP;
}

static const char *message_name(const struct nlmsghdr *message, uint16_t type)
{
	struct wanted_attribute wanted = {.type = type, .text = "?"};

	mnl_attr_parse(message, sizeof(struct nfgenmsg), attribute_compare, &wanted);
	return wanted.text;
}

static void operation_error(const struct nft_batch *batch, size_t i, int code, struct error *err)
{
	const struct nlmsghdr *message = nft_operation_message(batch, i);

	for (size_t k = 0; k < ARRAY_LENGTH(message_kinds); k++) {
		if (NFNL_MSG_TYPE(message->nlmsg_type) != message_kinds[k].type)
			continue;
		error_code(err, code, "%s %s", message_kinds[k].what,
			   message_name(message, message_kinds[k].name));
		return;
	}
	error_code(err, code, "nf_tables message %u", (unsigned)message->nlmsg_type);
}

static struct error *owner_fail(struct nft_batch *batch, size_t owner)
{
	struct error *failure = nft_require(calloc(1, sizeof(*failure)));

	batch->owners[owner].failure = failure;
	batch->failure_count++;
	return failure;
}

// Fails who depends on those that failed, until nobody is left.
static void fail_dependents(struct nft_batch *batch)
{
	bool again = true;

	while (again) {
		again = false;
		for (size_t i = 0; i < batch->dependency_count; i++) {
			const struct nft_dependency *dependency = &batch->dependencies[i];
			const struct nft_owner *on = &batch->owners[dependency->on];

			if (!on->failure || batch->owners[dependency->owner].failure)
				continue;
			*owner_fail(batch, dependency->owner) = *on->failure;
			error_wrap(batch->owners[dependency->owner].failure, "%s", on->name);
			again = true;
		}
	}
}

// Takes the owner of the refused operation out. An error of the batch itself ends it.
static int attempt_blame(struct nft_batch *batch, const struct attempt *attempt, struct error *err)
{
	uint32_t index = attempt->failed_sequence - attempt->base;

	if (index == 0 || index > batch->count)
		return error_code(err, attempt->code, "nf_tables batch");
	operation_error(batch, index - 1, attempt->code,
			owner_fail(batch, batch->operations[index - 1].owner));
	fail_dependents(batch);
	return 0;
}

static void attempt_release(struct attempt *attempt)
{
	buffer_release(&attempt->text);
}

// Returns 1 when it was committed (or nothing is left), 0 when it is to be tried again.
static int batch_attempt(struct nft_batch *batch, unsigned stage, int socket_fd, struct error *err)
{
	static const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	scoped(attempt_release) struct attempt attempt = {
		.batch = batch, .stage = stage, .base = (uint32_t)clock_monotonic_us()};

	attempt_build(&attempt);
	if (attempt.live == 0)
		return 1;
	socket_prepare(socket_fd, attempt.text.length);
	nft_socket_drain(socket_fd); // replies to earlier requests that nobody waited for
	if (sendto(socket_fd, attempt.text.data, attempt.text.length, 0,
		   (const struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		return error_errno(err, "send nf_tables batch of %zu bytes", attempt.text.length);
	if (attempt_receive(&attempt, socket_fd, err) < 0)
		return -err->code;
	if (!attempt.failed)
		return 1;
	return attempt_blame(batch, &attempt, err);
}

// A packet keeps the rules that it met first, and looks into sets as they are at that moment. One
// that was on its way when a transaction was committed must have left before the next one takes
// away what its rules look for. The kernel waits for such packets by an RCU grace period, as this
// call does: 0.1 ms, 1 to 10 ms on a busy machine. Where it is refused (nohz_full) a packet that is
// held up for as long as a transaction takes may be lost.
static void wait_for_packets_on_their_way(void)
{
	syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

int nft_batch_send(struct nft_batch *batch, int socket_fd, struct error *err)
{
	for (unsigned stage = 0; stage <= batch->stage; stage++) {
		int status;

		if (stage > 0)
			wait_for_packets_on_their_way();
		do
			status = batch_attempt(batch, stage, socket_fd, err);
		while (status == 0);
		if (status < 0)
			return status;
	}
	return 0;
}

bool nft_batch_has_owner(const struct nft_batch *batch, const char *owner)
{
	return owner_find(batch, owner) < batch->owner_count;
}

const struct error *nft_batch_failure(const struct nft_batch *batch, const char *owner)
{
	size_t i = owner_find(batch, owner);

	return i < batch->owner_count ? batch->owners[i].failure : NULL;
}

size_t nft_batch_failure_count(const struct nft_batch *batch)
{
	return batch->failure_count;
}
