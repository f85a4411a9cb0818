// SPDX-License-Identifier: Apache-2.0
#include "netif/rtnl.h"

#include <errno.h>
#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
	RECEIVE_SIZE = 32768, // the kernel fills dump messages up to this
	DUMP_ATTEMPTS = 8,
};

void rtnl_close(struct nl_sock **socket)
{
	if (*socket)
		nl_socket_free(*socket);
	*socket = NULL;
}

static void socket_option(struct nl_sock *socket, int option)
{
	int on = 1;

	// Each is a nicety of newer kernels: without it messages are terser, dumps larger.
	(void)setsockopt(nl_socket_get_fd(socket), SOL_NETLINK, option, &on, sizeof(on));
}

int rtnl_open(struct nl_sock **ret_socket, struct error *err)
{
	struct nl_sock *socket = nl_socket_alloc();
	int result;

	if (!socket)
		abort();
	nl_socket_disable_auto_ack(socket);
	result = nl_connect(socket, NETLINK_ROUTE); // SOCK_CLOEXEC
	if (result < 0) {
		nl_socket_free(socket);
		return error_set(err, EIO, "open rtnetlink: %s", nl_geterror(result));
	}
	nl_socket_set_msg_buf_size(socket, RECEIVE_SIZE);
	socket_option(socket, NETLINK_EXT_ACK);
	socket_option(socket, NETLINK_CAP_ACK);
	socket_option(socket, NETLINK_GET_STRICT_CHK);
	*ret_socket = socket;
	return 0;
}

static void require(bool fits)
{
	if (!fits)
		abort(); // out of memory, or a message beyond its page: none of ours is
}

struct nl_msg *rtnl_message(int type, int flags, const void *header, size_t size)
{
	struct nl_msg *message = nlmsg_alloc_simple(type, flags);

	require(message);
	rtnl_put_header(message, header, size);
	return message;
}

void rtnl_put_header(struct nl_msg *message, const void *header, size_t size)
{
	require(nlmsg_append(message, (void *)header, size, NLMSG_ALIGNTO) == 0);
}

void rtnl_put(struct nl_msg *message, int type, const void *data, size_t size)
{
	require(nla_put(message, type, (int)size, data) == 0);
}

void rtnl_put_text(struct nl_msg *message, int type, const char *text)
{
	rtnl_put(message, type, text, strlen(text) + 1);
}

void rtnl_put_u32(struct nl_msg *message, int type, uint32_t value)
{
	rtnl_put(message, type, &value, sizeof(value));
}

void rtnl_put_u8(struct nl_msg *message, int type, uint8_t value)
{
	rtnl_put(message, type, &value, sizeof(value));
}

void rtnl_put_ipv4(struct nl_msg *message, int type, uint32_t address)
{
	rtnl_put_u32(message, type, htonl(address));
}

struct nlattr *rtnl_nest(struct nl_msg *message, int type)
{
	struct nlattr *nest = nla_nest_start(message, type);

	require(nest);
	return nest;
}

static const char *extended_ack(const struct nlmsghdr *reply)
{
	const struct nlmsgerr *failure = nlmsg_data(reply);
	int skip = (int)sizeof(*failure);
	const struct nlattr *text;

	if (!(reply->nlmsg_flags & NLM_F_ACK_TLVS))
		return NULL;
	if (!(reply->nlmsg_flags & NLM_F_CAPPED))
		skip += nlmsg_datalen(&failure->msg);
	text = nlmsg_find_attr((struct nlmsghdr *)reply, skip, NLMSGERR_ATTR_MSG);
	if (!text || nla_len(text) < 1 || ((const char *)nla_data(text))[nla_len(text) - 1] != '\0')
		return NULL;
	return nla_data(text);
}

static int kernel_error(const struct nlmsghdr *reply, struct error *err)
{
	const struct nlmsgerr *failure = nlmsg_data(reply);
	const char *why;

	if (nlmsg_datalen(reply) < (int)sizeof(*failure))
		return error_set(err, EBADMSG, "rtnetlink: a short reply");
	if (failure->error == 0)
		return 0;
	why = extended_ack(reply);
	if (why)
		return error_set(err, -failure->error, "%s (%s)", strerror(-failure->error), why);
	return error_set(err, -failure->error, "%s", strerror(-failure->error));
}

struct exchange {
	uint32_t sequence;
	bool is_dump;
	bool interrupted; // NLM_F_DUMP_INTR was seen
	bool done;
	rtnl_each_fn *each;
	void *context;
	int result; // of the first failing `each`
};

// The end of a dump may carry an error of the kernel's dump function.
static int dump_end(const struct nlmsghdr *reply, struct error *err)
{
	int code = 0;

	if (nlmsg_datalen(reply) >= (int)sizeof(code))
		memcpy(&code, nlmsg_data(reply), sizeof(code));
	return code < 0 ? error_code(err, code, "dump") : 0;
}

static int take_reply(struct exchange *exchange, const struct nlmsghdr *reply, struct error *err)
{
	if (reply->nlmsg_flags & NLM_F_DUMP_INTR)
		exchange->interrupted = true;
	switch (reply->nlmsg_type) {
	case NLMSG_ERROR:
		exchange->done = true;
		return kernel_error(reply, err);
	case NLMSG_DONE:
		exchange->done = true;
		return dump_end(reply, err);
	case NLMSG_NOOP:
		return 0;
	default:
		exchange->done = !exchange->is_dump;
		if (exchange->each && exchange->result == 0)
			exchange->result = exchange->each(reply, exchange->context, err);
		return 0;
	}
}

static int take_replies(struct exchange *exchange, const void *bytes, int length, struct error *err)
{
	const struct nlmsghdr *reply = bytes;
	int result = 0;

	for (; result == 0 && nlmsg_ok(reply, length);
	     reply = nlmsg_next((struct nlmsghdr *)reply, &length))
		// What answers an earlier request, one given up, is not for us.
		if (reply->nlmsg_seq == exchange->sequence)
			result = take_reply(exchange, reply, err);
	return result;
}

static int receive(struct nl_sock *socket, struct exchange *exchange, struct error *err)
{
	while (!exchange->done) {
		struct sockaddr_nl sender = {0};
		unsigned char *bytes = NULL;
		int length = nl_recv(socket, &sender, &bytes, NULL), result = 0;

		// Replies were lost: as if it was interrupted. A failed malloc looks the same but
		// for errno.
		if (length == -NLE_NOMEM && errno == ENOBUFS && exchange->is_dump) {
			exchange->interrupted = true;
			continue;
		}
		if (length <= 0)
			return error_set(err, EIO, "receive from rtnetlink: %s",
					 nl_geterror(length));
		if (sender.nl_pid == 0) // the kernel
			result = take_replies(exchange, bytes, length, err);
		free(bytes);
		if (result < 0)
			return result;
	}
	return exchange->result;
}

static int perform(struct nl_sock *socket, struct nl_msg *message, struct exchange *exchange,
		   struct error *err)
{
	struct nlmsghdr *header = nlmsg_hdr(message);
	int result;

	header->nlmsg_seq = NL_AUTO_SEQ; // a repeated message gets a new number
	result = nl_send_auto(socket, message);
	if (result < 0)
		return error_set(err, EIO, "send to rtnetlink: %s", nl_geterror(result));
	exchange->sequence = header->nlmsg_seq;
	return receive(socket, exchange, err);
}

int rtnl_request(struct nl_sock *socket, struct nl_msg *message, struct error *err)
{
	struct exchange exchange = {0};

	nlmsg_hdr(message)->nlmsg_flags |= NLM_F_ACK;
	return perform(socket, message, &exchange, err);
}

int rtnl_query(struct nl_sock *socket, struct nl_msg *message, rtnl_each_fn *each, void *context,
	       struct error *err)
{
	struct exchange exchange = {.each = each, .context = context};

	return perform(socket, message, &exchange, err);
}

void *rtnl_array_next(struct rtnl_array *array)
{
	if (array->count == array->capacity) {
		array->capacity = array->capacity ? array->capacity * 2 : 16;
		array->items = reallocarray(array->items, array->capacity, array->item_size);
		require(array->items);
	}
	return (char *)array->items + array->item_size * array->count++;
}

int rtnl_dump(struct nl_sock *socket, struct nl_msg *message, rtnl_each_fn *each,
	      struct rtnl_array *array, struct error *err)
{
	int result = 0;

	nlmsg_hdr(message)->nlmsg_flags |= NLM_F_DUMP;
	for (int attempt = 0; attempt < DUMP_ATTEMPTS; attempt++) {
		struct exchange exchange = {.is_dump = true, .each = each, .context = array};

		array->count = 0;
		result = perform(socket, message, &exchange, err);
		if (result < 0)
			break;
		if (!exchange.interrupted)
			return 0;
		result = error_set(err, EAGAIN, "dump: the kernel's tables change all the time");
	}
	free(array->items);
	*array = (struct rtnl_array){0};
	return result;
}

// --- In parts ---

int rtnl_partial_start(struct nl_sock *socket, struct nl_msg *message, struct rtnl_partial *partial,
		       struct error *err)
{
	struct nlmsghdr *header = nlmsg_hdr(message);
	int result;

	header->nlmsg_flags |= NLM_F_DUMP;
	header->nlmsg_seq = NL_AUTO_SEQ;
	result = nl_send_auto(socket, message);
	if (result < 0)
		return error_set(err, EIO, "send to rtnetlink: %s", nl_geterror(result));
	*partial = (struct rtnl_partial){.sequence = header->nlmsg_seq};
	return 0;
}

int rtnl_partial_step(struct nl_sock *socket, struct rtnl_partial *partial, rtnl_each_fn *each,
		      struct rtnl_array *array, struct error *err)
{
	struct exchange exchange = {
		.sequence = partial->sequence, .is_dump = true, .each = each, .context = array};
	// Aligned for struct nlmsghdr. On the stack, since it is needed for the time of this call.
	_Alignas(struct nlmsghdr) unsigned char bytes[RECEIVE_SIZE];
	ssize_t length = recv(nl_socket_get_fd(socket), bytes, sizeof(bytes), MSG_DONTWAIT);

	if (length < 0 && errno == ENOBUFS) {
		partial->interrupted = true;
		return 0;
	}
	if (length < 0)
		return errno == EAGAIN || errno == EINTR
			       ? 0
			       : error_errno(err, "receive from rtnetlink");
	if (take_replies(&exchange, bytes, (int)length, err) < 0)
		return -err->code;
	partial->done = exchange.done;
	partial->interrupted = partial->interrupted || exchange.interrupted;
	return exchange.result;
}
