#define _GNU_SOURCE
#include "al_tty.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* What to put back, and where; state is 1 while there is something to put back. */
static struct termios saved;
static int saved_fd = -1;
static atomic_int state;
static atomic_int prepared;
static pid_t owner;
static char farewell[64];
static int farewell_count;

int al_tty_is(int fd) { return isatty(fd); }

int al_tty_size(int fd, uint16_t *rows, uint16_t *columns) {
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) != 0) return -1;
    *rows = size.ws_row;
    *columns = size.ws_col;
    return 0;
}

int al_tty_set_size(int fd, uint16_t rows, uint16_t columns) {
    struct winsize size = {.ws_row = rows, .ws_col = columns};
    return ioctl(fd, TIOCSWINSZ, &size);
}

/* A background process that changes the terminal gets SIGTTOU, whose default is to stop it. */
static int set(int fd, const struct termios *mode) {
    sigset_t block, old;
    sigemptyset(&block);
    sigaddset(&block, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &block, &old);
    int result;
    do result = tcsetattr(fd, TCSANOW, mode); while (result != 0 && errno == EINTR);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return result;
}

void al_tty_restore(void) {
    int expected = 1;
    if (!atomic_compare_exchange_strong(&state, &expected, 0)) return;
    int before = errno;
    /* A forked child must not touch its parent's terminal. */
    if (getpid() == owner) {
        /* Best effort: a terminal that takes nothing now must not hold up the end. */
        if (farewell_count > 0 && write(saved_fd, farewell, (size_t)farewell_count) < 0) errno = before;
        set(saved_fd, &saved);
    }
    farewell_count = 0;
    errno = before;
}

void al_tty_farewell(const char *bytes, int count) {
    if (count < 0 || count > (int)sizeof farewell) return;
    memcpy(farewell, bytes, (size_t)count);
    farewell_count = count;
}

static const int fatals[] = {SIGSEGV, SIGBUS,  SIGILL,  SIGFPE, SIGTRAP, SIGABRT, SIGSYS,
                             SIGQUIT, SIGXCPU, SIGINT, SIGTERM, SIGHUP};
enum { fatal_count = sizeof fatals / sizeof *fatals };
static struct sigaction earlier[fatal_count];

static void fatal(int number) {
    al_tty_restore();
    for (int i = 0; i < fatal_count; i++)
        if (fatals[i] == number) sigaction(number, &earlier[i], NULL);
    /* Whoever wanted the signal before (a crash reporter) gets it, and then it does what it always does. */
    raise(number);
    signal(number, SIG_DFL);
    raise(number);
}

static void prepare(void) {
    int expected = 0;
    if (!atomic_compare_exchange_strong(&prepared, &expected, 1)) return;
    atexit(al_tty_restore);
    for (int i = 0; i < fatal_count; i++) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_handler = fatal;
        action.sa_flags = SA_NODEFER;
        if (sigaction(fatals[i], NULL, &earlier[i]) != 0) continue;
        /* INT, TERM and HUP may be somebody's way to be told to stop, or ignored (nohup): only the default action kills. */
        int asks = fatals[i] == SIGINT || fatals[i] == SIGTERM || fatals[i] == SIGHUP;
        if (asks && earlier[i].sa_handler != SIG_DFL) continue;
        sigaction(fatals[i], &action, NULL);
    }
}

/* Remembers the terminal's state unless it is remembered already; leaves it in *mode. */
static int remember(int fd, struct termios *mode) {
    if (tcgetattr(fd, mode) != 0) return -1;
    if (atomic_load(&state) == 0) {
        saved = *mode;
        saved_fd = fd;
        owner = getpid();
        prepare();
        atomic_store(&state, 1);
    }
    return 0;
}

int al_tty_raw(int fd) {
    struct termios mode;
    if (remember(fd, &mode) != 0) return -1;
    cfmakeraw(&mode);
    mode.c_cc[VMIN] = 1;
    mode.c_cc[VTIME] = 0;
    return set(fd, &mode);
}

int al_tty_hide(int fd) {
    struct termios mode;
    if (remember(fd, &mode) != 0) return -1;
    mode.c_lflag &= ~(tcflag_t)ECHO;
    mode.c_lflag |= ECHONL;
    return set(fd, &mode);
}

int al_tty_is_raw(int fd) {
    struct termios mode;
    if (tcgetattr(fd, &mode) != 0) return -1;
    return (mode.c_lflag & (ICANON | ECHO | ISIG)) == 0;
}

int al_tty_echoes(int fd) {
    struct termios mode;
    if (tcgetattr(fd, &mode) != 0) return -1;
    return (mode.c_lflag & ECHO) != 0;
}

int al_tty_open_pair(int *controller, int *terminal) {
    if (openpty(controller, terminal, NULL, NULL, NULL) != 0) return -1;
    fcntl(*controller, F_SETFD, FD_CLOEXEC);
    fcntl(*terminal, F_SETFD, FD_CLOEXEC);
    return 0;
}

int al_replace_program(const char *path, char *const *argv) {
    sigset_t none;
    sigemptyset(&none);
    signal(SIGPIPE, SIG_DFL);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    execv(path, argv);
    return -1;
}
