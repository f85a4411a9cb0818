// SPDX-License-Identifier: Apache-2.0
// GET /metrics: on a host of many tasks this is long work. It is done a slice in each turn of the
// loop, so that whatever else happens is not kept waiting, and then sent in one piece.
#include <stdlib.h>
#include <string.h>

#include "agent/api/accept.h"
#include "agent/api/internal.h"

void handle_metrics(struct exchange *exchange)
{
	const char *accept = exchange->connection->reader.request.accept;
	bool openmetrics = accept_prefers_openmetrics(accept);

	exchange->scrape = (struct scrape){.wanted = true, .openmetrics = openmetrics};
	reply_begin(exchange, 200,
		    openmetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
				: "text/plain; version=0.0.4; charset=utf-8");
}

static bool take_slice(struct exchange *exchange)
{
	const struct api_backend *backend = exchange->api->backend;
	struct scrape *scrape = &exchange->scrape;

	return backend->metrics_render(backend->context, scrape->openmetrics, &scrape->position,
				       &exchange->reply);
}

static void on_turn(evutil_socket_t fd, short what, void *context)
{
	struct exchange *exchange = context;

	(void)fd;
	(void)what;
	if (!take_slice(exchange)) {
		event_add(exchange->scrape.timer, &(struct timeval){0});
		return;
	}
	exchange_unhold(exchange);
	exchange_finish(exchange);
}

void scrape_begin(struct exchange *exchange)
{
	if (!exchange->connection || take_slice(exchange)) {
		exchange_finish(exchange);
		return;
	}
	exchange->scrape.timer = evtimer_new(exchange->api->base, on_turn, exchange);
	if (!exchange->scrape.timer)
		abort();
	exchange_hold(exchange, &exchange->api->scraping);
	event_add(exchange->scrape.timer, &(struct timeval){0});
}
