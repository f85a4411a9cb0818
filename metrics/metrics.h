// SPDX-License-Identifier: Apache-2.0
// The door of the metrics module: a registry of counters, gauges and histograms, and
// their text exposition. (Metering records: metrics/metering.h.)
//
// What exists is said once, in a table of definitions (penstock's own: metrics_catalog).
// A metric has a fixed list of label names; a series is one combination of label values
// and appears with its first update. Updates cost one hash look-up whatever the number
// of series. The number of series per metric is bounded: updates beyond it are counted
// in metrics_series_refused() and otherwise ignored, so a caller never has to check.
//
//     struct metrics *metrics = metrics_new(metrics_catalog, METRIC_COUNT);
//     metrics_set(metrics, METRIC_TASK_CPU_LIMIT_VCPUS, 0.25, (const char *[]){"t-1", "eni-1"});
//     metrics_observe(metrics, METRIC_TASK_START_DURATION_SECONDS, 0.8, (const char *[]){"vmm"});
//     metrics_forget(metrics, "task_id", "t-1");      // all series of a task that ended
//     metrics_render(metrics, METRICS_PROMETHEUS, &buffer);
//
// Nothing here blocks or fails; out of memory ends the process (arena.h). One thread.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "agent/base/buffer.h"

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

enum { METRIC_LABELS_MAX = 4, METRIC_BUCKETS_MAX = 20, METRIC_LABEL_VALUE_MAX = 255 };

struct metric_definition {
	const char *name; // Prometheus name; counters end in _total
	const char *help; // one line
	enum metric_kind kind;
	unsigned series_max;                       // 0: 16384
	const char *labels[METRIC_LABELS_MAX + 1]; // names, NULL-terminated; the first is the owner
	double buckets[METRIC_BUCKETS_MAX]; // histograms: upper bounds, ascending, 0 ends; +Inf
					    // implied
};

// Penstock's metrics. The label order is the one of the table in catalog.c.
enum metric_id {
	METRIC_BUILD_INFO,                   // version
	METRIC_TASKS,                        // state ("RUNNING" ...)
	METRIC_TASK_STATE,                   // task_id, eni, state: 1 for the state it is in
	METRIC_TASK_GUEST_SILENT,            // task_id, eni: 1 while its guest does not speak
	METRIC_TASK_METADATA_INFO,           // task_id, eni, family
	METRIC_TASK_CPU_LIMIT_VCPUS,         // task_id, eni
	METRIC_TASK_MEMORY_LIMIT_BYTES,      // task_id, eni
	METRIC_TASK_STORAGE_USED_BYTES,      // task_id, eni
	METRIC_TASK_STORAGE_ALLOCATED_BYTES, // task_id, eni
	METRIC_TASK_CPU_USAGE_SECONDS,       // task_id, eni
	METRIC_CONTAINER_MEMORY_USED_BYTES,  // task_id, eni, container
	METRIC_CELL_MEMORY_USED_BYTES,       // task_id, eni
	METRIC_CELL_MEMORY_LIMIT_BYTES,      // task_id, eni
	METRIC_TASK_NETWORK_RECEIVE_BYTES,   // task_id, eni (of the guest: the tap's TX)
	METRIC_TASK_NETWORK_RECEIVE_PACKETS,
	METRIC_TASK_NETWORK_TRANSMIT_BYTES, // task_id, eni (of the guest: the tap's RX)
	METRIC_TASK_NETWORK_TRANSMIT_PACKETS,
	METRIC_TASK_STORAGE_READ_BYTES,     // task_id, eni
	METRIC_TASK_STORAGE_WRITE_BYTES,    // task_id, eni
	METRIC_TASK_DROPPED_PACKETS,        // task_id, eni, direction, reason
	METRIC_TASK_START_DURATION_SECONDS, // phase: a step, or "total" (until RUNNING)
	METRIC_TASK_STOP_DURATION_SECONDS,  // phase: a step, or "total" (until STOPPED)
	METRIC_STEP_DURATION_SECONDS,       // step, direction: "apply" or "undo"
	METRIC_SG_DROPPED_PACKETS,          // vpc, direction, reason
	METRIC_CONNTRACK_ENTRIES,           // vpc
	METRIC_IPAM_ADDRESSES,              // subnet, state
	METRIC_LB_TARGET_STATE,             // target_group, target, state: 1 for the state it is in
	METRIC_LB_TARGETS,                  // target_group, state
	METRIC_CAPACITY_VCPUS,              // state ("total", "promised")
	METRIC_CAPACITY_MEMORY_BYTES,       // state
	METRIC_CAPACITY_STORAGE_BYTES,      // state
	METRIC_API_REQUEST_DURATION_SECONDS, // method, route, code
	METRIC_RECONCILE_ERRORS,             // step
	METRIC_SERIES_REFUSED,               // none
	METRIC_LOOP_TURN_DURATION_SECONDS,   // none
	METRIC_COUNT,
};

extern const struct metric_definition metrics_catalog[METRIC_COUNT];

struct metrics;

// `definitions` must outlive the registry.
struct metrics *metrics_new(const struct metric_definition *definitions, size_t count);
void metrics_free(struct metrics *metrics);

// `labels`: one value per label name of the definition (copied, cut at
// METRIC_LABEL_VALUE_MAX bytes); NULL for a metric without labels.
void metrics_add(struct metrics *metrics, unsigned metric, double amount,
		 const char *const *labels);
// Gauges; and counters whose total is kept elsewhere (a cgroup, an interface).
void metrics_set(struct metrics *metrics, unsigned metric, double value, const char *const *labels);
void metrics_observe(struct metrics *metrics, unsigned metric, double value,
		     const char *const *labels);

// Removes one series (of a state that was left).
void metrics_remove(struct metrics *metrics, unsigned metric, const char *const *labels);
// Removes every series whose *first* label is `label` with this value. Costs as much as
// the series it removes.
void metrics_forget(struct metrics *metrics, const char *label, const char *value);
// Removes every series of one metric (a gauge that is about to be measured anew).
void metrics_clear(struct metrics *metrics, unsigned metric);

uint64_t metrics_series_refused(const struct metrics *metrics);
size_t metrics_series_count(const struct metrics *metrics);

enum metrics_format {
	METRICS_PROMETHEUS,  // text/plain; version=0.0.4
	METRICS_OPENMETRICS, // application/openmetrics-text; version=1.0.0
};

const char *metrics_content_type(enum metrics_format format);

// The whole exposition, appended to `text`.
void metrics_render(const struct metrics *metrics, enum metrics_format format, struct buffer *text);
// One metric of it, for callers that send a large exposition in slices: 0 ... count - 1
// in order, then metrics_render_end().
void metrics_render_one(const struct metrics *metrics, unsigned metric, enum metrics_format format,
			struct buffer *text);
void metrics_render_end(enum metrics_format format, struct buffer *text);
