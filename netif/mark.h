// SPDX-License-Identifier: Apache-2.0
// Internal to netif: the marks that kernel objects carry in their alias. Pure.
//
//     penstock <install> <eni-id>
//     penstock <install> vpc <vpc>
//     penstock <install> attachment <vpc> <name>[ was <the alias before>]
//
// Ids hold no blanks, so the number of words tells the forms apart (an ENI may be
// called "vpc").
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/error.h"
#include "netif/link.h"
#include "netif/netif.h"

enum mark_kind {
	MARK_NONE, // no mark of penstock at all
	MARK_ENI,
	MARK_VPC,
	MARK_ATTACHMENT,
};

struct mark {
	enum mark_kind kind;
	char install[NETIF_ID_SIZE];
	char owner[NETIF_ID_SIZE];          // ENI id, or the VPC
	char interface[IFNAMSIZ];           // ATTACHMENT
	char alias_before[LINK_ALIAS_SIZE]; // ATTACHMENT; "" is none
};

// Anything is taken; what is not exactly one of the forms is MARK_NONE.
struct mark mark_parse(const char *alias);

char *mark_format_eni(const char *install, const char *eni_id, char alias[LINK_ALIAS_SIZE]);
char *mark_format_vpc(const char *install, const char *vpc, char alias[LINK_ALIAS_SIZE]);
// -ENAMETOOLONG when the alias before (may be "") does not fit.
int mark_format_attachment(const char *install, const struct netif_attachment *attachment,
			   const char *alias_before, char alias[LINK_ALIAS_SIZE],
			   struct error *err);

// Of `kind`, of this install, for this owner.
bool mark_matches(const struct mark *mark, enum mark_kind kind, const char *install,
		  const char *owner);

// "eni eni-1 of install blue", "nobody", for messages; returns text.
enum { MARK_TEXT_SIZE = 2 * NETIF_ID_SIZE + 32 };
char *mark_describe(const struct mark *mark, char text[MARK_TEXT_SIZE]);
