/* Looks at memory of others: whether it is as it was. Most of what is looked at is in no cache, so
 * no load may wait for another one: a look at a word in turn costs as much as 1000 operations. */
#include <string.h>

#include "sol_runtime.h"

enum { PAGE = 4096, AHEAD = 64 /* places */, TENSORS_AHEAD = 16 };

static uint64_t difference(const uint64_t *const *places, const uint64_t *words, int32_t n) {
    uint64_t different = 0;
    for (int32_t i = 0; i < n; i++) {
        if (i + AHEAD < n) __builtin_prefetch(places[i + AHEAD]);
        different |= *places[i] ^ words[i];
    }
    return different;
}

int sol_unchanged(const uint64_t *const *places, const uint64_t *words, int32_t first, int32_t n) {
    if (difference(places, words, first)) return 0; /* then the others may be nowhere */
    return !difference(places + first, words + first, n - first);
}

/* Mixes 64 bits (the finaliser of SplitMix64: Steele, Lea, Flood, OOPSLA 2014). */
static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t sol_fingerprint(char *const *pointers, const int64_t *bytes, int32_t n) {
    uint64_t sum = (uint64_t)n;
    for (int32_t i = 0; i < n; i++) {
        if (i + TENSORS_AHEAD < n) {
            const char *ahead = pointers[i + TENSORS_AHEAD];
            int64_t size = bytes[i + TENSORS_AHEAD];
            __builtin_prefetch(ahead + size / 2);
            if (size > PAGE) {
                __builtin_prefetch(ahead);
                __builtin_prefetch(ahead + size - 8);
            }
        }
        int64_t width = bytes[i] < 8 ? bytes[i] : 8;
        if (width <= 0) continue;
        int samples = bytes[i] > PAGE ? 3 : 1;
        int64_t middle = (bytes[i] - width) / 2;
        for (int k = 0; k < samples; k++) {
            int64_t offset = k == 0 ? middle : k == 1 ? 0 : bytes[i] - width;
            uint64_t word = 0;
            memcpy(&word, pointers[i] + offset, (size_t)width);
            sum += mix(word + mix((uint64_t)i * 3 + (uint64_t)k + 1));
        }
    }
    return sum;
}
