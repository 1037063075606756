#ifndef AL_PROCESS_H
#define AL_PROCESS_H
/* This process: signals, privileges, memory that must not leak, names of errors. */
#include <stddef.h>
#include <stdint.h>

/* The environment, NULL-ended. */
char **al_environment(void);

/* SIGPIPE is ignored from the first call on. */
void al_ignore_sigpipe(void);

/* Signals as bytes: from now on each of the signals set in mask (bit n-1 for signal n) writes its number to the returned
   descriptor, which the caller owns, whichever thread gets it. *slot names the subscription. */
int al_signals_open(uint64_t mask, int *slot);
/* Ends a subscription; signals that nobody wants any more get their earlier action back. */
void al_signals_close(int slot);

/* "ENOENT" and "No such file or directory"; NULL when unknown. */
const char *al_error_name(int code);
const char *al_error_text(int code);

int al_set_dumpable(int on);
int al_is_dumpable(void);
int al_set_no_new_privileges(void);
int al_set_child_subreaper(int on);
/* Locks the pages and keeps them out of core dumps. */
int al_protect_memory(void *start, size_t length);
int al_unprotect_memory(void *start, size_t length);
/* Gives freed memory of every arena back to the kernel. */
void al_trim_memory(void);
/* Unmaps the pages of all programs' and libraries' code; what is needed again is mapped again as it is touched. */
void al_release_code(void);

#endif
