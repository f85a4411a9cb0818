// SPDX-License-Identifier: Apache-2.0
// Security groups with real packets.
#include "tests/netns/sg_world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/ethernet.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "agent/base/file.h"
#include "agent/base/scope.h"
#include "netif/namespace.h"

static void test_default_is_deny(void **state)
{
	scoped_fd int server = server_inside(world.b_fd, SOCK_DGRAM, PORT);
	char byte;

	(void)state;
	// Without any policy not even its own address is right.
	set_group("sg-empty", NO_RULES, NO_RULES);
	set_group("sg-out", NO_RULES, RULES(ANYTHING));
	set_member(&world.b, GROUPS("sg-empty"));
	send_datagram(world.a_fd, ADDRESS_B, PORT);
	wait_for_drop(SG_DROP_SPOOFED, NULL, 0);
	set_member(&world.a, NULL, 0);
	assert_dropped(world.a_fd, ADDRESS_B, SG_DROP_EGRESS_DENIED, "eni-a");
	set_member(&world.a, GROUPS("sg-empty"));
	assert_dropped(world.a_fd, ADDRESS_B, SG_DROP_EGRESS_DENIED, "eni-a");
	set_member(&world.a, GROUPS("sg-out"));
	assert_dropped(world.a_fd, ADDRESS_B, SG_DROP_INGRESS_DENIED, "eni-b");
	assert_dropped(world.client_fd, ADDRESS_B, SG_DROP_INGRESS_DENIED, "eni-b");
	assert_int_equal(recv(server, &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}

static void test_rules_of_a_live_group(void **state)
{
	scoped_fd int server = server_inside(world.b_fd, SOCK_DGRAM, PORT);

	(void)state;
	set_group("sg-a", NO_RULES, RULES(ANYTHING));
	set_group("sg-b", NO_RULES, NO_RULES);
	set_member(&world.a, GROUPS("sg-a"));
	set_member(&world.b, GROUPS("sg-b"));
	assert_dropped(world.a_fd, ADDRESS_B, SG_DROP_INGRESS_DENIED, "eni-b");
	set_group("sg-b", RULES(UDP_FROM(ADDRESS_A, 32)), NO_RULES);
	assert_int_equal(assert_delivered(world.a_fd, ADDRESS_B, server), ADDRESS_A);
	assert_dropped(world.client_fd, ADDRESS_B, SG_DROP_INGRESS_DENIED, "eni-b");
	set_group("sg-b",
		  RULES(UDP_FROM(ADDRESS_A, 32), {.id = "net",
						  .protocol = 17,
						  .from_port = 1,
						  .to_port = 65535,
						  .cidr = {0xc0a80000, 16}}),
		  NO_RULES);
	assert_int_equal(assert_delivered(world.client_fd, ADDRESS_B, server), ADDRESS_CLIENT);
	assert_int_equal(assert_delivered(world.a_fd, ADDRESS_B, server), ADDRESS_A);
	set_group("sg-b", RULES(UDP_FROM(0xc0a80000, 16)), NO_RULES);
	assert_delivered(world.client_fd, ADDRESS_B, server);
	assert_dropped(world.a_fd, ADDRESS_B, SG_DROP_INGRESS_DENIED, "eni-b");
	set_group("sg-a", NO_RULES, NO_RULES);
	assert_dropped(world.a_fd, ADDRESS_B, SG_DROP_EGRESS_DENIED, "eni-a");
}

static void test_group_references(void **state)
{
	scoped_fd int server = server_inside(world.b_fd, SOCK_DGRAM, PORT);

	(void)state;
	set_group("sg-b", RULES(UDP_FROM_GROUP("sg-friends")), RULES(ANYTHING));
	set_group("sg-plain", RULES(ANYTHING), RULES(ANYTHING));
	set_member(&world.b, GROUPS("sg-b"));
	set_member(&world.a, GROUPS("sg-plain"));
	assert_dropped(world.a_fd, ADDRESS_B, SG_DROP_INGRESS_DENIED, "eni-b");
	set_group("sg-friends", NO_RULES, NO_RULES);
	set_member(&world.a, GROUPS("sg-plain", "sg-friends"));
	assert_delivered(world.a_fd, ADDRESS_B, server);
	assert_dropped(world.client_fd, ADDRESS_B, SG_DROP_INGRESS_DENIED, "eni-b");
	// Its address alone: none of its rules came along, and other ports stay closed.
	set_group("sg-friends", RULES(ANYTHING), RULES(ANYTHING));
	assert_dropped(world.client_fd, ADDRESS_B, SG_DROP_INGRESS_DENIED, "eni-b");
	set_group("sg-b",
		  RULES({.id = "r",
			 .protocol = 6,
			 .from_port = PORT,
			 .to_port = PORT,
			 .group_id = "sg-friends"}),
		  RULES(ANYTHING));
	assert_dropped(world.a_fd, ADDRESS_B, SG_DROP_INGRESS_DENIED, "eni-b");
	set_group("sg-b", RULES({.id = "r", .protocol = -1, .group_id = "sg-friends"}),
		  RULES(ANYTHING));
	assert_delivered(world.a_fd, ADDRESS_B, server);
	set_member(&world.a, GROUPS("sg-plain"));
	assert_dropped(world.a_fd, ADDRESS_B, SG_DROP_INGRESS_DENIED, "eni-b");
	// Egress by reference.
	set_group("sg-b", RULES(ANYTHING), NO_RULES);
	set_group("sg-plain", NO_RULES, RULES(UDP_FROM_GROUP("sg-b")));
	assert_delivered(world.a_fd, ADDRESS_B, server);
	send_datagram(world.a_fd, ADDRESS_CLIENT, PORT);
	wait_for_drop(SG_DROP_EGRESS_DENIED, "eni-a", 0);
}

static void exchange(int from, int to)
{
	char byte = 'x';

	assert_int_equal(send(from, &byte, 1, 0), 1);
	wait_for(to, POLLIN);
	assert_int_equal(recv(to, &byte, 1, 0), 1);
}

static void test_connections_outlive_their_rule(void **state)
{
	scoped_fd int listener = server_inside(world.b_fd, SOCK_STREAM, PORT);
	scoped_fd int client = socket_inside(world.client_fd, SOCK_STREAM);
	scoped_fd int late = socket_inside(world.client_fd, SOCK_STREAM);
	scoped_fd int accepted = -1;
	uint64_t before;

	(void)state;
	set_group("sg-b", RULES({.id = "r", .protocol = 6, .from_port = PORT, .to_port = PORT}),
		  NO_RULES);
	set_member(&world.b, GROUPS("sg-b"));
	// Replies need no egress rule.
	assert_int_equal(connect_to(client, ADDRESS_B, PORT), 0);
	accepted = accept_from(listener, NULL);
	exchange(client, accepted);
	exchange(accepted, client);
	set_group("sg-b", NO_RULES, NO_RULES);
	exchange(client, accepted);
	exchange(accepted, client);
	before = drops(SG_DROP_INGRESS_DENIED, "eni-b");
	assert_int_equal(connect(late,
				 (const struct sockaddr *)&(struct sockaddr_in){
					 .sin_family = AF_INET,
					 .sin_port = htons(PORT),
					 .sin_addr.s_addr = htonl(ADDRESS_B)},
				 sizeof(struct sockaddr_in)),
			 -1);
	wait_for_drop(SG_DROP_INGRESS_DENIED, "eni-b", before);
}

// A datagram there and one back: the connection is established.
static void talk(int client, uint32_t address, int server)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(address)};
	socklen_t size = sizeof(to);
	char byte = 'x';

	assert_int_equal(connect(client, (const struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(send(client, &byte, 1, 0), 1);
	wait_for(server, POLLIN);
	assert_int_equal(recvfrom(server, &byte, 1, 0, (struct sockaddr *)&to, &size), 1);
	assert_int_equal(sendto(server, &byte, 1, 0, (const struct sockaddr *)&to, size), 1);
	wait_for(client, POLLIN);
	assert_int_equal(recv(client, &byte, 1, 0), 1);
}

// What the last owner of an address let in does not reach the next one.
static void test_an_address_forgets_its_connections(void **state)
{
	const struct netif_eni next = eni_of(NETIF_ENI_VETH, "eni-next", ADDRESS_A);
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	scoped_fd int server_a = server_inside(world.a_fd, SOCK_DGRAM, PORT);
	scoped_fd int server_b = server_inside(world.b_fd, SOCK_DGRAM, PORT);
	scoped_fd int client_a = socket_inside(world.client_fd, SOCK_DGRAM);
	scoped_fd int client_b = socket_inside(world.client_fd, SOCK_DGRAM);
	scoped_fd int next_fd = -1;
	struct error err = {0};

	(void)state;
	set_group("sg", RULES(UDP_FROM(0, 0)), NO_RULES);
	set_member(&world.a, GROUPS("sg"));
	set_member(&world.b, GROUPS("sg"));
	talk(client_a, ADDRESS_A, server_a);
	talk(client_b, ADDRESS_B, server_b);
	set_group("sg", NO_RULES, NO_RULES);
	assert_ok(netif_eni_retire(world.netif, "prod", "eni-a", &err), &err);
	assert_ok(sg_member_remove(world.sg, batch, "eni-a", &err), &err);
	commit(batch);
	assert_ok(netif_reap(world.netif, "prod", &err), &err);
	next_fd = task_start(world.netif, &next);
	set_member(&next, GROUPS("sg"));
	assert_int_equal(send(client_a, "x", 1, 0), 1);
	wait_for_drop(SG_DROP_INGRESS_DENIED, "eni-next", 0);
	talk(client_b, ADDRESS_B, server_b); // its owner is still there
	assert_ok(netif_eni_delete(world.netif, "prod", "eni-next", &err), &err);
}

static void test_forged_packets(void **state)
{
	const struct mac_address other = {{0x02, 1, 2, 3, 4, 5}};
	uint8_t packet[28];
	size_t length;
	scoped_fd int server = server_inside(world.b_fd, SOCK_DGRAM, PORT);

	(void)state;
	set_group("sg-open", RULES(ANYTHING), RULES(ANYTHING));
	set_member(&world.a, GROUPS("sg-open"));
	set_member(&world.b, GROUPS("sg-open"));
	length = make_datagram(ADDRESS_A, ADDRESS_B, packet);
	send_frame(world.a_fd, &world.a.mac, ETHERTYPE_IP, packet, length);
	wait_for(server, POLLIN); // the frame as such is right
	send_frame(world.a_fd, &other, ETHERTYPE_IP, packet, length);
	wait_for_drop(SG_DROP_SPOOFED, "eni-a", 0);
	length = make_datagram(ADDRESS_B, ADDRESS_B, packet);
	send_frame(world.a_fd, &world.a.mac, ETHERTYPE_IP, packet, length);
	wait_for_drop(SG_DROP_SPOOFED, "eni-a", 1);
	length = make_datagram(ADDRESS_A + 77, ADDRESS_B, packet);
	send_frame(world.a_fd, &world.a.mac, ETHERTYPE_IP, packet, length);
	wait_for_drop(SG_DROP_SPOOFED, "eni-a", 2);
	assert_int_equal(drops(SG_DROP_SPOOFED, "eni-b"), 0);
	assert_int_equal(drops(SG_DROP_SPOOFED, NULL), 3);
}

// netif turns IPv6 off; this is the second line, so the first is opened for it.
static void test_ipv6(void **state)
{
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(world.client_fd);
	uint8_t packet[40] = {0x60, 0, 0, 0, 0, 0, 59, 64, 0xfe, 0x80};
	char path[96], interface[IFNAMSIZ];
	struct error err = {0};

	(void)state;
	packet[23] = 1;    // source fe80::1
	packet[24] = 0xff; // destination ff02::1
	packet[25] = 0x02;
	packet[39] = 1;
	set_group("sg-open", RULES(ANYTHING), RULES(ANYTHING));
	set_member(&world.a, GROUPS("sg-open"));
	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6",
		 eni_interface_name("blue", "eni-a", interface));
	assert_ok(namespace_enter(&visit, world.vpc_fd, &err), &err);
	assert_ok(file_write_kernel(AT_FDCWD, path, "0", &err), &err);
	namespace_leave(&visit);
	send_frame(world.a_fd, &world.a.mac, ETHERTYPE_IPV6, packet, sizeof(packet));
	wait_for_drop(SG_DROP_IPV6, "eni-a", 0);
}

static void send_ping(int from_fd, uint32_t address, int *ret_fd)
{
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(world.client_fd);
	const struct sockaddr_in peer = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
	static uint16_t id; // a new connection each time
	uint16_t sum = (uint16_t) ~((ICMP_ECHO << 8) + ++id);
	const uint8_t request[8] = {
		ICMP_ECHO, 0, (uint8_t)(sum >> 8), (uint8_t)sum, (uint8_t)(id >> 8), (uint8_t)id};
	struct error err = {0};

	assert_ok(namespace_enter(&visit, from_fd, &err), &err);
	*ret_fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMP);
	assert_true(*ret_fd >= 0);
	assert_int_equal(sendto(*ret_fd, request, sizeof(request), 0,
				(const struct sockaddr *)&peer, sizeof(peer)),
			 sizeof(request));
}

static void assert_pinged(int from_fd, uint32_t address)
{
	scoped_fd int fd = -1;
	uint8_t reply[64];

	send_ping(from_fd, address, &fd);
	do {
		wait_for(fd, POLLIN);
		assert_true(recv(fd, reply, sizeof(reply), 0) >= 28);
	} while (reply[20] == ICMP_ECHO);
	assert_int_equal(reply[20], ICMP_ECHOREPLY);
}

// What a task reaches on the host's side, whatever its groups say.
static void test_host_side(void **state)
{
	scoped_fd int metadata = -1, client = socket_inside(world.a_fd, SOCK_STREAM), late = -1;
	struct error err = {0};

	(void)state;
	set_member(&world.a, NULL, 0);
	assert_ok(netif_eni_listen(world.netif, "prod", "eni-a", &metadata, &err), &err);
	assert_int_equal(connect_to(client, NETIF_METADATA_ADDRESS, NETIF_METADATA_PORT), 0);
	assert_pinged(world.a_fd, ADDRESS_ROUTER);
	assert_dropped(world.a_fd, ADDRESS_ROUTER, SG_DROP_HOST, "eni-a");
	assert_dropped(world.a_fd, NETIF_METADATA_ADDRESS, SG_DROP_HOST, "eni-a");
	// Nobody else's router, nor an address of the attachment.
	assert_dropped(world.a_fd, 0xc0a80701, SG_DROP_EGRESS_DENIED, "eni-a");
	set_group("sg-open", RULES(ANYTHING), RULES(ANYTHING));
	set_member(&world.a, GROUPS("sg-open"));
	send_ping(world.a_fd, 0xc0a80701, &late);
	wait_for_drop(SG_DROP_HOST, "eni-a", 2);
	// And who is outside may ping the VPC's end of its cable.
	assert_pinged(world.client_fd, 0xc0a80701);
	assert_dropped(world.client_fd, 0xc0a80701, SG_DROP_HOST, NULL);
}

static void test_ping_and_its_types(void **state)
{
	scoped_fd int fd = -1;

	(void)state;
	set_group("sg-a", NO_RULES, RULES(ANYTHING));
	set_group("sg-b", RULES({.id = "ping", .protocol = 1, .from_port = 8, .to_port = -1}),
		  NO_RULES);
	set_member(&world.a, GROUPS("sg-a"));
	set_member(&world.b, GROUPS("sg-b"));
	assert_pinged(world.a_fd, ADDRESS_B);
	assert_pinged(world.client_fd, ADDRESS_B);
	set_group("sg-b", RULES({.id = "other", .protocol = 1, .from_port = 13, .to_port = -1}),
		  NO_RULES);
	send_ping(world.a_fd, ADDRESS_B, &fd);
	wait_for_drop(SG_DROP_INGRESS_DENIED, "eni-b", 0);
}

// A closed port answers with an ICMP error, which belongs to the connection.
static void test_icmp_errors_come_back(void **state)
{
	const struct sockaddr_in peer = {.sin_family = AF_INET,
					 .sin_port = htons(PORT),
					 .sin_addr.s_addr = htonl(ADDRESS_B)};
	scoped_fd int fd = socket_inside(world.a_fd, SOCK_DGRAM);
	char byte;

	(void)state;
	set_group("sg-a", NO_RULES, RULES(ANYTHING));
	set_group("sg-b", RULES(ANYTHING), NO_RULES);
	set_member(&world.a, GROUPS("sg-a"));
	set_member(&world.b, GROUPS("sg-b"));
	assert_int_equal(connect(fd, (const struct sockaddr *)&peer, sizeof(peer)), 0);
	assert_int_equal(send(fd, "x", 1, 0), 1);
	wait_for(fd, POLLIN | POLLERR);
	assert_int_equal(recv(fd, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
}

enum { CHANGES_MIN = 200, DELIVERIES_MIN = 200 };

// Rule sets that all let the packets in: no packet may meet a moment between them. Goes on until
// `stop` has ended, too.
static void change_rules_often(int stop)
{
	struct pollfd ended = {.fd = stop};

	for (int i = 0; i < CHANGES_MIN || poll(&ended, 1, 0) == 0; i++) {
		set_group("sg-b", RULES(UDP_FROM(ADDRESS_A, 32)), NO_RULES);
		set_group("sg-b", RULES(UDP_FROM(0x0a000000, 8), ANYTHING_FROM("sg-a")), NO_RULES);
		set_group("sg-b", RULES(ANYTHING_FROM("sg-a")), NO_RULES);
		set_group("sg-b", RULES({.id = "all", .protocol = -1}), NO_RULES);
	}
}

static void test_a_change_is_atomic(void **state)
{
	scoped_fd int server = server_inside(world.b_fd, SOCK_DGRAM, PORT);
	int status = 0, stop[2];
	pid_t changer;

	(void)state;
	set_group("sg-a", NO_RULES, RULES(ANYTHING));
	set_group("sg-b", RULES(UDP_FROM(ADDRESS_A, 32)), NO_RULES);
	set_member(&world.a, GROUPS("sg-a"));
	set_member(&world.b, GROUPS("sg-b"));
	assert_int_equal(pipe2(stop, O_CLOEXEC), 0);
	changer = fork();
	assert_true(changer >= 0);
	if (changer == 0) {
		close(stop[1]);
		change_rules_often(stop[0]);
		_exit(EXIT_SUCCESS);
	}
	for (int i = 0; waitpid(changer, &status, WNOHANG) == 0; i++) {
		assert_delivered(world.a_fd, ADDRESS_B, server);
		if (i == DELIVERIES_MIN)
			close(stop[1]);
	}
	close(stop[0]);
	assert_int_equal(status, 0);
	assert_int_equal(drops(SG_DROP_INGRESS_DENIED, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_default_is_deny, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_rules_of_a_live_group, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_group_references, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_connections_outlive_their_rule, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_an_address_forgets_its_connections,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_forged_packets, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_ipv6, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_host_side, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_ping_and_its_types, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_icmp_errors_come_back, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_a_change_is_atomic, world_setup,
						world_teardown),
	};

	sandbox_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
