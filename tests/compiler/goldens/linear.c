void kernel_0(char *const *buffers, int64_t batch, int64_t begin, int64_t end, char *scratch)
{
    const float *restrict b0 = (const float *)buffers[0];
    const float *restrict b1 = (const float *)buffers[1];
    float *restrict b2 = (float *)buffers[2];
    const float *restrict b3 = (const float *)buffers[3];
    float *restrict tile = (float *)(scratch + 0);
    (void)batch, (void)scratch;
    for (int64_t i0 = begin; i0 < end; i0++) {
        {
            const int64_t i1 = i0;
            {
                const int64_t i2 = 0;
                {
                    const int64_t i3 = 0;
                    {
                        const int64_t i4 = 0;
                        for (int64_t i5 = i2; i5 < 1; i5 += 1) {
                            for (int64_t i6 = 0; i6 < (-1 * i3 + 1); i6 += 1) {
                                {
                                    const int64_t i7 = 0;
                                    vf16 acc_0_0 = set_16(0.0f);
                                    vf16 acc_1_0 = set_16(0.0f);
                                    vf16 acc_2_0 = set_16(0.0f);
                                    vf16 acc_3_0 = set_16(0.0f);
                                    vf16 acc_4_0 = set_16(0.0f);
                                    vf16 acc_5_0 = set_16(0.0f);
                                    vf16 acc_6_0 = set_16(0.0f);
                                    vf16 acc_7_0 = set_16(0.0f);
                                    for (int64_t i8 = 0; i8 < 32; i8 += 1) {
                                        const vf16 w_0 = load_16(&b1[(512 * i5 + 16 * i8 + 512 * i4 + i7)]);
                                        __builtin_prefetch((const void *)((uintptr_t)b1 + (512 * i5 + 16 * i8 + 512 * i4 + 2048) * sizeof *b1), 0, 2);
                                        const float a_0 = b0[(256 * i1 + i8 + 256 * i3 + 256 * i6)];
                                        acc_0_0 = (acc_0_0 + (a_0 * w_0));
                                        const float a_1 = b0[(256 * i1 + i8 + 256 * i3 + 256 * i6 + 32)];
                                        acc_1_0 = (acc_1_0 + (a_1 * w_0));
                                        const float a_2 = b0[(256 * i1 + i8 + 256 * i3 + 256 * i6 + 64)];
                                        acc_2_0 = (acc_2_0 + (a_2 * w_0));
                                        const float a_3 = b0[(256 * i1 + i8 + 256 * i3 + 256 * i6 + 96)];
                                        acc_3_0 = (acc_3_0 + (a_3 * w_0));
                                        const float a_4 = b0[(256 * i1 + i8 + 256 * i3 + 256 * i6 + 128)];
                                        acc_4_0 = (acc_4_0 + (a_4 * w_0));
                                        const float a_5 = b0[(256 * i1 + i8 + 256 * i3 + 256 * i6 + 160)];
                                        acc_5_0 = (acc_5_0 + (a_5 * w_0));
                                        const float a_6 = b0[(256 * i1 + i8 + 256 * i3 + 256 * i6 + 192)];
                                        acc_6_0 = (acc_6_0 + (a_6 * w_0));
                                        const float a_7 = b0[(256 * i1 + i8 + 256 * i3 + 256 * i6 + 224)];
                                        acc_7_0 = (acc_7_0 + (a_7 * w_0));
                                    }
                                    store_16(&b2[(16 * i5 + 128 * i1 + i7 + 128 * i3 + 128 * i6)], (acc_0_0 + load_16(&b3[(16 * i5 + i7)])));
                                    store_16(&b2[(16 * i5 + 128 * i1 + i7 + 128 * i3 + 128 * i6 + 16)], (acc_1_0 + load_16(&b3[(16 * i5 + i7)])));
                                    store_16(&b2[(16 * i5 + 128 * i1 + i7 + 128 * i3 + 128 * i6 + 32)], (acc_2_0 + load_16(&b3[(16 * i5 + i7)])));
                                    store_16(&b2[(16 * i5 + 128 * i1 + i7 + 128 * i3 + 128 * i6 + 48)], (acc_3_0 + load_16(&b3[(16 * i5 + i7)])));
                                    store_16(&b2[(16 * i5 + 128 * i1 + i7 + 128 * i3 + 128 * i6 + 64)], (acc_4_0 + load_16(&b3[(16 * i5 + i7)])));
                                    store_16(&b2[(16 * i5 + 128 * i1 + i7 + 128 * i3 + 128 * i6 + 80)], (acc_5_0 + load_16(&b3[(16 * i5 + i7)])));
                                    store_16(&b2[(16 * i5 + 128 * i1 + i7 + 128 * i3 + 128 * i6 + 96)], (acc_6_0 + load_16(&b3[(16 * i5 + i7)])));
                                    store_16(&b2[(16 * i5 + 128 * i1 + i7 + 128 * i3 + 128 * i6 + 112)], (acc_7_0 + load_16(&b3[(16 * i5 + i7)])));
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
