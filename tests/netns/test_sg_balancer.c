// SPDX-License-Identifier: Apache-2.0
// Groups of load balancers that keep the client's address, with real packets: the balancer here is
// one DNAT rule, from ADDRESS_VIP to task b.
#include "tests/netns/sg_world.h"

#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/base/scope.h"

#define NAT_TABLE "test-nat"

static void add_nat_chain(struct nft_batch *batch, const char *name, enum nf_inet_hooks hook)
{
	static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP};

	nft_chain_add(batch, &(struct nft_chain){.table = NAT_TABLE,
						 .name = name,
						 .base = true,
						 .type = "nat",
						 .hook = hook,
						 .priority = -100,
						 .policy = NF_ACCEPT});
	for (size_t i = 0; i < ARRAY_LENGTH(protocols); i++) {
		struct nft_rule *rule = nft_rule_new(NAT_TABLE, name, "the balancer");

		nft_match_number(rule, NFT_FIELD_FAMILY, NFT_CMP_EQ, NFPROTO_IPV4);
		nft_match_ipv4(rule, NFT_FIELD_IP_DESTINATION, NFT_CMP_EQ, ADDRESS_VIP);
		nft_match_number(rule, NFT_FIELD_PROTOCOL, NFT_CMP_EQ, protocols[i]);
		nft_match_number(rule, NFT_FIELD_PORT_DESTINATION, NFT_CMP_EQ, PORT);
		nft_dnat(rule, ADDRESS_B, PORT);
		nft_rule_add(batch, rule);
	}
}

// Everybody may do everything; each test then takes away what it is about.
static int setup(void **state)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	struct error err = {0};

	world_setup(state);
	assert_ok(netif_address_ensure(world.netif, "prod", ADDRESS_VIP, &err), &err);
	nft_table_add(batch, NAT_TABLE, "test");
	add_nat_chain(batch, "prerouting", NF_INET_PRE_ROUTING);
	add_nat_chain(batch, "output", NF_INET_LOCAL_OUT);
	assert_ok(nft_batch_send(batch, world_netfilter(), &err), &err);
	assert_int_equal(nft_batch_failure_count(batch), 0);
	set_group("sg-open", RULES(ANYTHING), RULES(ANYTHING));
	set_group("sg-lb", RULES(ANYTHING), RULES(ANYTHING));
	set_group("sg-target", RULES(UDP_FROM_GROUP("sg-lb")), NO_RULES);
	set_member(&world.a, GROUPS("sg-open"));
	set_member(&world.b, GROUPS("sg-target"));
	set_balancer(GROUPS("sg-lb"));
	return 0;
}

static void test_target_names_the_balancer(void **state)
{
	scoped_fd int server = server_inside(world.b_fd, SOCK_DGRAM, PORT);

	(void)state;
	// The target sees the client's address, but its rule names the balancer's group.
	assert_int_equal(assert_delivered(world.client_fd, ADDRESS_VIP, server), ADDRESS_CLIENT);
	assert_int_equal(assert_delivered(world.a_fd, ADDRESS_VIP, server), ADDRESS_A);
	assert_dropped(world.client_fd, ADDRESS_B, SG_DROP_INGRESS_DENIED, "eni-b");
	assert_dropped(world.a_fd, ADDRESS_B, SG_DROP_INGRESS_DENIED, "eni-b");
	// The client's CIDR is not what counts behind the balancer; the balancer's is.
	set_group("sg-target", RULES(UDP_FROM(ADDRESS_CLIENT, 32)), NO_RULES);
	assert_delivered(world.client_fd, ADDRESS_B, server);
	assert_dropped(world.client_fd, ADDRESS_VIP, SG_DROP_INGRESS_DENIED, "eni-b");
	set_group("sg-target", RULES(UDP_FROM(ADDRESS_VIP, 32)), NO_RULES);
	assert_delivered(world.client_fd, ADDRESS_VIP, server);
	assert_dropped(world.client_fd, ADDRESS_B, SG_DROP_INGRESS_DENIED, "eni-b");
}

static void test_ingress_of_the_balancer(void **state)
{
	scoped_fd int server = server_inside(world.b_fd, SOCK_DGRAM, PORT);

	(void)state;
	set_group("sg-lb", RULES(UDP_FROM(0xc0a80700, 24)), RULES(ANYTHING));
	assert_delivered(world.client_fd, ADDRESS_VIP, server);
	assert_dropped(world.a_fd, ADDRESS_VIP, SG_DROP_BALANCER_DENIED, NULL);
	set_group("sg-lb", RULES(UDP_FROM_GROUP("sg-open")), RULES(ANYTHING));
	assert_delivered(world.a_fd, ADDRESS_VIP, server);
	assert_dropped(world.client_fd, ADDRESS_VIP, SG_DROP_BALANCER_DENIED, NULL);
	set_balancer(NULL, 0);
	assert_dropped(world.a_fd, ADDRESS_VIP, SG_DROP_BALANCER_DENIED, NULL);
}

static void test_egress_of_the_balancer(void **state)
{
	scoped_fd int server = server_inside(world.b_fd, SOCK_DGRAM, PORT);

	(void)state;
	set_group("sg-lb", RULES(ANYTHING), RULES(UDP_FROM(ADDRESS_B, 32)));
	assert_delivered(world.client_fd, ADDRESS_VIP, server);
	set_group("sg-lb", RULES(ANYTHING), RULES(UDP_FROM(ADDRESS_VIP, 32)));
	assert_dropped(world.client_fd, ADDRESS_VIP, SG_DROP_BALANCER_DENIED, NULL);
	set_group("sg-lb", RULES(ANYTHING), RULES(UDP_FROM_GROUP("sg-target")));
	assert_delivered(world.client_fd, ADDRESS_VIP, server);
	set_group("sg-lb", RULES(ANYTHING), NO_RULES);
	assert_dropped(world.client_fd, ADDRESS_VIP, SG_DROP_BALANCER_DENIED, NULL);
}

// An address that translates already, or still, while its groups do not stand.
static void test_balancer_without_an_entry(void **state)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	scoped_fd int server = server_inside(world.b_fd, SOCK_DGRAM, PORT);
	struct error err = {0};

	(void)state;
	set_group("sg-target", RULES(ANYTHING), NO_RULES);
	assert_delivered(world.client_fd, ADDRESS_VIP, server);
	assert_ok(sg_balancer_remove(world.sg, batch, "lb-1", &err), &err);
	commit(batch);
	assert_dropped(world.client_fd, ADDRESS_VIP, SG_DROP_BALANCER_DENIED, NULL);
	assert_dropped(world.a_fd, ADDRESS_VIP, SG_DROP_BALANCER_DENIED, NULL);
	assert_delivered(world.client_fd, ADDRESS_B, server); // what is not translated passes by
}

// A task's own egress is about the address that it calls.
static void test_egress_of_the_caller(void **state)
{
	scoped_fd int server = server_inside(world.b_fd, SOCK_DGRAM, PORT);

	(void)state;
	set_group("sg-target", RULES(ANYTHING), NO_RULES);
	set_group("sg-open", NO_RULES, RULES(UDP_FROM(ADDRESS_VIP, 32)));
	assert_delivered(world.a_fd, ADDRESS_VIP, server);
	assert_dropped(world.a_fd, ADDRESS_B, SG_DROP_EGRESS_DENIED, "eni-a");
	set_group("sg-open", NO_RULES, RULES(UDP_FROM(ADDRESS_B, 32)));
	assert_delivered(world.a_fd, ADDRESS_B, server);
	assert_dropped(world.a_fd, ADDRESS_VIP, SG_DROP_EGRESS_DENIED, "eni-a");
	set_group("sg-open", NO_RULES, RULES(UDP_FROM_GROUP("sg-lb")));
	assert_delivered(world.a_fd, ADDRESS_VIP, server);
}

// A second packet before any reply: the connection is still new, and its address already
// translated.
static void test_retransmission(void **state)
{
	const struct sockaddr_in peer = {.sin_family = AF_INET,
					 .sin_port = htons(PORT),
					 .sin_addr.s_addr = htonl(ADDRESS_VIP)};
	scoped_fd int server = server_inside(world.b_fd, SOCK_DGRAM, PORT);
	scoped_fd int client = socket_inside(world.client_fd, SOCK_DGRAM);
	char byte;

	(void)state;
	set_group("sg-lb", RULES(UDP_FROM(0xc0a80700, 24)), RULES(UDP_FROM(ADDRESS_B, 32)));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(
			sendto(client, "x", 1, 0, (const struct sockaddr *)&peer, sizeof(peer)), 1);
		wait_for(server, POLLIN);
		assert_int_equal(recv(server, &byte, 1, 0), 1);
	}
	assert_int_equal(drops(SG_DROP_BALANCER_DENIED, NULL), 0);
}

static void send_from(uint32_t source, uint32_t destination)
{
	const struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(source)};
	const struct sockaddr_in to = {.sin_family = AF_INET,
				       .sin_port = htons(PORT),
				       .sin_addr.s_addr = htonl(destination)};
	scoped_fd int fd = socket_inside(world.vpc_fd, SOCK_DGRAM);

	assert_int_equal(bind(fd, (const struct sockaddr *)&from, sizeof(from)), 0);
	(void)sendto(fd, "x", 1, 0, (const struct sockaddr *)&to, sizeof(to)); // EPERM if dropped
}

// Health checks come from the VPC's own namespace, with the balancer's address.
static void test_health_checks(void **state)
{
	scoped_fd int server = server_inside(world.b_fd, SOCK_DGRAM, PORT);
	char byte;

	(void)state;
	send_from(ADDRESS_VIP, ADDRESS_B);
	wait_for(server, POLLIN);
	assert_int_equal(recv(server, &byte, 1, 0), 1);
	send_from(ADDRESS_ROUTER, ADDRESS_B);
	wait_for_drop(SG_DROP_INGRESS_DENIED, "eni-b", 0);
	set_group("sg-lb", RULES(ANYTHING), NO_RULES);
	send_from(ADDRESS_VIP, ADDRESS_B);
	wait_for_drop(SG_DROP_BALANCER_DENIED, NULL, 0);
	// What is made here for the balancer's address passes its groups too.
	set_group("sg-lb", RULES(UDP_FROM(ADDRESS_ROUTER, 32)), RULES(ANYTHING));
	send_from(ADDRESS_ROUTER, ADDRESS_VIP);
	wait_for(server, POLLIN);
	assert_int_equal(recv(server, &byte, 1, 0), 1);
	set_group("sg-lb", NO_RULES, RULES(ANYTHING));
	send_from(ADDRESS_ROUTER, ADDRESS_VIP);
	wait_for_drop(SG_DROP_BALANCER_DENIED, NULL, 1);
}

static void test_tcp_through_the_balancer(void **state)
{
	scoped_fd int listener = server_inside(world.b_fd, SOCK_STREAM, PORT);
	scoped_fd int client = socket_inside(world.client_fd, SOCK_STREAM);
	struct sockaddr_in peer;
	scoped_fd int accepted = -1;

	(void)state;
	set_group("sg-target",
		  RULES({.id = "r",
			 .protocol = 6,
			 .from_port = PORT,
			 .to_port = PORT,
			 .group_id = "sg-lb"}),
		  NO_RULES);
	assert_int_equal(connect_to(client, ADDRESS_VIP, PORT), 0);
	accepted = accept_from(listener, &peer);
	assert_int_equal(ntohl(peer.sin_addr.s_addr), ADDRESS_CLIENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_target_names_the_balancer, setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_ingress_of_the_balancer, setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_egress_of_the_balancer, setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_balancer_without_an_entry, setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(test_egress_of_the_caller, setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_retransmission, setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_health_checks, setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_tcp_through_the_balancer, setup,
						world_teardown),
	};

	sandbox_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
