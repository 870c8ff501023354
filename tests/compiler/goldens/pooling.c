void kernel_0(char *const *buffers, int64_t batch, int64_t begin, int64_t end, char *scratch)
{
    const float *restrict b0 = (const float *)buffers[0];
    float *restrict b1 = (float *)buffers[1];
    float *restrict s0 = (float *)(scratch + 0);
    (void)batch, (void)scratch;
    for (int64_t i0 = begin; i0 < end; i0++) {
        {
            const int64_t i1 = i0;
            for (int64_t i2 = 0; i2 < 4; i2 += 1) {
                for (int64_t i3 = 0; i3 < 4; i3 += 1) {
                    {
                        const int64_t i4 = 0;
                        vf16 acc1 = set_16((-__builtin_inff()));
                        for (int64_t i5 = max_i64(0, (-2 * i2 + 1)); i5 < 3; i5 += 1) {
                            if (((2 * i3 + -1) >= 0)) {
                                acc1 = max_16(acc1, load_16(&b0[(1024 * i1 + 256 * i2 + 32 * i3 + i4 + 128 * i5 + -144)]));
                            }
                            acc1 = max_16(acc1, load_16(&b0[(1024 * i1 + 256 * i2 + 32 * i3 + i4 + 128 * i5 + -128)]));
                            acc1 = max_16(acc1, load_16(&b0[(1024 * i1 + 256 * i2 + 32 * i3 + i4 + 128 * i5 + -112)]));
                        }
                        store_16(&s0[i4], acc1);
                    }
                    {
                        const int64_t i6 = 0;
                        store_16(&b1[(256 * i1 + 64 * i2 + 16 * i3 + i6)], load_16(&s0[i6]));
                    }
                }
            }
        }
    }
}
