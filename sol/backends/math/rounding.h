/* Rounding, and division with remainder. Where the instruction set rounds vectors (SSE4.1 and up,
   ARM64), a loop of the builtin over the lanes becomes that instruction; elsewhere adding and
   subtracting 2^23 rounds, and what has no fraction stays. Both are exact for every float. */

SOL_INLINE vfW round_W(vfW x) {
#if defined(__SSE4_1__) || defined(__aarch64__)
    vfW y;
    for (int i = 0; i < W; i++) y[i] = __builtin_rintf(x[i]);
    return y;
#else
    vfW a = abs_W(x);
    return withsign_W(sel_W(a < 0x1p23f, a + 0x1p23f - 0x1p23f, a), x);
#endif
}

SOL_INLINE vf1 round_1(vf1 x) {
#if defined(__SSE4_1__) || defined(__aarch64__)
    return __builtin_rintf(x);
#else
    vf1 a = abs_1(x);
    return withsign_1(a < 0x1p23f ? a + 0x1p23f - 0x1p23f : a, x);
#endif
}

SOL_INLINE vfW floor_W(vfW x) {
#if defined(__SSE4_1__) || defined(__aarch64__)
    vfW y;
    for (int i = 0; i < W; i++) y[i] = __builtin_floorf(x[i]);
    return y;
#else
    vfW y = round_W(x);
    return y - maskf_W(y > x);
#endif
}

SOL_INLINE vf1 floor_1(vf1 x) {
#if defined(__SSE4_1__) || defined(__aarch64__)
    return __builtin_floorf(x);
#else
    vf1 y = round_1(x);
    return y - maskf_1(y > x);
#endif
}

SOL_INLINE vfW ceil_W(vfW x) { return -floor_W(-x); }

SOL_INLINE vfW trunc_W(vfW x) { return withsign_W(floor_W(abs_W(x)), x); }

/* a - n b for the largest n that keeps it from changing sign, exactly. In doubles: b times a power
   of two is subtracted as often as it fits while the quotient has more than 28 bits, so that every
   product and difference is exact (a quotient may come out one too large: then b is added back). */
static __attribute__((noinline, unused)) float fmodlane(float a, float b) {
    double x = a < 0 ? -(double)a : a, y = b < 0 ? -(double)b : b;
    if (!(x < __builtin_inf()) || !(y > 0)) return __builtin_nanf("");
    if (x < y) return a;
    while (x >= y) {
        double step = y;
        while (x >= step * 0x1p28) step *= 0x1p28;
        x -= (double)(int64_t)(x / step) * step;
        if (x < 0) x += step;
    }
    return withsign_1((float)x, a);
}

SOL_INLINE vfW fmod_W(vfW a, vfW b) {
    float as[W], bs[W];
    store_W(as, a);
    store_W(bs, b);
    for (int i = 0; i < W; i++) as[i] = fmodlane(as[i], bs[i]);
    return load_W(as);
}

SOL_INLINE vf1 fmod_1(vf1 a, vf1 b) { return fmodlane(a, b); }

/* The remainder with the sign of the divisor, as Python, NumPy and PyTorch. */
SOL_INLINE vfW mod_W(vfW a, vfW b) {
    vfW r = fmod_W(a, b), zero = set_W(0.0f);
    vfW same = r + sel_W((r < 0.0f) ^ (b < 0.0f), b, zero);
    return sel_W(r == 0.0f, withsign_W(zero, b), same);
}

/* floor(a / b) of the exact quotient, as torch.floor_divide: (a - a mod b) / b is an integer but
   for its rounding. */
SOL_INLINE vfW floordiv_W(vfW a, vfW b) {
    vfW r = fmod_W(a, b);
    vfW q = (a - r) / b;
    q = q - maskf_W((r != 0.0f) & ((r < 0.0f) ^ (b < 0.0f)));
    vfW f = floor_W(q);
    f = f + maskf_W(q - f > 0.5f);
    f = sel_W(q == 0.0f, withsign_W(set_W(0.0f), a / b), f);
    return sel_W(b == 0.0f, a / b, f);
}
