/* Preloaded into a function while its instructions are counted: the same random bytes in every run, for the seeds
   of hash tables, and a clock that a call moves by a microsecond, whatever valgrind costs. */

#include <string.h>
#include <sys/types.h>
#include <time.h>

#define START_SECONDS 1772470260 /* 2026-03-02T16:51:00Z */

ssize_t getrandom(void *buffer, size_t length, unsigned flags) {
    (void)flags;
    memset(buffer, 7, length);
    return (ssize_t)length;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static long microseconds;
    (void)clock;
    microseconds += 1;
    time->tv_sec = START_SECONDS + microseconds / 1000000;
    time->tv_nsec = microseconds % 1000000 * 1000;
    return 0;
}
