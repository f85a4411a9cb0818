// SPDX-License-Identifier: Apache-2.0
// Text exposition: Prometheus 0.0.4 and OpenMetrics 1.0. They differ in the name that
// HELP and TYPE of a counter carry, in the escapes of HELP, in bucket bounds ("1.0")
// and in the end mark.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/internal.h"

enum { NUMBER_SIZE = 40 };

static const char *const kind_names[] = {
	[METRIC_COUNTER] = "counter",
	[METRIC_GAUGE] = "gauge",
	[METRIC_HISTOGRAM] = "histogram",
};

void metrics_add_escaped(struct buffer *text, const char *value, int quotes)
{
	for (; *value; value++) {
		if (*value == '\\')
			buffer_adds(text, "\\\\");
		else if (*value == '\n')
			buffer_adds(text, "\\n");
		else if (*value == '"' && quotes)
			buffer_adds(text, "\\\"");
		else
			buffer_add(text, value, 1);
	}
}

// The shortest of two precisions that reads back as the same double.
static const char *format_number(double value, char number[NUMBER_SIZE])
{
	if (isnan(value))
		return "NaN";
	if (isinf(value))
		return value > 0 ? "+Inf" : "-Inf";
	snprintf(number, NUMBER_SIZE, "%.15g", value);
	if (strtod(number, NULL) < value || strtod(number, NULL) > value)
		snprintf(number, NUMBER_SIZE, "%.17g", value);
	return number;
}

static const char *format_bound(double bound, enum metrics_format format, char number[NUMBER_SIZE])
{
	format_number(bound, number);
	if (format == METRICS_OPENMETRICS && !strpbrk(number, ".e"))
		memcpy(number + strlen(number), ".0", 3);
	return number;
}

static void render_head(const struct metric_definition *definition, enum metrics_format format,
			struct buffer *text)
{
	size_t length = strlen(definition->name);

	if (format == METRICS_OPENMETRICS && definition->kind == METRIC_COUNTER)
		length -= strlen("_total");
	buffer_addf(text, "# HELP %.*s ", (int)length, definition->name);
	metrics_add_escaped(text, definition->help, format == METRICS_OPENMETRICS);
	buffer_addf(text, "\n# TYPE %.*s %s\n", (int)length, definition->name,
		    kind_names[definition->kind]);
}

static void render_line(const char *name, const char *suffix, const char *labels, double value,
			struct buffer *text)
{
	char number[NUMBER_SIZE];

	buffer_adds(text, name);
	buffer_adds(text, suffix);
	if (labels[0]) {
		buffer_add(text, "{", 1);
		buffer_adds(text, labels);
		buffer_add(text, "}", 1);
	}
	buffer_add(text, " ", 1);
	buffer_adds(text, format_number(value, number));
	buffer_add(text, "\n", 1);
}

static void render_bucket(const char *name, const char *labels, const char *bound, uint64_t count,
			  struct buffer *text)
{
	buffer_addf(text, "%s_bucket{%s%sle=\"%s\"} %llu\n", name, labels, labels[0] ? "," : "",
		    bound, (unsigned long long)count);
}

static void render_histogram(const struct metric_definition *definition,
			     const struct series *series, enum metrics_format format,
			     struct buffer *text)
{
	const struct histogram *histogram = series->histogram;
	char number[NUMBER_SIZE];
	uint64_t count = 0;

	for (size_t i = 0; i < METRIC_BUCKETS_MAX && definition->buckets[i] > 0; i++) {
		count += histogram->buckets[i];
		render_bucket(definition->name, series->labels,
			      format_bound(definition->buckets[i], format, number), count, text);
	}
	render_bucket(definition->name, series->labels, "+Inf", histogram->count, text);
	render_line(definition->name, "_sum", series->labels, histogram->sum, text);
	render_line(definition->name, "_count", series->labels, (double)histogram->count, text);
}

const char *metrics_content_type(enum metrics_format format)
{
	return format == METRICS_OPENMETRICS
		       ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
		       : "text/plain; version=0.0.4; charset=utf-8";
}

void metrics_render_one(const struct metrics *metrics, unsigned metric, enum metrics_format format,
			struct buffer *text)
{
	const struct metric_definition *definition = &metrics->definitions[metric];
	const struct series *series = metrics->metrics[metric].first;

	if (!series)
		return;
	render_head(definition, format, text);
	for (; series; series = series->metric_next) {
		if (series->histogram)
			render_histogram(definition, series, format, text);
		else
			render_line(definition->name, "", series->labels, series->value, text);
	}
}

void metrics_render_end(enum metrics_format format, struct buffer *text)
{
	if (format == METRICS_OPENMETRICS)
		buffer_adds(text, "# EOF\n");
}

void metrics_render(const struct metrics *metrics, enum metrics_format format, struct buffer *text)
{
	for (unsigned i = 0; i < metrics->definition_count; i++)
		metrics_render_one(metrics, i, format, text);
	metrics_render_end(format, text);
}
