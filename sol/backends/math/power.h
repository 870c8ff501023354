/* x^y = 2^(y log2 |x|) in double, so that the product keeps its fraction; then the cases of C's
   annex F. */

/* y log2(x) of a positive, finite x; log2 to 12 digits by atanh((m - 1) / (m + 1)). */
SOL_INLINE vdW powerlog_W(vfW x, vfW y) {
    vfW m, e = logsplit_W(x, &m);
    vdW d = todouble_W(m);
    vdW s = (d - 1.0) / (d + 1.0);
    vdW z = s * s;
    vdW p = 0x1.5ce8594fd5178p-2 * z + 0x1.a58d88b40a4f9p-2;
    p = p * z + 0x1.27777fe815175p-1;
    p = p * z + 0x1.ec709d12d1bcbp-1;
    p = p * z + 0x1.71547652bedeap+1;
    return (todouble_W(e) + p * s) * todouble_W(y);
}

/* 2^t for |t| <= 200 or NaN. */
SOL_INLINE vfW exp2double_W(vdW t) {
    vdW whole = (t + 0x1.8p52) - 0x1.8p52;
    vfW r = tosingle_W((t - whole) * 0x1.62e42fefa39efp-1);
    vfW p = (expseries_W(r) * r + 1.0f) * r + 1.0f;
    vuW both = (vuW)bits_W(tosingle_W(whole) + 0x1.8001fcp+23f);
    vuW half = both >> 1;
    return p * frombits_W((viW)(half << 23)) * frombits_W((viW)((both - half) << 23));
}

SOL_INLINE vfW pow_W(vfW x, vfW y) {
    vfW a = abs_W(x), infinity = set_W(__builtin_inff()), zero = set_W(0.0f), one = set_W(1.0f);
    vdW t = powerlog_W(a, y);
    vfW size = tosingle_W(t);
    vfW r = exp2double_W(t);
    r = sel_W(size > 200.0f, infinity, sel_W(size < -200.0f, zero, r));
    viW grows = (a > 1.0f) ^ (y < 0.0f);
    r = sel_W((a == 0.0f) | (a == infinity), sel_W(grows, infinity, zero), r);
    r = sel_W(a == 1.0f, one, r);
    viW whole = trunc_W(y) == y;
    viW odd = whole & (trunc_W(y * 0.5f) != y * 0.5f);
    r = sel_W(odd & (bits_W(x) < 0), -r, r);
    r = sel_W(not_W(whole) & (x < 0.0f) & (a < infinity), set_W(__builtin_nanf("")), r);
    r = sel_W((x != x) | (y != y), x + y, r);
    return sel_W((y == 0.0f) | (x == 1.0f), one, r);
}

/* One lane runs the code of four, as in exp.h. */
SOL_INLINE vf1 pow_1(vf1 x, vf1 y) { return pow_4(set_4(x), set_4(y))[0]; }
