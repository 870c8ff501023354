/* Calls a program from several threads at once, with changing threads, groups and batches, on
 * memory that is exactly as large as it must be: for the sanitizers. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CALLERS = 3, ROUNDS = 150, IMAGES = 9 };

static void *call_often(void *argument) {
    int seed = (int)(intptr_t)argument;
    for (int round = 0; round < ROUNDS; round++) {
        int64_t batch = 1 + (seed + round) % IMAGES, group = round % 4;
        int threads = 1 + (seed + round) % 4;
        float *x = malloc((size_t)batch * 256), *y = malloc((size_t)batch * 256);
        float *s = malloc((size_t)batch * 4), *w = malloc(4);
        int64_t bytes = sol_arena_bytes(&sol_program_table, group && group < batch ? group : batch,
                                        threads);
        char *arena = aligned_alloc(64, (size_t)(bytes + 63) / 64 * 64);
        int64_t profile[3] = {0};
        *w = 2;
        for (int64_t i = 0; i < batch * 64; i++) x[i] = (float)i;
        char *tensors[] = {(char *)x, (char *)w, (char *)y, (char *)s};
        int wrong = sol_run(&sol_program_table, tensors, batch, group, arena, threads,
                            round % 2 ? profile : NULL);
        for (int64_t i = 0; i < batch * 64; i++)
            wrong |= y[i] != 2 * (float)(i / 64 * 64 + 63 - i % 64);
        int64_t size = batch * 256;
        wrong |= sol_fingerprint(tensors, &size, 1) == 0;
        free(x), free(y), free(s), free(w), free(arena);
        if (wrong) return (void *)1;
    }
    return NULL;
}

int main(void) {
    pthread_t callers[CALLERS];
    for (intptr_t i = 0; i < CALLERS; i++)
        if (pthread_create(&callers[i], NULL, call_often, (void *)i)) return 2;
    void *wrong = NULL;
    for (int i = 0; i < CALLERS && !wrong; i++) pthread_join(callers[i], &wrong);
    puts(wrong ? "wrong" : "right");
    return wrong != NULL;
}
