#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# pytest inside namespaces of its own: pytest.sh ARGUMENT...
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/namespaces.sh"
enter_namespaces "$@"
cd "$PENSTOCK_ROOT"
exec "$PYTHON" -m pytest -p no:cacheprovider --rootdir=tests --color=no -q "$@"
