// SPDX-License-Identifier: Apache-2.0
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "metrics/internal.h"

enum { BUCKETS_INITIAL = 64, SERIES_MAX_DEFAULT = 16384 };

static void *allocate(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (!memory)
		abort();
	return memory;
}

static uint64_t hash_start(uint64_t seed)
{
	return (UINT64_C(14695981039346656037) ^ seed) * UINT64_C(1099511628211);
}

static uint64_t hash_text(uint64_t hash, const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
	return (hash ^ 0xff) * UINT64_C(1099511628211);
}

// Length of a label value, cut at METRIC_LABEL_VALUE_MAX bytes but not within a character.
static size_t value_length(const char *value)
{
	size_t length = strnlen(value, METRIC_LABEL_VALUE_MAX + 1);

	if (length <= METRIC_LABEL_VALUE_MAX)
		return length;
	for (length = METRIC_LABEL_VALUE_MAX; length > 0; length--)
		if (((unsigned char)value[length] & 0xc0) != 0x80)
			break;
	return length;
}

static uint64_t owner_hash(const char *label, const char *value)
{
	uint64_t hash = hash_text(hash_start(0), label, strlen(label));

	return hash_text(hash, value, value_length(value));
}

static uint64_t series_hash(const struct metric_definition *definition, unsigned metric,
			    const char *const *labels)
{
	uint64_t hash = hash_start(metric);

	for (size_t i = 0; definition->labels[i]; i++)
		hash = hash_text(hash, labels[i], value_length(labels[i]));
	return hash;
}

static bool series_matches(const struct series *series, const struct metric_definition *definition,
			   unsigned metric, const char *const *labels)
{
	const char *value = series->values;

	if (series->metric != metric)
		return false;
	for (size_t i = 0; definition->labels[i]; i++) {
		size_t length = value_length(labels[i]);

		if (strlen(value) != length || memcmp(value, labels[i], length) != 0)
			return false;
		value += length + 1;
	}
	return true;
}

static void link_hashes(struct metrics *metrics, struct series *series)
{
	struct series **by_hash = &metrics->by_hash[series->hash & (metrics->bucket_count - 1)];
	struct series **by_owner =
		&metrics->by_owner[series->owner_hash & (metrics->bucket_count - 1)];

	series->hash_next = *by_hash;
	*by_hash = series;
	series->owner_previous = NULL;
	series->owner_next = *by_owner;
	if (*by_owner)
		(*by_owner)->owner_previous = series;
	*by_owner = series;
}

static void grow(struct metrics *metrics)
{
	free(metrics->by_hash);
	free(metrics->by_owner);
	metrics->bucket_count *= 2;
	metrics->by_hash = allocate(metrics->bucket_count, sizeof(struct series *));
	metrics->by_owner = allocate(metrics->bucket_count, sizeof(struct series *));
	for (size_t i = 0; i < metrics->definition_count; i++)
		for (struct series *series = metrics->metrics[i].first; series;
		     series = series->metric_next)
			link_hashes(metrics, series);
}

static void link_metric(struct metric *metric, struct series *series)
{
	series->metric_previous = metric->last;
	if (metric->last)
		metric->last->metric_next = series;
	else
		metric->first = series;
	metric->last = series;
	metric->count++;
}

// Values and rendered labels, both kept in one piece behind the series.
static void format_labels(const struct metric_definition *definition, const char *const *labels,
			  struct buffer *values, struct buffer *rendered)
{
	for (size_t i = 0; definition->labels[i]; i++) {
		size_t start = values->length;

		buffer_add(values, labels[i], value_length(labels[i]));
		buffer_add(values, "", 1);
		buffer_addf(rendered, "%s%s=\"", i ? "," : "", definition->labels[i]);
		metrics_add_escaped(rendered, values->data + start, 1);
		buffer_adds(rendered, "\"");
	}
}

static struct series *series_new(const struct metric_definition *definition,
				 const char *const *labels)
{
	scoped(buffer_release) struct buffer values = {0};
	scoped(buffer_release) struct buffer rendered = {0};
	struct series *series;
	char *text;

	format_labels(definition, labels, &values, &rendered);
	series = allocate(1, sizeof(*series) + values.length + rendered.length + 1);
	text = (char *)(series + 1);
	series->values = text;
	series->labels = text + values.length;
	memcpy(text, buffer_text(&values), values.length);
	memcpy(text + values.length, buffer_text(&rendered), rendered.length);
	if (definition->kind == METRIC_HISTOGRAM)
		series->histogram = allocate(1, sizeof(*series->histogram));
	return series;
}

static struct series *series_find(const struct metrics *metrics, unsigned id, uint64_t hash,
				  const char *const *labels)
{
	struct series *series = metrics->by_hash[hash & (metrics->bucket_count - 1)];

	while (series && (series->hash != hash ||
			  !series_matches(series, &metrics->definitions[id], id, labels)))
		series = series->hash_next;
	return series;
}

// The series of these labels, made if need be; NULL when the metric has too many.
static struct series *series_get(struct metrics *metrics, unsigned id, const char *const *labels)
{
	const struct metric_definition *definition = &metrics->definitions[id];
	size_t limit = definition->series_max ? definition->series_max : SERIES_MAX_DEFAULT;
	uint64_t hash = series_hash(definition, id, labels);
	struct series *series = series_find(metrics, id, hash, labels);

	if (series)
		return series;
	if (metrics->metrics[id].count >= limit) {
		metrics->refused++;
		return NULL;
	}
	series = series_new(definition, labels);
	series->metric = id;
	series->hash = hash;
	if (definition->labels[0])
		series->owner_hash = owner_hash(definition->labels[0], labels[0]);
	link_metric(&metrics->metrics[id], series);
	if (++metrics->series_count > metrics->bucket_count)
		grow(metrics); // links the new one too
	else
		link_hashes(metrics, series);
	return series;
}

static void unlink_hashes(struct metrics *metrics, struct series *series)
{
	size_t mask = metrics->bucket_count - 1;
	struct series **place = &metrics->by_hash[series->hash & mask];

	while (*place != series)
		place = &(*place)->hash_next;
	*place = series->hash_next;
	if (series->owner_next)
		series->owner_next->owner_previous = series->owner_previous;
	if (series->owner_previous)
		series->owner_previous->owner_next = series->owner_next;
	else
		metrics->by_owner[series->owner_hash & mask] = series->owner_next;
}

static void series_remove(struct metrics *metrics, struct series *series)
{
	struct metric *metric = &metrics->metrics[series->metric];

	unlink_hashes(metrics, series);
	if (series->metric_next)
		series->metric_next->metric_previous = series->metric_previous;
	else
		metric->last = series->metric_previous;
	if (series->metric_previous)
		series->metric_previous->metric_next = series->metric_next;
	else
		metric->first = series->metric_next;
	metric->count--;
	metrics->series_count--;
	free(series->histogram);
	free(series);
}

struct metrics *metrics_new(const struct metric_definition *definitions, size_t count)
{
	struct metrics *metrics = allocate(1, sizeof(*metrics));

	metrics->definitions = definitions;
	metrics->definition_count = count;
	metrics->metrics = allocate(count, sizeof(*metrics->metrics));
	metrics->bucket_count = BUCKETS_INITIAL;
	metrics->by_hash = allocate(BUCKETS_INITIAL, sizeof(struct series *));
	metrics->by_owner = allocate(BUCKETS_INITIAL, sizeof(struct series *));
	return metrics;
}

void metrics_free(struct metrics *metrics)
{
	if (!metrics)
		return;
	for (unsigned i = 0; i < metrics->definition_count; i++)
		metrics_clear(metrics, i);
	free(metrics->metrics);
	free(metrics->by_hash);
	free(metrics->by_owner);
	free(metrics);
}

void metrics_add(struct metrics *metrics, unsigned metric, double amount, const char *const *labels)
{
	struct series *series = series_get(metrics, metric, labels);

	if (series)
		series->value += amount;
}

void metrics_set(struct metrics *metrics, unsigned metric, double value, const char *const *labels)
{
	struct series *series = series_get(metrics, metric, labels);

	if (series)
		series->value = value;
}

void metrics_observe(struct metrics *metrics, unsigned metric, double value,
		     const char *const *labels)
{
	const struct metric_definition *definition = &metrics->definitions[metric];
	struct series *series = series_get(metrics, metric, labels);

	if (!series || !series->histogram)
		return;
	series->histogram->count++;
	series->histogram->sum += value;
	for (size_t i = 0; i < METRIC_BUCKETS_MAX && definition->buckets[i] > 0; i++) {
		if (value <= definition->buckets[i]) {
			series->histogram->buckets[i]++;
			break;
		}
	}
}

void metrics_remove(struct metrics *metrics, unsigned metric, const char *const *labels)
{
	uint64_t hash = series_hash(&metrics->definitions[metric], metric, labels);
	struct series *series = series_find(metrics, metric, hash, labels);

	if (series)
		series_remove(metrics, series);
}

void metrics_forget(struct metrics *metrics, const char *label, const char *value)
{
	uint64_t hash = owner_hash(label, value);
	struct series *next, *series = metrics->by_owner[hash & (metrics->bucket_count - 1)];

	for (; series; series = next) {
		const char *name = metrics->definitions[series->metric].labels[0];

		next = series->owner_next;
		if (series->owner_hash == hash && name && strcmp(name, label) == 0 &&
		    strlen(series->values) == value_length(value) &&
		    strncmp(series->values, value, value_length(value)) == 0)
			series_remove(metrics, series);
	}
}

void metrics_clear(struct metrics *metrics, unsigned metric)
{
	while (metrics->metrics[metric].first)
		series_remove(metrics, metrics->metrics[metric].first);
}

uint64_t metrics_series_refused(const struct metrics *metrics)
{
	return metrics->refused;
}

size_t metrics_series_count(const struct metrics *metrics)
{
	return metrics->series_count;
}
