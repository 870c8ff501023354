/* Sine and its relatives. x = q pi/2 + r with |r| <= pi/4. Up to 10^4 pi/2 is a sum of four floats,
   the first three so short that their products with q are exact (W. J. Cody and W. Waite, Software
   Manual for the Elementary Functions, 1980, chapter 8), and so are the first two differences;
   beyond, lane by lane, the product with as many bits of 2/pi as matter (M. Payne and R. Hanek,
   SIGNUM Newsletter 18, 1983). */

/* 32 zeros, and the first 256 bits of 2/pi. */
static const uint32_t two_over_pi[9] = {
    0,          0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0,
    0xdb629599, 0x3c439041, 0xfe5163ab, 0xdebbc561,
};

/* r, and q modulo 4 in *quadrant, of |x| >= 1. x = m 2^(e - 150), m an integer of 24 bits: bits of
   2/pi that give multiples of 4 are left out; 96 of the others leave 2^-62 of exactness. */
static __attribute__((noinline, unused)) float reducelarge(float x, int32_t *quadrant) {
    int32_t i = bits_1(x), e = (i >> 23) & 255;
    *quadrant = 0;
    if (e == 255) return x - x;
    int32_t first = e - 150 + 30;
    const uint32_t *w = two_over_pi + first / 32;
    int32_t s = first % 32;
    uint64_t a = (uint64_t)w[0] << 32 | w[1], b = (uint64_t)w[2] << 32 | w[3];
    uint64_t m = (uint64_t)(i & 0x7fffff) | 0x800000;
    uint64_t high = s ? a << s | b >> (64 - s) : a;
    uint64_t low = (b << s) >> 32;
    uint64_t turns = m * high + (m * low >> 32);
    uint64_t q = (turns + ((uint64_t)1 << 61)) >> 62;
    float r = (float)((double)(int64_t)(turns - (q << 62)) * 0x1.921fb54442d18p-62);
    *quadrant = (int32_t)(i < 0 ? (4 - q) & 3 : q & 3);
    return i < 0 ? -r : r;
}

/* r, and q in the low two bits of *quadrant. */
SOL_INLINE vfW reduceangle_W(vfW x, viW *quadrant) {
    vfW shifted = x * 0x1.45f306p-1f + 0x1.8p+23f;
    vfW n = shifted - 0x1.8p+23f;
    vfW r = x - n * 0x1.92p+0f;
    r = r - n * 0x1.fb4p-12f;
    vfW rounded = r - n * 0x1.444p-24f;
    vfW lost = r - rounded - n * 0x1.444p-24f;
    r = rounded - (n * 0x1.68c234p-39f - lost);
    viW q = bits_W(shifted);
    viW large = abs_W(x) > 1e4f;
    if (__builtin_expect(hany_W(large), 0)) {
        float xs[W], rs[W];
        int32_t qs[W], ls[W];
        store_W(xs, x);
        store_W(rs, r);
        storei_W(qs, q);
        storei_W(ls, large);
        for (int i = 0; i < W; i++)
            if (ls[i]) rs[i] = reducelarge(xs[i], &qs[i]);
        r = load_W(rs);
        q = loadi_W(qs);
    }
    *quadrant = q;
    return r;
}

/* sin(r) and cos(r) for |r| <= pi/4. */
SOL_INLINE vfW sincore_W(vfW r) {
    vfW y = r * r;
    vfW p = -0x1.9953fep-13f * y + 0x1.110778p-7f;
    p = p * y + -0x1.555546p-3f;
    return p * y * r + r;
}

SOL_INLINE vfW coscore_W(vfW r) {
    vfW y = r * r;
    vfW p = 0x1.99e80cp-16f * y + -0x1.6c0c28p-10f;
    p = p * y + 0x1.55554ap-5f;
    return p * y * y + (1.0f - 0.5f * y);
}

/* The sign of y turned where bit 1 of q is set. */
SOL_INLINE vfW turn_W(vfW y, viW q) {
    return frombits_W((viW)((vuW)bits_W(y) ^ ((vuW)q >> 1 << 31)));
}

SOL_INLINE vfW sin_W(vfW x) {
    viW q;
    vfW r = reduceangle_W(x, &q);
    vfW s = turn_W(sincore_W(r), q), c = turn_W(coscore_W(r), q);
    return sel_W(x == 0.0f, x, sel_W((q & 1) != 0, c, s));
}

SOL_INLINE vfW cos_W(vfW x) {
    viW q;
    vfW r = reduceangle_W(x, &q);
    viW turns = (viW)((vuW)q + 1u);
    vfW s = turn_W(sincore_W(r), turns), c = turn_W(coscore_W(r), turns);
    return sel_W((q & 1) != 0, s, c);
}

/* sin / cos, or -cos / sin in every other quadrant. */
SOL_INLINE vfW tan_W(vfW x) {
    viW q;
    vfW r = reduceangle_W(x, &q);
    vfW s = sincore_W(r), c = coscore_W(r);
    viW odd = (q & 1) != 0;
    return sel_W(x == 0.0f, x, sel_W(odd, -c, s) / sel_W(odd, s, c));
}

/* asin(s) / s - 1 by y = s^2 <= 1/4. */
SOL_INLINE vfW asinseries_W(vfW y) {
    vfW p = 0x1.595c92p-5f * y + 0x1.8c3e28p-6f;
    p = p * y + 0x1.747bbap-5f;
    p = p * y + 0x1.330204p-4f;
    p = p * y + 0x1.5555c8p-3f;
    return p * y;
}

/* Above 1/2 by asin(x) = pi/2 - 2 asin(sqrt((1 - x) / 2)). */
SOL_INLINE vfW asin_W(vfW x) {
    vfW a = abs_W(x);
    viW far = a > 0.5f;
    vfW y = sel_W(far, 0.5f - 0.5f * a, x * x);
    vfW s = sel_W(far, sqrt_W(y), a);
    vfW p = asinseries_W(y) * s + s;
    return withsign_W(sel_W(far, 0x1.921fb6p+0f - (2.0f * p + 0x1.777a5cp-25f), p), x);
}

SOL_INLINE vfW acos_W(vfW x) {
    vfW a = abs_W(x);
    viW far = a > 0.5f;
    vfW y = sel_W(far, 0.5f - 0.5f * a, x * x);
    vfW s = sel_W(far, sqrt_W(y), x);
    vfW p = asinseries_W(y) * s + s;
    vfW near = 0x1.921fb6p+0f - (p + 0x1.777a5cp-25f);
    vfW low = 0x1.921fb6p+1f - (2.0f * p + 0x1.777a5cp-24f);
    return sel_W(far, sel_W(x < 0.0f, low, 2.0f * p), near);
}

/* atan(t) for 0 <= t <= 1. */
SOL_INLINE vfW atancore_W(vfW t) {
    vfW y = t * t;
    vfW p = -0x1.d35ef0p-10f * y + 0x1.642700p-7f;
    p = p * y + -0x1.fd7f8ep-6f;
    p = p * y + 0x1.da2a86p-5f;
    p = p * y + -0x1.58092ep-4f;
    p = p * y + 0x1.c08c50p-4f;
    p = p * y + -0x1.242086p-3f;
    p = p * y + 0x1.9991e4p-3f;
    p = p * y + -0x1.55553ep-2f;
    return p * y * t + t;
}

SOL_INLINE vfW atan_W(vfW x) {
    vfW a = abs_W(x), one = set_W(1.0f);
    viW far = a > 1.0f;
    vfW p = atancore_W(sel_W(far, one, a) / sel_W(far, a, one));
    return withsign_W(sel_W(far, 0x1.921fb6p+0f - (p + 0x1.777a5cp-25f), p), x);
}

/* The angle of the point (x, y): atan(smaller / larger), mirrored at diagonal and y axis. */
SOL_INLINE vfW atan2_W(vfW y, vfW x) {
    vfW a = abs_W(x), b = abs_W(y), zero = set_W(0.0f);
    viW steep = b > a;
    vfW small = sel_W(steep, a, b), large = sel_W(steep, b, a);
    vfW t = sel_W(small == large, set_W(1.0f), small / large);
    vfW p = atancore_W(sel_W(a + b == 0.0f, zero, t));
    p = sel_W(steep, 0x1.921fb6p+0f - (p + 0x1.777a5cp-25f), p);
    vfW left = 0x1.921fb6p+1f - (p + 0x1.777a5cp-24f);
    return withsign_W(sel_W(bits_W(x) < 0, left, p), y);
}

/* One lane runs the code of four, as in exp.h. */
SOL_INLINE vf1 sin_1(vf1 x) { return sin_4(set_4(x))[0]; }

SOL_INLINE vf1 cos_1(vf1 x) { return cos_4(set_4(x))[0]; }

SOL_INLINE vf1 tan_1(vf1 x) { return tan_4(set_4(x))[0]; }

SOL_INLINE vf1 asin_1(vf1 x) { return asin_4(set_4(x))[0]; }

SOL_INLINE vf1 acos_1(vf1 x) { return acos_4(set_4(x))[0]; }

SOL_INLINE vf1 atan_1(vf1 x) { return atan_4(set_4(x))[0]; }

SOL_INLINE vf1 atan2_1(vf1 x, vf1 y) { return atan2_4(set_4(x), set_4(y))[0]; }
