/* Calls that are answered by the supervisor, with everything that a program can get wrong, from many processes and
 * threads, some of which are killed in the middle. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const long calls[] = {
	SYS_fchownat, SYS_fchown, SYS_mknodat, SYS_newfstatat, SYS_fstat, SYS_statx, SYS_setuid, SYS_setgroups,
	SYS_getgroups, SYS_getresuid, SYS_getresgid, SYS_openat, SYS_openat2, SYS_mkdirat, SYS_symlinkat, SYS_execve,
	SYS_execveat, SYS_getxattr, SYS_fsetxattr, SYS_listxattr, SYS_llistxattr, SYS_flistxattr, SYS_fchmodat,
	SYS_setresuid, SYS_setfsuid, SYS_lsetxattr, SYS_chroot, SYS_fchmod,
};

static uint64_t state = 88172645463325252u;

static uint64_t number(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

static char *edge, *endless;

static uint64_t argument(void)
{
	static char text[64];
	switch (number() % 12) {
	case 0: return 0;
	case 1: return number();
	case 2: return (uint64_t)-1;
	case 3: return (uint64_t)(edge - number() % 16);
	case 4: return (uint64_t)endless;
	case 5: return (uint64_t)"/proc/self/root/proc/self/cwd/../x";
	case 6: return (uint64_t)"/proc/self/fd/0";
	case 7: return (uint64_t)"../../../../../../etc/passwd";
	case 8: return (uint64_t)AT_FDCWD;
	case 9: return number() % 8;
	case 10: return O_CREAT | O_RDWR | (number() & 0x400000);
	default:
		snprintf(text, sizeof text, "/tmp/%u", (unsigned)(number() % 50));
		return (uint64_t)text;
	}
}

static void fuzz(unsigned seed)
{
	state += seed * 0x9e3779b97f4a7c15u;
	alarm(20);
	for (int i = 0; i < 1500; i++) {
		long call = calls[number() % (sizeof calls / sizeof *calls)];
		syscall(call, argument(), argument(), argument(), argument(), argument(), argument());
	}
	_exit(0);
}

static void *race(void *unused)
{
	struct stat st;
	for (int i = 0; i < 200; i++) {
		chown("/tmp/raced", number() % 9, number() % 9);
		stat("/tmp/raced", &st);
		rename("/tmp/raced", "/tmp/other");
		symlink("/etc/passwd", "/tmp/raced");
		lchown("/tmp/raced", 4, 4);
		unlink("/tmp/raced");
		close(open("/tmp/raced", O_CREAT | O_WRONLY, 0600));
		setgid(number() % 5);
	}
	return unused;
}

static void threads(void)
{
	pthread_t all[8];
	for (int i = 0; i < 8; i++)
		pthread_create(&all[i], NULL, race, NULL);
	pthread_join(all[0], NULL);
	/* The others are in the middle of something. */
	_exit(0);
}

int main(int argc, char **argv)
{
	long page = sysconf(_SC_PAGESIZE);
	char *map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(map, 'x', 2 * page);
	mprotect(map + page, page, PROT_NONE);
	edge = map + page;
	endless = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(endless, 'a', 1 << 20);
	mkfifo("/tmp/fifo", 0600);
	for (int i = 0; i < 16; i++)
		if (fork() == 0)
			fuzz(i);
	for (int i = 0; i < 4; i++)
		if (fork() == 0)
			threads();
	/* Nobody reads from the FIFO: opening it must hold up only who does it. */
	for (int i = 0; i < 4; i++)
		if (fork() == 0) {
			setuid(1000);
			_exit(open("/tmp/fifo", O_CREAT | O_WRONLY, 0600));
		}
	pid_t many[200];
	for (int i = 0; i < 200; i++)
		if ((many[i] = fork()) == 0) {
			setresuid(i, i, i);
			for (struct stat st;; ) {
				char name[32];
				snprintf(name, sizeof name, "/tmp/of-%d", i);
				mkdir(name, 0700);
				stat(name, &st);
				chown(name, 0, 0);
				rmdir(name);
			}
		}
	usleep(200000);
	for (int i = 0; i < 200; i++)
		kill(many[i], SIGKILL);
	for (int i = 0; i < 220; i++)
		wait(NULL);
	/* Processes above that changed their root or user did so for themselves only. */
	struct stat st;
	if (getuid() != 0 || stat(argv[0], &st) || st.st_uid != 0)
		return puts("something leaked"), 1;
	puts("survived");
	return 0;
}
