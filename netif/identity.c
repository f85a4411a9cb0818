// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/number.h"
#include "netif/ipam.h"

struct mac_address mac_from_eni(const char *eni_id)
{
	uint64_t hash = hash_pair("mac", eni_id);
	struct mac_address mac;

	for (size_t i = 0; i < sizeof(mac.bytes); i++)
		mac.bytes[i] = (uint8_t)(hash >> (8 * i));
	mac.bytes[0] = (uint8_t)((mac.bytes[0] & ~0x01) | 0x02); // unicast, locally administered
	return mac;
}

char *mac_format(const struct mac_address *mac, char text[MAC_TEXT_SIZE])
{
	const uint8_t *b = mac->bytes;

	snprintf(text, MAC_TEXT_SIZE, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4],
		 b[5]);
	return text;
}

static int hex_digit(char digit)
{
	static const char digits[] = "0123456789abcdef";
	const char *place = digit ? strchr(digits, digit) : NULL;

	return place ? (int)(place - digits) : -1;
}

int mac_parse(const char *text, struct mac_address *ret_mac, struct error *err)
{
	struct mac_address mac;
	bool good = strlen(text) == MAC_TEXT_SIZE - 1;

	for (size_t i = 0; good && i < sizeof(mac.bytes); i++) {
		int high = hex_digit(text[3 * i]), low = hex_digit(text[3 * i + 1]);

		good = high >= 0 && low >= 0 && text[3 * i + 2] == (i < 5 ? ':' : '\0');
		if (good)
			mac.bytes[i] = (uint8_t)(high << 4 | low);
	}
	if (!good)
		return error_set(err, EINVAL,
				 "\"%.64s\" is no MAC address: write it like 02:70:73:00:00:01",
				 text);
	*ret_mac = mac;
	return 0;
}

char *eni_interface_name(const char *install, const char *eni_id, char name[IFNAMSIZ])
{
	const uint64_t mask = (UINT64_C(1) << 52) - 1; // 13 hex digits fill IFNAMSIZ

	snprintf(name, IFNAMSIZ, "ps%013" PRIx64, hash_pair(install, eni_id) & mask);
	return name;
}
