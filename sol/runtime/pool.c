/* The thread pool: the caller and its workers run one task together and meet at barriers.
 *
 * A worker waits at its own ticket, so a call wakes only those that it needs. Who waits spins for a
 * moment, because the next step is usually microseconds away, and then sleeps in the kernel. There
 * is no lock: a call either gets the whole pool by one exchange, or works alone.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* CPU affinity, thread names, syscall() */
#endif
#include "pool.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#if defined(__linux__) && !defined(SOL_NO_FUTEX)
#define SOL_FUTEX 1
#include <linux/futex.h>
#include <sys/syscall.h>
#endif
#ifdef __linux__
#include <sched.h>
#endif
#include <unistd.h>

enum { SPIN_NS = 300000, SHORT_SPIN_NS = 2000, STACK_BYTES = 2 << 20 };

typedef struct {
    _Alignas(64) atomic_uint ticket; /* changes when there is a task for this worker */
    atomic_uint sleepers;            /* 1 while it sleeps at its ticket */
    pthread_t handle;
} worker;

static _Thread_local int self; /* this thread's number in the pool: 0 is the caller */

static struct {
    _Alignas(64) atomic_uint busy;
    int created; /* workers that exist; they are thread 1, 2, ... */
    int cpus;    /* that the caller may use */
    int64_t spin_ns;
    unsigned fp_mode;
    int threads;
    sol_task task;
    void *argument;
#ifdef __linux__
    cpu_set_t mask;                    /* the CPUs themselves */
    atomic_int cpu_of[SOL_MAX_THREADS]; /* where a thread was when it last looked */
#endif
    _Alignas(64) atomic_uint arrived; /* at the barrier */
    _Alignas(64) atomic_uint phase;   /* barriers passed */
    atomic_uint sleepers;             /* threads that sleep at the barrier */
    _Alignas(64) worker workers[SOL_MAX_THREADS];
} pool;

/* ---- sleeping ------------------------------------------------------------------------------ */

#ifdef SOL_FUTEX
static void sleep_while(atomic_uint *word, unsigned old) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
}

static void wake_all(atomic_uint *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void reset_sleeping(void) {}
#else
static pthread_mutex_t sleep_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t sleep_wake = PTHREAD_COND_INITIALIZER;

static void sleep_while(atomic_uint *word, unsigned old) {
    pthread_mutex_lock(&sleep_lock);
    while (atomic_load(word) == old) pthread_cond_wait(&sleep_wake, &sleep_lock);
    pthread_mutex_unlock(&sleep_lock);
}

static void wake_all(atomic_uint *word) {
    (void)word;
    pthread_mutex_lock(&sleep_lock);
    pthread_cond_broadcast(&sleep_wake);
    pthread_mutex_unlock(&sleep_lock);
}

static void reset_sleeping(void) {
    pthread_mutex_init(&sleep_lock, NULL);
    pthread_cond_init(&sleep_wake, NULL);
}
#endif

/* ---- where threads run ----------------------------------------------------------------------- */

/* The workers may run where the caller may run, also after its affinity changed. */
static void follow_affinity(void) {
#ifdef __linux__
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask)) return; /* more CPUs than the set can name */
    pool.cpus = CPU_COUNT(&mask);
    if (CPU_EQUAL(&mask, &pool.mask)) return;
    for (int i = 1; i <= pool.created; i++)
        pthread_setaffinity_np(pool.workers[i].handle, sizeof mask, &mask);
    pool.mask = mask;
#else
    pool.cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
#endif
}

/* Moves a worker away from a CPU where another thread of the task runs. The system may wake both
 * on the same one, and each then waits for the other while a CPU is idle. Nobody is bound to a CPU:
 * processes that did that would meet on the same ones. */
static void keep_apart(void) {
#ifdef __linux__
    int cpu = sched_getcpu(), met = 0;
    atomic_store_explicit(&pool.cpu_of[self], cpu, memory_order_relaxed);
    if (self == 0 || pool.threads > pool.cpus) return;
    cpu_set_t others = pool.mask;
    for (int i = 0; i < pool.threads; i++) {
        int theirs = atomic_load_explicit(&pool.cpu_of[i], memory_order_relaxed);
        if (i == self || theirs < 0) continue;
        met |= theirs == cpu;
        CPU_CLR(theirs, &others);
    }
    if (!met || CPU_COUNT(&others) == 0) return;
    pthread_setaffinity_np(pthread_self(), sizeof others, &others);
    pthread_setaffinity_np(pthread_self(), sizeof pool.mask, &pool.mask);
    atomic_store_explicit(&pool.cpu_of[self], sched_getcpu(), memory_order_relaxed);
#endif
}

/* ---- waiting ------------------------------------------------------------------------------- */

static void pause_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Waits until *word is no longer old: spins for spin_ns, then sleeps. Returns 1 if it did not have
 * to sleep. */
static int wait_change(atomic_uint *word, unsigned old, atomic_uint *sleepers, int64_t spin_ns) {
    int64_t end = 0;
    for (int i = 1;; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != old) return 1;
        pause_cpu();
        if (i % 32) continue; /* the clock is slower than a look at the word */
        int64_t now = now_ns();
        if (!end) end = now + spin_ns;
        if (now >= end) break;
    }
    /* Either the waker sees this count, or this thread sees the new word: both are seq_cst. */
    atomic_fetch_add(sleepers, 1);
    while (atomic_load(word) == old) sleep_while(word, old);
    atomic_fetch_sub(sleepers, 1);
    return 0;
}

static void change(atomic_uint *word, unsigned value, atomic_uint *sleepers) {
    atomic_store(word, value);
    if (atomic_load(sleepers)) wake_all(word);
}

/* How long a thread spins at its next barrier. Who spun in vain several times in a row is probably
 * keeping another thread from the CPU: it gives up early for a while, then tries again. */
typedef struct {
    int failures, short_waits;
} patience;

static int64_t spin_time(const patience *p) { return p->short_waits ? SHORT_SPIN_NS : SPIN_NS; }

static void learn(patience *p, int in_time) {
    enum { IN_A_ROW = 4, FOR_A_WHILE = 16 };
    if (p->short_waits) {
        p->short_waits--;
    } else if (in_time) {
        p->failures = 0;
    } else if (++p->failures >= IN_A_ROW) {
        p->failures--; /* one more failure is enough next time */
        p->short_waits = FOR_A_WHILE;
    }
}

void sol_pool_barrier(int threads) {
    if (threads == 1) return;
    static _Thread_local patience mine;
    static _Thread_local int slept;
    if (slept) keep_apart();
    /* Read before arriving: afterwards the next call may be writing. */
    int64_t spin_ns = spin_time(&mine) < pool.spin_ns ? spin_time(&mine) : pool.spin_ns;
    unsigned phase = atomic_load_explicit(&pool.phase, memory_order_relaxed);
    unsigned before = atomic_fetch_add_explicit(&pool.arrived, 1, memory_order_acq_rel);
    if (before + 1 < (unsigned)threads) {
        int in_time = wait_change(&pool.phase, phase, &pool.sleepers, spin_ns);
        learn(&mine, in_time);
        slept = !in_time;
        return;
    }
    slept = 0;
    atomic_store_explicit(&pool.arrived, 0, memory_order_relaxed);
    change(&pool.phase, phase + 1, &pool.sleepers);
}

/* ---- the floating-point mode: rounding, flushing of denormals ------------------------------ */

static unsigned get_fp_mode(void) {
#ifdef __SSE__
    return __builtin_ia32_stmxcsr() & ~0x3fu; /* without the sticky exception flags */
#elif defined(__aarch64__)
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return (unsigned)mode;
#else
    return 0;
#endif
}

static void set_fp_mode(unsigned mode) {
#ifdef __SSE__
    __builtin_ia32_ldmxcsr(mode);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)mode));
#else
    (void)mode;
#endif
}

/* ---- workers ------------------------------------------------------------------------------- */

static void *work(void *argument) {
    self = (int)(intptr_t)argument;
    worker *mine = &pool.workers[self];
    unsigned ticket = 0;
    int64_t idle_spin_ns = SPIN_NS;
    for (;;) {
        int64_t start = now_ns();
        wait_change(&mine->ticket, ticket, &mine->sleepers, idle_spin_ns);
        /* Spinning between calls pays only while calls follow each other closely. */
        int close = now_ns() - start < 2 * SPIN_NS;
        idle_spin_ns = close ? pool.spin_ns : idle_spin_ns / 2 + 1;
        ticket++;
        set_fp_mode(pool.fp_mode);
        int threads = pool.threads;
        keep_apart();
        pool.task(pool.argument, self);
        sol_pool_barrier(threads);
    }
    return NULL;
}

/* Starts one more worker. It gets no signals: those are for the threads of the program. */
static int create_worker(void) {
    int thread = pool.created + 1;
    worker *next = &pool.workers[thread];
    atomic_store(&next->ticket, 0);
    atomic_store(&next->sleepers, 0);

    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes)) return 0;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int failed = pthread_create(&next->handle, &attributes, work, (void *)(intptr_t)thread);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
    if (failed) return 0;
#ifdef __linux__
    char name[16];
    snprintf(name, sizeof name, "sol-%d", thread);
    pthread_setname_np(next->handle, name);
#endif
    pool.created = thread;
    return 1;
}

/* In the child of a fork only the calling thread exists: forget the workers and who waited. */
static void after_fork(void) {
    memset(&pool, 0, sizeof pool);
    reset_sleeping();
}

static void register_fork(void) { pthread_atfork(NULL, NULL, after_fork); }

/* ---- one task ------------------------------------------------------------------------------ */

int sol_pool_claim(int threads) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (threads <= 1) return 1;
    if (threads > SOL_MAX_THREADS) threads = SOL_MAX_THREADS;
    pthread_once(&once, register_fork);
    if (atomic_exchange_explicit(&pool.busy, 1, memory_order_acquire)) return 1;

    follow_affinity();
    while (pool.created + 1 < threads && create_worker()) continue;
    if (threads > pool.created + 1) threads = pool.created + 1;
    if (threads == 1) sol_pool_release();
    return threads;
}

void sol_pool_run(int threads, sol_task task, void *argument) {
    /* With more threads than CPUs who spins keeps another from its work. */
    pool.spin_ns = threads <= pool.cpus ? SPIN_NS : SHORT_SPIN_NS;
    pool.fp_mode = get_fp_mode();
    pool.threads = threads;
    pool.task = task;
    pool.argument = argument;
    keep_apart();
    for (int i = 1; i < threads; i++) {
        worker *w = &pool.workers[i];
        change(&w->ticket, atomic_load_explicit(&w->ticket, memory_order_relaxed) + 1,
               &w->sleepers);
    }
    task(argument, 0);
    sol_pool_barrier(threads);
}

void sol_pool_release(void) {
    atomic_store_explicit(&pool.busy, 0, memory_order_release);
}

void sol_pool_share(int threads, sol_task task, void *argument) {
    threads = sol_pool_claim(threads);
    if (threads == 1) {
        task(argument, 0);
        return;
    }
    sol_pool_run(threads, task, argument);
    sol_pool_release();
}
