/* The thread pool: one per process, threads created when first needed. Used by run.c, each.c and pack.c. */
#ifndef SOL_POOL_H
#define SOL_POOL_H
#define SOL_MAX_THREADS 256

typedef void (*sol_task)(void *argument, int thread);

/* Takes the pool for up to `threads` threads, the caller included. Returns how many will take part.
 * 1 means that the caller works alone: it asked for no more, or the pool is busy. */
int sol_pool_claim(int threads);

/* Runs task(argument, 0 .. threads-1), the caller being thread 0, and returns when all are done.
 * `threads` is what sol_pool_claim returned. */
void sol_pool_run(int threads, sol_task task, void *argument);

/* Gives the pool back. Not called after a claim that returned 1. */
void sol_pool_release(void);

/* All of that: runs task(argument, thread) on up to `threads` threads. */
void sol_pool_share(int threads, sol_task task, void *argument);

/* Waits for all threads of the running task. */
void sol_pool_barrier(int threads);

#endif
