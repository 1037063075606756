// Processes, signals, terminals.
#pragma once
#include <stddef.h>
#include <stdint.h>

// Where a child failed before its program ran.
enum {
    AH_STEP_SETUP = 1,      // session, descriptors, limits
    AH_STEP_TERMINAL = 2,
    AH_STEP_DIRECTORY = 3,
    AH_STEP_USER = 4,
    AH_STEP_EXEC = 5,       // detail: 1 = the file exists (its interpreter does not), 2 = it is a folder
};
struct ah_start_error {
    int32_t step;
    int32_t code;
    int32_t detail;
};

// What to run. Blobs are NUL-terminated texts one after the other.
struct ah_spawn {
    const void *arguments;
    uint32_t argument_count;
    const void *environment;
    uint32_t environment_count;
    const void *search;       // PATH, NUL-terminated
    const void *directory;    // NUL-terminated, empty = /
    const uint32_t *groups;
    uint32_t group_count;
    uint32_t uid, gid;
    int32_t input, output, error;   // become 0, 1, 2
    uint8_t terminal;         // input is a terminal: make it the controlling one
    uint8_t create_directory;
};

// What a child shares with the harness until its program runs.
struct ah_launch;
// Starts a child that runs the program. *status becomes a descriptor that gives end-of-file when it is decided whether
// the program runs: then, not before, ah_launch_error tells (step 0: it does), and the launch must be forgotten. Returns the pid.
long ah_spawn(const struct ah_spawn *spec, int32_t *status, struct ah_launch **launch);
void ah_launch_error(const struct ah_launch *launch, struct ah_start_error *error);
void ah_forget_launch(struct ah_launch *launch);
// Starts a child that has done all that needs no word of what is to run, in a folder, as root, with the three streams, and waits
// for that word; what it will most likely be, a name and a search path, it looks for meanwhile (an empty name: nothing). Its launch
// is that of a child of ah_spawn. It holds what the caller has open: of a pipe, one end of which the caller closes now, the other is
// what ah_spawn calls status; before it is told, the end of that is its own.
long ah_spare(
    const struct ah_spawn *streams, const char *directory, const char *program, const char *search, struct ah_launch **launch
);
// Whether children begin with no identity but root's; asked of the kernel once.
int ah_is_plain_root(void);
// Tells a spare what to run, with the streams that it was made with. Negative: nothing was begun.
long ah_tell_spare(struct ah_launch *launch, const struct ah_spawn *spec);
// Kills a spare that was told nothing, and reaps it.
void ah_end_spare(int pid);
// Forks without running a program: 0 in the child, whose stdio are the given descriptors and who has no other.
long ah_fork(int input, int output, int error);
_Noreturn void ah_exit(int code);

// PID 1's (or a supervisor's) preparations: not dumpable, no ptrace capability for children, subreaper, SIGPIPE ignored.
// Returns what is odd about the kernel (AH_ODD_*).
enum { AH_ODD_AUTOMOUNT = 1, AH_ODD_CLONE3 = 2 };
long ah_prepare_harness(void);
// Whatever signals the harness inherited as ignored are so no longer, nor for its children; for after hello.
void ah_reset_signals(void);
// A keeper's: own session, name, OOM score, subreaper, not dumpable, deaf to signals that end.
long ah_prepare_keeper(void);

// Blocks SIGCHLD and returns a descriptor that becomes readable with it.
long ah_child_signals(void);
void ah_drain_signals(int fd);
// A child that ended (0: none now, -ECHILD: there are no children); *code is its exit code (128+n by signal n), *signal the signal or 0.
long ah_reap(uint32_t *code, uint8_t *signal);

// Signals one process, or a process group; refuses pids <= 1.
long ah_signal(int pid, int signal);
long ah_signal_group(int pid, int signal);
// Signals everything but the caller; only if the caller is PID 1 of its namespace.
long ah_signal_everyone(int signal);
// Signals each direct child but `except`; returns how many there are.
long ah_signal_children(int signal, int except);
long ah_own_pid(void);
// A pidfd of any process.
long ah_process_descriptor(int pid);

long ah_open_terminal(int32_t *master, int32_t *slave, uint16_t columns, uint16_t rows);
long ah_chown_descriptor(int fd, uint32_t uid, uint32_t gid);
long ah_resize_terminal(int master, uint16_t columns, uint16_t rows);
// Whether this kernel's terminals make no signals of ^C, ^\\ and ^Z (gVisor of 2022).
int ah_terminals_lack_signals(void);
// Where in the input of a terminal the first byte stands that means a signal, by the terminal's settings; `count` and 0 when none does.
long ah_terminal_signal_at(int master, const void *input, size_t count, int32_t *signal);
// Signals the group that most likely has the terminal of the session that `leader` leads.
long ah_signal_foreground(int leader, int signal);
// The end-of-file character of a terminal in canonical mode, else -1.
long ah_terminal_eof(int master);
