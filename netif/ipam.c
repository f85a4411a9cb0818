// SPDX-License-Identifier: Apache-2.0
// Leases of one subnet.
//
// Two bitmaps over the block: `used` (leased or reserved) and `cooling`; an address
// in neither is free. Leasing scans from behind the last leased address, 64 at
// a time and around the end: all addresses are passed once before one is leased
// again, which puts the recently released last and makes the scan amortised O(1).
// Cooling addresses also stand in a binary heap by the time they are free again.
#include "netif/ipam.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { RESERVED_FIRST = 4, RESERVED_LAST = 1, SUBNET_ID_SIZE = 64 };

struct cooling {
	int64_t until_ms;
	uint32_t offset;
};

struct ipam {
	char subnet_id[SUBNET_ID_SIZE];
	struct ipv4_cidr block;
	uint32_t size;      // addresses of the block
	uint32_t next;      // offset where the next scan begins
	uint32_t used;      // leased
	uint64_t *used_map; // one bit an offset: leased or reserved
	uint64_t *cooling_map;
	struct cooling *heap; // earliest first
	size_t heap_count, heap_capacity;
};

static bool bit_test(const uint64_t *map, uint32_t offset)
{
	return map[offset / 64] >> (offset % 64) & 1;
}

static void bit_set(uint64_t *map, uint32_t offset)
{
	map[offset / 64] |= UINT64_C(1) << (offset % 64);
}

static void bit_clear(uint64_t *map, uint32_t offset)
{
	map[offset / 64] &= ~(UINT64_C(1) << (offset % 64));
}

static bool is_reserved(const struct ipam *ipam, uint32_t offset)
{
	return offset < RESERVED_FIRST || offset >= ipam->size - RESERVED_LAST;
}

static void *allocate(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (!memory)
		abort(); // as agent/base/arena.h: nothing can go on without memory
	return memory;
}

static uint32_t map_words(const struct ipam *ipam)
{
	return (ipam->size + 63) / 64;
}

int ipam_new(const char *subnet_id, struct ipv4_cidr block, struct ipam **ret_ipam,
	     struct error *err)
{
	char text[IPV4_CIDR_TEXT_SIZE];
	struct ipv4_cidr checked;
	struct ipam *ipam;

	if (ipv4_subnet_parse(ipv4_cidr_format(&block, text), &checked, err) < 0)
		return error_wrap(err, "subnet %s", subnet_id);
	ipam = allocate(1, sizeof(*ipam));
	strncpy(ipam->subnet_id, subnet_id, sizeof(ipam->subnet_id) - 1);
	ipam->block = block;
	ipam->size = UINT32_C(1) << (32 - block.prefix);
	ipam->used_map = allocate(map_words(ipam), sizeof(uint64_t));
	ipam->cooling_map = allocate(map_words(ipam), sizeof(uint64_t));
	for (uint32_t offset = 0; offset < RESERVED_FIRST; offset++)
		bit_set(ipam->used_map, offset);
	// The last address, and the bits of the last word beyond a small block.
	for (uint32_t offset = ipam->size - RESERVED_LAST; offset < map_words(ipam) * 64; offset++)
		bit_set(ipam->used_map, offset);
	*ret_ipam = ipam;
	return 0;
}

void ipam_free(struct ipam *ipam)
{
	if (!ipam)
		return;
	free(ipam->used_map);
	free(ipam->cooling_map);
	free(ipam->heap);
	free(ipam);
}

// --- The heap of cooling addresses ---

static void heap_swap(struct ipam *ipam, size_t one, size_t other)
{
	struct cooling kept = ipam->heap[one];

	ipam->heap[one] = ipam->heap[other];
	ipam->heap[other] = kept;
}

static void heap_rise(struct ipam *ipam, size_t index)
{
	while (index > 0 && ipam->heap[index].until_ms < ipam->heap[(index - 1) / 2].until_ms) {
		heap_swap(ipam, index, (index - 1) / 2);
		index = (index - 1) / 2;
	}
}

static size_t heap_smallest(const struct ipam *ipam, size_t index)
{
	size_t smallest = index;

	for (size_t child = 2 * index + 1; child <= 2 * index + 2; child++)
		if (child < ipam->heap_count &&
		    ipam->heap[child].until_ms < ipam->heap[smallest].until_ms)
			smallest = child;
	return smallest;
}

static void heap_sink(struct ipam *ipam, size_t index)
{
	for (size_t smallest; (smallest = heap_smallest(ipam, index)) != index; index = smallest)
		heap_swap(ipam, index, smallest);
}

static void heap_add(struct ipam *ipam, uint32_t offset, int64_t until_ms)
{
	if (ipam->heap_count == ipam->heap_capacity) {
		ipam->heap_capacity = ipam->heap_capacity ? ipam->heap_capacity * 2 : 16;
		ipam->heap = reallocarray(ipam->heap, ipam->heap_capacity, sizeof(*ipam->heap));
		if (!ipam->heap)
			abort();
	}
	ipam->heap[ipam->heap_count] = (struct cooling){.until_ms = until_ms, .offset = offset};
	heap_rise(ipam, ipam->heap_count++);
}

static void heap_remove(struct ipam *ipam, size_t index)
{
	ipam->heap[index] = ipam->heap[--ipam->heap_count];
	if (index == ipam->heap_count)
		return;
	heap_rise(ipam, index);
	heap_sink(ipam, index);
}

static void cooling_begin(struct ipam *ipam, uint32_t offset, int64_t until_ms)
{
	bit_set(ipam->cooling_map, offset);
	heap_add(ipam, offset, until_ms);
}

// Linear, but only an adoption ends a cool-down early.
static void cooling_end(struct ipam *ipam, uint32_t offset)
{
	size_t index = 0;

	while (ipam->heap[index].offset != offset)
		index++;
	heap_remove(ipam, index);
	bit_clear(ipam->cooling_map, offset);
}

static void cooling_expire(struct ipam *ipam, int64_t now_ms)
{
	while (ipam->heap_count > 0 && ipam->heap[0].until_ms <= now_ms) {
		bit_clear(ipam->cooling_map, ipam->heap[0].offset);
		heap_remove(ipam, 0);
	}
}

// --- Leases ---

// The first free offset at or after `from`, in this word or a later one; or size.
static uint32_t scan(const struct ipam *ipam, uint32_t from)
{
	uint64_t mask = UINT64_MAX << (from % 64);

	for (uint32_t word = from / 64; word < map_words(ipam); word++, mask = UINT64_MAX) {
		uint64_t free_bits = ~(ipam->used_map[word] | ipam->cooling_map[word]) & mask;

		if (free_bits)
			return word * 64 + (uint32_t)__builtin_ctzll(free_bits);
	}
	return ipam->size;
}

static void take(struct ipam *ipam, uint32_t offset)
{
	bit_set(ipam->used_map, offset);
	ipam->used++;
}

static struct ipam_counts counts_with(const struct ipam *ipam, uint32_t cooling)
{
	return (struct ipam_counts){
		.total = ipam->size,
		.reserved = RESERVED_FIRST + RESERVED_LAST,
		.used = ipam->used,
		.cooling = cooling,
		.free = ipam->size - RESERVED_FIRST - RESERVED_LAST - ipam->used - cooling,
	};
}

static int no_address(const struct ipam *ipam, struct error *err)
{
	struct ipam_counts counts = counts_with(ipam, (uint32_t)ipam->heap_count);

	return error_set(err, ENOSPC,
			 "subnet %s: no free address: %u used, %u reserved, %u cooling",
			 ipam->subnet_id, counts.used, counts.reserved, counts.cooling);
}

int ipam_lease(struct ipam *ipam, int64_t now_ms, uint32_t *ret_address, struct error *err)
{
	uint32_t offset;

	cooling_expire(ipam, now_ms);
	if (counts_with(ipam, (uint32_t)ipam->heap_count).free == 0)
		return no_address(ipam, err);
	offset = scan(ipam, ipam->next);
	if (offset == ipam->size)
		offset = scan(ipam, 0);
	take(ipam, offset);
	ipam->next = (offset + 1) % ipam->size;
	*ret_address = ipam->block.base + offset;
	return 0;
}

int ipam_lease_resting(struct ipam *ipam, int64_t latest_ms, uint32_t *ret_address,
		       struct error *err)
{
	uint32_t offset;

	if (ipam->heap_count == 0 || ipam->heap[0].until_ms > latest_ms)
		return no_address(ipam, err);
	offset = ipam->heap[0].offset;
	heap_remove(ipam, 0);
	bit_clear(ipam->cooling_map, offset);
	take(ipam, offset);
	*ret_address = ipam->block.base + offset;
	return 0;
}

int ipam_adopt(struct ipam *ipam, uint32_t address, struct error *err)
{
	char text[IPV4_TEXT_SIZE], block[IPV4_CIDR_TEXT_SIZE];
	uint32_t offset = address - ipam->block.base;

	ipv4_format(address, text);
	if (!ipv4_cidr_contains(&ipam->block, address))
		return error_set(err, ERANGE, "subnet %s: %s is not in %s", ipam->subnet_id, text,
				 ipv4_cidr_format(&ipam->block, block));
	if (is_reserved(ipam, offset))
		return error_set(
			err, EPERM,
			"subnet %s: %s is reserved: the first four and the last address are",
			ipam->subnet_id, text);
	if (bit_test(ipam->used_map, offset))
		return error_set(err, EADDRINUSE, "subnet %s: %s is in use", ipam->subnet_id, text);
	if (bit_test(ipam->cooling_map, offset))
		cooling_end(ipam, offset);
	take(ipam, offset);
	return 0;
}

bool ipam_is_leased(const struct ipam *ipam, uint32_t address)
{
	uint32_t offset = address - ipam->block.base;

	return offset < ipam->size && !is_reserved(ipam, offset) &&
	       bit_test(ipam->used_map, offset);
}

bool ipam_release(struct ipam *ipam, uint32_t address, int64_t until_ms)
{
	uint32_t offset = address - ipam->block.base;

	if (!ipam_is_leased(ipam, address))
		return false;
	bit_clear(ipam->used_map, offset);
	ipam->used--;
	cooling_begin(ipam, offset, until_ms);
	return true;
}

void ipam_return(struct ipam *ipam, uint32_t address)
{
	uint32_t offset = address - ipam->block.base;

	bit_clear(ipam->used_map, offset);
	ipam->used--;
	if (ipam->next == (offset + 1) % ipam->size)
		ipam->next = offset;
}

bool ipam_cool(struct ipam *ipam, uint32_t address, int64_t until_ms)
{
	uint32_t offset = address - ipam->block.base;

	if (offset >= ipam->size || bit_test(ipam->used_map, offset))
		return false;
	if (bit_test(ipam->cooling_map, offset))
		cooling_end(ipam, offset);
	cooling_begin(ipam, offset, until_ms);
	return true;
}

struct ipam_counts ipam_count(const struct ipam *ipam, int64_t now_ms)
{
	uint32_t cooling = 0;

	for (size_t i = 0; i < ipam->heap_count; i++)
		cooling += ipam->heap[i].until_ms > now_ms;
	return counts_with(ipam, cooling);
}
