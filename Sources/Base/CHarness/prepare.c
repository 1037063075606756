#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "charness_process.h"
#include "internal.h"

// gVisor of 2022 refuses AT_NO_AUTOMOUNT, for statx and for newfstatat alike, so coreutils' `ls` and `stat` fail there.
// (Hiding statx behind ENOSYS does not help: libc's other way passes the same flag.)
static int automount_flag_is_refused(void) {
    struct statx info;
    return syscall(SYS_statx, AT_FDCWD, "/", AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW, STATX_MODE | STATX_INO, &info)
        && errno == EINVAL;
}

// The sandbox's filter answers clone3 with ENOSYS, upon which C libraries take clone. gVisor of 2022 knows but one errno
// for all that is refused, EPERM, upon which they give up: no threads, no posix_spawn.
static int clone3_is_forbidden(void) { return syscall(SYS_clone3, (void *)0, (size_t)0) && errno == EPERM; }

static void ignore(int signal) {
    struct sigaction action = {.sa_handler = SIG_IGN};
    sigaction(signal, &action, 0);
}

long ah_prepare_harness(void) {
    // Whatever a runtime left open is no business of ours, and none of the children's.
    ah_close_from(3);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    // Inherited by all that is started here.
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    umask(022);
    // Without CAP_SETPCAP there is nothing to drop from that a child could gain.
    prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE, 0, 0, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    ignore(SIGPIPE);
    return (automount_flag_is_refused() ? AH_ODD_AUTOMOUNT : 0) | (clone3_is_forbidden() ? AH_ODD_CLONE3 : 0);
}

long ah_prepare_keeper(void) {
    prctl(PR_SET_NAME, "aegis-keep", 0, 0, 0);
    setsid();
    umask(022);
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        // Lowering it needs CAP_SYS_RESOURCE; without, the keeper is as mortal as others.
        long n = write(fd, "-500", 4);
        (void)n;
        close(fd);
    }
    const int deaf[] = {SIGPIPE, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGTTIN, SIGTTOU, SIGTSTP, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < sizeof deaf / sizeof *deaf; i++) ignore(deaf[i]);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) return -errno;
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) ? -errno : 0;
}

long ah_block_and_watch(int signal) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    if (sigprocmask(SIG_BLOCK, &set, 0)) return -errno;
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

void ah_drain_signals(int fd) {
    // Less than there is room for is all that there was.
    struct signalfd_siginfo info[16];
    while (read(fd, info, sizeof info) == sizeof info) {
    }
}

long ah_open_terminal(int32_t *master, int32_t *slave, uint16_t columns, uint16_t rows) {
    int m = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), number, unlock = 0, s = -1;
    if (m < 0) return -errno;
    if (ioctl(m, TIOCSPTLCK, &unlock) == 0 && ioctl(m, TIOCGPTN, &number) == 0) {
        s = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (s < 0) {
            char path[32] = "/dev/pts/";
            char digits[12];
            int n = 0, at = 9;
            do digits[n++] = (char)('0' + number % 10);
            while ((number /= 10) > 0);
            while (n > 0) path[at++] = digits[--n];
            path[at] = 0;
            s = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
        }
    }
    if (s < 0) {
        int code = errno;
        close(m);
        return -code;
    }
    *master = m;
    *slave = s;
    ah_resize_terminal(m, columns, rows);
    return 0;
}

long ah_chown_descriptor(int fd, uint32_t uid, uint32_t gid) { return fchown(fd, uid, gid) ? -errno : 0; }

long ah_resize_terminal(int master, uint16_t columns, uint16_t rows) {
    struct winsize size = {.ws_row = rows, .ws_col = columns};
    return ioctl(master, TIOCSWINSZ, &size) ? -errno : 0;
}

long ah_terminal_eof(int master) {
    struct termios settings;
    if (tcgetattr(master, &settings)) return -errno;
    return settings.c_lflag & ICANON ? settings.c_cc[VEOF] : -1;
}
