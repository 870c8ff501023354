/* exp and what is made of it. x = n ln 2 + r with |r| <= ln 2 / 2, exp(x) = 2^n exp(r) (Cody and Waite, 1980, chapter 6).

Adding the constant 1.5 * 2^23 rounds to an integer, which then stands in the low bits of the sum. The constant here is 254 larger: halves of those low bits are two
biased exponents, and shifting them up by 23 drops everything else. Two factors 2^(n/2) reach denormal results, with one rounding, and infinity. */

/* exp(r) for |r| <= ln 2 / 2. */
SOL_INLINE vfW expcore_W(vfW r) {
    vfW p = 0x1.6ab730p-10f * r + 0x1.123d60p-7f;
    p = p * r + 0x1.55585ap-5f;
    p = p * r + 0x1.55548cp-3f;
    p = p * r + 0x1.fffffcp-2f;
    p = p * r + 1.0f;
    return p * r + 1.0f;
}

/* exp(x) for -104 <= x <= 89 or NaN. */
SOL_INLINE vfW expclamped_W(vfW x) {
    vfW shifted = x * 0x1.715476p+0f + 0x1.8001fcp+23f;
    vfW n = shifted - 0x1.8001fcp+23f;
    vfW r = x - n * 0x1.62e4p-1f;
    r = r - n * 0x1.7f7d1cp-20f;
    vuW both = (vuW)bits_W(shifted);
    vuW half = both >> 1;
    vfW y = expcore_W(r) * frombits_W((viW)(half << 23));
    return y * frombits_W((viW)((both - half) << 23));
}

/* 89 and -104 give infinity and 0 by themselves; NaN passes both comparisons. */
SOL_INLINE vfW exp_W(vfW x) {
    x = sel_W(x > 89.0f, set_W(89.0f), x);
    x = sel_W(x < -104.0f, set_W(-104.0f), x);
    return expclamped_W(x);
}

/* 1 / (1 + exp(-x)), or exp(x) / (1 + exp(x)) below 0: no overflow, and denormal results keep their bits. */
SOL_INLINE vfW sigmoid_W(vfW x) {
    vfW a = frombits_W(bits_W(x) | (int32_t)0x80000000);
    vfW e = expclamped_W(sel_W(a < -104.0f, set_W(-104.0f), a));
    return sel_W(x < 0.0f, e, set_W(1.0f)) / (1.0f + e);
}
