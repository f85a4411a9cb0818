// SPDX-License-Identifier: Apache-2.0
// What can only be read: the host, ENIs, targets, metrics, health, this API itself.
#include <errno.h>
#include <inttypes.h>

#include "agent/api/internal.h"
#include "agent/api/openapi.h"
#include "agent/base/scope.h"

static void reply_items(struct exchange *exchange, const struct buffer *items)
{
	buffer_addf(reply_json(exchange, 200), "{\"revision\":%" PRIu64 ",\"items\":%s}",
		    store_revision(exchange->api->store), buffer_text(items));
}

void handle_enis(struct exchange *exchange)
{
	const struct api_backend *backend = exchange->api->backend;
	scoped(buffer_release) struct buffer items = {0};
	struct error err = {0};
	int result = backend->enis_render(backend->context, NULL, &items, &err);

	if (result < 0)
		reply_errno(exchange, result, NULL, &err);
	else
		reply_items(exchange, &items);
}

void handle_eni(struct exchange *exchange)
{
	const struct api_backend *backend = exchange->api->backend;
	struct error err = {0};
	int result = backend->enis_render(backend->context, exchange->id, reply_json(exchange, 200),
					  &err);

	if (result < 0)
		reply_errno(exchange, result, NULL, &err);
}

void handle_targets(struct exchange *exchange)
{
	const struct api_backend *backend = exchange->api->backend;
	scoped(buffer_release) struct buffer items = {0};
	struct store_object stored;
	struct error err = {0};
	int result;

	exchange->kind = MODEL_TARGET_GROUP;
	if (!object_load(exchange, &stored))
		return;
	result = backend->targets_render(backend->context, exchange->id, &items, &err);
	if (result < 0)
		reply_errno(exchange, result, NULL, &err);
	else
		reply_items(exchange, &items);
}

void handle_host(struct exchange *exchange)
{
	const struct api_backend *backend = exchange->api->backend;

	backend->host_render(backend->context, reply_json(exchange, 200));
}

void handle_healthz(struct exchange *exchange)
{
	buffer_adds(reply_begin(exchange, 200, "text/plain"), "ok\n");
}

void handle_readyz(struct exchange *exchange)
{
	const struct api_backend *backend = exchange->api->backend;
	struct error err = {0};

	if (backend->ready(backend->context, &err))
		buffer_adds(reply_begin(exchange, 200, "text/plain"), "ready\n");
	else
		reply_error(exchange, REPLY_UNAVAILABLE, NULL, "%s",
			    err.message[0] ? err.message : "not ready");
}

void handle_openapi(struct exchange *exchange)
{
	buffer_add(reply_begin(exchange, 200, "application/yaml"), api_openapi_text,
		   (size_t)(api_openapi_end - api_openapi_text));
}

void handle_shutdown(struct exchange *exchange)
{
	struct api *api = exchange->api;

	if (!exchange_query_flag(exchange, "stopTasks", &api->shutdown_stops_tasks))
		return;
	exchange->ends_agent = true;
	buffer_addf(reply_json(exchange, 202), "{\"stopTasks\":%s}",
		    api->shutdown_stops_tasks ? "true" : "false");
}
