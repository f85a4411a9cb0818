# SPDX-License-Identifier: Apache-2.0
"""What the black-box tests stand on: a host of their own, a client that holds every
request and reply against openapi.yaml, documents to start from, and neighbours."""
