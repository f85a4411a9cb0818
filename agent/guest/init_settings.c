// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "agent/guest/init.h"

#include "agent/base/number.h"
#include "agent/base/scope.h"

static bool parse_address(const char *value, void *place)
{
	return inet_pton(AF_INET, value, place) == 1;
}

static bool parse_mac(const char *value, void *place)
{
	uint8_t *mac = place;
	char rest;

	return strlen(value) == 17 &&
	       sscanf(value, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &mac[0], &mac[1], &mac[2],
		      &mac[3], &mac[4], &mac[5], &rest) == 6;
}

static bool parse_mtu(const char *value, void *place)
{
	uint32_t *mtu = place;

	return parse_u32(value, 65535, mtu) == 0 && *mtu >= 576;
}

static bool parse_path(const char *value, void *place)
{
	*(const char **)place = value;
	return value[0] == '/';
}

static bool parse_driver(const char *value, void *place)
{
	*(bool *)place = false;
	return strcmp(value, "netns") == 0;
}

#define SETTING(name, member, parse, required)                                                     \
	{                                                                                          \
		"penstock." name "=", offsetof(struct init_settings, member), parse, required      \
	}

static const struct {
	const char *prefix;
	size_t offset;
	bool (*parse)(const char *value, void *place);
	bool required;
} settings_table[] = {
	SETTING("ip", ip, parse_address, true),
	SETTING("gateway", gateway, parse_address, true),
	SETTING("gateway_mac", gateway_mac, parse_mac, true),
	SETTING("mtu", mtu, parse_mtu, true),
	SETTING("driver", virtual_machine, parse_driver, false),
	SETTING("disk", disk, parse_path, false),
};

static int parse_image(const char *word, struct init_settings *settings, struct error *err)
{
	static const char prefix[] = "penstock.image";
	const char *index = word + sizeof(prefix) - 1;

	if (strncmp(word, prefix, sizeof(prefix) - 1) != 0)
		return 0;
	if (index[0] < '0' || index[0] > '9' || index[1] != '=' ||
	    !parse_path(index + 2, &settings->images[index[0] - '0']))
		return error_set(err, EINVAL, "bad setting %s", word);
	return 0;
}

int init_settings_parse(const char *const *words, struct init_settings *ret_settings,
			struct error *err)
{
	struct init_settings settings = {.virtual_machine = true};
	bool seen[ARRAY_LENGTH(settings_table)] = {false};

	for (; *words; words++) {
		if (parse_image(*words, &settings, err) < 0)
			return -EINVAL;
		for (size_t i = 0; i < ARRAY_LENGTH(settings_table); i++) {
			size_t length = strlen(settings_table[i].prefix);

			if (strncmp(*words, settings_table[i].prefix, length) != 0)
				continue;
			if (!settings_table[i].parse(*words + length,
						     (char *)&settings + settings_table[i].offset))
				return error_set(err, EINVAL, "bad setting %s", *words);
			seen[i] = true;
		}
	}
	for (size_t i = 0; i < ARRAY_LENGTH(settings_table); i++)
		if (settings_table[i].required && !seen[i])
			return error_set(err, EINVAL, "no setting %s", settings_table[i].prefix);
	if (!settings.virtual_machine && !settings.disk)
		return error_set(err, EINVAL, "no setting penstock.disk=");
	*ret_settings = settings;
	return 0;
}
