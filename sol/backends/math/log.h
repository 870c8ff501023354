/* Logarithms: x = 2^e m with sqrt(1/2) <= m < sqrt(2), log(x) = e log(2) + log(1 + f), f = m - 1
   (W. J. Cody and W. Waite, Software Manual for the Elementary Functions, 1980, chapter 5). */

/* e as a float, and m in *m, of a positive x that may be denormal. */
SOL_INLINE vfW logsplit_W(vfW x, vfW *m) {
    viW tiny = x < 0x1p-126f;
    viW i = bits_W(sel_W(tiny, x * 0x1p23f, x));
    viW e = (viW)((vuW)i - 0x3f3504f3u) >> 23;
    *m = frombits_W((viW)((vuW)i - ((vuW)e << 23)));
    return tofloat_W(e) - sel_W(tiny, set_W(23.0f), set_W(0.0f));
}

/* y where log(x) is finite; infinity, NaN or -infinity elsewhere. */
SOL_INLINE vfW logends_W(vfW x, vfW y) {
    vfW end = sel_W(x < 0.0f, set_W(__builtin_nanf("")), x);
    end = sel_W(x == 0.0f, set_W(-__builtin_inff()), end);
    return sel_W((x > 0.0f) & (x < __builtin_inff()), y, end);
}

/* (log(1 + f) - f) / f. */
SOL_INLINE vfW logseries_W(vfW f) {
    vfW p = -0x1.38c9d8p-4f * f + 0x1.055ecap-3f;
    p = p * f + -0x1.0d8244p-3f;
    p = p * f + 0x1.22d92ep-3f;
    p = p * f + -0x1.54728ap-3f;
    p = p * f + 0x1.99a01cp-3f;
    p = p * f + -0x1.000226p-2f;
    p = p * f + 0x1.555554p-2f;
    p = p * f + -0.5f;
    return p * f;
}

SOL_INLINE vfW log_W(vfW x) {
    vfW m, e = logsplit_W(x, &m);
    vfW f = m - 1.0f;
    vfW y = e * 0x1.7f7d1cp-20f + (logseries_W(f) * f + f);
    return logends_W(x, e * 0x1.62e4p-1f + y);
}

/* u = 1 + x is rounded; what it lost, divided by 2^e, is added to f. */
SOL_INLINE vfW log1p_W(vfW x) {
    vfW u = 1.0f + x;
    vfW lost = sel_W(x < 1.0f, x - (u - 1.0f), 1.0f - (u - x));
    viW i = bits_W(u);
    viW e = (viW)((vuW)i - 0x3f3504f3u) >> 23;
    vuW shift = (vuW)e << 23;
    vfW scale = frombits_W((viW)(0x3f800000u - shift));
    lost = sel_W(x < 0x1p40f, lost * scale, set_W(0.0f));
    vfW f = frombits_W((viW)((vuW)i - shift)) - 1.0f + lost;
    vfW k = tofloat_W(e);
    vfW y = k * 0x1.7f7d1cp-20f + (logseries_W(f) * f + f);
    return sel_W(abs_W(x) < 0x1p-25f, x, logends_W(u, k * 0x1.62e4p-1f + y));
}

SOL_INLINE vfW log2_W(vfW x) {
    vfW m, e = logsplit_W(x, &m);
    vfW f = m - 1.0f;
    vfW p = -0x1.dcc982p-4f * f + 0x1.7ebc76p-3f;
    p = p * f + -0x1.818e78p-3f;
    p = p * f + 0x1.a21bd4p-3f;
    p = p * f + -0x1.eb6b92p-3f;
    p = p * f + 0x1.278bb4p-2f;
    p = p * f + -0x1.7156c8p-2f;
    p = p * f + 0x1.ec7022p-2f;
    p = p * f + -0x1.715476p-1f;
    p = p * f + 0x1.c551dap-2f;
    return logends_W(x, e + (p * f + f));
}

SOL_INLINE vfW log10_W(vfW x) {
    vfW m, e = logsplit_W(x, &m);
    vfW f = m - 1.0f;
    vfW p = -0x1.a33b32p-5f * f + 0x1.06117ep-4f;
    p = p * f + -0x1.b57b80p-5f;
    p = p * f + 0x1.e9c4e2p-5f;
    p = p * f + -0x1.28b49ep-4f;
    p = p * f + 0x1.645584p-4f;
    p = p * f + -0x1.bcb64ep-4f;
    p = p * f + 0x1.2878ecp-3f;
    p = p * f + -0x1.bcb7b2p-3f;
    p = p * f + 0x1.bcb7b2p-2f;
    return logends_W(x, e * 0x1.344p-2f + (p * f + e * 0x1.3509f8p-18f));
}

/* One lane runs the code of four, as in exp.h. */
SOL_INLINE vf1 log_1(vf1 x) { return log_4(set_4(x))[0]; }

SOL_INLINE vf1 log1p_1(vf1 x) { return log1p_4(set_4(x))[0]; }

SOL_INLINE vf1 log2_1(vf1 x) { return log2_4(set_4(x))[0]; }

SOL_INLINE vf1 log10_1(vf1 x) { return log10_4(set_4(x))[0]; }
