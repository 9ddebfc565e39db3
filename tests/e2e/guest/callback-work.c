// What the benchmark of callback filesystems times in the guest.
//
//   callback-work FOLDER ROUNDS   prints "NAME MICROSECONDS", the median of each, and of all rounds
//
// FOLDER has a file "data" of at least 64 KiB. Each round does one of each, so that what disturbs one
// disturbs all. "no-op" is fsync(2), which fs.memory answers without doing anything: the same way to
// the caller's program and back, with nothing in it.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { NOOP, STAT, READ, WRITE, CREATE, KINDS, SIZE = 64 << 10, ROUNDS_MAX = 10000 };

static const char *names[KINDS] = {"no-op", "stat", "read", "write", "create"};
static double times[KINDS][ROUNDS_MAX];
static char *buffer;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static int perform(int kind, int data, int sink) {
  struct stat found;
  switch (kind) {
    case NOOP: return fsync(data);
    case STAT: return fstat(data, &found);
    case READ: return pread(data, buffer, SIZE, 0) == SIZE ? 0 : -1;
    case WRITE: return pwrite(sink, buffer, SIZE, 0) == SIZE ? 0 : -1;
    default: return close(open("made", O_CREAT | O_EXCL | O_WRONLY, 0644)) || unlink("made");
  }
}

static int compare(const void *a, const void *b) {
  double difference = *(const double *)a - *(const double *)b;
  return (difference > 0) - (difference < 0);
}

int main(int count, char **argument) {
  int rounds = count == 3 ? atoi(argument[2]) : 0;
  if (rounds < 1 || rounds > ROUNDS_MAX || chdir(argument[1]) != 0) return 2;
  if (posix_memalign((void **)&buffer, 4096, SIZE) != 0) return 1;
  memset(buffer, 7, SIZE);
  // Past the guest's cache; tmpfs is nothing but cache and has no such mode.
  int data = open("data", O_RDONLY | O_DIRECT);
  if (data < 0) data = open("data", O_RDONLY);
  int sink = open("sink", O_CREAT | O_WRONLY, 0644);
  if (data < 0 || sink < 0) return 1;
  for (int round = 0; round < rounds; round++) {
    for (int kind = 0; kind < KINDS; kind++) {
      double began = now();
      if (perform(kind, data, sink) != 0) {
        perror(names[kind]);
        return 1;
      }
      times[kind][round] = now() - began;
    }
  }
  for (int kind = 0; kind < KINDS; kind++) {
    qsort(times[kind], rounds, sizeof(double), compare);
    printf("%s %.1f\n", names[kind], times[kind][rounds / 2]);
  }
  return 0;
}
