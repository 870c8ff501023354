/* float64, one number at a time, by the C library: for what must not be rounded to float32. */

SOL_INLINE double exp_f64(double x) { return __builtin_exp(x); }

SOL_INLINE double expm1_f64(double x) { return __builtin_expm1(x); }

SOL_INLINE double log_f64(double x) { return __builtin_log(x); }

SOL_INLINE double log1p_f64(double x) { return __builtin_log1p(x); }

SOL_INLINE double log2_f64(double x) { return __builtin_log2(x); }

SOL_INLINE double log10_f64(double x) { return __builtin_log10(x); }

SOL_INLINE double sqrt_f64(double x) { return __builtin_sqrt(x); }

SOL_INLINE double sin_f64(double x) { return __builtin_sin(x); }

SOL_INLINE double cos_f64(double x) { return __builtin_cos(x); }

SOL_INLINE double tan_f64(double x) { return __builtin_tan(x); }

SOL_INLINE double asin_f64(double x) { return __builtin_asin(x); }

SOL_INLINE double acos_f64(double x) { return __builtin_acos(x); }

SOL_INLINE double atan_f64(double x) { return __builtin_atan(x); }

SOL_INLINE double sinh_f64(double x) { return __builtin_sinh(x); }

SOL_INLINE double cosh_f64(double x) { return __builtin_cosh(x); }

SOL_INLINE double tanh_f64(double x) { return __builtin_tanh(x); }

SOL_INLINE double erf_f64(double x) { return __builtin_erf(x); }

SOL_INLINE double ndtr_f64(double x) { return 0.5 * __builtin_erfc(x * -0x1.6a09e667f3bcdp-1); }

SOL_INLINE double floor_f64(double x) { return __builtin_floor(x); }

SOL_INLINE double ceil_f64(double x) { return __builtin_ceil(x); }

SOL_INLINE double trunc_f64(double x) { return __builtin_trunc(x); }

SOL_INLINE double round_f64(double x) { return __builtin_rint(x); }

SOL_INLINE double abs_f64(double x) { return __builtin_fabs(x); }

SOL_INLINE double rsqrt_f64(double x) { return 1.0 / __builtin_sqrt(x); }

SOL_INLINE double sign_f64(double x) { return (x > 0.0) - (x < 0.0); }

SOL_INLINE double relu_f64(double x) { return x < 0.0 ? 0.0 : x; }

SOL_INLINE int isnan_f64(double x) { return x != x; }

SOL_INLINE int isinf_f64(double x) { return __builtin_fabs(x) == __builtin_inf(); }

SOL_INLINE double sigmoid_f64(double x) {
    double e = __builtin_exp(-__builtin_fabs(x));
    return x >= 0.0 ? 1.0 / (1.0 + e) : e / (1.0 + e);
}

SOL_INLINE double max_f64(double a, double b) { return a != a || a > b ? a : b; }

SOL_INLINE double min_f64(double a, double b) { return a != a || a < b ? a : b; }

SOL_INLINE double pow_f64(double a, double b) { return __builtin_pow(a, b); }

SOL_INLINE double atan2_f64(double a, double b) { return __builtin_atan2(a, b); }

SOL_INLINE double fmod_f64(double a, double b) { return __builtin_fmod(a, b); }

/* As numpy.floor_divide and numpy.remainder: exact remainders with the sign of b. */
SOL_INLINE double mod_f64(double a, double b) {
    double r = __builtin_fmod(a, b);
    if (r == 0.0) return __builtin_copysign(0.0, b);
    return (r < 0.0) != (b < 0.0) ? r + b : r;
}

SOL_INLINE double floordiv_f64(double a, double b) {
    if (b == 0.0) return a / b;
    double q = (a - mod_f64(a, b)) / b, whole = __builtin_floor(q);
    if (q == 0.0) return __builtin_copysign(0.0, a / b);
    return q - whole > 0.5 ? whole + 1.0 : whole;
}
