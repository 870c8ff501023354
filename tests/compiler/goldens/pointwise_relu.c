void kernel_0(char *const *buffers, int64_t batch, int64_t begin, int64_t end, char *scratch)
{
    const float *restrict b0 = (const float *)buffers[0];
    const float *restrict b1 = (const float *)buffers[1];
    float *restrict b2 = (float *)buffers[2];
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
                                    vf16 acc_8_0 = set_16(0.0f);
                                    vf16 acc_9_0 = set_16(0.0f);
                                    vf16 acc_10_0 = set_16(0.0f);
                                    vf16 acc_11_0 = set_16(0.0f);
                                    vf16 acc_12_0 = set_16(0.0f);
                                    vf16 acc_13_0 = set_16(0.0f);
                                    vf16 acc_14_0 = set_16(0.0f);
                                    vf16 acc_15_0 = set_16(0.0f);
                                    for (int64_t i8 = 0; i8 < 24; i8 += 1) {
                                        const vf16 w_0 = load_16(&b1[(384 * i5 + 16 * i8 + 384 * i4 + i7)]);
                                        __builtin_prefetch((const void *)((uintptr_t)b1 + (384 * i5 + 16 * i8 + 384 * i4 + 2048) * sizeof *b1), 0, 2);
                                        const float a_0 = b0[(384 * i1 + i8 + 384 * i3 + 384 * i6)];
                                        acc_0_0 = (acc_0_0 + (a_0 * w_0));
                                        const float a_1 = b0[(384 * i1 + i8 + 384 * i3 + 384 * i6 + 24)];
                                        acc_1_0 = (acc_1_0 + (a_1 * w_0));
                                        const float a_2 = b0[(384 * i1 + i8 + 384 * i3 + 384 * i6 + 48)];
                                        acc_2_0 = (acc_2_0 + (a_2 * w_0));
                                        const float a_3 = b0[(384 * i1 + i8 + 384 * i3 + 384 * i6 + 72)];
                                        acc_3_0 = (acc_3_0 + (a_3 * w_0));
                                        const float a_4 = b0[(384 * i1 + i8 + 384 * i3 + 384 * i6 + 96)];
                                        acc_4_0 = (acc_4_0 + (a_4 * w_0));
                                        const float a_5 = b0[(384 * i1 + i8 + 384 * i3 + 384 * i6 + 120)];
                                        acc_5_0 = (acc_5_0 + (a_5 * w_0));
                                        const float a_6 = b0[(384 * i1 + i8 + 384 * i3 + 384 * i6 + 144)];
                                        acc_6_0 = (acc_6_0 + (a_6 * w_0));
                                        const float a_7 = b0[(384 * i1 + i8 + 384 * i3 + 384 * i6 + 168)];
                                        acc_7_0 = (acc_7_0 + (a_7 * w_0));
                                        const float a_8 = b0[(384 * i1 + i8 + 384 * i3 + 384 * i6 + 192)];
                                        acc_8_0 = (acc_8_0 + (a_8 * w_0));
                                        const float a_9 = b0[(384 * i1 + i8 + 384 * i3 + 384 * i6 + 216)];
                                        acc_9_0 = (acc_9_0 + (a_9 * w_0));
                                        const float a_10 = b0[(384 * i1 + i8 + 384 * i3 + 384 * i6 + 240)];
                                        acc_10_0 = (acc_10_0 + (a_10 * w_0));
                                        const float a_11 = b0[(384 * i1 + i8 + 384 * i3 + 384 * i6 + 264)];
                                        acc_11_0 = (acc_11_0 + (a_11 * w_0));
                                        const float a_12 = b0[(384 * i1 + i8 + 384 * i3 + 384 * i6 + 288)];
                                        acc_12_0 = (acc_12_0 + (a_12 * w_0));
                                        const float a_13 = b0[(384 * i1 + i8 + 384 * i3 + 384 * i6 + 312)];
                                        acc_13_0 = (acc_13_0 + (a_13 * w_0));
                                        const float a_14 = b0[(384 * i1 + i8 + 384 * i3 + 384 * i6 + 336)];
                                        acc_14_0 = (acc_14_0 + (a_14 * w_0));
                                        const float a_15 = b0[(384 * i1 + i8 + 384 * i3 + 384 * i6 + 360)];
                                        acc_15_0 = (acc_15_0 + (a_15 * w_0));
                                    }
                                    store_16(&b2[(16 * i5 + 256 * i1 + i7 + 256 * i3 + 256 * i6)], relu_16(acc_0_0));
                                    store_16(&b2[(16 * i5 + 256 * i1 + i7 + 256 * i3 + 256 * i6 + 16)], relu_16(acc_1_0));
                                    store_16(&b2[(16 * i5 + 256 * i1 + i7 + 256 * i3 + 256 * i6 + 32)], relu_16(acc_2_0));
                                    store_16(&b2[(16 * i5 + 256 * i1 + i7 + 256 * i3 + 256 * i6 + 48)], relu_16(acc_3_0));
                                    store_16(&b2[(16 * i5 + 256 * i1 + i7 + 256 * i3 + 256 * i6 + 64)], relu_16(acc_4_0));
                                    store_16(&b2[(16 * i5 + 256 * i1 + i7 + 256 * i3 + 256 * i6 + 80)], relu_16(acc_5_0));
                                    store_16(&b2[(16 * i5 + 256 * i1 + i7 + 256 * i3 + 256 * i6 + 96)], relu_16(acc_6_0));
                                    store_16(&b2[(16 * i5 + 256 * i1 + i7 + 256 * i3 + 256 * i6 + 112)], relu_16(acc_7_0));
                                    store_16(&b2[(16 * i5 + 256 * i1 + i7 + 256 * i3 + 256 * i6 + 128)], relu_16(acc_8_0));
                                    store_16(&b2[(16 * i5 + 256 * i1 + i7 + 256 * i3 + 256 * i6 + 144)], relu_16(acc_9_0));
                                    store_16(&b2[(16 * i5 + 256 * i1 + i7 + 256 * i3 + 256 * i6 + 160)], relu_16(acc_10_0));
                                    store_16(&b2[(16 * i5 + 256 * i1 + i7 + 256 * i3 + 256 * i6 + 176)], relu_16(acc_11_0));
                                    store_16(&b2[(16 * i5 + 256 * i1 + i7 + 256 * i3 + 256 * i6 + 192)], relu_16(acc_12_0));
                                    store_16(&b2[(16 * i5 + 256 * i1 + i7 + 256 * i3 + 256 * i6 + 208)], relu_16(acc_13_0));
                                    store_16(&b2[(16 * i5 + 256 * i1 + i7 + 256 * i3 + 256 * i6 + 224)], relu_16(acc_14_0));
                                    store_16(&b2[(16 * i5 + 256 * i1 + i7 + 256 * i3 + 256 * i6 + 240)], relu_16(acc_15_0));
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
