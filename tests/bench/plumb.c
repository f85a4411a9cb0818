// SPDX-License-Identifier: Apache-2.0
// How long it takes to connect one task to the network while N others are there:
// penstock's steps eni, policy and link, with a tap (a VMM's) or a veth (the netns
// driver's), the latter also against the CNI chain bridge, host-local, firewall in one
// run; then, how long it takes to take out the last hundred. Started by plumb.sh inside namespaces
// of its own.
//
//     plumb tap|veth|DIRECTORY SAMPLES EXISTING...     (EXISTING rising, e.g. 0 100 1000)
//
// DIRECTORY, for the files of CNI: veth and CNI.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "agent/base/clock.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "tests/bench/plumber.h"

enum { SAMPLES_MAX = 10000, EXISTING_MAX = 4000, REMOVED = 100 };

struct percentiles {
	double p50_ms, p99_ms;
};

static int compare(const void *one, const void *other)
{
	const int64_t *a = one, *b = other;

	return (*a > *b) - (*a < *b);
}

static int timed_add(const struct plumber *plumber, unsigned index, int64_t *ret_us,
		     struct error *err)
{
	int64_t before;
	int code;

	if (plumber->prepare && plumber->prepare(plumber->context, index, err) < 0)
		return error_wrap(err, "%s: prepare task %u", plumber->name, index);
	before = clock_monotonic_us();
	code = plumber->add(plumber->context, index, err);
	*ret_us = clock_monotonic_us() - before;
	return code < 0 ? error_wrap(err, "%s: add task %u", plumber->name, index) : 0;
}

// Brings the number of tasks that stay from `from` to `to`.
static int populate(const struct plumber *plumber, unsigned from, unsigned to, struct error *err)
{
	int64_t ignored;

	for (unsigned index = from; index < to; index++)
		if (timed_add(plumber, index, &ignored, err) < 0)
			return -err->code;
	return 0;
}

// Adds and deletes one more task, again and again; the first is not counted (caches, modules).
static int measure(const struct plumber *plumber, unsigned index, unsigned samples,
		   struct percentiles *ret, struct error *err)
{
	scoped_free int64_t *times = calloc(samples + 1, sizeof(*times));

	if (!times)
		return error_set(err, ENOMEM, "samples");
	for (unsigned i = 0; i <= samples; i++) {
		if (timed_add(plumber, index, &times[i], err) < 0)
			return -err->code;
		if (plumber->delete (plumber->context, index, err) < 0)
			return error_wrap(err, "%s: delete task %u", plumber->name, index);
	}
	qsort(times + 1, samples, sizeof(*times), compare);
	ret->p50_ms = (double)times[1 + samples / 2] / 1000;
	ret->p99_ms = (double)times[1 + (samples * 99) / 100] / 1000;
	return 0;
}

static void print_level(const struct plumber *plumber, unsigned existing,
			const struct percentiles *result)
{
	printf("figure %s_p50_%u %.3f ms\n", plumber->name, existing, result->p50_ms);
	printf("figure %s_p99_%u %.3f ms\n", plumber->name, existing, result->p99_ms);
}

// One number of existing tasks. Of two plumbers the ratio is told too: how many times faster the
// first is.
static int run_level(const struct plumber *plumbers, unsigned plumber_count, unsigned before,
		     unsigned existing, unsigned samples, double *ret_ratio, struct error *err)
{
	struct percentiles results[2] = {0};

	for (unsigned i = 0; i < plumber_count; i++) {
		fprintf(stderr, "%s: %u existing tasks\n", plumbers[i].name, existing);
		if (populate(&plumbers[i], before, existing, err) < 0 ||
		    measure(&plumbers[i], existing, samples, &results[i], err) < 0)
			return -err->code;
		print_level(&plumbers[i], existing, &results[i]);
	}
	*ret_ratio = results[1].p50_ms / results[0].p50_ms;
	if (plumber_count == 2)
		printf("figure plumb_vs_cni_p50_%u %.1f x\n", existing, *ret_ratio);
	fflush(stdout);
	return 0;
}

static int delete_in_turn(const struct plumber *plumber, unsigned first, unsigned count,
			  struct error *err)
{
	for (unsigned index = first; index < first + count; index++)
		if (plumber->delete (plumber->context, index, err) < 0)
			return -err->code;
	return 0;
}

// The last REMOVED of `existing` tasks, as when a host is drained.
static int measure_removal(const struct plumber *plumber, unsigned existing, double *ret_ms,
			   struct error *err)
{
	unsigned count = existing < REMOVED ? existing : REMOVED;
	unsigned first = existing - count;
	int64_t before = clock_monotonic_us();
	int code = plumber->delete_many ? plumber->delete_many(plumber->context, first, count, err)
					: delete_in_turn(plumber, first, count, err);

	if (code < 0)
		return error_wrap(err, "%s: delete %u tasks", plumber->name, count);
	*ret_ms = (double)(clock_monotonic_us() - before) / 1000;
	printf("figure %s_remove_%u %.3f ms\n", plumber->name, count, *ret_ms);
	return 0;
}

static int run_removal(const struct plumber *plumbers, unsigned plumber_count, unsigned existing,
		       struct error *err)
{
	double ms[2] = {0};

	for (unsigned i = 0; i < plumber_count && existing > 0; i++)
		if (measure_removal(&plumbers[i], existing, &ms[i], err) < 0)
			return -err->code;
	if (plumber_count == 2 && existing > 0)
		printf("figure plumb_vs_cni_remove %.1f x\n", ms[1] / ms[0]);
	return 0;
}

static int run(char *const *levels, unsigned samples, const struct plumber *plumbers,
	       unsigned plumber_count, struct error *err)
{
	unsigned before = 0, existing;
	double ratio = 0, worst = 0;

	for (unsigned i = 0; levels[i]; i++) {
		if (parse_u32(levels[i], EXISTING_MAX, &existing) < 0 || existing < before)
			return error_set(err, EINVAL, "EXISTING must rise, up to %d", EXISTING_MAX);
		if (run_level(plumbers, plumber_count, before, existing, samples, &ratio, err) < 0)
			return -err->code;
		worst = i == 0 || ratio < worst ? ratio : worst;
		before = existing;
	}
	if (plumber_count == 2)
		printf("figure plumb_vs_cni_p50 %.1f x\n", worst);
	return run_removal(plumbers, plumber_count, before, err);
}

static int open_plumbers(const char *what, struct plumber plumbers[2], unsigned *ret_count,
			 struct error *err)
{
	bool tap = strcmp(what, "tap") == 0, with_cni = !tap && strcmp(what, "veth") != 0;

	if (penstock_plumber_open(tap ? NETIF_ENI_TAP : NETIF_ENI_VETH, &plumbers[0], err) < 0 ||
	    (with_cni && cni_plumber_open(what, &plumbers[1], err) < 0))
		return -err->code;
	*ret_count = with_cni ? 2 : 1;
	return 0;
}

int main(int argc, char **argv)
{
	const struct rlimit files = {.rlim_cur = 8192, .rlim_max = 8192};
	struct plumber plumbers[2];
	struct error err = {0};
	unsigned samples, count = 0;

	if (argc < 4 || parse_u32(argv[2], SAMPLES_MAX, &samples) < 0 || samples == 0) {
		fprintf(stderr, "usage: plumb tap|veth|DIRECTORY SAMPLES EXISTING...\n");
		return 2;
	}
	setrlimit(RLIMIT_NOFILE, &files); // a tap, and a namespace of ours, lives by a descriptor
	if (open_plumbers(argv[1], plumbers, &count, &err) < 0 ||
	    run(argv + 3, samples, plumbers, count, &err) < 0) {
		fprintf(stderr, "plumb: %s\n", err.message);
		return 1;
	}
	return 0;
}
