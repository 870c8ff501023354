/* Vectors in memory, lanes, masks and horizontal reductions. W is a number of lanes, H is half of
   it; `name_1` stands for `name_W` where W is 1. */

SOL_INLINE vfW load_W(const float *p) { return *(const vfW *)p; }

SOL_INLINE void store_W(float *p, vfW x) { *(vfW *)p = x; }

SOL_INLINE viW loadi_W(const int32_t *p) { return *(const viW *)p; }

SOL_INLINE void storei_W(int32_t *p, viW x) { *(viW *)p = x; }

SOL_INLINE vfW set_W(float x) { return (vfW){LANES x}; }

SOL_INLINE viW seti_W(int32_t x) { return (viW){LANES x}; }

SOL_INLINE vfW gather_W(const float *p, int64_t stride) {
    return (vfW){LANES p[@ * stride]};
}

SOL_INLINE viW iota_W(int32_t base) { return (viW){LANES base + @}; }

SOL_INLINE vfW tofloat_W(viW x) { return __builtin_convertvector(x, vfW); }

SOL_INLINE vf1 tofloat_1(vi1 x) { return (float)x; }

SOL_INLINE vdW todouble_W(vfW x) { return __builtin_convertvector(x, vdW); }

SOL_INLINE vd1 todouble_1(vf1 x) { return (double)x; }

SOL_INLINE vfW tosingle_W(vdW x) { return __builtin_convertvector(x, vfW); }

SOL_INLINE vf1 tosingle_1(vd1 x) { return (float)x; }

/* Towards zero; a value outside of int32 gives any integer. */
SOL_INLINE viW toint_W(vfW x) { return __builtin_convertvector(x, viW); }

SOL_INLINE vi1 toint_1(vf1 x) { return (int32_t)x; }

/* Reinterpretation; a cast between vectors keeps the bits, one between scalars does not. */
SOL_INLINE viW bits_W(vfW x) { return (viW)x; }

SOL_INLINE vi1 bits_1(vf1 x) {
    vi1 i;
    __builtin_memcpy(&i, &x, sizeof i);
    return i;
}

SOL_INLINE vfW frombits_W(viW x) { return (vfW)x; }

SOL_INLINE vf1 frombits_1(vi1 x) {
    vf1 f;
    __builtin_memcpy(&f, &x, sizeof f);
    return f;
}

/* m ? a : b. Written with ^ because gcc turns this form, unlike that with |, into one blend. */
SOL_INLINE viW seli_W(viW m, viW a, viW b) { return (m & a) ^ (~m & b); }

SOL_INLINE vi1 seli_1(vi1 m, vi1 a, vi1 b) { return m ? a : b; }

SOL_INLINE vfW sel_W(viW m, vfW a, vfW b) { return (vfW)((m & (viW)a) ^ (~m & (viW)b)); }

SOL_INLINE vf1 sel_1(vi1 m, vf1 a, vf1 b) { return m ? a : b; }

/* a > b ? a : b, so b where one is NaN: one instruction of x86, which gcc does not see in the
   selection. */
SOL_INLINE vfW larger_W(vfW a, vfW b) {
#if (defined(__AVX512F__) && W == 16) || (defined(__AVX__) && (W == 4 || W == 8))
    vfW r;
    __asm__("vmaxps %2, %1, %0" : "=v"(r) : "v"(a), "v"(b));
    return r;
#else
    return sel_W(a > b, a, b);
#endif
}

/* a < b ? a : b, so b where one is NaN. */
SOL_INLINE vfW smaller_W(vfW a, vfW b) {
#if (defined(__AVX512F__) && W == 16) || (defined(__AVX__) && (W == 4 || W == 8))
    vfW r;
    __asm__("vminps %2, %1, %0" : "=v"(r) : "v"(a), "v"(b));
    return r;
#else
    return sel_W(a < b, a, b);
#endif
}

SOL_INLINE viW not_W(viW m) { return ~m; }

SOL_INLINE vi1 not_1(vi1 m) { return !m; }

SOL_INLINE vfW maskf_W(viW m) { return (vfW)(m & (viW)set_W(1.0f)); }

SOL_INLINE vf1 maskf_1(vi1 m) { return m ? 1.0f : 0.0f; }

SOL_INLINE viW loadb_W(const uint8_t *p) {
    return __builtin_convertvector(*(const vbW *)p, viW) != 0;
}

SOL_INLINE vi1 loadb_1(const uint8_t *p) { return *p != 0; }

SOL_INLINE void storeb_W(uint8_t *p, viW m) { *(vbW *)p = __builtin_convertvector(m & 1, vbW); }

SOL_INLINE void storeb_1(uint8_t *p, vi1 m) { *p = m != 0; }

/* Small whole numbers, as bytes in memory. */
SOL_INLINE viW loadu_W(const uint8_t *p) { return __builtin_convertvector(*(const vbW *)p, viW); }

SOL_INLINE vi1 loadu_1(const uint8_t *p) { return *p; }

SOL_INLINE void storeu_W(uint8_t *p, viW x) { *(vbW *)p = __builtin_convertvector(x, vbW); }

SOL_INLINE void storeu_1(uint8_t *p, vi1 x) { *p = (uint8_t)x; }

/* Halves by a union: gcc takes them out of a register, with memcpy it goes through memory. */
SOL_INLINE vfH low_W(vfW x) {
    union {
        vfW whole;
        vfH half[2];
    } u = {x};
    return u.half[0];
}

SOL_INLINE vfH high_W(vfW x) {
    union {
        vfW whole;
        vfH half[2];
    } u = {x};
    return u.half[1];
}

/* Reductions of all lanes, always as a tree of halves: lane k meets lane k + W/2 first. */
SOL_INLINE float hsum_W(vfW x) { return hsum_H(low_W(x) + high_W(x)); }

SOL_INLINE float hsum_1(vf1 x) { return x; }

SOL_INLINE float hprod_W(vfW x) { return hprod_H(low_W(x) * high_W(x)); }

SOL_INLINE float hprod_1(vf1 x) { return x; }

SOL_INLINE float hmax_W(vfW x) { return hmax_H(max_H(low_W(x), high_W(x))); }

SOL_INLINE float hmax_1(vf1 x) { return x; }

SOL_INLINE float hmin_W(vfW x) { return hmin_H(min_H(low_W(x), high_W(x))); }

SOL_INLINE float hmin_1(vf1 x) { return x; }

/* 0 or 1. */
SOL_INLINE int32_t hany_W(viW m) {
    union {
        viW whole;
        viH half[2];
    } u = {m};
    return hany_H(u.half[0] | u.half[1]);
}

SOL_INLINE int32_t hany_1(vi1 m) { return m != 0; }

SOL_INLINE int32_t hall_W(viW m) { return !hany_W(not_W(m)); }
