/* Runs a program step by step on memory that is exactly as large as it must be, for sanitizers.
 *
 *     exact INPUT OUTPUT BATCH
 *
 * INPUT: for every tensor its bytes and whether its content follows (int64 each), and the content;
 * then for every step the bytes of scratch. OUTPUT: the content of all tensors, after the steps ran
 * here, and after the runtime ran them on two threads. All other memory is filled with 0xff before,
 * which as float32 is NaN. Units run backwards, a few at a time, each with scratch of its own: no
 * result may depend on that. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOGETHER = 3, PAGE = 4096 };

static int64_t number(FILE *file) {
    int64_t value = 0;
    if (fread(&value, sizeof value, 1, file) != 1) exit(2);
    return value;
}

static char *filled(int64_t bytes, size_t alignment) {
    void *memory = NULL;
    if (posix_memalign(&memory, alignment, bytes ? (size_t)bytes : 1)) exit(3);
    memset(memory, 0xff, (size_t)bytes);
    return memory;
}

static char **tensors_of(FILE *file, int64_t *sizes) {
    int32_t count = sol_program_table.n_tensors;
    char **tensors = calloc((size_t)count + 1, sizeof *tensors);
    for (int32_t i = 0; i < count; i++) {
        sizes[i] = number(file);
        int64_t given = number(file);
        tensors[i] = filled(sizes[i], sizeof(void *));
        if (given && fread(tensors[i], 1, (size_t)sizes[i], file) != (size_t)sizes[i]) exit(4);
    }
    return tensors;
}

static void run_step(const sol_step *step, char **tensors, int64_t batch, int64_t scratch) {
    char **arguments = calloc((size_t)step->n_args + 1, sizeof *arguments);
    for (int32_t i = 0; i < step->n_args; i++) {
        const sol_buffer *b = &sol_program_table.buffers[step->args[i]];
        arguments[i] = tensors[b->index] + b->offset_coef * batch + b->offset_const;
    }
    int64_t units = step->units_coef * batch + step->units_const;
    for (int64_t end = units; end > 0; end -= TOGETHER) {
        char *own = filled(scratch, PAGE);
        step->kernel(arguments, batch, end > TOGETHER ? end - TOGETHER : 0, end, own);
        free(own);
    }
    free(arguments);
}

static void write_all(FILE *file, char **tensors, const int64_t *sizes) {
    for (int32_t i = 0; i < sol_program_table.n_tensors; i++)
        if (fwrite(tensors[i], 1, (size_t)sizes[i], file) != (size_t)sizes[i]) exit(5);
}

static void release(char **tensors) {
    for (int32_t i = 0; i < sol_program_table.n_tensors; i++) free(tensors[i]);
    free(tensors);
}

int main(int argc, char **argv) {
    if (argc != 4) return 1;
    FILE *input = fopen(argv[1], "rb"), *output = fopen(argv[2], "wb");
    if (!input || !output) return 1;
    const sol_program *program = &sol_program_table;
    int64_t batch = atoll(argv[3]);
    int64_t *sizes = calloc((size_t)program->n_tensors + 1, sizeof *sizes);

    char **tensors = tensors_of(input, sizes);
    for (int32_t i = 0; i < program->n_steps; i++)
        run_step(&program->steps[i], tensors, batch, number(input));
    write_all(output, tensors, sizes);
    release(tensors);

    rewind(input);
    tensors = tensors_of(input, sizes);
    int64_t bytes = sol_arena_bytes(program, batch, 2);
    char *arena = filled(bytes, 64);
    int status = sol_run(program, tensors, batch, 0, arena, 2, NULL);
    write_all(output, tensors, sizes);
    release(tensors);
    free(arena), free(sizes), fclose(input);
    return fclose(output) || status;
}
