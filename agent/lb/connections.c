// SPDX-License-Identifier: Apache-2.0
#include "agent/lb/connections.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "agent/base/scope.h"

enum { SLICE_BYTES = 32768, SLICES_PER_STEP = 8 };

static int send_request(int fd, struct error *err)
{
	char buffer[256];
	struct nlmsghdr *message = mnl_nlmsg_put_header(buffer);
	struct nfgenmsg *family = mnl_nlmsg_put_extra_header(message, sizeof(*family));

	message->nlmsg_type = (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET;
	message->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	family->nfgen_family = AF_INET;
	// Kernels that do not know the filter send everything: count_message() looks again.
	mnl_attr_put_u32(message, CTA_STATUS, htonl(IPS_DST_NAT));
	mnl_attr_put_u32(message, CTA_STATUS_MASK, htonl(IPS_DST_NAT));
	if (send(fd, message, message->nlmsg_len, 0) < 0)
		return error_errno(err, "ask for the conntrack table");
	return 0;
}

int connections_start(struct netif *netif, const char *vpc_id, int *ret_fd, struct error *err)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK};
	scoped_fd int fd = -1;

	if (netif_vpc_socket(netif, vpc_id, AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_NETFILTER,
			     &fd, err) < 0)
		return -err->code;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return error_errno(err, "bind conntrack socket");
	if (send_request(fd, err) < 0)
		return -err->code;
	*ret_fd = take_fd(&fd);
	return 0;
}

enum { ATTRIBUTES_MAX = 32 }; // larger types are not looked at

struct attributes {
	const struct nlattr *of[ATTRIBUTES_MAX]; // by type
};

static int keep_attribute(const struct nlattr *attribute, void *context)
{
	struct attributes *attributes = context;
	uint16_t type = mnl_attr_get_type(attribute);

	if (type < ATTRIBUTES_MAX)
		attributes->of[type] = attribute;
	return MNL_CB_OK;
}

// The attribute of this type in a nest, or NULL.
static const struct nlattr *nested(const struct nlattr *nest, unsigned type)
{
	struct attributes attributes = {0};

	if (nest)
		mnl_attr_parse_nested(nest, keep_attribute, &attributes);
	return attributes.of[type];
}

static uint32_t get_address(const struct nlattr *tuple, unsigned type)
{
	const struct nlattr *address = nested(nested(tuple, CTA_TUPLE_IP), type);

	if (!address || mnl_attr_get_payload_len(address) != sizeof(uint32_t))
		return 0;
	return ntohl(mnl_attr_get_u32(address));
}

static uint16_t get_port(const struct nlattr *tuple, unsigned type)
{
	const struct nlattr *port = nested(nested(tuple, CTA_TUPLE_PROTO), type);

	if (!port || mnl_attr_get_payload_len(port) != sizeof(uint16_t))
		return 0;
	return ntohs(mnl_attr_get_u16(port));
}

static bool is_open(const struct nlattr *protocol_info)
{
	const struct nlattr *state =
		nested(nested(protocol_info, CTA_PROTOINFO_TCP), CTA_PROTOINFO_TCP_STATE);

	if (!state)
		return false;
	switch (mnl_attr_get_u8(state)) {
	case TCP_CONNTRACK_SYN_SENT:
	case TCP_CONNTRACK_SYN_RECV:
	case TCP_CONNTRACK_ESTABLISHED:
	case TCP_CONNTRACK_FIN_WAIT: // the other side may still send
	case TCP_CONNTRACK_CLOSE_WAIT:
		return true;
	default:
		return false;
	}
}

static int compare_endpoints(const void *left, const void *right)
{
	const struct lb_endpoint *a = left, *b = right;

	if (a->address != b->address)
		return a->address < b->address ? -1 : 1;
	return (int)a->port - (int)b->port;
}

struct counting {
	struct lb_connection_count *counts;
	size_t count;
};

static int count_message(const struct nlmsghdr *message, void *context)
{
	struct counting *counting = context;
	struct attributes attributes = {0};
	const struct nlattr *reply;
	struct lb_connection_count *found;
	struct lb_endpoint endpoint;

	mnl_attr_parse(message, sizeof(struct nfgenmsg), keep_attribute, &attributes);
	reply = attributes.of[CTA_TUPLE_REPLY];
	endpoint = (struct lb_endpoint){.address = get_address(reply, CTA_IP_V4_SRC),
					.port = get_port(reply, CTA_PROTO_SRC_PORT)};
	if (endpoint.address == get_address(attributes.of[CTA_TUPLE_ORIG], CTA_IP_V4_DST) ||
	    !is_open(attributes.of[CTA_PROTOINFO]))
		return MNL_CB_OK;
	found = bsearch(&endpoint, counting->counts, counting->count, sizeof(*counting->counts),
			compare_endpoints);
	if (found)
		found->connections++;
	return MNL_CB_OK;
}

int connections_step(int fd, struct lb_connection_count *counts, size_t count, bool *ret_done,
		     struct error *err)
{
	struct counting counting = {counts, count};
	scoped_free char *buffer = malloc(SLICE_BYTES);

	if (!buffer)
		return error_set(err, ENOMEM, "read the conntrack table: out of memory");
	*ret_done = false;
	for (int i = 0; i < SLICES_PER_STEP && !*ret_done; i++) {
		ssize_t received = recv(fd, buffer, SLICE_BYTES, 0);
		int r;

		if (received < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (received < 0)
			return error_errno(err, "read the conntrack table");
		r = mnl_cb_run(buffer, (size_t)received, 0, 0, count_message, &counting);
		if (r < 0)
			return error_errno(err, "read the conntrack table");
		*ret_done = r == MNL_CB_STOP;
	}
	return 0;
}
