#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "charness_process.h"
#include "internal.h"

// The terminals of gVisor of 2022 hand ^C, ^\ and ^Z to the program as bytes, whatever its settings say. Found out on a
// terminal that nobody uses: Linux never lets its reader have such a byte.
int ah_terminals_lack_signals(void) {
    int32_t master, slave;
    if (ah_open_terminal(&master, &slave, 80, 24)) return 0;
    struct termios settings;
    int waiting = 0;
    if (tcgetattr(slave, &settings) == 0) {
        settings.c_lflag |= ISIG;
        settings.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        char interrupt = (char)settings.c_cc[VINTR];
        if (tcsetattr(slave, TCSANOW, &settings) || write(master, &interrupt, 1) != 1
            || ioctl(slave, FIONREAD, &waiting))
            waiting = 0;
    }
    close(master);
    close(slave);
    return waiting > 0;
}

static int signal_of(const struct termios *settings, unsigned char byte) {
    if (byte == 0) return 0;
    if (byte == settings->c_cc[VINTR]) return SIGINT;
    if (byte == settings->c_cc[VQUIT]) return SIGQUIT;
    if (byte == settings->c_cc[VSUSP]) return SIGTSTP;
    return 0;
}

long ah_terminal_signal_at(int master, const void *input, size_t count, int32_t *signal) {
    const unsigned char *bytes = input;
    struct termios settings;
    *signal = 0;
    if (tcgetattr(master, &settings) || !(settings.c_lflag & ISIG)) return (long)count;
    for (size_t i = 0; i < count; i++) {
        *signal = signal_of(&settings, bytes[i]);
        if (*signal) return (long)i;
    }
    return (long)count;
}

// Which group has the terminal is known to nobody outside its session there. A shell gives it to the job that it started
// last; everything else has but one group.
long ah_signal_foreground(int leader, int signal) {
    if (leader <= 1) return -EINVAL;
    DIR *all = opendir("/proc");
    if (!all) return ah_signal_group(leader, signal);
    pid_t group = leader;
    for (struct dirent *entry; (entry = readdir(all));) {
        pid_t pid = (pid_t)strtol(entry->d_name, 0, 10);
        if (pid <= 1 || getsid(pid) != leader) continue;
        pid_t own = getpgid(pid);
        if (own > group) group = own;
    }
    closedir(all);
    return ah_signal_group(group, signal);
}
