// SPDX-License-Identifier: Apache-2.0
// nftables rules that somebody else changed.
//
// Every VPC's namespace and the host's have a netlink socket that becomes readable when a process
// other than the agent committed an nf_tables transaction there. What the transaction did is not
// read: the table is restored, or for the host looked at first, since other programs change their
// own tables there all the time.
//
// The first damage is repaired at once. Repeated damage is repaired as often as a tenth of the
// loop's time allows (agent/base/damper.h). Until a VPC's table may be restored again it is shut:
// its constant chains are put back, which costs the same for a VPC of any size, and with no member
// in their maps they drop everything. So the time in which a VPC stands open does not grow with the
// number of its members.
#include <errno.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/scope.h"
#include "agent/task/internal.h"

enum { LOG_INTERVAL_US = 1000000 };

// The table is restored, and each member and group is set again.
static void restore(struct network_vpc *vpc)
{
	struct error err = {0};
	int socket_fd;

	vpc->rules.began_us = clock_monotonic_us();
	if (netif_netfilter_socket(vpc->engine->netif, vpc->id, &socket_fd, &err) < 0 ||
	    sg_vpc_restore(vpc->sg, socket_fd, &err) < 0) {
		log_error(NULL, "policy of vpc %s: %s", vpc->id, err.message);
		rules_sent(vpc);
		return;
	}
	lb_vpc_resync(vpc->engine->lb, vpc->id);
	effects_of_vpc_again(vpc);
	policy_again(vpc);
	damper_worked(&vpc->rules.restoring, vpc->rules.began_us, clock_monotonic_us());
}

// A restoration ends with the batch that holds the members and groups.
void rules_sent(struct network_vpc *vpc)
{
	if (vpc->rules.began_us)
		damper_worked(&vpc->rules.restoring, vpc->rules.began_us, clock_monotonic_us());
	vpc->rules.began_us = 0;
}

static void shut(struct network_vpc *vpc)
{
	int64_t began_us = clock_monotonic_us();
	struct error err = {0};
	int socket_fd;

	if (netif_netfilter_socket(vpc->engine->netif, vpc->id, &socket_fd, &err) < 0 ||
	    sg_vpc_shut(vpc->sg, socket_fd, &err) < 0)
		log_error(NULL, "policy of vpc %s: %s", vpc->id, err.message);
	damper_worked(&vpc->rules.shutting, began_us, clock_monotonic_us());
}

static int64_t earlier(int64_t one, int64_t other)
{
	return one < other ? one : other;
}

static bool may_log(struct rules_watch *watch)
{
	int64_t now_us = clock_monotonic_us();

	if (watch->logged_us && now_us - watch->logged_us < LOG_INTERVAL_US)
		return false;
	watch->logged_us = now_us;
	return true;
}

static void on_vpc_timer(evutil_socket_t fd, short what, void *context)
{
	struct network_vpc *vpc = context;

	(void)fd;
	(void)what;
	if (!damper_allows(&vpc->rules.restoring, clock_monotonic_us())) {
		shut(vpc);
		timer_arm(vpc->rules.timer, vpc->rules.restoring.next_us);
		return;
	}
	if (may_log(&vpc->rules))
		log_warning(NULL, "vpc %s: somebody else changed its nftables rules", vpc->id);
	restore(vpc);
}

static void on_vpc_change(evutil_socket_t fd, short what, void *context)
{
	struct network_vpc *vpc = context;

	(void)what;
	if (nft_socket_drain(fd))
		timer_arm(vpc->rules.timer,
			  earlier(vpc->rules.restoring.next_us, vpc->rules.shutting.next_us));
}

static int watch(struct engine *engine, struct rules_watch *watch, const char *vpc,
		 event_callback_fn on_change, event_callback_fn on_timer, void *context,
		 struct error *err)
{
	if (netif_netfilter_watch(engine->netif, vpc, &watch->fd, err) < 0)
		return -err->code;
	watch->event = event_new(engine->base, watch->fd, EV_READ | EV_PERSIST, on_change, context);
	watch->timer = evtimer_new(engine->base, on_timer, context);
	if (!watch->event || !watch->timer || event_add(watch->event, NULL) < 0)
		return error_set(err, ENOMEM, "watch nftables rules");
	return 0;
}

int rules_watch_vpc(struct network_vpc *vpc, struct error *err)
{
	return watch(vpc->engine, &vpc->rules, vpc->id, on_vpc_change, on_vpc_timer, vpc, err);
}

void rules_watch_close(struct rules_watch *watch)
{
	if (watch->event)
		event_free(watch->event);
	if (watch->timer)
		event_free(watch->timer);
	watch->event = watch->timer = NULL;
	close_fd(&watch->fd);
}

void rules_retry(struct network_vpc *vpc)
{
	if (sg_vpc_is_damaged(vpc->sg))
		restore(vpc);
}

// --- The host's table ---

static int ensure_host(struct engine *engine, struct error *err)
{
	bool complete;
	int socket_fd;

	if (netif_netfilter_socket(engine->netif, NULL, &socket_fd, err) < 0 ||
	    sg_host_check(engine->config->install, socket_fd, &complete, err) < 0)
		return -err->code;
	if (complete)
		return 0;
	log_warning(NULL, "the host's table of install %s was damaged, it is made again",
		    engine->config->install);
	return sg_host_ensure(engine->config->install, socket_fd, err);
}

void rules_check_host(struct engine *engine)
{
	int64_t began_us = clock_monotonic_us();
	struct error err = {0};

	if (ensure_host(engine, &err) < 0)
		log_error(NULL, "%s", err.message);
	damper_worked(&engine->host_rules.restoring, began_us, clock_monotonic_us());
}

static void on_host_timer(evutil_socket_t fd, short what, void *context)
{
	(void)fd;
	(void)what;
	rules_check_host(context);
}

static void on_host_change(evutil_socket_t fd, short what, void *context)
{
	struct engine *engine = context;

	(void)what;
	if (nft_socket_drain(fd))
		timer_arm(engine->host_rules.timer, engine->host_rules.restoring.next_us);
}

int rules_watch_host(struct engine *engine, struct error *err)
{
	return watch(engine, &engine->host_rules, NULL, on_host_change, on_host_timer, engine, err);
}
