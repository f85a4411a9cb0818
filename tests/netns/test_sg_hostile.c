// SPDX-License-Identifier: Apache-2.0
// What a hostile task, or a hostile neighbour of an attachment, writes to the wire: fragments and
// ICMP errors that are not its own to send, and more than its share of what a VPC has once.
#include "tests/netns/sg_world.h"

#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/base/scope.h"
#include "netif/namespace.h"

enum {
	HALF = 16,    // bytes of each half of a datagram that travels in two fragments
	FLOOD = 2500, // fragments that filled 4 MiB before
	LARGE = 1400, // bytes of such a fragment
	PACKET_MAX = 1500,
	HEADER = 20, // of IPv4, without options
	PROTOCOL_UDPLITE = 136,
};

#define ADDRESS_ELSEWHERE UINT32_C(0xc0a80709) // a neighbour of the client that does not answer

static void put16(uint8_t *bytes, uint32_t number)
{
	bytes[0] = (uint8_t)(number >> 8);
	bytes[1] = (uint8_t)number;
}

static void put32(uint8_t *bytes, uint32_t number)
{
	put16(bytes, number >> 16);
	put16(bytes + 2, number);
}

// RFC 1071, of an even number of bytes.
static uint32_t checksum(const uint8_t *bytes, size_t length, uint32_t sum)
{
	for (size_t i = 0; i < length; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum & 0xffff;
}

struct ipv4 {
	uint32_t source, destination;
	uint8_t protocol;
	uint16_t id, fragment; // fragment: IP_MF and the offset in units of 8 bytes
};

static size_t make_ipv4(const struct ipv4 *header, const void *payload, size_t length,
			uint8_t packet[PACKET_MAX])
{
	memset(packet, 0, HEADER);
	packet[0] = 0x45;
	put16(packet + 2, (uint32_t)(HEADER + length));
	put16(packet + 4, header->id);
	put16(packet + 6, header->fragment);
	packet[8] = 64;
	packet[9] = header->protocol;
	put32(packet + 12, header->source);
	put32(packet + 16, header->destination);
	put16(packet + 10, checksum(packet, HEADER, 0));
	memcpy(packet + HEADER, payload, length);
	return HEADER + length;
}

// Of a namespace; the kernel sends what is written as it is, whoever it says it comes from.
static int raw_socket(int from_fd, int protocol)
{
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(world.client_fd);
	struct error err = {0};
	int fd;

	assert_ok(namespace_enter(&visit, from_fd, &err), &err);
	fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
	assert_true(fd >= 0);
	return fd;
}

static void send_ipv4(int raw_fd, const struct ipv4 *header, const void *payload, size_t length)
{
	const struct sockaddr_in to = {.sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(header->destination)};
	uint8_t packet[PACKET_MAX];
	size_t size = make_ipv4(header, payload, length, packet);

	assert_int_equal(sendto(raw_fd, packet, size, 0, (const struct sockaddr *)&to, sizeof(to)),
			 size);
}

// A UDP datagram to PORT of 8 + 2 * HALF - 8 bytes: `fill` in all of its data.
static void make_udp(char fill, uint8_t datagram[2 * HALF])
{
	memset(datagram, fill, 2 * HALF);
	put16(datagram, PORT);
	put16(datagram + 2, PORT);
	put16(datagram + 4, 2 * HALF);
	put16(datagram + 6, 0); // no checksum
}

enum half { FIRST, SECOND };

static void send_half(int raw_fd, uint32_t source, uint32_t destination, uint16_t id,
		      enum half half, char fill)
{
	const struct ipv4 header = {.source = source,
				    .destination = destination,
				    .protocol = IPPROTO_UDP,
				    .id = id,
				    .fragment = half == FIRST ? IP_MF : HALF / 8};
	uint8_t datagram[2 * HALF];

	make_udp(fill, datagram);
	send_ipv4(raw_fd, &header, datagram + (half == FIRST ? 0 : HALF), HALF);
}

// The next datagram is the honest one.
static void assert_honest(int server)
{
	char data[2 * HALF] = "", honest[2 * HALF - 8];

	wait_for(server, POLLIN);
	assert_int_equal(recv(server, data, sizeof(data), 0), sizeof(honest));
	memset(honest, 'h', sizeof(honest));
	assert_memory_equal(data, honest, sizeof(honest));
}

static void assert_silent(int server)
{
	char byte;

	assert_int_equal(recv(server, &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}

// Task b is open to everybody; a has no rule at all.
static int setup(void **state)
{
	world_setup(state);
	set_group("sg-mute", NO_RULES, NO_RULES);
	set_group("sg-open", RULES(ANYTHING), RULES(ANYTHING));
	set_member(&world.a, GROUPS("sg-mute"));
	set_member(&world.b, GROUPS("sg-open"));
	return 0;
}

// --- Fragments ---

static void test_forged_fragments_of_a_task(void **state)
{
	scoped_fd int server = server_inside(world.b_fd, SOCK_DGRAM, PORT);
	scoped_fd int honest = raw_socket(world.client_fd, IPPROTO_RAW);
	scoped_fd int hostile = raw_socket(world.a_fd, IPPROTO_RAW);

	(void)state;
	// A second half that is there before the first comes.
	send_half(hostile, ADDRESS_CLIENT, ADDRESS_B, 77, SECOND, 'x');
	send_half(honest, ADDRESS_CLIENT, ADDRESS_B, 77, FIRST, 'h');
	send_half(honest, ADDRESS_CLIENT, ADDRESS_B, 77, SECOND, 'h');
	assert_honest(server);
	wait_for_drop(SG_DROP_SPOOFED, "eni-a", 0);
	// One that overlaps: the kernel gives the whole datagram up.
	send_half(honest, ADDRESS_CLIENT, ADDRESS_B, 78, FIRST, 'h');
	send_ipv4(hostile, &(struct ipv4){ADDRESS_CLIENT, ADDRESS_B, IPPROTO_UDP, 78, IP_MF | 1},
		  "xxxxxxxxxxxxxxxx", 16);
	send_half(honest, ADDRESS_CLIENT, ADDRESS_B, 78, SECOND, 'h');
	assert_honest(server);
	wait_for_drop(SG_DROP_SPOOFED, "eni-a", 1);
	assert_silent(server);
}

// Whoever is behind an attachment sends in the name of a task.
static void test_forged_fragments_of_an_attachment(void **state)
{
	scoped_fd int server = server_inside(world.b_fd, SOCK_DGRAM, PORT);
	scoped_fd int honest = raw_socket(world.a_fd, IPPROTO_RAW);
	scoped_fd int hostile = raw_socket(world.client_fd, IPPROTO_RAW);

	(void)state;
	set_member(&world.a, GROUPS("sg-open"));
	send_half(hostile, ADDRESS_A, ADDRESS_B, 79, SECOND, 'x');
	send_half(honest, ADDRESS_A, ADDRESS_B, 79, FIRST, 'h');
	send_half(honest, ADDRESS_A, ADDRESS_B, 79, SECOND, 'h');
	assert_honest(server);
	wait_for_drop(SG_DROP_SPOOFED, NULL, 0);
	assert_int_equal(drops(SG_DROP_SPOOFED, "eni-a"), 0);
	// An address of the subnet that no task has is not behind the attachment either.
	send_half(hostile, ADDRESS_A + 77, ADDRESS_B, 80, FIRST, 'x');
	wait_for_drop(SG_DROP_SPOOFED, NULL, 1);
	// Fragments of its own pass.
	send_half(hostile, ADDRESS_CLIENT, ADDRESS_B, 81, FIRST, 'h');
	send_half(hostile, ADDRESS_CLIENT, ADDRESS_B, 81, SECOND, 'h');
	assert_honest(server);
	assert_silent(server);
}

static void test_fragments_do_not_fill_memory(void **state)
{
	scoped_fd int server = server_inside(world.b_fd, SOCK_DGRAM, PORT);
	scoped_fd int honest = raw_socket(world.client_fd, IPPROTO_RAW);
	scoped_fd int hostile = raw_socket(world.a_fd, IPPROTO_RAW);
	const uint8_t data[LARGE] = {0};

	(void)state;
	for (int id = 0; id < FLOOD; id++)
		send_ipv4(hostile,
			  &(struct ipv4){ADDRESS_A, ADDRESS_B, IPPROTO_UDP, (uint16_t)(id + 1),
					 IP_MF},
			  data, sizeof(data));
	send_half(honest, ADDRESS_CLIENT, ADDRESS_B, 90, FIRST, 'h');
	send_half(honest, ADDRESS_CLIENT, ADDRESS_B, 90, SECOND, 'h');
	assert_honest(server);
	wait_for_drop(SG_DROP_FRAGMENTS, "eni-a", 0);
}

// --- ICMP errors ---

enum { ERROR_LENGTH = 200 }; // with an ICMP header of 8 bytes

// A port unreachable about a datagram from `source` to `destination`, both PORT.
static void make_unreachable(uint32_t source, uint32_t destination, uint8_t error[ERROR_LENGTH])
{
	const struct ipv4 about = {
		.source = source, .destination = destination, .protocol = IPPROTO_UDP};
	uint8_t datagram[2 * HALF], packet[PACKET_MAX];
	size_t length;

	make_udp('u', datagram);
	length = make_ipv4(&about, datagram, sizeof(datagram), packet);
	memset(error, 0, ERROR_LENGTH);
	error[0] = ICMP_DEST_UNREACH;
	error[1] = ICMP_PORT_UNREACH;
	memcpy(error + 8, packet, length);
	put16(error + 2, checksum(error, ERROR_LENGTH, 0));
}

// A socket of b that talks from PORT to PORT; one datagram is sent, so the connection is tracked.
static int talker(uint32_t destination)
{
	int fd = server_inside(world.b_fd, SOCK_DGRAM, PORT);

	assert_int_equal(connect_to(fd, destination, PORT), 0);
	assert_int_equal(send(fd, "x", 1, 0), 1);
	return fd;
}

static void assert_refused(int fd)
{
	char byte;

	wait_for(fd, POLLERR);
	assert_int_equal(recv(fd, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
}

static void assert_unharmed(int fd)
{
	struct pollfd ready = {.fd = fd, .events = POLLERR};

	assert_int_equal(poll(&ready, 1, 0), 0);
}

static void test_icmp_errors_about_others(void **state)
{
	const struct ipv4 whole = {ADDRESS_A, ADDRESS_B, IPPROTO_ICMP, 91, 0};
	const struct ipv4 first = {ADDRESS_A, ADDRESS_B, IPPROTO_ICMP, 92, IP_MF};
	const struct ipv4 second = {ADDRESS_A, ADDRESS_B, IPPROTO_ICMP, 92, 1};
	scoped_fd int listener = server_inside(world.client_fd, SOCK_DGRAM, PORT);
	scoped_fd int hostile = raw_socket(world.a_fd, IPPROTO_RAW);
	scoped_fd int talking = talker(ADDRESS_CLIENT);
	uint8_t error[ERROR_LENGTH];

	(void)state;
	wait_for(listener, POLLIN);
	make_unreachable(ADDRESS_B, ADDRESS_CLIENT, error);
	send_ipv4(hostile, &whole, error, sizeof(error));
	wait_for_drop(SG_DROP_SPOOFED, "eni-a", 0);
	// The address that gives it away is not in the first fragment.
	send_ipv4(hostile, &first, error, 8);
	send_ipv4(hostile, &second, error + 8, sizeof(error) - 8);
	wait_for_drop(SG_DROP_SPOOFED, "eni-a", 1);
	// Nor with every rule for it, and about a connection that is not tracked.
	set_member(&world.a, GROUPS("sg-open"));
	make_unreachable(ADDRESS_B, ADDRESS_ELSEWHERE, error);
	send_ipv4(hostile, &whole, error, sizeof(error));
	wait_for_drop(SG_DROP_SPOOFED, "eni-a", 2);
	assert_unharmed(talking);
}

static void test_icmp_errors_about_own_packets(void **state)
{
	const struct ipv4 first = {ADDRESS_A, ADDRESS_B, IPPROTO_ICMP, 93, IP_MF};
	const struct ipv4 second = {ADDRESS_A, ADDRESS_B, IPPROTO_ICMP, 93, 8};
	scoped_fd int listener = server_inside(world.a_fd, SOCK_DGRAM, PORT);
	scoped_fd int from_a = raw_socket(world.a_fd, IPPROTO_RAW);
	scoped_fd int talking = -1;
	uint8_t error[ERROR_LENGTH];

	(void)state;
	set_group("sg-mute", RULES(UDP_FROM(ADDRESS_B, 32)), NO_RULES);
	talking = talker(ADDRESS_A);
	wait_for(listener, POLLIN);
	make_unreachable(ADDRESS_B, ADDRESS_A, error);
	send_ipv4(from_a, &first, error, 64);
	send_ipv4(from_a, &second, error + 64, sizeof(error) - 64);
	assert_refused(talking);
	assert_int_equal(drops(SG_DROP_SPOOFED, NULL), 0);
}

// A router behind an attachment speaks of other addresses than its own.
static void test_icmp_errors_of_routers(void **state)
{
	const struct ipv4 header = {ADDRESS_CLIENT, ADDRESS_B, IPPROTO_ICMP, 94, 0};
	scoped_fd int router = raw_socket(world.client_fd, IPPROTO_RAW);
	scoped_fd int talking = talker(ADDRESS_ELSEWHERE);
	uint8_t error[ERROR_LENGTH];

	(void)state;
	make_unreachable(ADDRESS_B, ADDRESS_ELSEWHERE, error);
	send_ipv4(router, &header, error, sizeof(error));
	assert_refused(talking);
}

// --- What connection tracking calls invalid ---

static void send_icmp(int raw_fd, uint8_t type)
{
	uint8_t message[8] = {type};

	put16(message + 2, checksum(message, sizeof(message), 0));
	send_ipv4(raw_fd, &(struct ipv4){ADDRESS_CLIENT, ADDRESS_B, IPPROTO_ICMP, 0, 0}, message,
		  sizeof(message));
}

static void assert_icmp_delivered(int server, int raw_fd, uint8_t type)
{
	uint8_t packet[64];

	send_icmp(raw_fd, type);
	do {
		wait_for(server, POLLIN);
		assert_true(recv(server, packet, sizeof(packet), 0) >= HEADER + 8);
	} while (packet[HEADER] != type);
}

static void test_rules_for_every_icmp_type(void **state)
{
	scoped_fd int server = raw_socket(world.b_fd, IPPROTO_ICMP);
	scoped_fd int client = raw_socket(world.client_fd, IPPROTO_RAW);

	(void)state;
	assert_icmp_delivered(server, client, ICMP_ECHOREPLY); // by the rule "-1"
	set_group("sg-open", RULES({.id = "advert", .protocol = 1, .from_port = 9, .to_port = -1}),
		  NO_RULES);
	assert_icmp_delivered(server, client, 9); // router advertisement
	send_icmp(client, ICMP_ECHOREPLY);
	wait_for_drop(SG_DROP_INVALID, "eni-b", 0);
	assert_int_equal(drops(SG_DROP_INGRESS_DENIED, NULL), 0);
}

static int udplite_socket(int namespace_fd)
{
	scoped_visit struct namespace_visit visit = NAMESPACE_VISIT(world.client_fd);
	struct error err = {0};
	int fd;

	assert_ok(namespace_enter(&visit, namespace_fd, &err), &err);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, PROTOCOL_UDPLITE);
	assert_true(fd >= 0);
	return fd;
}

static void test_udplite_is_a_protocol_like_others(void **state)
{
	const struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	scoped_fd int server = udplite_socket(world.b_fd);
	scoped_fd int client = udplite_socket(world.client_fd);
	char text[8];

	(void)state;
	set_group("sg-open", RULES({.id = "lite", .protocol = PROTOCOL_UDPLITE}), NO_RULES);
	assert_int_equal(bind(server, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(connect_to(client, ADDRESS_B, PORT), 0);
	assert_int_equal(send(client, "lite", 4, 0), 4);
	wait_for(server, POLLIN);
	assert_int_equal(recv(server, text, sizeof(text), 0), 4);
}

// Of a protocol whose state is tracked, no rule lets an invalid packet in.
static void test_invalid_tcp_stays_out(void **state)
{
	scoped_fd int client = raw_socket(world.client_fd, IPPROTO_RAW);
	uint8_t segment[20] = {0};

	(void)state;
	put16(segment, PORT);
	put16(segment + 2, PORT);
	segment[12] = 5 << 4;
	segment[13] = 0x02; // SYN, with a wrong checksum
	put16(segment + 16, 1);
	send_ipv4(client, &(struct ipv4){ADDRESS_CLIENT, ADDRESS_B, IPPROTO_TCP, 0, 0}, segment,
		  sizeof(segment));
	wait_for_drop(SG_DROP_INVALID, NULL, 0);
	assert_int_equal(drops(SG_DROP_INVALID, NULL), 1);
}

// --- Connections ---

static void limit_connections(uint32_t limit)
{
	struct error err = {0};

	assert_ok(sg_vpc_limit_connections(world.sg, world_netfilter(), limit, &err), &err);
}

static void test_connections_of_one_task(void **state)
{
	scoped_fd int server = server_inside(world.b_fd, SOCK_DGRAM, PORT);
	scoped_fd int client = socket_inside(world.a_fd, SOCK_STREAM), metadata = -1;
	struct error err = {0};

	(void)state;
	limit_connections(3);
	set_member(&world.a, GROUPS("sg-open"));
	for (int i = 0; i < 3; i++)
		assert_delivered(world.a_fd, ADDRESS_B, server);
	assert_dropped(world.a_fd, ADDRESS_B, SG_DROP_CONNECTIONS, "eni-a");
	// Those that come in are not its own; nor does a filled share concern others.
	for (int i = 0; i < 5; i++)
		assert_delivered(world.client_fd, ADDRESS_B, server);
	// Its own host's side has another share.
	assert_ok(netif_eni_listen(world.netif, "prod", "eni-a", &metadata, &err), &err);
	assert_int_equal(connect_to(client, NETIF_METADATA_ADDRESS, NETIF_METADATA_PORT), 0);
	limit_connections(100);
	assert_delivered(world.a_fd, ADDRESS_B, server);
	limit_connections(0);
	assert_delivered(world.a_fd, ADDRESS_B, server);
	assert_int_equal(drops(SG_DROP_CONNECTIONS, "eni-a"), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_forged_fragments_of_a_task),
		TEST(test_forged_fragments_of_an_attachment),
		TEST(test_fragments_do_not_fill_memory),
		TEST(test_icmp_errors_about_others),
		TEST(test_icmp_errors_about_own_packets),
		TEST(test_icmp_errors_of_routers),
		TEST(test_rules_for_every_icmp_type),
		TEST(test_udplite_is_a_protocol_like_others),
		TEST(test_invalid_tcp_stays_out),
		TEST(test_connections_of_one_task),
	};

	sandbox_enter();
	return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
