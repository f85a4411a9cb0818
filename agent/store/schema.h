// SPDX-License-Identifier: Apache-2.0
// The store's tables. A change here needs a new version and a step in store_schema.
//
// The text of a spec stands once in `specs`, under the revision that brought it:
// the many events of a task share the one copy with the object.
#pragma once

enum { STORE_SCHEMA_VERSION = 1 };

#define STORE_SCHEMA_SQL                                                                           \
	"CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"            \
	"CREATE TABLE specs (revision INTEGER PRIMARY KEY, spec TEXT NOT NULL);"                   \
	"CREATE TABLE objects ("                                                                   \
	"  kind TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL,"                       \
	"  spec_revision INTEGER NOT NULL, status TEXT,"                                           \
	"  created_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL,"                              \
	"  PRIMARY KEY (kind, id)) WITHOUT ROWID;"                                                 \
	"CREATE INDEX objects_spec ON objects (spec_revision);"                                    \
	"CREATE TABLE events ("                                                                    \
	"  revision INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, deleted INTEGER NOT NULL,"      \
	"  kind TEXT NOT NULL, id TEXT NOT NULL, spec_revision INTEGER NOT NULL, status TEXT,"     \
	"  created_ms INTEGER NOT NULL);"                                                          \
	"CREATE INDEX events_spec ON events (spec_revision);"                                      \
	"CREATE TABLE refs ("                                                                      \
	"  kind TEXT NOT NULL, id TEXT NOT NULL,"                                                  \
	"  used_kind TEXT NOT NULL, used_id TEXT NOT NULL,"                                        \
	"  PRIMARY KEY (kind, id, used_kind, used_id)) WITHOUT ROWID;"                             \
	"CREATE INDEX refs_used ON refs (used_kind, used_id, kind, id);"                           \
	"CREATE TABLE leases ("                                                                    \
	"  subnet TEXT NOT NULL, address TEXT NOT NULL, until_ms INTEGER NOT NULL,"                \
	"  PRIMARY KEY (subnet, address)) WITHOUT ROWID;"
