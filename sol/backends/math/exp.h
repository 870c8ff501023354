/* exp and what is made of it. x = n ln 2 + r with |r| <= ln 2 / 2, exp(x) = 2^n exp(r)
   (W. J. Cody and W. Waite, Software Manual for the Elementary Functions, 1980, chapter 6).

   Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits of the sum. The
   constants here are larger by a bias: after a shift by 23 bits that drops everything else, the low
   bits are the exponent of 2^n. Where 2^n is out of range, the bias is twice as large, and the two
   halves of the low bits are exponents: two factors reach infinity and, with one rounding, denormal
   results.

   Between a fused product and a selection stands an integer operation, even where the sign is right
   already: gcc makes a masked sum of a sum that is selected, and then fuses no product with it. So
   results would depend on the instruction set and on the code around. */

/* (exp(r) - 1 - r) / r^2 for |r| <= ln 2 / 2. */
SOL_INLINE vfW expseries_W(vfW r) {
    vfW p = 0x1.6a4caap-10f * r + 0x1.123988p-7f;
    p = p * r + 0x1.5558b0p-5f;
    p = p * r + 0x1.555492p-3f;
    return p * r + 0x1.fffffcp-2f;
}

/* x - n ln 2; the first product is exact. */
SOL_INLINE vfW reduceln2_W(vfW x, vfW n) {
    vfW r = x - n * 0x1.62e4p-1f;
    return r - n * 0x1.7f7d1cp-20f;
}

/* y 2^n for `shifted` = 1.5 * 2^23 + 254 + n. */
SOL_INLINE vfW powerof2_W(vfW y, vfW shifted) {
#if defined(__AVX512VL__) && (W == 4 || W == 8 || W == 16)
    vfW r, n = shifted - 0x1.8001fcp+23f;
    __asm__("vscalefps %2, %1, %0" : "=v"(r) : "v"(y), "v"(n));
    return r;
#else
    vuW both = (vuW)bits_W(shifted);
    vuW half = both >> 1;
    return y * frombits_W((viW)(half << 23)) * frombits_W((viW)((both - half) << 23));
#endif
}

/* exp(x) 2^(2 bias) for -104 <= x <= 90 or NaN; `biased` is 1.5 * 2^23 + 254 + 2 bias. */
SOL_INLINE vfW expclamped_W(vfW x, float biased) {
    vfW shifted = x * 0x1.715476p+0f + biased;
    vfW r = reduceln2_W(x, shifted - biased);
    return powerof2_W((expseries_W(r) * r + 1.0f) * r + 1.0f, shifted);
}

/* 89 and -104 give infinity and 0 by themselves; NaN passes both. */
SOL_INLINE vfW exp_W(vfW x) {
    x = larger_W(set_W(-104.0f), smaller_W(set_W(89.0f), x));
    return expclamped_W(x, 0x1.8001fcp+23f);
}

/* 2^n (exp(r) - 1) + (2^n - 1), all halved because 2^128 is no float. Below 2^-25 it is x. */
SOL_INLINE vfW expm1_W(vfW x) {
    vfW c = larger_W(set_W(-26.0f), smaller_W(set_W(89.0f), x));
    vfW shifted = c * 0x1.715476p+0f + 0x1.8000fcp+23f;
    vfW r = reduceln2_W(c, shifted - 0x1.8000fcp+23f);
    vfW q = expseries_W(r) * r * r + r;
    vfW half = frombits_W((viW)((vuW)bits_W(shifted) << 23));
    return sel_W(abs_W(x) < 0x1p-25f, x, (q * half + (half - 0.5f)) * 2.0f);
}

/* With e = exp(-|x|) and d = e / (1 + e): 1 - d, or e - e d for x < 0. One exponential, one
   division, no overflow, and denormal results keep their bits. */
SOL_INLINE vfW sigmoid_W(vfW x) {
    vfW a = frombits_W(bits_W(x) | INT32_MIN);
    vfW e = expclamped_W(larger_W(set_W(-104.0f), a), 0x1.8001fcp+23f);
    vfW d = e / (1.0f + e);
    vfW c = sel_W(x < 0.0f, e, set_W(1.0f));
    return c - c * d;
}

/* x sigmoid(x), which below -88 is 0: less than 1e-36. */
SOL_INLINE vfW silu_W(vfW x) { return x / (1.0f + exp_W(-x)); }

/* Near 0 a polynomial, which also passes NaN on, else 1 - 2 / (exp(2 |x|) + 1). */
SOL_INLINE vfW tanh_W(vfW x) {
    vfW y = x * x;
    vfW p = -0x1.6969e6p-8f * y + 0x1.4f5d56p-6f;
    p = p * y + -0x1.b7cfb4p-5f;
    p = p * y + 0x1.1103f0p-3f;
    p = p * y + -0x1.555524p-2f;
    vfW near = p * y * x + x;
    vfW a = clampabs_W(x, 10.0f);
    vfW twice = a + a;
    vfW shifted = twice * 0x1.715476p+0f + 0x1.8000fep+23f;
    vfW r = twice - (shifted - 0x1.8000fep+23f) * 0x1.62e430p-1f;
    vfW q = (expseries_W(r) * r + 1.0f) * r + 1.0f;
    vfW e = q * frombits_W((viW)((vuW)bits_W(shifted) << 23)) + 1.0f;
    return sel_W(y > 0.4225f, withsign_W(1.0f - 2.0f / e, x), withsign_W(near, x));
}

/* Near 0 a polynomial, which also passes NaN on, else 1 - exp(-|x| p(|x|)). */
SOL_INLINE vfW erf_W(vfW x) {
    vfW y = x * x;
    vfW p = -0x1.570098p-11f * y + 0x1.4d5f72p-8f;
    p = p * y + -0x1.b774a4p-6f;
    p = p * y + 0x1.ce2888p-4f;
    p = p * y + -0x1.812732p-2f;
    p = p * y + 0x1.06eba8p-3f;
    vfW near = p * x + x;
    vfW a = clampabs_W(x, 3.95f);
    p = -0x1.c58376p-13f * a + 0x1.a7d070p-9f;
    p = p * a + -0x1.77fd28p-6f;
    p = p * a + 0x1.af858cp-4f;
    p = p * a + 0x1.45740ap-1f;
    p = p * a + 0x1.20e79ap+0f;
    vfW w = p * -a;
    vfW shifted = w * 0x1.715476p+0f + 0x1.8000fep+23f;
    vfW r = w - (shifted - 0x1.8000fep+23f) * 0x1.62e430p-1f;
    vfW q = (expseries_W(r) * r + 1.0f) * r + 1.0f;
    vfW far = 1.0f - q * frombits_W((viW)((vuW)bits_W(shifted) << 23));
    return sel_W(y > 0.64f, withsign_W(far, x), withsign_W(near, x));
}

/* The normal distribution: q = 0.5 erfc(|x| / sqrt 2) = 2^t(|x|) or, above 0, 1 - q. The error is
   that of numbers near 1. */
SOL_INLINE vfW ndtr_W(vfW x) {
    vfW a = abs_W(x);
    vfW t = -0x1.17d8e0p-19f * a + 0x1.037280p-15f;
    t = t * a + -0x1.3849d6p-13f;
    t = t * a + -0x1.cb7dc4p-13f;
    t = t * a + 0x1.d52f22p-8f;
    t = t * a + -0x1.ae8488p-5f;
    t = t * a + -0x1.d6369cp-2f;
    t = t * a + -0x1.26aeecp+0f;
    t = larger_W(set_W(-160.0f), t * a + -1.0f);
    vfW shifted = t + 0x1.8001fcp+23f;
    vfW f = t - (shifted - 0x1.8001fcp+23f);
    vfW q = 0x1.5bba34p-10f * f + 0x1.3cea98p-7f;
    q = q * f + 0x1.c6b752p-5f;
    q = q * f + 0x1.ebf9bcp-3f;
    q = q * f + 0x1.62e42ap-1f;
    q = powerof2_W(q * f + 1.0f, shifted);
    return sel_W(x < 0.0f, q, 1.0f - q);
}

/* exp(|x|) / 2, without overflow where sinh and cosh have none. */
SOL_INLINE vfW halfexp_W(vfW x) {
    vfW a = abs_W(x);
    return expclamped_W(smaller_W(set_W(90.0f), a), 0x1.8001fap+23f);
}

SOL_INLINE vfW sinh_W(vfW x) {
    vfW y = x * x;
    vfW p = 0x1.756c1ep-19f * y + 0x1.a022bcp-13f;
    p = p * y + 0x1.1110e0p-7f;
    p = p * y + 0x1.555556p-3f;
    vfW near = p * y * x + x, e = halfexp_W(x);
    return sel_W(y > 1.0f, withsign_W(e - 0.25f / e, x), withsign_W(near, x));
}

SOL_INLINE vfW cosh_W(vfW x) {
    vfW e = halfexp_W(x);
    return e + 0.25f / e;
}

/* One lane runs the code of four: compilers contract the same products to fused operations then. */
SOL_INLINE vf1 exp_1(vf1 x) { return exp_4(set_4(x))[0]; }

SOL_INLINE vf1 expm1_1(vf1 x) { return expm1_4(set_4(x))[0]; }

SOL_INLINE vf1 sigmoid_1(vf1 x) { return sigmoid_4(set_4(x))[0]; }

SOL_INLINE vf1 tanh_1(vf1 x) { return tanh_4(set_4(x))[0]; }

SOL_INLINE vf1 erf_1(vf1 x) { return erf_4(set_4(x))[0]; }

SOL_INLINE vf1 ndtr_1(vf1 x) { return ndtr_4(set_4(x))[0]; }

SOL_INLINE vf1 sinh_1(vf1 x) { return sinh_4(set_4(x))[0]; }

SOL_INLINE vf1 cosh_1(vf1 x) { return cosh_4(set_4(x))[0]; }
