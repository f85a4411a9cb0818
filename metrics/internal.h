// SPDX-License-Identifier: Apache-2.0
// The registry's inside, shared by registry.c and render.c.
#pragma once

#include "metrics/metrics.h"

struct histogram {
	uint64_t count;
	double sum;
	uint64_t buckets[METRIC_BUCKETS_MAX]; // each for itself; added up when rendered
};

// In three lists: its hash bucket, its owner's bucket, its metric (in order of appearance).
struct series {
	struct series *hash_next;
	struct series *owner_next, *owner_previous;
	struct series *metric_next, *metric_previous;
	uint64_t hash, owner_hash;
	unsigned metric;
	double value;
	struct histogram *histogram; // of histograms only
	const char *values;          // label values, each with its NUL
	const char *labels;          // rendered: `task_id="t-1",eni="eni-1"`, "" without labels
};

struct metric {
	struct series *first, *last;
	size_t count;
};

struct metrics {
	const struct metric_definition *definitions;
	size_t definition_count;
	struct metric *metrics; // one per definition
	struct series **by_hash, **by_owner;
	size_t bucket_count; // of both, a power of two
	size_t series_count;
	uint64_t refused;
};

// `\`, newline and (with `quotes`) `"` escaped as the text formats want it.
void metrics_add_escaped(struct buffer *text, const char *value, int quotes);
