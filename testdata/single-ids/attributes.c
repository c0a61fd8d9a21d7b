/* Looks for the records of owners on /f (1:2) in every way that the kernel offers; names on standard output what it
 * finds. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char key[] = "user.nativebuild.owner";
static int wrong;

static void check(const char *what, long got, int want_errno)
{
	if (got >= 0 ? want_errno == 0 : errno == want_errno)
		return;
	printf("%s: %ld, %s\n", what, got, strerror(errno));
	wrong = 1;
}

int main(void)
{
	char list[256], value[64];
	struct stat st;
	int fd = open("/f", O_RDWR);

	check("setxattr of another name", setxattr("/f", "user.mine", "x", 1, 0), 0);
	long len = listxattr("/f", list, sizeof list);
	if (len != 10 || strcmp(list, "user.mine")) {
		printf("list: %ld %s\n", len, list);
		wrong = 1;
	}
	check("length of the list", listxattr("/f", NULL, 0) == 10 ? 0 : -1, 0);
	check("short list", flistxattr(fd, list, 3), ERANGE);
	check("llistxattr", llistxattr("/f", list, sizeof list) == 10 ? 0 : -1, 0);
	check("getxattr", getxattr("/f", key, value, sizeof value), ENODATA);
	check("fgetxattr", fgetxattr(fd, key, value, sizeof value), ENODATA);
	check("setxattr", setxattr("/f", key, "0:0", 3, 0), EPERM);
	check("fsetxattr", fsetxattr(fd, key, "0:0", 3, 0), EPERM);
	check("removexattr", removexattr("/f", key), ENODATA);
	check("setxattr of a node", setxattr("/f", "user.nativebuild.node", "c:1:3:666", 9, 0), EPERM);
	check("setxattrat", syscall(463, AT_FDCWD, "/f", 0, key, value, 16), ENOSYS);
	check("getxattrat", syscall(464, AT_FDCWD, "/f", 0, key, value, 16), ENOSYS);
	check("listxattrat", syscall(465, AT_FDCWD, "/f", 0, list, sizeof list), ENOSYS);
	check("file_getattr", syscall(468, AT_FDCWD, "/f", list, 24, 0), ENOSYS);
	check("io_uring_setup", syscall(SYS_io_uring_setup, 1, list), ENOSYS);
	check("io_uring_enter", syscall(SYS_io_uring_enter, 0, 0, 0, 0, 0), ENOSYS);
	struct statx stx;
	check("statx of a descriptor", statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx), 0);
	if (stx.stx_uid != 1 || stx.stx_gid != 2) {
		printf("statx: %u:%u\n", stx.stx_uid, stx.stx_gid);
		wrong = 1;
	}
	check("chown of a descriptor", fchownat(fd, "", 3, -1, AT_EMPTY_PATH), 0);
	if (fstat(fd, &st) || st.st_uid != 3 || st.st_gid != 2) {
		printf("fstat: %u:%u\n", st.st_uid, st.st_gid);
		wrong = 1;
	}
	check("unlink", unlink("/f"), 0);
	check("chown of an unlinked file", fchown(fd, 5, 6), 0);
	if (fstat(fd, &st) || st.st_uid != 5 || st.st_gid != 6) {
		printf("fstat of an unlinked file: %u:%u\n", st.st_uid, st.st_gid);
		wrong = 1;
	}
	check("an unnamed file", open("/tmp", O_TMPFILE | O_RDWR, 0600), 0);
	if (!wrong)
		puts("all as expected");
	return wrong;
}
