#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A real NFS server in the foreground, in the network it is started in:
# ganesha.sh DIRECTORY serves DIRECTORY/export as /fs-1.
set -euo pipefail

directory=$1
mkdir -p "$directory/export" "$directory/recovery" /run/ganesha
sed "s|@DIRECTORY@|$directory|g" "$(dirname "$0")/../fixtures/ganesha.conf" >"$directory/ganesha.conf"
exec ganesha.nfsd -F -f "$directory/ganesha.conf" -L "$directory/ganesha.log" -p "$directory/ganesha.pid"
