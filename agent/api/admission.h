// SPDX-License-Identifier: Apache-2.0
// Who a connection's peer is, and whether there is a place for it among the others.
#pragma once

#include "agent/api/connections.h"

// Fills pid, uid and access from the socket's credentials: nothing that a client says counts.
void peer_identify(const struct connection_limits *limits, struct connection *connection);
// Sets the standing of a new connection, which is in the list already.
void admit(const struct connection_limits *limits, const struct connection_list *list,
	   struct connection *connection);
// How many have this standing.
unsigned admission_count(const struct connection_list *list, enum standing standing);
// Takes one of the places for large bodies, unless the connection has one; false when there is
// none.
bool large_body_admit(const struct connection_limits *limits, const struct connection_list *list,
		      struct connection *connection);
