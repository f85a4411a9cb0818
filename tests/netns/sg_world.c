// SPDX-License-Identifier: Apache-2.0
#include "tests/netns/sg_world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/base/clock.h"
#include "agent/base/scope.h"
#include "netif/inet.h"
#include "netif/link.h"
#include "netif/namespace.h"
#include "netif/rtnl.h"

enum { DEADLINE_US = 60 * 1000 * 1000 }; // bounds a hang

struct world world;

// The client is the test's own "host": its cable's other end is taken into the VPC.
static void client_attach(void)
{
	__attribute__((cleanup(rtnl_close))) struct nl_sock *host = NULL;
	const struct netif_attachment uplink = {
		.vpc = "prod", .interface = "uplink", .address = 0xc0a80701, .prefix = 24};
	struct link_info client;
	struct error err = {0};

	cable_create("uplink", "client");
	assert_ok(netif_attachment_ensure(world.netif, &uplink, &err), &err);
	assert_ok(rtnl_open(&host, &err), &err);
	assert_int_equal(link_find(host, "client", LINK_WITHOUT_STATS, &client, &err), 1);
	assert_ok(
		link_change(host, LINK_CHANGE(.index = client.index, .state = LINK_STATE_UP), &err),
		&err);
	assert_ok(address_add(host,
			      &(struct inet_address){.index = client.index,
						     .address = ADDRESS_CLIENT,
						     .prefix = 24},
			      &err),
		  &err);
	assert_ok(route_add(host,
			    &(struct inet_route){.destination = {0x0a000000, 16},
						 .type = RTN_UNICAST,
						 .index = client.index,
						 .via = 0xc0a80701},
			    &err),
		  &err);
	wait_running(world.vpc_fd, "uplink");
	wait_running(world.client_fd, "client");
}

int world_netfilter(void)
{
	struct error err = {0};
	int fd = -1;

	assert_ok(netif_netfilter_socket(world.netif, "prod", &fd, &err), &err);
	return fd;
}

int world_setup(void **state)
{
	const struct ipv4_cidr block = {0x0a000100, 24};
	struct error err = {0};

	(void)state;
	world = (struct world){.a = eni_of(NETIF_ENI_VETH, "eni-a", ADDRESS_A),
			       .b = eni_of(NETIF_ENI_VETH, "eni-b", ADDRESS_B)};
	assert_ok(netif_open("blue", &world.netif, &err), &err);
	assert_ok(netif_vpc_create(world.netif, "prod", &err), &err);
	assert_ok(netif_vpc_open(world.netif, "prod", &world.vpc_fd, &err), &err);
	assert_ok(namespace_open_current(&world.client_fd, &err), &err);
	assert_ok(netif_subnet_ensure(world.netif, "prod", &block, &err), &err);
	assert_ok(sg_vpc_open("blue", "prod", world_netfilter(), &world.sg, &err), &err);
	client_attach();
	world.a_fd = task_start(world.netif, &world.a);
	world.b_fd = task_start(world.netif, &world.b);
	return 0;
}

int world_teardown(void **state)
{
	__attribute__((cleanup(rtnl_close))) struct nl_sock *host = NULL;
	struct link_info client;
	struct error err = {0};

	(void)state;
	sg_vpc_close(world.sg);
	assert_ok(netif_eni_delete(world.netif, "prod", "eni-a", &err), &err);
	assert_ok(netif_eni_delete(world.netif, "prod", "eni-b", &err), &err);
	assert_ok(netif_attachment_remove(world.netif, "prod", "uplink", &err), &err);
	assert_ok(netif_vpc_delete(world.netif, "prod", &err), &err);
	assert_ok(rtnl_open(&host, &err), &err);
	assert_int_equal(link_find(host, "client", LINK_WITHOUT_STATS, &client, &err), 1);
	assert_ok(link_delete(host, client.index, &err), &err);
	close_fd(&world.a_fd);
	close_fd(&world.b_fd);
	close_fd(&world.vpc_fd);
	close_fd(&world.client_fd);
	netif_close(world.netif);
	return 0;
}

// --- Policy ---

void commit(struct nft_batch *batch)
{
	struct error err = {0};

	assert_ok(sg_vpc_commit(world.sg, batch, world_netfilter(), &err), &err);
	assert_int_equal(nft_batch_failure_count(batch), 0);
}

void set_group(const char *id, const struct sg_rule *ingress, size_t ingress_count,
	       const struct sg_rule *egress, size_t egress_count)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	const struct sg_group group = {.id = id,
				       .rules = {{ingress, ingress_count}, {egress, egress_count}}};
	struct error err = {0};

	assert_ok(sg_group_set(world.sg, batch, &group, &err), &err);
	commit(batch);
}

void set_member(const struct netif_eni *eni, const char *const *groups, size_t count)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	char interface[IFNAMSIZ];
	const struct sg_member member = {.eni_id = eni->eni_id,
					 .interface =
						 eni_interface_name("blue", eni->eni_id, interface),
					 .mac = eni->mac,
					 .address = eni->address,
					 .router = eni->gateway,
					 .groups = groups,
					 .group_count = count};
	struct error err = {0};

	assert_ok(sg_member_set(world.sg, batch, &member, &err), &err);
	commit(batch);
	assert_true(sg_member_stands(world.sg, &member));
}

void set_balancer(const char *const *groups, size_t count)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	const struct sg_balancer balancer = {
		.id = "lb-1", .address = ADDRESS_VIP, .groups = groups, .group_count = count};
	struct error err = {0};

	assert_ok(sg_balancer_set(world.sg, batch, &balancer, &err), &err);
	commit(batch);
}

// --- Drops ---

uint64_t drops(enum sg_drop_reason reason, const char *eni_id)
{
	scoped_free struct sg_drops *list = NULL;
	struct sg_drops all;
	struct error err = {0};
	size_t count;

	assert_ok(sg_vpc_drops_read(world_netfilter(), &all, &err), &err);
	if (!eni_id)
		return all.packets[reason];
	assert_ok(sg_eni_drops_read(world_netfilter(), &list, &count, &err), &err);
	for (size_t i = 0; i < count; i++)
		if (strcmp(list[i].eni_id, eni_id) == 0)
			return list[i].packets[reason];
	fail_msg("no drops of %s", eni_id);
	return 0;
}

void wait_for_drop(enum sg_drop_reason reason, const char *eni_id, uint64_t before)
{
	int64_t deadline = clock_monotonic_us() + DEADLINE_US;

	while (drops(reason, eni_id) == before) {
		if (clock_monotonic_us() > deadline)
			fail_msg("nothing was dropped as %s", sg_drop_reason_name(reason));
		poll(NULL, 0, 1);
	}
}

// --- Packets ---

void send_datagram(int from_fd, uint32_t address, unsigned short port)
{
	const struct sockaddr_in peer = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
	scoped_fd int fd = socket_inside(from_fd, SOCK_DGRAM);

	assert_int_equal(sendto(fd, "ping", 4, 0, (const struct sockaddr *)&peer, sizeof(peer)), 4);
}

uint32_t assert_delivered(int from_fd, uint32_t address, int server)
{
	struct sockaddr_in source;
	socklen_t size = sizeof(source);
	char bytes[8];

	send_datagram(from_fd, address, PORT);
	wait_for(server, POLLIN);
	assert_int_equal(
		recvfrom(server, bytes, sizeof(bytes), 0, (struct sockaddr *)&source, &size), 4);
	return ntohl(source.sin_addr.s_addr);
}

void assert_dropped(int from_fd, uint32_t address, enum sg_drop_reason reason, const char *eni_id)
{
	uint64_t before = drops(reason, eni_id), before_all = drops(reason, NULL);

	send_datagram(from_fd, address, PORT);
	wait_for_drop(reason, eni_id, before);
	wait_for_drop(reason, NULL, before_all);
	assert_int_equal(drops(reason, NULL), before_all + 1);
}

void send_frame(int task_fd, const struct mac_address *source, uint16_t type, const void *payload,
		size_t length)
{
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(world.client_fd);
	__attribute__((cleanup(rtnl_close))) struct nl_sock *socket_in = NULL;
	struct sockaddr_ll to = {.sll_family = AF_PACKET};
	uint8_t frame[128];
	struct link_info eth0;
	struct error err = {0};
	scoped_fd int fd = -1;

	assert_ok(namespace_enter(&visit, task_fd, &err), &err);
	assert_ok(rtnl_open(&socket_in, &err), &err);
	assert_int_equal(link_find(socket_in, "eth0", LINK_WITHOUT_STATS, &eth0, &err), 1);
	memcpy(frame, netif_gateway_mac.bytes, ETH_ALEN);
	memcpy(frame + ETH_ALEN, source->bytes, ETH_ALEN);
	frame[12] = (uint8_t)(type >> 8);
	frame[13] = (uint8_t)type;
	memcpy(frame + ETH_HLEN, payload, length);
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	to.sll_ifindex = eth0.index;
	assert_int_equal(
		sendto(fd, frame, ETH_HLEN + length, 0, (const struct sockaddr *)&to, sizeof(to)),
		ETH_HLEN + length);
}

size_t make_datagram(uint32_t source, uint32_t destination, uint8_t packet[28])
{
	uint8_t header[28] = {0x45, 0, 0, 28, 0, 1, 0, 0, 64, IPPROTO_UDP};
	uint32_t sum = 0;

	for (int i = 0; i < 4; i++) {
		header[12 + i] = (uint8_t)(source >> (24 - 8 * i));
		header[16 + i] = (uint8_t)(destination >> (24 - 8 * i));
	}
	for (int i = 0; i < 20; i += 2)
		sum += (uint32_t)header[i] << 8 | header[i + 1];
	sum = ~((sum & 0xffff) + (sum >> 16));
	header[10] = (uint8_t)(sum >> 8);
	header[11] = (uint8_t)sum;
	header[20] = PORT >> 8; // source and destination port; no UDP checksum
	header[21] = PORT & 0xff;
	header[22] = PORT >> 8;
	header[23] = PORT & 0xff;
	header[25] = 8;
	memcpy(packet, header, sizeof(header));
	return sizeof(header);
}
