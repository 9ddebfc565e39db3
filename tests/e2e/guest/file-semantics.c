/*
 * What programs rely on in a directory, tried by system calls: `file-semantics DIRECTORY TEST`.
 * Prints nothing and exits with 0 when all is as it should be; otherwise says what is not.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(what) do { if (!(what)) errx(1, "%s:%d: %s", __func__, __LINE__, #what); } while (0)
#define TRY(call) ({ __typeof__(call) result = (call); if (result == -1) err(1, "%s:%d: %s", __func__, __LINE__, #call); result; })

static int make(const char *name, int flags) {
	return TRY(open(name, O_RDWR | O_CREAT | O_TRUNC | flags, 0644));
}

static void expect_byte(int fd, off_t at, char byte) {
	char seen = 0;
	CHECK(TRY(pread(fd, &seen, 1, at)) == 1);
	CHECK(seen == byte);
}

/* A shared mapping is the file; a private one is not. */
static void mmap_test(void) {
	const size_t size = 64 * 4096;
	int fd = make("mapped", 0);
	TRY(ftruncate(fd, size));
	char *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(shared != MAP_FAILED);
	for (size_t i = 0; i < size; i += 4096) shared[i] = 'a' + i / 4096 % 26;
	TRY(msync(shared, size, MS_SYNC));
	for (size_t i = 0; i < size; i += 4096) expect_byte(fd, i, 'a' + i / 4096 % 26);
	TRY(pwrite(fd, "Z", 1, 4096));
	CHECK(shared[4096] == 'Z');
	char *private = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK(private != MAP_FAILED);
	private[0] = '!';
	TRY(msync(private, size, MS_SYNC));
	expect_byte(fd, 0, 'a');
	TRY(munmap(shared, size));
	TRY(munmap(private, size));
	TRY(close(fd));
	fd = TRY(open("mapped", O_RDONLY));
	expect_byte(fd, 63 * 4096, 'a' + 63 % 26);
}

/* Two processes append whole records; none is lost or torn. */
static void append_test(void) {
	enum { RECORDS = 500, LENGTH = 64 };
	TRY(close(make("log", 0)));
	for (int writer = 0; writer < 2; writer++) {
		pid_t child = TRY(fork());
		if (child > 0) continue;
		int fd = TRY(open("log", O_WRONLY | O_APPEND));
		char record[LENGTH];
		memset(record, 'A' + writer, LENGTH);
		record[LENGTH - 1] = '\n';
		for (int i = 0; i < RECORDS; i++) CHECK(TRY(write(fd, record, LENGTH)) == LENGTH);
		exit(0);
	}
	for (int writer = 0; writer < 2; writer++) {
		int status = 0;
		TRY(wait(&status));
		CHECK(status == 0);
	}
	int fd = TRY(open("log", O_RDONLY));
	char record[LENGTH];
	int count[2] = {0, 0};
	while (TRY(read(fd, record, LENGTH)) == LENGTH) {
		CHECK(record[0] == 'A' || record[0] == 'B');
		for (int i = 1; i < LENGTH - 1; i++) CHECK(record[i] == record[0]);
		CHECK(record[LENGTH - 1] == '\n');
		count[record[0] - 'A']++;
	}
	CHECK(count[0] == RECORDS && count[1] == RECORDS);
}

/* A file without a name works and can be given one, or is refused as unsupported. */
static void temporary_test(void) {
	int fd = open(".", O_TMPFILE | O_RDWR, 0600);
	if (fd == -1) {
		CHECK(errno == EOPNOTSUPP);
		return;
	}
	CHECK(TRY(write(fd, "nameless", 8)) == 8);
	expect_byte(fd, 4, 'l');
}

/* Holes are zeros and cost nothing; offsets beyond 4 GiB are offsets. */
static void sparse_test(void) {
	const off_t far = (5LL << 30) + 12345;
	int fd = make("sparse", 0);
	CHECK(TRY(pwrite(fd, "begin", 5, 0)) == 5);
	CHECK(TRY(pwrite(fd, "end", 3, far)) == 3);
	struct stat seen;
	TRY(fstat(fd, &seen));
	CHECK(seen.st_size == far + 3);
	CHECK(seen.st_blocks < 4096);
	expect_byte(fd, 1 << 20, 0);
	expect_byte(fd, (4LL << 30) + 1, 0);
	expect_byte(fd, far + 2, 'd');
	TRY(ftruncate(fd, (4LL << 30) + 7));
	TRY(fstat(fd, &seen));
	CHECK(seen.st_size == (4LL << 30) + 7);
	TRY(ftruncate(fd, 3));
	CHECK(TRY(pread(fd, &seen, 100, 0)) == 3);
}

/* Names are bytes. */
static void names_test(void) {
	const char *name = "caf\xe9 \xff\xfe";
	TRY(mkdir("names", 0755));
	TRY(chdir("names"));
	int fd = make(name, 0);
	CHECK(TRY(write(fd, "x", 1)) == 1);
	TRY(close(fd));
	DIR *directory = opendir(".");
	CHECK(directory != NULL);
	int found = 0;
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
		found += strcmp(entry->d_name, name) == 0;
	}
	CHECK(found == 1);
	TRY(rename(name, "\xc0\x80"));
	CHECK(TRY(access("\xc0\x80", F_OK)) == 0);
	TRY(unlink("\xc0\x80"));
	char longest[257];
	memset(longest, 'n', sizeof longest);
	longest[255] = 0;
	TRY(close(make(longest, 0)));
	longest[255] = 'n';
	longest[256] = 0;
	CHECK(open(longest, O_CREAT | O_RDWR, 0644) == -1 && errno == ENAMETOOLONG);
}

/* The directory `many`, made by the other side, is listed whole, each file once, while files come. */
static void many_test(void) {
	enum { FILES = 100000 };
	static unsigned char seen[FILES];
	TRY(chdir("many"));
	char name[32];
	DIR *directory = opendir(".");
	CHECK(directory != NULL);
	int listed = 0;
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
		if (entry->d_name[0] == '.') continue;
		int number = -1;
		if (sscanf(entry->d_name, "file-%d", &number) != 1) continue;
		CHECK(number >= 0 && number < FILES);
		CHECK(!seen[number]);
		seen[number] = 1;
		if (++listed % 1000 == 0) {
			snprintf(name, sizeof name, "other-%06d", listed);
			TRY(mknod(name, S_IFREG | 0644, 0));
		}
	}
	CHECK(listed == FILES);
}

/* An open file outlives its name. */
static void unlinked_test(void) {
	int fd = make("short-lived", 0);
	CHECK(TRY(write(fd, "still here", 10)) == 10);
	TRY(unlink("short-lived"));
	expect_byte(fd, 6, 'h');
	CHECK(TRY(pwrite(fd, "HERE", 4, 6)) == 4);
	expect_byte(fd, 6, 'H');
	struct stat seen;
	TRY(fstat(fd, &seen));
	CHECK(seen.st_nlink == 0 && seen.st_size == 10);
	CHECK(access("short-lived", F_OK) == -1 && errno == ENOENT);
}

/* Locks exclude other processes, and end with them. */
static void locks_test(void) {
	int fd = make("locked", 0);
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	TRY(flock(fd, LOCK_EX));
	TRY(fcntl(fd, F_SETLK, &whole));
	pid_t child = TRY(fork());
	if (child == 0) {
		int other = TRY(open("locked", O_RDWR));
		CHECK(flock(other, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK);
		CHECK(fcntl(other, F_SETLK, &whole) == -1 && (errno == EAGAIN || errno == EACCES));
		exit(0);
	}
	int status = 0;
	TRY(waitpid(child, &status, 0));
	CHECK(status == 0);
	TRY(close(fd));
	fd = TRY(open("locked", O_RDWR));
	TRY(flock(fd, LOCK_EX | LOCK_NB));
	TRY(fcntl(fd, F_SETLK, &whole));
}

static const struct { const char *name; void (*run)(void); } tests[] = {
	{"mmap", mmap_test}, {"append", append_test}, {"temporary", temporary_test},
	{"sparse", sparse_test}, {"names", names_test}, {"many", many_test},
	{"unlinked", unlinked_test}, {"locks", locks_test},
};

int main(int argc, char **argv) {
	if (argc != 3) errx(2, "usage: file-semantics DIRECTORY TEST");
	TRY(chdir(argv[1]));
	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
		if (strcmp(tests[i].name, argv[2]) == 0) {
			tests[i].run();
			return 0;
		}
	}
	errx(2, "there is no test %s", argv[2]);
}
