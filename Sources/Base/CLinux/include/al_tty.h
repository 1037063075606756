#ifndef AL_TTY_H
#define AL_TTY_H
/* The terminal of an interactive program: raw mode that never outlives it. */
#include <stdint.h>

/* 1 when fd is a terminal. */
int al_tty_is(int fd);
int al_tty_size(int fd, uint16_t *rows, uint16_t *columns);
int al_tty_set_size(int fd, uint16_t rows, uint16_t columns);

/* Raw mode, and no echo; both remember how the terminal was, once, and see that al_tty_restore runs at exit and before a
   fatal signal ends the process. 0, or -1 with errno. */
int al_tty_raw(int fd);
int al_tty_hide(int fd);
/* What al_tty_restore writes to the terminal besides (at most 64 bytes): sequences that undo what a program has switched on. */
void al_tty_farewell(const char *bytes, int count);
/* Puts the remembered state back; safe in signal handlers, does nothing the second time. */
void al_tty_restore(void);

/* Whether the terminal is in raw mode (no canonical input, no echo, no signals). */
int al_tty_is_raw(int fd);
/* Whether what is typed is shown. */
int al_tty_echoes(int fd);
/* A new pseudo-terminal: the two ends, close-on-exec. */
int al_tty_open_pair(int *controller, int *terminal);

/* Replaces the program; SIGPIPE gets its default action back and no signal is blocked. Returns only on failure. */
int al_replace_program(const char *path, char *const *argv);

#endif
