void kernel_0(char *const *buffers, int64_t batch, int64_t begin, int64_t end, char *scratch)
{
    const float *restrict b0 = (const float *)buffers[0];
    const float *restrict b1 = (const float *)buffers[1];
    float *restrict b2 = (float *)buffers[2];
    float *restrict s0 = (float *)(scratch + 0);
    (void)batch, (void)scratch;
    for (int64_t i0 = begin; i0 < end; i0++) {
        {
            const int64_t i1 = i0;
            for (int64_t i2 = 0; i2 < 6; i2 += 1) {
                for (int64_t i3 = 0; i3 < 6; i3 += 1) {
                    {
                        const int64_t i4 = 0;
                        vf16 acc1 = set_16(0.0f);
                        for (int64_t i5 = max_i64(0, (-1 * i2 + 1)); i5 < min_i64(3, (-1 * i2 + 7)); i5 += 1) {
                            if (((i3 + -1) >= 0)) {
                                acc1 = (acc1 + (load_16(&b0[(96 * i5 + 576 * i1 + 96 * i2 + 16 * i3 + i4 + -112)]) * load_16(&b1[(48 * i5 + i4)])));
                            }
                            acc1 = (acc1 + (load_16(&b0[(96 * i5 + 576 * i1 + 96 * i2 + 16 * i3 + i4 + -96)]) * load_16(&b1[(48 * i5 + i4 + 16)])));
                            if (((i3 + 1) < 6)) {
                                acc1 = (acc1 + (load_16(&b0[(96 * i5 + 576 * i1 + 96 * i2 + 16 * i3 + i4 + -80)]) * load_16(&b1[(48 * i5 + i4 + 32)])));
                            }
                        }
                        store_16(&s0[i4], acc1);
                    }
                    {
                        const int64_t i6 = 0;
                        store_16(&b2[(576 * i1 + 96 * i2 + 16 * i3 + i6)], load_16(&s0[i6]));
                    }
                }
            }
        }
    }
}
