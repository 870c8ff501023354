void kernel_0(char *const *buffers, int64_t batch, int64_t begin, int64_t end, char *scratch)
{
    float *restrict b0 = (float *)buffers[0];
    const float *restrict b1 = (const float *)buffers[1];
    const float *restrict b2 = (const float *)buffers[2];
    (void)batch, (void)scratch;
    for (int64_t i0 = begin; i0 < end; i0++) {
        {
            const int64_t i1 = i0;
            for (int64_t i2 = 0; i2 < 32; i2 += 16) {
                store_16(&b0[(40 * i1 + i2)], tanh_16(((load_16(&b1[(40 * i1 + i2)]) * load_16(&b2[i2])) + 0.5f)));
            }
            {
                const int64_t i2 = 32;
                store_8(&b0[(40 * i1 + i2)], tanh_8(((load_8(&b1[(40 * i1 + i2)]) * load_8(&b2[i2])) + 0.5f)));
            }
        }
    }
}
