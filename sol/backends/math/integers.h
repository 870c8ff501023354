/* int64 as PyTorch has it: overflow wraps. A division by zero, which PyTorch refuses, gives 0. */

SOL_INLINE int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

SOL_INLINE int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }

SOL_INLINE int64_t neg_i64(int64_t a) { return (int64_t)-(uint64_t)a; }

SOL_INLINE int64_t abs_i64(int64_t a) { return a < 0 ? neg_i64(a) : a; }

SOL_INLINE int64_t sign_i64(int64_t a) { return (a > 0) - (a < 0); }

/* Towards zero; -1 apart because the smallest integer has no opposite. */
SOL_INLINE int64_t div_i64(int64_t a, int64_t b) {
    return b == 0 ? 0 : b == -1 ? neg_i64(a) : a / b;
}

SOL_INLINE int64_t fmod_i64(int64_t a, int64_t b) { return b == 0 || b == -1 ? 0 : a % b; }

SOL_INLINE int64_t floordiv_i64(int64_t a, int64_t b) {
    return div_i64(a, b) - (fmod_i64(a, b) != 0 && (a < 0) != (b < 0));
}

SOL_INLINE int64_t mod_i64(int64_t a, int64_t b) {
    int64_t r = fmod_i64(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

/* a^b by squaring; a negative b leaves 0 but for a = 1 and a = -1. */
SOL_INLINE int64_t pow_i64(int64_t a, int64_t b) {
    if (b < 0) return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0;
    uint64_t x = (uint64_t)a, y = 1;
    for (; b > 0; b >>= 1, x *= x)
        if (b & 1) y *= x;
    return (int64_t)y;
}

/* A shift by a number of bits outside of the type leaves no bit, or the sign. */
SOL_INLINE int64_t shl_i64(int64_t a, int64_t b, int bits) {
    return b < 0 || b >= bits ? 0 : (int64_t)((uint64_t)a << b);
}

SOL_INLINE int64_t shr_i64(int64_t a, int64_t b, int bits) {
    return b < 0 || b >= bits ? -(a < 0) : a >> b;
}

/* uint64, where int64 would see another sign. */
SOL_INLINE uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }

SOL_INLINE uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }

SOL_INLINE uint64_t floordiv_u64(uint64_t a, uint64_t b) { return b == 0 ? 0 : a / b; }

SOL_INLINE uint64_t mod_u64(uint64_t a, uint64_t b) { return b == 0 ? 0 : a % b; }

SOL_INLINE uint64_t fmod_u64(uint64_t a, uint64_t b) { return b == 0 ? 0 : a % b; }

SOL_INLINE uint64_t pow_u64(uint64_t a, uint64_t b) {
    uint64_t y = 1;
    for (; b > 0; b >>= 1, a *= a)
        if (b & 1) y *= a;
    return y;
}

SOL_INLINE uint64_t shl_u64(uint64_t a, uint64_t b, int bits) {
    return b >= (uint64_t)bits ? 0 : a << b;
}

SOL_INLINE uint64_t shr_u64(uint64_t a, uint64_t b, int bits) {
    return b >= (uint64_t)bits ? 0 : a >> b;
}
