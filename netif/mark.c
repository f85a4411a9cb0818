// SPDX-License-Identifier: Apache-2.0
#include "netif/mark.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/number.h"

static const char mark_program[] = "penstock";
static const char before_word[] = " was ";

enum { WORDS_MAX = 5 };

// Splits at single blanks; 0 when there are too many words.
static size_t split_words(char *text, char *words[WORDS_MAX])
{
	size_t count = 0;

	for (char *word; (word = strsep(&text, " ")) != NULL;) {
		if (count == WORDS_MAX)
			return 0;
		words[count++] = word;
	}
	return count;
}

static bool take_id(char place[NETIF_ID_SIZE], const char *word)
{
	if (!id_is_valid(word))
		return false;
	memcpy(place, word, strlen(word) + 1);
	return true;
}

static bool take_interface(char place[IFNAMSIZ], const char *word)
{
	if (word[0] == '\0' || strlen(word) >= IFNAMSIZ)
		return false;
	memcpy(place, word, strlen(word) + 1);
	return true;
}

static enum mark_kind kind_of(char *const words[WORDS_MAX], size_t count)
{
	if (count < 3 || strcmp(words[0], mark_program) != 0)
		return MARK_NONE;
	if (count == 3)
		return MARK_ENI;
	if (count == 4 && strcmp(words[2], "vpc") == 0)
		return MARK_VPC;
	if (count == 5 && strcmp(words[2], "attachment") == 0)
		return MARK_ATTACHMENT;
	return MARK_NONE;
}

struct mark mark_parse(const char *alias)
{
	const struct mark none = {.kind = MARK_NONE};
	struct mark mark = none;
	char text[LINK_ALIAS_SIZE] = "", *words[WORDS_MAX], *before;
	size_t count;

	strncpy(text, alias, sizeof(text) - 1);
	before = strstr(text, before_word);
	if (before) {
		*before = '\0';
		memcpy(mark.alias_before, before + strlen(before_word),
		       strlen(before + strlen(before_word)) + 1);
	}
	count = split_words(text, words);
	mark.kind = kind_of(words, count);
	if (mark.kind == MARK_NONE || (before && mark.kind != MARK_ATTACHMENT) ||
	    !take_id(mark.install, words[1]) ||
	    !take_id(mark.owner, words[mark.kind == MARK_ENI ? 2 : 3]) ||
	    (mark.kind == MARK_ATTACHMENT && !take_interface(mark.interface, words[4])))
		return none;
	return mark;
}

char *mark_format_eni(const char *install, const char *eni_id, char alias[LINK_ALIAS_SIZE])
{
	snprintf(alias, LINK_ALIAS_SIZE, "%s %s %s", mark_program, install, eni_id);
	return alias;
}

char *mark_format_vpc(const char *install, const char *vpc, char alias[LINK_ALIAS_SIZE])
{
	snprintf(alias, LINK_ALIAS_SIZE, "%s %s vpc %s", mark_program, install, vpc);
	return alias;
}

int mark_format_attachment(const char *install, const struct netif_attachment *attachment,
			   const char *alias_before, char alias[LINK_ALIAS_SIZE], struct error *err)
{
	int length = snprintf(alias, LINK_ALIAS_SIZE, "%s %s attachment %s %s%s%s", mark_program,
			      install, attachment->vpc, attachment->interface,
			      alias_before[0] ? before_word : "", alias_before);

	if (length >= LINK_ALIAS_SIZE)
		return error_set(err, ENAMETOOLONG,
				 "the alias \"%s\" is too long to be kept beside our mark",
				 alias_before);
	return 0;
}

bool mark_matches(const struct mark *mark, enum mark_kind kind, const char *install,
		  const char *owner)
{
	return mark->kind == kind && strcmp(mark->install, install) == 0 &&
	       strcmp(mark->owner, owner) == 0;
}

char *mark_describe(const struct mark *mark, char text[MARK_TEXT_SIZE])
{
	static const char *const kinds[] = {
		[MARK_NONE] = "",
		[MARK_ENI] = "eni",
		[MARK_VPC] = "vpc",
		[MARK_ATTACHMENT] = "attachment of vpc",
	};

	if (mark->kind == MARK_NONE)
		snprintf(text, MARK_TEXT_SIZE, "nobody we know");
	else
		snprintf(text, MARK_TEXT_SIZE, "%s %s of install %s", kinds[mark->kind],
			 mark->owner, mark->install);
	return text;
}
