// SPDX-License-Identifier: Apache-2.0
#include "agent/guest/http_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "agent/base/clock.h"
#include "agent/base/scope.h"

void http_client_open(struct http_client *client, struct sockaddr_in peer, size_t response_max)
{
	*client = (struct http_client){.peer = peer, .fd = -1};
	http_reader_open(&client->reader, HTTP_RESPONSE, response_max);
}

static void disconnect(struct http_client *client)
{
	size_t response_max = client->reader.body_max;

	close_fd(&client->fd);
	http_reader_close(&client->reader);
	http_reader_open(&client->reader, HTTP_RESPONSE, response_max);
	client->has_response = false;
}

void http_client_close(struct http_client *client)
{
	close_fd(&client->fd);
	http_reader_close(&client->reader);
	buffer_release(&client->out);
}

void http_client_begin(struct http_client *client, enum http_method method, const char *target,
		       const char *bearer, const void *body, size_t body_length,
		       int64_t deadline_us)
{
	char host[INET_ADDRSTRLEN] = "";

	if (client->fd < 0)
		disconnect(client);
	else if (client->has_response)
		http_reader_consume(&client->reader);
	client->has_response = false;
	inet_ntop(AF_INET, &client->peer.sin_addr, host, sizeof(host));
	buffer_release(&client->out);
	http_request_head(&client->out, method, target, host, bearer, body_length);
	buffer_add(&client->out, body, body_length);
	client->sent = 0;
	client->busy = true;
	client->deadline_us = deadline_us;
}

short http_client_events(const struct http_client *client)
{
	if (!client->busy)
		return 0;
	if (client->fd < 0 || client->sent < client->out.length)
		return POLLOUT;
	return POLLIN;
}

static int dial(struct http_client *client, struct error *err)
{
	scoped_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return error_errno(err, "socket");
	if (connect(fd, (const struct sockaddr *)&client->peer, sizeof(client->peer)) < 0 &&
	    errno != EINPROGRESS)
		return error_errno(err, "connect");
	client->fd = take_fd(&fd);
	return 0;
}

// 1 when everything is sent, 0 when the socket is full.
static int send_request(struct http_client *client, struct error *err)
{
	while (client->sent < client->out.length) {
		ssize_t count = send(client->fd, client->out.data + client->sent,
				     client->out.length - client->sent, MSG_NOSIGNAL);

		if (count < 0 && (errno == EAGAIN || errno == ENOTCONN || errno == EINTR))
			return 0;
		if (count < 0)
			return error_errno(err, "send");
		client->sent += (size_t)count;
	}
	return 1;
}

// 1 when the response is whole, 0 when more must come.
static int receive_response(struct http_client *client, struct http_message *ret_response,
			    struct error *err)
{
	for (;;) {
		enum http_progress progress = http_reader_next(&client->reader, ret_response);
		char *place;
		size_t room = http_reader_space(&client->reader, &place);
		ssize_t count;

		if (progress == HTTP_COMPLETE)
			return 1;
		if (progress == HTTP_FAULT)
			return error_set(err, EBADMSG, "malformed response");
		count = recv(client->fd, place, room, 0);
		if (count < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (count < 0)
			return error_errno(err, "receive");
		if (count == 0)
			return error_set(err, ECONNRESET, "connection closed before the response");
		http_reader_advance(&client->reader, (size_t)count);
	}
}

static int advance(struct http_client *client, struct http_message *ret_response, struct error *err)
{
	int result = 0;

	if (client->fd < 0)
		result = dial(client, err);
	if (result == 0)
		result = send_request(client, err);
	if (result == 1)
		result = receive_response(client, ret_response, err);
	return result;
}

int http_client_step(struct http_client *client, int64_t now_us, struct http_message *ret_response,
		     struct error *err)
{
	int result = advance(client, ret_response, err);

	if (result == 0 && now_us < client->deadline_us)
		return HTTP_CLIENT_PENDING;
	if (result == 0)
		result = error_set(err, ETIMEDOUT, "no response in time");
	client->busy = false;
	if (result < 0) {
		disconnect(client);
		return result;
	}
	client->has_response = true;
	if (!ret_response->keep_alive)
		close_fd(&client->fd);
	return HTTP_CLIENT_DONE;
}

int http_client_exchange(struct http_client *client, struct http_message *ret_response,
			 struct error *err)
{
	for (;;) {
		int64_t now_us = clock_monotonic_us();
		int result = http_client_step(client, now_us, ret_response, err);
		struct pollfd place = {.fd = client->fd, .events = http_client_events(client)};

		if (result != HTTP_CLIENT_PENDING)
			return result < 0 ? result : 0;
		poll(&place, 1, (int)((client->deadline_us - now_us) / 1000 + 1));
	}
}
