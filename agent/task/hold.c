// SPDX-License-Identifier: Apache-2.0
// What was plumbed stays plumbed: addresses, routes, neighbours and links of every VPC.
//
// Each VPC's namespace has a netlink socket that becomes readable when a link, address, route or
// neighbour changed there. An event is only the reason for a look; so is every sweep. A look is one
// dump for each kind (netif_look_start), read in parts over several turns, and compared with what
// the records say. What seems to be missing is checked by itself, since a dump that spans turns is
// no snapshot, and then made again by the same idempotent calls that made it first.
//
// The first look begins at once. The next ones are as frequent as a tenth of the loop's time allows
// (agent/base/damper.h): our own tasks raise events too, and somebody who flaps a link all the time
// is not to hold up the loop.
//
// What was lost is reported in the VPC's status, which is an event, until a look finds everything
// whole. Losses that follow each other within some seconds are one report, so that a flapping link
// does not push other changes out of the history.
//
// An interface of a task that somebody deleted cannot be made again: the VMM holds the queue of the
// tap that is gone, and a container the namespace of a veth that is gone. That task ends.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/scope.h"
#include "agent/task/internal.h"

enum {
	REPAIRS_PER_LOOK = 64, // of ENIs, about 0.2 ms each; the rest is for the next look
	REPORTED_LOSSES_MAX = 3,
	REPORT_INTERVAL_US = 5000000,
	FAULTS_TEXT_SIZE = 64,
};

// What a look found lost, and repaired.
struct losses {
	struct buffer text;
	unsigned count;
	unsigned repaired_enis;
};

__attribute__((format(printf, 2, 3))) static void lose(struct losses *losses, const char *format,
						       ...)
{
	char what[256];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	if (losses->count++ < REPORTED_LOSSES_MAX)
		buffer_addf(&losses->text, "%s%s", losses->count > 1 ? ", " : "lost: ", what);
}

// `result` of a call that makes what is missing: 1 when it had been.
__attribute__((format(printf, 4, 5))) static void
take_result(struct losses *losses, int result, const struct error *err, const char *format, ...)
{
	char what[256];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	if (result > 0)
		lose(losses, "%s", what);
	else if (result < 0)
		lose(losses, "%s (%.150s)", what, err->message);
}

// --- Reports ---

static const char *vpc_error(const struct network_vpc *vpc)
{
	const struct object_status *status = object_status(vpc->engine, MODEL_VPC, vpc->id);

	return status && status->error ? status->error : "";
}

static void report(struct network_vpc *vpc, struct losses *losses)
{
	struct hold *hold = &vpc->hold;
	int64_t now_us = clock_monotonic_us();
	bool repeated = hold->lost_us && now_us - hold->lost_us < REPORT_INTERVAL_US;

	hold->lost_us = now_us;
	hold->report_until_us = repeated ? now_us + REPORT_INTERVAL_US : 0;
	if (hold->reported)
		return;
	if (losses->count > REPORTED_LOSSES_MAX)
		buffer_addf(&losses->text, " and %u more", losses->count - REPORTED_LOSSES_MAX);
	if (!*vpc_error(vpc)) {
		hold->reported = buffer_take(&losses->text);
		object_set_error(vpc->engine, MODEL_VPC, vpc->id, hold->reported);
	} else if (!repeated) { // an error of the VPC's own effect stays until that succeeds
		log_warning(NULL, "vpc %s: %s", vpc->id, buffer_text(&losses->text));
	}
}

// A look found everything there.
static void report_whole(struct network_vpc *vpc)
{
	struct hold *hold = &vpc->hold;

	if (!hold->reported)
		return;
	if (clock_monotonic_us() < hold->report_until_us) {
		timer_arm(hold->timer, hold->report_until_us);
		return;
	}
	if (strcmp(vpc_error(vpc), hold->reported) == 0)
		object_set_error(vpc->engine, MODEL_VPC, vpc->id, "");
	free(hold->reported);
	hold->reported = NULL;
}

// --- What a look compares ---

static void hold_vpc(struct network_vpc *vpc, const struct netif_look *look,
		     const struct vpc_spec *spec, struct losses *losses)
{
	struct error err = {0};

	if (netif_look_has_vpc(look, &spec->cidr_block))
		return;
	take_result(losses,
		    netif_vpc_configure(vpc->engine->netif, vpc->id, &spec->cidr_block, &err), &err,
		    "169.254.170.2 on lo, or the route that holds back the VPC's block");
}

static void hold_subnets(struct network_vpc *vpc, const struct netif_look *look,
			 struct losses *losses)
{
	struct engine *engine = vpc->engine;

	for (struct network_subnet *s = engine->subnets; s; s = s->next) {
		struct error err = {0};

		if (strcmp(s->vpc_id, vpc->id) != 0 || netif_look_has_subnet(look, &s->block))
			continue;
		take_result(losses, netif_subnet_ensure(engine->netif, vpc->id, &s->block, &err),
			    &err, "router or route of subnet %s", s->id);
	}
}

static void hold_balancers(struct network_vpc *vpc, const struct netif_look *look,
			   struct losses *losses)
{
	struct engine *engine = vpc->engine;

	for (struct network_balancer *b = engine->balancers; b; b = b->next) {
		struct error err = {0};

		// One that is pending delete gives its address back at any time.
		if (strcmp(b->vpc_id, vpc->id) != 0 ||
		    !engine_object(engine, MODEL_LOAD_BALANCER, b->id) ||
		    netif_look_has_address(look, b->address))
			continue;
		take_result(losses, netif_address_ensure(engine->netif, vpc->id, b->address, &err),
			    &err, "address of load balancer %s", b->id);
	}
}

// An interface that is not there is looked for by the effect of the VPC, which says so in the
// status, and again as soon as the host has it.
static void hold_attachments(struct network_vpc *vpc, const struct vpc_spec *spec,
			     struct losses *losses)
{
	struct engine *engine = vpc->engine;
	bool again = false;

	for (uint32_t i = 0; i < spec->attachment_count; i++) {
		const char *interface = spec->attachments[i].interface;
		struct error err = {0};
		unsigned faults = 0;

		if (vpc_attachment_check(engine, vpc->id, &spec->attachments[i], &faults, &err) <
		    0) {
			log_warning(NULL, "vpc %s: %s", vpc->id, err.message);
			continue;
		}
		if (faults & NETIF_ATTACHMENT_MISSING)
			again = again || !*vpc_error(vpc) || vpc->hold.reported;
		else if (faults) {
			lose(losses, "%s of attachment %s",
			     faults & NETIF_ATTACHMENT_DOWN ? "link, address or routes"
							    : "address or routes",
			     interface);
			again = true;
		}
	}
	if (again)
		engine_object_changed(engine, MODEL_VPC, vpc->id);
}

// Its link was set up and nothing undoes it at present. The walk of a task that is being adopted
// says nothing yet: there the record counts.
static bool is_linked(const struct task *task, const struct network_vpc *vpc)
{
	if (!task_is_of_vpc(task, vpc))
		return false;
	if (task->adopting)
		return task->status.progress[STEP_LINK].applied;
	return task->walk.direction == WALK_UP && task->walk.standing > STEP_LINK;
}

// "neighbour, route"
static const char *faults_text(unsigned faults, char text[FAULTS_TEXT_SIZE])
{
	static const struct {
		unsigned fault;
		const char *name;
	} names[] = {{NETIF_ENI_DOWN, "link"},
		     {NETIF_ENI_NO_NEIGHBOUR, "neighbour"},
		     {NETIF_ENI_NO_ROUTE, "route"}};
	size_t length = 0;

	text[0] = '\0';
	for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
		if (faults & names[i].fault)
			length += (size_t)snprintf(text + length, FAULTS_TEXT_SIZE - length, "%s%s",
						   length > 0 ? ", " : "", names[i].name);
	return text;
}

static void hold_eni(struct task *task, struct losses *losses)
{
	char what[FAULTS_TEXT_SIZE];
	const char *eni_id = task->status.network.eni_id;
	struct error err = {0};
	unsigned faults = 0;
	int result = eni_repair(task, &faults, &err);

	if (result < 0)
		lose(losses, "%s of task %s (%.150s)", eni_id, task->id, err.message);
	else if (faults & NETIF_ENI_UNLINKED) // else the task ends, and says why itself
		lose(losses, "%s of task %s", faults_text(faults, what), task->id);
	losses->repaired_enis++;
}

static void hold_enis(struct network_vpc *vpc, const struct netif_look *look, struct losses *losses)
{
	for (struct task *task = vpc->engine->tasks; task; task = task->next) {
		struct netif_eni eni;
		struct error ignored = {0};

		if (losses->repaired_enis == REPAIRS_PER_LOOK)
			return;
		if (is_linked(task, vpc) && eni_of(task, &eni, &ignored) == 0 &&
		    !netif_look_has_eni(look, &eni))
			hold_eni(task, losses);
	}
}

// --- The look ---

static void look_end(struct hold *hold)
{
	if (hold->look_event)
		event_free(hold->look_event);
	hold->look_event = NULL;
	netif_look_free(hold->look);
	hold->look = NULL;
}

static void compare(struct network_vpc *vpc)
{
	const struct model_object *object = engine_object(vpc->engine, MODEL_VPC, vpc->id);
	struct losses losses = {0};

	if (!object) // pending delete
		return;
	hold_vpc(vpc, vpc->hold.look, object->vpc, &losses);
	hold_subnets(vpc, vpc->hold.look, &losses);
	hold_balancers(vpc, vpc->hold.look, &losses);
	hold_attachments(vpc, object->vpc, &losses);
	hold_enis(vpc, vpc->hold.look, &losses);
	vpc->hold.unfinished = losses.repaired_enis == REPAIRS_PER_LOOK;
	if (losses.count > 0)
		report(vpc, &losses);
	else
		report_whole(vpc);
	vpc->hold.again = vpc->hold.again || losses.count > 0; // is it whole now?
	buffer_release(&losses.text);
}

static void look_done(struct network_vpc *vpc, int64_t began_us)
{
	struct hold *hold = &vpc->hold;
	int64_t now_us;

	compare(vpc);
	look_end(hold);
	now_us = clock_monotonic_us();
	hold->cost_us += now_us - began_us;
	damper_worked(&hold->damper, now_us - hold->cost_us, now_us);
	if (hold->unfinished)
		hold->damper.next_us = 0; // this much is done in each look, however many are lost
	if (hold->again)
		timer_arm(hold->timer, hold->damper.next_us);
	hold->again = false;
}

static void on_look(evutil_socket_t fd, short what, void *context)
{
	struct network_vpc *vpc = context;
	int64_t began_us = clock_monotonic_us();
	struct error err = {0};
	bool done = false;

	(void)fd;
	(void)what;
	if (netif_look_step(vpc->hold.look, &done, &err) < 0) {
		log_warning(NULL, "vpc %s: %s", vpc->id, err.message);
		look_end(&vpc->hold); // the next sweep begins again
	} else if (done) {
		look_done(vpc, began_us);
	} else {
		vpc->hold.cost_us += clock_monotonic_us() - began_us;
	}
}

static int look_begin(struct network_vpc *vpc, struct error *err)
{
	struct hold *hold = &vpc->hold;

	if (netif_look_start(vpc->engine->netif, vpc->id, &hold->look, err) < 0)
		return -err->code;
	hold->look_event = event_new(vpc->engine->base, netif_look_fd(hold->look),
				     EV_READ | EV_PERSIST, on_look, vpc);
	if (!hold->look_event || event_add(hold->look_event, NULL) < 0)
		return error_set(err, ENOMEM, "look at vpc %s", vpc->id);
	return 0;
}

static void on_look_timer(evutil_socket_t fd, short what, void *context)
{
	struct network_vpc *vpc = context;
	int64_t began_us = clock_monotonic_us();
	struct error err = {0};

	(void)fd;
	(void)what;
	if (vpc->hold.look)
		return;
	if (look_begin(vpc, &err) < 0) {
		log_warning(NULL, "%s", err.message);
		look_end(&vpc->hold);
	}
	vpc->hold.cost_us = clock_monotonic_us() - began_us;
}

void hold_look(struct network_vpc *vpc)
{
	if (vpc->hold.look)
		vpc->hold.again = true; // the parts that were read may be out of date
	else
		timer_arm(vpc->hold.timer, vpc->hold.damper.next_us);
}

static void on_change(evutil_socket_t fd, short what, void *context)
{
	(void)what;
	if (netif_watch_drain(fd))
		hold_look(context);
}

int hold_vpc_open(struct network_vpc *vpc, struct error *err)
{
	struct hold *hold = &vpc->hold;

	if (netif_watch_open(vpc->engine->netif, vpc->id, &hold->fd, err) < 0)
		return -err->code;
	hold->event = event_new(vpc->engine->base, hold->fd, EV_READ | EV_PERSIST, on_change, vpc);
	hold->timer = evtimer_new(vpc->engine->base, on_look_timer, vpc);
	if (!hold->event || !hold->timer || event_add(hold->event, NULL) < 0)
		return error_set(err, ENOMEM, "watch vpc %s", vpc->id);
	return 0;
}

void hold_vpc_close(struct network_vpc *vpc)
{
	struct hold *hold = &vpc->hold;

	look_end(hold);
	if (hold->event)
		event_free(hold->event);
	if (hold->timer)
		event_free(hold->timer);
	close_fd(&hold->fd);
	free(hold->reported);
}

void hold_sweep(struct engine *engine)
{
	for (struct network_vpc *vpc = engine->vpcs; vpc; vpc = vpc->next)
		hold_look(vpc);
}

// --- Interfaces that appear in the host's namespace ---

static bool host_has_attachment(struct engine *engine, const struct vpc_spec *spec)
{
	for (uint32_t i = 0; i < spec->attachment_count; i++) {
		struct error ignored = {0};

		if (netif_host_has(engine->netif, spec->attachments[i].interface, &ignored) > 0)
			return true;
	}
	return false;
}

// Only a VPC that lacks an interface can be waiting for one.
static void on_host_timer(evutil_socket_t fd, short what, void *context)
{
	struct engine *engine = context;
	int64_t began_us = clock_monotonic_us();

	(void)fd;
	(void)what;
	for (struct network_vpc *vpc = engine->vpcs; vpc; vpc = vpc->next) {
		const struct model_object *object = engine_object(engine, MODEL_VPC, vpc->id);

		if (object && *vpc_error(vpc) && host_has_attachment(engine, object->vpc))
			engine_object_changed(engine, MODEL_VPC, vpc->id);
	}
	damper_worked(&engine->host_links.damper, began_us, clock_monotonic_us());
}

static void on_host_change(evutil_socket_t fd, short what, void *context)
{
	struct engine *engine = context;

	(void)what;
	if (netif_watch_drain(fd))
		timer_arm(engine->host_links.timer, engine->host_links.damper.next_us);
}

int hold_host_open(struct engine *engine, struct error *err)
{
	struct hold *hold = &engine->host_links;

	if (netif_watch_open(engine->netif, NULL, &hold->fd, err) < 0)
		return -err->code;
	hold->event =
		event_new(engine->base, hold->fd, EV_READ | EV_PERSIST, on_host_change, engine);
	hold->timer = evtimer_new(engine->base, on_host_timer, engine);
	if (!hold->event || !hold->timer || event_add(hold->event, NULL) < 0)
		return error_set(err, ENOMEM, "watch the host's interfaces");
	return 0;
}

void hold_host_close(struct engine *engine)
{
	struct hold *hold = &engine->host_links;

	if (hold->event)
		event_free(hold->event);
	if (hold->timer)
		event_free(hold->timer);
	hold->event = hold->timer = NULL;
	close_fd(&hold->fd);
}
