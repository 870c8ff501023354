/* Functions of a few instructions: extremes, signs, roots, classes. */

/* As torch.maximum: NaN where either is NaN. */
SOL_INLINE vfW max_W(vfW a, vfW b) { return sel_W(a != a, a, larger_W(a, b)); }

SOL_INLINE vfW min_W(vfW a, vfW b) { return sel_W(a != a, a, smaller_W(a, b)); }

/* NaN stays NaN, and so does -0. */
SOL_INLINE vfW relu_W(vfW x) { return larger_W(set_W(0.0f), x); }

SOL_INLINE vfW abs_W(vfW x) { return frombits_W(bits_W(x) & INT32_MAX); }

SOL_INLINE vfW neg_W(vfW x) { return -x; }

/* The smaller of |x| and a positive limit, which stands for NaN too: bits of positive floats are in
   the order of the floats. */
SOL_INLINE vfW clampabs_W(vfW x, float limit) {
    viW a = bits_W(x) & INT32_MAX, b = bits_W(set_W(limit));
    return frombits_W(seli_W(a < b, a, b));
}

/* |x| with the sign bit of s, for x >= 0. */
SOL_INLINE vfW withsign_W(vfW x, vfW s) {
    return frombits_W(bits_W(x) | (bits_W(s) & INT32_MIN));
}

/* -1, 0 or 1; 0 for NaN, as torch.sign. */
SOL_INLINE vfW sign_W(vfW x) { return maskf_W(x > 0.0f) - maskf_W(x < 0.0f); }

SOL_INLINE viW isnan_W(vfW x) { return x != x; }

SOL_INLINE viW isinf_W(vfW x) { return abs_W(x) == __builtin_inff(); }

/* gcc and clang make one vector instruction of the loop. */
SOL_INLINE vfW sqrt_W(vfW x) {
    vfW y;
    for (int i = 0; i < W; i++) y[i] = __builtin_sqrtf(x[i]);
    return y;
}

SOL_INLINE vf1 sqrt_1(vf1 x) { return __builtin_sqrtf(x); }

SOL_INLINE vfW rsqrt_W(vfW x) { return 1.0f / sqrt_W(x); }
