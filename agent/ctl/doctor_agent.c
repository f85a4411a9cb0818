// SPDX-License-Identifier: Apache-2.0
// doctor: what the agent says of itself, of its objects and of the guests of its tasks.
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "agent/base/file.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/ctl/doctor.h"
#include "agent/model/model.h"

#define NEIGHBOUR_BOUND "/proc/sys/net/ipv4/neigh/default/gc_thresh3"

enum { AGENT_TIMEOUT_SECONDS = 5 };

static const char *socket_of(const struct host *host)
{
	return host->ctl->socket_default ? host->config.socket : host->ctl->socket_path;
}

static int ask(const struct host *host, const char *path, struct client_reply *ret_reply)
{
	const struct client_request request = {
		.socket_path = socket_of(host),
		.method = "GET",
		.path = path,
		.timeout_seconds = AGENT_TIMEOUT_SECONDS,
	};

	return client_perform(&request, ret_reply);
}

static void say_refusal(struct finding *finding, const char *what, const struct client_reply *reply)
{
	scoped(document_release) cJSON *error = cJSON_Parse(buffer_text(&reply->body));
	const char *message = member_text(error, "message");

	finding_say(finding, VERDICT_WARN, "%s: %s (%d)", what,
		    strcmp(message, "-") ? message : reply->reason, reply->status);
}

void doctor_check_agent(const struct host *host, struct finding *finding)
{
	scoped(client_reply_release) struct client_reply reply = {0};
	int result = ask(host, "/readyz", &reply);

	if (result == -ETIMEDOUT) {
		finding_say(finding, VERDICT_WARN,
			    "an agent has the socket but does not answer within %d s: it hangs, or "
			    "is stopped",
			    AGENT_TIMEOUT_SECONDS);
		finding_advise(
			finding,
			"tasks go on; one that hangs ends itself after watchdog_seconds (%u), "
			"see its log",
			host->config.watchdog_seconds);
	} else if (result < 0) {
		finding_say(finding, VERDICT_WARN, "no agent: %s", reply.err.message);
		finding_advise(finding,
			       reply.err.code == EACCES
				       ? "only root and the configured groups may use the socket"
				       : "start penstockd, or say where it is: --socket PATH");
	} else if (reply.status != 200) {
		say_refusal(finding,
			    reply.status == 503 ? "the agent is not ready" : "the agent refuses",
			    &reply);
	} else {
		finding_say(finding, VERDICT_OK, "the agent answers on %s and is ready",
			    socket_of(host));
	}
}

// The list at a path; NULL after saying why it is not known.
static cJSON *ask_path(const struct host *host, const char *path, struct finding *finding)
{
	scoped(client_reply_release) struct client_reply reply = {0};

	if (ask(host, path, &reply) < 0)
		finding_say(finding, VERDICT_WARN, "not known: %s", reply.err.message);
	else if (reply.status != 200)
		say_refusal(finding, "not known", &reply);
	else
		return cJSON_Parse(buffer_text(&reply.body));
	return NULL;
}

// All objects of a kind.
static cJSON *ask_list(const struct host *host, enum model_kind kind, struct finding *finding)
{
	char path[64];

	snprintf(path, sizeof(path), "/v1/%s", model_kind_path(kind));
	return ask_path(host, path, finding);
}

// Adds the objects of a kind to both counts; the first that is not effective is told. False after
// saying why they are not known.
static bool count_objects(const struct host *host, enum model_kind kind, unsigned *total,
			  unsigned *ineffective, struct finding *finding)
{
	scoped(document_release) cJSON *list = ask_list(host, kind, finding);
	const cJSON *object;

	if (!list)
		return false;
	cJSON_ArrayForEach(object, member_at(list, "items")) {
		++*total;
		if (member_at(object, "status.error") && ++*ineffective == 1)
			finding_say(finding, VERDICT_WARN, "%s/%s is not effective: %s",
				    model_kind_name(kind), member_text(object, "id"),
				    member_text(object, "status.error"));
	}
	return true;
}

void doctor_check_objects(const struct host *host, struct finding *finding)
{
	unsigned total = 0, ineffective = 0;

	for (int kind = 0; kind < MODEL_KIND_COUNT; kind++) {
		if (kind != MODEL_TASK &&
		    !count_objects(host, (enum model_kind)kind, &total, &ineffective, finding))
			return;
	}
	if (ineffective == 0)
		finding_say(finding, VERDICT_OK, "%u, all effective", total);
	else
		finding_advise(finding, "%u of %u; each is tried again every ten seconds",
			       ineffective, total);
}

// Addresses of an attachment's own network, "10.0.9.1/24": a guest that may send to all of them
// makes an entry of the neighbour table for each.
static uint64_t network_size(const char *address)
{
	const char *slash = strchr(address, '/');
	uint32_t prefix;

	if (!slash || parse_u32(slash + 1, 32, &prefix) < 0)
		return 0;
	return UINT64_C(1) << (32 - prefix);
}

static uint64_t count_neighbours(const cJSON *vpcs)
{
	const cJSON *vpc, *attachment;
	uint64_t neighbours = 0;

	cJSON_ArrayForEach(vpc, member_at(vpcs, "items"))
		cJSON_ArrayForEach(attachment, member_at(vpc, "spec.attachments"))
			neighbours += network_size(member_text(attachment, "address"));
	return neighbours;
}

// The kernel has one neighbour table for all network namespaces. Only the host's own namespace
// shows its bound.
void doctor_check_neighbours(const struct host *host, struct finding *finding)
{
	enum { HOSTS_OWN = 1024 }; // the kernel's default: what the host may need besides
	scoped(document_release) cJSON *vpcs = ask_list(host, MODEL_VPC, finding);
	scoped_free char *text = NULL;
	struct error ignored = {0};
	uint64_t needed;
	uint32_t bound;
	size_t length;

	if (!vpcs)
		return;
	needed = count_neighbours(vpcs) + HOSTS_OWN;
	if (file_read(AT_FDCWD, NEIGHBOUR_BOUND, 64, &text, &length, &ignored) < 0) {
		finding_say(finding, VERDICT_OK,
			    "the bound of the neighbour table is not seen here");
		return;
	}
	text[strcspn(text, "\n")] = '\0';
	if (parse_u32(text, UINT32_MAX, &bound) < 0 || bound >= needed) {
		finding_say(finding, VERDICT_OK, "neighbour table: %s entries", text);
		return;
	}
	finding_say(finding, VERDICT_WARN,
		    "neighbour table: %" PRIu32
		    " entries for the whole host, and attachments lead to "
		    "%" PRIu64 " addresses: a guest can fill it",
		    bound, needed - HOSTS_OWN);
	finding_advise(finding,
		       "sysctl -w net.ipv4.neigh.default.gc_thresh3=%" PRIu64
		       ", or give attachments smaller networks and routers",
		       needed);
}

// Those that are not STOPPED and whose guest hangs.
void doctor_check_guests(const struct host *host, struct finding *finding)
{
	scoped(document_release) cJSON *list = ask_list(host, MODEL_TASK, finding);
	unsigned total = 0, silent = 0;
	const cJSON *task;

	cJSON_ArrayForEach(task, member_at(list, "items")) {
		if (strcmp(member_text(task, "status.lastStatus"), "STOPPED") == 0)
			continue;
		total++;
		if (member_at(task, "status.guestSilentSince") && ++silent == 1)
			finding_say(finding, VERDICT_WARN,
				    "task/%s: its guest has not spoken since %s",
				    member_text(task, "id"),
				    member_text(task, "status.guestSilentSince"));
	}
	if (silent > 0)
		finding_advise(
			finding,
			"%u of %u; it goes on by itself or not at all: see shim/console.log in its "
			"cellDirectory, penstockctl stop ends it",
			silent, total);
	else if (list)
		finding_say(finding, VERDICT_OK, "%u, all speak", total);
}

// Whether there are targets that could serve, and none does. One that no listener leads to is not
// looked at by anybody.
static bool nobody_serves(const cJSON *targets)
{
	unsigned able = 0, healthy = 0;
	const cJSON *target;

	cJSON_ArrayForEach(target, member_at(targets, "items")) {
		const char *state = member_text(target, "targetHealth.state");

		healthy += strcmp(state, "healthy") == 0;
		able += strcmp(state, "initial") == 0 || strcmp(state, "unhealthy") == 0;
	}
	return able > 0 && healthy == 0;
}

void doctor_check_targets(const struct host *host, struct finding *finding)
{
	scoped(document_release) cJSON *groups = ask_list(host, MODEL_TARGET_GROUP, finding);
	unsigned total = 0, unserved = 0;
	const cJSON *group;

	if (!groups)
		return;
	cJSON_ArrayForEach(group, member_at(groups, "items")) {
		scoped(document_release) cJSON *targets = NULL;
		char path[128];

		snprintf(path, sizeof(path), "/v1/target-groups/%s/targets",
			 member_text(group, "id"));
		targets = ask_path(host, path, finding);
		if (!targets)
			return;
		total++;
		if (nobody_serves(targets) && ++unserved == 1)
			finding_say(finding, VERDICT_WARN,
				    "target-group/%s has targets, and none is healthy",
				    member_text(group, "id"));
	}
	if (unserved > 0)
		finding_advise(finding, "%u of %u; penstockctl lb BALANCER says why", unserved,
			       total);
	else
		finding_say(finding, VERDICT_OK, "%u groups, none without a healthy target", total);
}
