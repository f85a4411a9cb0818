// SPDX-License-Identifier: Apache-2.0
// One attempt of a check: connect from the balancer's address; for HTTP send a GET and
// read the first 13 bytes of the final answer. Each attempt has one absolute deadline.
//
// Eagerness: a new target is tried again after 100, 200, 400 ... ms during its first
// interval, and failures of that time are not told: a container that needs half a
// second to listen is healthy after that half second, not an interval later. Of a target
// whose health is known (its check was changed, or the probe is new) every failure counts.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/scope.h"
#include "agent/lb/probe.h"

enum { RETRY_FIRST_MS = 100, MATCHER_FIRST = 200, READ_BYTES = 1024 };

static bool command_is_sound(const struct probe_command *command)
{
	return command->port >= 1 && command->port <= UINT16_MAX &&
	       command->protocol <= PROBE_HTTP && command->interval_ms >= 100 &&
	       command->timeout_ms >= 1 && command->timeout_ms <= command->interval_ms &&
	       memchr(command->path, '\0', sizeof(command->path));
}

static char *format_request(const struct probe_command *command)
{
	struct in_addr address = {.s_addr = htonl(command->address)};
	char text[INET_ADDRSTRLEN];
	char *request;

	inet_ntop(AF_INET, &address, text, sizeof(text));
	if (asprintf(&request,
		     "GET %s HTTP/1.1\r\nHost: %s:%u\r\nUser-Agent: penstock-probe\r\n"
		     "Accept: */*\r\nConnection: close\r\n\r\n",
		     command->path, text, command->port) < 0)
		abort();
	return request;
}

struct probe_check *probe_check_new(const struct probe_command *command, int64_t now_us)
{
	struct probe_check *check;

	if (!command_is_sound(command))
		return NULL;
	check = calloc(1, sizeof(*check));
	if (!check)
		abort();
	*check = (struct probe_check){
		.number = command->number,
		.generation = command->generation,
		.address = command->address,
		.source = command->source,
		.port = (uint16_t)command->port,
		.protocol = (enum probe_protocol)command->protocol,
		.interval_ms = command->interval_ms,
		.timeout_ms = command->timeout_ms,
		.request = command->protocol == PROBE_HTTP ? format_request(command) : NULL,
		.due_us = now_us,
		.eager_until_us =
			command->eager ? now_us + (int64_t)command->interval_ms * 1000 : 0,
		.retry_ms = RETRY_FIRST_MS,
		.fd = -1,
	};
	memcpy(check->matcher, command->matcher, sizeof(check->matcher));
	return check;
}

void probe_check_free(struct probe_check *check)
{
	if (!check)
		return;
	close_fd(&check->fd);
	free(check->request);
	free(check);
}

static bool end(struct probe_check *check, enum probe_outcome outcome, uint32_t http_status,
		int64_t now_us, struct probe_result *ret_result)
{
	close_fd(&check->fd); // leaves the epoll instance with it
	*ret_result = (struct probe_result){
		.number = check->number,
		.generation = check->generation,
		.outcome = outcome,
		.http_status = http_status,
		.latency_us = (uint32_t)(now_us - check->started_us),
	};
	return true;
}

// The target could not be talked to: `failure` as in struct probe_result.
static bool end_failed(struct probe_check *check, int failure, int64_t now_us,
		       struct probe_result *ret_result)
{
	end(check, PROBE_FAILED, 0, now_us, ret_result);
	ret_result->failure = (uint32_t)failure;
	return true;
}

static struct sockaddr_in socket_address(uint32_t address, uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
}

static bool is_matched(const struct probe_check *check, int status)
{
	int bit = status - MATCHER_FIRST;

	return bit >= 0 && bit < PROBE_MATCHER_BYTES * 8 &&
	       (check->matcher[bit / 8] & (1 << (bit % 8)));
}

bool probe_attempt_start(struct probe_check *check, int epoll_fd, int64_t now_us,
			 struct probe_result *ret_result)
{
	struct sockaddr_in source = socket_address(check->source, 0);
	struct sockaddr_in target = socket_address(check->address, check->port);
	struct epoll_event event = {.events = EPOLLOUT, .data.u64 = check->number};
	int yes = 1;

	check->started_us = now_us;
	check->due_us = now_us + (int64_t)check->timeout_ms * 1000;
	check->sent = 0;
	check->http = (struct probe_http){0};
	check->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (check->fd < 0)
		return end(check, PROBE_INTERNAL, 0, now_us, ret_result);
	setsockopt(check->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof(yes));
	if (bind(check->fd, (struct sockaddr *)&source, sizeof(source)) < 0)
		return end(check, PROBE_INTERNAL, 0, now_us, ret_result);
	if (connect(check->fd, (struct sockaddr *)&target, sizeof(target)) < 0 &&
	    errno != EINPROGRESS)
		return end_failed(check, errno, now_us, ret_result);
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, check->fd, &event) < 0)
		return end(check, PROBE_INTERNAL, 0, now_us, ret_result);
	return false;
}

static bool send_request(struct probe_check *check, int epoll_fd, int64_t now_us,
			 struct probe_result *ret_result)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = check->number};
	size_t length = strlen(check->request);
	ssize_t count =
		send(check->fd, check->request + check->sent, length - check->sent, MSG_NOSIGNAL);

	if (count < 0)
		return errno != EAGAIN && end_failed(check, errno, now_us, ret_result);
	check->sent += (size_t)count;
	if (check->sent == length && epoll_ctl(epoll_fd, EPOLL_CTL_MOD, check->fd, &event) < 0)
		return end(check, PROBE_INTERNAL, 0, now_us, ret_result);
	return false;
}

static bool read_status(struct probe_check *check, int64_t now_us, struct probe_result *ret_result)
{
	char bytes[READ_BYTES];
	size_t room = probe_http_room(&check->http);
	ssize_t count = recv(check->fd, bytes, room < sizeof(bytes) ? room : sizeof(bytes), 0);
	int status;

	if (count < 0 && errno == EAGAIN)
		return false;
	if (count <= 0)
		return end_failed(check, count < 0 ? errno : 0, now_us, ret_result);
	status = probe_http_take(&check->http, bytes, (size_t)count);
	if (status == 0)
		return false;
	if (status < 0)
		return end_failed(check, 0, now_us, ret_result);
	return end(check, is_matched(check, status) ? PROBE_PASS : PROBE_MISMATCH, (uint32_t)status,
		   now_us, ret_result);
}

bool probe_attempt_ready(struct probe_check *check, int epoll_fd, int64_t now_us,
			 struct probe_result *ret_result)
{
	int failure = 0;
	socklen_t size = sizeof(failure);

	if (check->fd < 0)
		return false;
	if (getsockopt(check->fd, SOL_SOCKET, SO_ERROR, &failure, &size) < 0)
		failure = errno;
	if (failure)
		return end_failed(check, failure, now_us, ret_result);
	if (check->protocol == PROBE_TCP)
		return end(check, PROBE_PASS, 0, now_us, ret_result);
	if (check->sent < strlen(check->request))
		return send_request(check, epoll_fd, now_us, ret_result);
	return read_status(check, now_us, ret_result);
}

bool probe_attempt_timeout(struct probe_check *check, int64_t now_us,
			   struct probe_result *ret_result)
{
	return end(check, PROBE_TIMED_OUT, 0, now_us, ret_result);
}

bool probe_attempt_finish(struct probe_check *check, const struct probe_result *result,
			  int64_t now_us)
{
	int64_t retry_us = now_us + (int64_t)check->retry_ms * 1000;

	if (result->outcome != PROBE_PASS && retry_us < check->eager_until_us) {
		check->due_us = retry_us;
		check->retry_ms *= 2;
		return false;
	}
	check->eager_until_us = 0;
	check->due_us = check->started_us + (int64_t)check->interval_ms * 1000;
	if (check->due_us < now_us)
		check->due_us = now_us;
	return true;
}
