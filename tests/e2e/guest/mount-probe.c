// What busybox has no applet for; run in the guest, each call in a process of its own. Waits end by
// themselves after a minute.
//
//   identity [UID PROGRAM]  the effective user; or PROGRAM's as UID starts it
//   lock FILE MARKER        takes flock(2), makes MARKER, and holds on until that is gone
//   try-lock FILE           takes it if nobody has it: exit 0, otherwise 1
//   watch FILE MARKER       makes MARKER when it watches, prints "modified" when inotify says so
//   reread FILE MARKER TEXT reads, makes MARKER, reads by the same descriptor until there is TEXT
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <unistd.h>

enum { TENTHS = 600 };

static int mark(const char *path) {
  int fd = open(path, O_CREAT | O_WRONLY, 0644);
  return fd < 0 ? 1 : close(fd);
}

static int lock(const char *path, const char *marker) {
  int fd = open(path, O_RDWR);
  if (fd < 0 || flock(fd, LOCK_EX) != 0 || mark(marker) != 0) return 1;
  for (int i = 0; i < TENTHS && access(marker, F_OK) == 0; i++) usleep(100000);
  return 0;
}

static int try_lock(const char *path) {
  int fd = open(path, O_RDWR);
  if (fd < 0) return 2;
  return flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : 1;
}

static int watch(const char *path, const char *marker) {
  int fd = inotify_init();
  if (inotify_add_watch(fd, path, IN_MODIFY) < 0 || mark(marker) != 0) return 1;
  struct pollfd ready = {.fd = fd, .events = POLLIN};
  if (poll(&ready, 1, TENTHS * 100) != 1) return 1;
  return puts("modified") < 0;
}

static int reread(const char *path, const char *marker, const char *text) {
  char found[64];
  size_t length = strlen(text);
  int fd = open(path, O_RDONLY);
  if (fd < 0 || length > sizeof found || pread(fd, found, length, 0) < 0) return 1;
  if (mark(marker) != 0) return 1;
  for (int i = 0; i < TENTHS; i++) {
    if (pread(fd, found, length, 0) == (ssize_t)length && memcmp(found, text, length) == 0) return 0;
    usleep(100000);
  }
  return 1;
}

int main(int count, char **argument) {
  const char *what = count > 1 ? argument[1] : "";
  if (count == 2 && strcmp(what, "identity") == 0) return printf("%d\n", geteuid()) < 0;
  if (count == 4 && strcmp(what, "identity") == 0) {
    if (setuid(atoi(argument[2])) != 0) return 1;
    execl(argument[3], argument[3], "identity", NULL);
    return 1;
  }
  if (count == 4 && strcmp(what, "lock") == 0) return lock(argument[2], argument[3]);
  if (count == 3 && strcmp(what, "try-lock") == 0) return try_lock(argument[2]);
  if (count == 4 && strcmp(what, "watch") == 0) return watch(argument[2], argument[3]);
  if (count == 5 && strcmp(what, "reread") == 0) {
    return reread(argument[2], argument[3], argument[4]);
  }
  return 2;
}
