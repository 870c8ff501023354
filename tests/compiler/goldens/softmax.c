void kernel_0(char *const *buffers, int64_t batch, int64_t begin, int64_t end, char *scratch)
{
    const float *restrict b0 = (const float *)buffers[0];
    float *restrict b1 = (float *)buffers[1];
    float *restrict s1 = (float *)(scratch + 0);
    (void)batch, (void)scratch;
    for (int64_t i0 = begin; i0 < end; i0++) {
        {
            const int64_t i1 = i0;
            for (int64_t i2 = 0; i2 < 12; i2 += 1) {
                vf16 acc1 = set_16((-__builtin_inff()));
                for (int64_t i3 = 0; i3 < 48; i3 += 16) {
                    acc1 = max_16(acc1, load_16(&b0[(576 * i1 + 48 * i2 + i3)]));
                }
                const float total2 = hmax_16(acc1);
                const float s0 = total2;
                for (int64_t i4 = 0; i4 < 48; i4 += 16) {
                    store_16(&s1[i4], exp_16((load_16(&b0[(576 * i1 + 48 * i2 + i4)]) - s0)));
                }
                vf16 acc3 = set_16(0.0f);
                for (int64_t i5 = 0; i5 < 48; i5 += 16) {
                    acc3 = (acc3 + load_16(&s1[i5]));
                }
                const float total4 = hsum_16(acc3);
                const float s2 = (1.0f / total4);
                for (int64_t i6 = 0; i6 < 48; i6 += 16) {
                    store_16(&b1[(576 * i1 + 48 * i2 + i6)], (load_16(&s1[i6]) * s2));
                }
            }
        }
    }
}
