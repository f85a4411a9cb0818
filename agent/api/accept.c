// SPDX-License-Identifier: Apache-2.0
#include "agent/api/accept.h"

#include <string.h>
#include <strings.h>

#include "agent/base/scope.h"

enum { QUALITY_MAX = 1000 };

// How closely a range names a format.
enum match { MATCH_NONE, MATCH_ANY, MATCH_TYPE, MATCH_NAMED };

struct format {
	const char *type, *subtype, *version;
	enum match match; // of the closest range so far
	int quality;      // that range's, in thousandths
};

// Text that is not terminated.
struct word {
	const char *at;
	size_t length;
};

static bool word_is(struct word word, const char *text)
{
	return word.length == strlen(text) && strncasecmp(word.at, text, word.length) == 0;
}

static struct word word_trim(struct word word)
{
	while (word.length > 0 && (*word.at == ' ' || *word.at == '\t')) {
		word.at++;
		word.length--;
	}
	while (word.length > 0 &&
	       (word.at[word.length - 1] == ' ' || word.at[word.length - 1] == '\t'))
		word.length--;
	return word;
}

// Takes the part before the next `separator` off the rest, trimmed; one in a quoted string is none.
static struct word word_take(struct word *rest, char separator)
{
	bool quoted = false;
	size_t i = 0;
	struct word taken;

	for (; i < rest->length && (quoted || rest->at[i] != separator); i++) {
		if (rest->at[i] == '"')
			quoted = !quoted;
		else if (quoted && rest->at[i] == '\\' && i + 1 < rest->length)
			i++;
	}
	taken = (struct word){rest->at, i};
	i += i < rest->length; // the separator
	rest->at += i;
	rest->length -= i;
	return word_trim(taken);
}

static struct word word_unquote(struct word word)
{
	if (word.length >= 2 && word.at[0] == '"' && word.at[word.length - 1] == '"')
		return (struct word){word.at + 1, word.length - 2};
	return word;
}

// "0.5" is 500; what is no quality is 0.
static int quality_of(struct word value)
{
	int quality = 0, weight = 100;

	if (value.length == 0 || value.length > 5 || (value.at[0] != '0' && value.at[0] != '1') ||
	    (value.length > 1 && value.at[1] != '.'))
		return 0;
	for (size_t i = 2; i < value.length; i++, weight /= 10) {
		if (value.at[i] < '0' || value.at[i] > '9')
			return 0;
		quality += (value.at[i] - '0') * weight;
	}
	quality += value.at[0] == '1' ? QUALITY_MAX : 0;
	return quality > QUALITY_MAX ? 0 : quality;
}

static enum match match_range(const struct format *format, struct word type, struct word subtype)
{
	if (word_is(type, "*") && word_is(subtype, "*"))
		return MATCH_ANY;
	if (!word_is(type, format->type))
		return MATCH_NONE;
	if (word_is(subtype, "*"))
		return MATCH_TYPE;
	return word_is(subtype, format->subtype) ? MATCH_NAMED : MATCH_NONE;
}

// One "type/subtype; name=value; q=0.5". Of parameters only the version, which both formats have,
// narrows a range.
static void take_range(struct format *format, struct word range)
{
	struct word media = word_take(&range, ';');
	struct word type = word_take(&media, '/');
	enum match match = match_range(format, type, word_trim(media));
	int quality = QUALITY_MAX;

	while (range.length > 0) {
		struct word value = word_take(&range, ';');
		struct word name = word_take(&value, '=');

		value = word_unquote(word_trim(value));
		if (word_is(name, "q"))
			quality = quality_of(value);
		else if (word_is(name, "version") && !word_is(value, format->version))
			match = MATCH_NONE;
	}
	if (match > format->match || (match == format->match && quality > format->quality)) {
		format->match = match;
		format->quality = quality;
	}
}

bool accept_prefers_openmetrics(const char *accept)
{
	struct format text = {.type = "text", .subtype = "plain", .version = "0.0.4"};
	struct format open = {
		.type = "application", .subtype = "openmetrics-text", .version = "1.0.0"};
	struct word rest = {accept, accept ? strlen(accept) : 0};

	while (rest.length > 0) {
		struct word range = word_take(&rest, ',');

		take_range(&text, range);
		take_range(&open, range);
	}
	return open.quality > text.quality ||
	       (open.quality > 0 && open.quality == text.quality && open.match == MATCH_NAMED);
}
