/* Times of calls that the supervisor of `--ids single` answers, in microseconds a call. Argument: a directory. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char name[64];
static struct stat st;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static const char *file(int i)
{
	snprintf(name, sizeof name, "bench-ids/%d", i % 1000);
	return name;
}

#define TIME(what, count, call) do { \
	double start = now(); \
	for (int i = 0; i < (count); i++) \
		call; \
	printf("%-16s %7.2f us\n", what, (now() - start) / (count)); \
} while (0)

int main(int argc, char **argv)
{
	if (argc != 2 || chdir(argv[1]) || mkdir("bench-ids", 0755))
		return 1;
	for (int i = 0; i < 1000; i++)
		close(open(file(i), O_CREAT | O_WRONLY, 0644));
	usleep(20000);
	int fd = open(file(0), O_RDONLY);
	TIME("getuid", 100000, getuid());
	TIME("fstat", 100000, fstat(fd, &st));
	TIME("stat", 100000, stat(file(i), &st));
	TIME("chown", 10000, chown(file(i), 33, 44));
	usleep(20000);
	TIME("stat of another's", 100000, stat(file(i), &st));
	TIME("open and close", 100000, close(open(file(i), O_RDONLY)));
	return st.st_uid != 33;
}
