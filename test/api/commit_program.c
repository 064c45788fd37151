/* SPDX-License-Identifier: MIT */
/*
 * commit_program.c: what the heap would cost under strict overcommit (vm.overcommit_memory=2).
 * Goal: address space in reserve is not charged and a small program is charged little; what is
 * charged grows with what is in use, in few and large mappings, and none of it escapes the charge.
 * Method: the kernel marks each mapping in /proc/self/smaps: "ac" is charged, "nr" escapes. The mode
 * itself is the whole machine's and so is left alone.
 *
 * commit_program: status 0 if all is well, 77 where the kernel does not show the marks.
 */
#include <stdlib.h>
#include <string.h>

#include "entry_points.h"
#include "expect.h"

#define MIB ((size_t)1 << 20)

struct charge {
    size_t charged_bytes;  /* of anonymous mappings */
    size_t reserved_bytes; /* the rest of them */
    size_t escaping_bytes; /* writable, and not charged */
    unsigned mappings;
};

/* One mapping of smaps, from its first line to that of its flags. */
struct mapping {
    size_t bytes;
    bool anonymous;
    bool writable;
};

static bool begin_mapping(const char *line, struct mapping *mapping)
{
    unsigned long start, end;
    char rights[8] = "", name[256] = "";
    int fields = sscanf(line, "%lx-%lx %7s %*s %*s %*s %255s", &start, &end, rights, name);
    if (fields < 3) {
        return false;
    }
    mapping->bytes = end - start;
    mapping->anonymous = fields == 3;
    mapping->writable = strchr(rights, 'w') != NULL;
    return true;
}

static void add_flags(const char *flags, const struct mapping *mapping, struct charge *charge)
{
    bool charged = strstr(flags, " ac") != NULL;
    if (!mapping->anonymous) {
        return;
    }
    charge->mappings++;
    *(charged ? &charge->charged_bytes : &charge->reserved_bytes) += mapping->bytes;
    charge->escaping_bytes += mapping->writable && !charged ? mapping->bytes : 0;
}

static struct charge read_charge(void)
{
    char line[512];
    struct charge charge = {0, 0, 0, 0};
    struct mapping mapping = {0, false, false};
    FILE *smaps = fopen("/proc/self/smaps", "r");
    bool shown = false;
    while (smaps != NULL && fgets(line, sizeof line, smaps) != NULL) {
        if (strncmp(line, "VmFlags:", 8) == 0) {
            add_flags(line, &mapping, &charge);
            shown = true;
        } else {
            (void)begin_mapping(line, &mapping);
        }
    }
    if (!shown) {
        skip("the kernel does not show the flags of mappings");
    }
    (void)fclose(smaps);
    return charge;
}

static void expect_at_most(size_t bytes, size_t most, const char *what)
{
    if (bytes > most) {
        fail("%s: %zu bytes, %zu at most", what, bytes, most);
    }
}

int main(void)
{
    enum { BLOCKS = 2000 };
    static void *blocks[BLOCKS];
    ap_free(ap_malloc(100));
    struct charge at_start = read_charge();
    expect(at_start.reserved_bytes > 64 * MIB, "address space is reserved and not charged");
    expect_at_most(at_start.charged_bytes, 16 * MIB, "charged at start");
    expect_at_most(at_start.escaping_bytes, 0, "escaping the charge at start");
    size_t used = 0;
    for (unsigned i = 0; i < BLOCKS; i++) { /* 500 MiB, small and large */
        size_t size = i % 4 == 0 ? 1 * MIB - 100 : (size_t)200 << (i % 10);
        blocks[i] = entry_points[i % ENTRY_POINT_SETS].malloc(size);
        expect(blocks[i] != NULL, "a block is had");
        used += size;
    }
    struct charge in_use = read_charge();
    expect(in_use.charged_bytes >= used, "what is in use is charged");
    expect_at_most(in_use.charged_bytes, at_start.charged_bytes + used + used / 4 + 64 * MIB,
                   "charged in use");
    expect_at_most(in_use.escaping_bytes, 0, "escaping the charge in use");
    expect_at_most(in_use.mappings, at_start.mappings + 20, "mappings (number)");
    for (unsigned i = 0; i < BLOCKS; i++) {
        ap_free(blocks[i]);
    }
    return 0;
}
