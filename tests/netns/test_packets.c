// SPDX-License-Identifier: Apache-2.0
// Real packets between tasks of two subnets, to the router and to the metadata address.
#include "tests/netns/harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/base/file.h"
#include "netif/namespace.h"
#include "netif/nft.h"

static const struct ipv4_cidr block_one = {0x0a000100, 24}, block_two = {0x0a000200, 24};

static struct netif *netif;

// Each test begins with one VPC of two subnets, and with nothing else.
static int setup(void **state)
{
	struct error err = {0};

	(void)state;
	assert_ok(netif_open("blue", &netif, &err), &err);
	assert_ok(netif_vpc_create(netif, "prod", &err), &err);
	assert_ok(netif_subnet_ensure(netif, "prod", &block_one, &err), &err);
	assert_ok(netif_subnet_ensure(netif, "prod", &block_two, &err), &err);
	return 0;
}

static int teardown(void **state)
{
	struct netif_object *objects;
	struct error err = {0};
	size_t count;

	(void)state;
	assert_ok(netif_inventory(netif, &objects, &count, &err), &err);
	for (size_t i = count; i-- > 0;) // VPCs come before what is in them
		assert_ok(netif_object_delete(netif, &objects[i], &err), &err);
	free(objects);
	assert_ok(netif_inventory(netif, &objects, &count, &err), &err);
	assert_int_equal(count, 0);
	free(objects);
	netif_close(netif);
	return 0;
}

static void assert_exchange(int client_fd, int server_fd, const struct netif_eni *client,
			    const struct netif_eni *server)
{
	const struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons(7000),
		.sin_addr.s_addr = htonl(server->address),
	};
	struct sockaddr_in from = {0};
	socklen_t size = sizeof(from);
	char text[8] = "";

	assert_int_equal(sendto(client_fd, "ping", 4, 0, (const void *)&to, sizeof(to)), 4);
	wait_for(server_fd, POLLIN);
	assert_int_equal(recvfrom(server_fd, text, sizeof(text), 0, (void *)&from, &size), 4);
	assert_int_equal(ntohl(from.sin_addr.s_addr), client->address);
	assert_int_equal(sendto(server_fd, "pong", 4, 0, (const void *)&from, size), 4);
	wait_for(client_fd, POLLIN);
	assert_int_equal(recv(client_fd, text, sizeof(text), 0), 4);
	assert_memory_equal(text, "pong", 4);
}

static void test_two_subnets(void **state)
{
	struct netif_eni one = eni_of(NETIF_ENI_VETH, "eni-1", 0x0a000105),
			 two = eni_of(NETIF_ENI_VETH, "eni-2", 0x0a000205);
	held_fd int one_fd = task_start(netif, &one), two_fd = task_start(netif, &two);
	scoped_fd int udp_client = socket_inside(one_fd, SOCK_DGRAM);
	scoped_fd int udp_server = server_inside(two_fd, SOCK_DGRAM, 7000);
	scoped_fd int tcp_client = socket_inside(one_fd, SOCK_STREAM);
	held_fd int tcp_server = server_inside(two_fd, SOCK_STREAM, 7001);
	scoped_fd int refused = socket_inside(one_fd, SOCK_STREAM);
	struct netif_counters counters, *all;
	struct error err = {0};
	size_t count;

	(void)state;
	assert_exchange(udp_client, udp_server, &one, &two);
	assert_int_equal(connect_to(tcp_client, two.address, 7001), 0);
	assert_int_equal(connect_to(refused, two.address, 7002), -ECONNREFUSED);
	assert_ok(netif_eni_counters(netif, "prod", "eni-1", &counters, &err), &err);
	assert_string_equal(counters.eni_id, "eni-1");
	assert_in_range(counters.tx_packets, 4, 10); // a datagram, SYN, ACK, SYN
	assert_in_range(counters.rx_packets, 3, 10); // a datagram, SYN+ACK, RST
	assert_in_range(counters.tx_bytes, 4 * 54, 10 * 100);
	assert_ok(netif_vpc_counters(netif, "prod", &all, &count, &err), &err);
	assert_int_equal(count, 2);
	for (size_t i = 0; i < count; i++)
		assert_true(all[i].tx_packets >= 3 && all[i].rx_packets >= 3);
	free(all);
	assert_int_equal(netif_eni_counters(netif, "prod", "eni-3", &counters, &err), -ENOENT);
}

// An ICMP error comes from the router of the task's subnet.
static void test_router_answers(void **state)
{
	struct netif_eni one = eni_of(NETIF_ENI_VETH, "eni-1", 0x0a000105),
			 two = eni_of(NETIF_ENI_VETH, "eni-2", 0x0a000205);
	held_fd int one_fd = task_start(netif, &one), two_fd = task_start(netif, &two);
	scoped_fd int client = socket_inside(one_fd, SOCK_DGRAM);
	_Alignas(struct cmsghdr) char control[512];
	char text[64];
	struct iovec part = {text, sizeof(text)};
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	const struct sock_extended_err *failure;
	const struct sockaddr_in *offender;
	int on = 1, ttl = 1;

	(void)state;
	assert_int_equal(setsockopt(client, IPPROTO_IP, IP_RECVERR, &on, sizeof(on)), 0);
	assert_int_equal(setsockopt(client, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl)), 0);
	assert_int_equal(connect_to(client, two.address, 7000), 0);
	assert_int_equal(send(client, "ping", 4, 0), 4);
	wait_for(client, POLLERR);
	assert_true(recvmsg(client, &message, MSG_ERRQUEUE) >= 0);
	assert_non_null(CMSG_FIRSTHDR(&message));
	failure = (const void *)CMSG_DATA((const struct cmsghdr *)control);
	assert_int_equal(failure->ee_type, 11); // time exceeded
	offender = (const void *)SO_EE_OFFENDER(failure);
	assert_int_equal(ntohl(offender->sin_addr.s_addr), one.gateway);
}

static void test_metadata_listener(void **state)
{
	struct netif_eni one = eni_of(NETIF_ENI_VETH, "eni-1", 0x0a000105),
			 two = eni_of(NETIF_ENI_VETH, "eni-2", 0x0a000205);
	held_fd int one_fd = task_start(netif, &one), two_fd = task_start(netif, &two);
	scoped_fd int from_one = socket_inside(one_fd, SOCK_STREAM);
	scoped_fd int from_two = socket_inside(two_fd, SOCK_STREAM);
	scoped_fd int too_early = socket_inside(two_fd, SOCK_STREAM);
	scoped_fd int listener_one = -1, listener_two = -1, accepted = -1;
	struct sockaddr_in peer;
	struct error err = {0};

	(void)state;
	assert_ok(netif_eni_listen(netif, "prod", "eni-1", &listener_one, &err), &err);
	assert_int_equal(connect_to(too_early, NETIF_METADATA_ADDRESS, 80), -ECONNREFUSED);
	assert_ok(netif_eni_listen(netif, "prod", "eni-2", &listener_two, &err), &err);
	assert_int_equal(connect_to(from_two, NETIF_METADATA_ADDRESS, 80), 0);
	accepted = accept_from(listener_two, &peer);
	assert_int_equal(ntohl(peer.sin_addr.s_addr), two.address);
	assert_int_equal(accept4(listener_one, NULL, NULL, SOCK_CLOEXEC), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(connect_to(from_one, NETIF_METADATA_ADDRESS, 80), 0);
	wait_for(listener_one, POLLIN);
	assert_int_equal(netif_eni_listen(netif, "prod", "eni-3", &accepted, &err), -ENOENT);
}

// The seconds that the VPC's namespace still remembers the first connection of a protocol.
static unsigned long remembered_seconds(const char *protocol)
{
	scoped_fd int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), there = -1;
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(here);
	scoped_free char *table = NULL;
	struct error err = {0};
	const char *line;

	assert_ok(netif_vpc_open(netif, "prod", &there, &err), &err);
	assert_ok(namespace_enter(&visit, there, &err), &err);
	assert_ok(file_read(AT_FDCWD, "/proc/thread-self/net/nf_conntrack", 65536, &table, NULL,
			    &err),
		  &err);
	line = strstr(table, protocol); // "udp      17 45 src=..."
	assert_non_null(line);
	line += strcspn(line, "0123456789");
	line += strcspn(line, " ");
	return strtoul(line, NULL, 10);
}

static void test_idle_timeouts(void **state)
{
	static const struct netif_tracking tracking = {
		.tcp_established_seconds = 3600, .udp_seconds = 60, .udp_stream_seconds = 180};
	struct netif_eni one = eni_of(NETIF_ENI_VETH, "eni-1", 0x0a000105),
			 two = eni_of(NETIF_ENI_VETH, "eni-2", 0x0a000205);
	held_fd int one_fd = task_start(netif, &one), two_fd = task_start(netif, &two);
	scoped_fd int udp_client = socket_inside(one_fd, SOCK_DGRAM);
	scoped_fd int udp_server = server_inside(two_fd, SOCK_DGRAM, 7000);
	scoped_fd int tcp_client = socket_inside(one_fd, SOCK_STREAM);
	scoped_fd int tcp_server = server_inside(two_fd, SOCK_STREAM, 7001);
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	struct nft_rule *rule = nft_rule_new("track", "forward", NULL);
	struct error err = {0};
	int socket_fd;

	(void)state;
	// Connections are tracked where a rule asks for their state.
	assert_ok(netif_netfilter_socket(netif, "prod", &socket_fd, &err), &err);
	nft_table_add(batch, "track", NULL);
	nft_chain_add(batch, &(struct nft_chain){.table = "track",
						 .name = "forward",
						 .base = true,
						 .hook = NF_INET_FORWARD,
						 .policy = NF_ACCEPT});
	nft_match_bits(rule, NFT_FIELD_CT_STATE, 1);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);
	assert_ok(nft_batch_send(batch, socket_fd, &err), &err);
	assert_ok(netif_vpc_tune(netif, "prod", &tracking, &err), &err);
	assert_exchange(udp_client, udp_server, &one, &two);
	assert_in_range(remembered_seconds("udp "), 31, 60); // 30 is the kernel's default
	assert_int_equal(connect_to(tcp_client, two.address, 7001), 0);
	wait_for(tcp_server, POLLIN); // the last packet of the handshake was tracked
	assert_in_range(remembered_seconds("tcp "), 3001, 3600);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_two_subnets),
		TEST(test_router_answers),
		TEST(test_metadata_listener),
		TEST(test_idle_timeouts),
	};

	sandbox_enter();
	return cmocka_run_group_tests_name("packets", tests, NULL, NULL);
}
